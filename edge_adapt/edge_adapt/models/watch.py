"""A new version at work: whether picks got worse with it, told by a sequential test at a stated rate of false alarms.

A betting e-process (I. Waudby-Smith and A. Ramdas, J. R. Stat. Soc. B 86, 2024): wealth that can grow only while fewer
picks are clean than before. By Ville's inequality a version that is not worse reaches 1 / ``false_alarms`` with at most
that probability, however long it is watched and whenever one looks.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from pydantic import Field

from robin_perception.core.config import StrictConfig
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.stats import wilson_interval

# Shares of the largest bet that cannot lose everything; a small one finds a small loss, a large one a collapse soon.
_BETS = np.array([0.01, 0.03, 0.06, 0.12, 0.25, 0.5])
_CONFIDENCE = 0.8  # of the interval of the rate before
_REMEMBERED = 1000  # picks


class WatchConfig(StrictConfig):
    """When a version counts as proven, and when it goes."""

    picks: int = Field(400, ge=10, description="Picks after which a version is proven.")
    false_alarms: float = Field(0.01, gt=0, lt=0.5, description="Share of harmless versions that are taken back.")
    tolerated: float = Field(0.01, ge=0, lt=0.5, description="Share of clean picks that may be lost.")
    least_before: int = Field(50, ge=1, description="Picks before the version, at least; with fewer none is watched.")


class WatchState(str, Enum):
    """unknown: too few picks before to compare with."""

    WATCHING = "watching"
    PROVEN = "proven"
    WORSE = "worse"
    UNKNOWN = "unknown"


@dataclass
class PickWatch:
    """Picks of a new version against those before. clean_before of before: picks of the version that ran before, under
    the same conditions. Not thread-safe."""

    clean_before: int
    before: int
    config: WatchConfig
    clean: int = 0
    picks: int = 0

    def __post_init__(self) -> None:
        self._log_wealth = np.zeros(len(_BETS))
        self.worse = False
        # Where the rate before is unsure, its lower end is what is held against the new version.
        low = wilson_interval(self.clean_before, self.before, _CONFIDENCE)[0]
        self.least_rate = max(low - self.config.tolerated, 1e-6)

    def note(self, clean: bool) -> WatchState:
        """One pick. Leave out those that say nothing about seeing: cups that are blocked, a station that is not as it
        should be."""
        self.picks, self.clean = self.picks + 1, self.clean + clean
        bets = _BETS / (1.0 - self.least_rate)
        self._log_wealth += np.log1p(bets * (self.least_rate - clean))
        self.worse = self.worse or self.wealth >= 1.0 / self.config.false_alarms
        return self.state

    @property
    def wealth(self) -> float:
        """The mean of the bets; 1 in the beginning."""
        return float(np.exp(self._log_wealth).mean())

    @property
    def state(self) -> WatchState:
        if self.before < self.config.least_before:
            return WatchState.UNKNOWN
        if self.worse:
            return WatchState.WORSE
        return WatchState.PROVEN if self.picks >= self.config.picks else WatchState.WATCHING

    def error(self) -> RobinError | None:
        """Why the version must go; None while nothing is wrong."""
        if self.state is not WatchState.WORSE:
            return None
        text = f"{self.clean} of {self.picks} picks were clean, {self.clean_before} of {self.before} were before"
        return RobinError(Code.MODEL_PICKS_WORSE, text)

    def to_json(self) -> dict[str, Any]:
        """For journal and diagnostics."""
        counts = {name: getattr(self, name) for name in ("clean_before", "before", "clean", "picks")}
        return {**counts, "state": self.state.value, "wealth": self.wealth, "least_rate": self.least_rate}


class VersionWatch:
    """The picks of a robot, version after version. watch: over the one that runs, None where it needs none."""

    def __init__(self, config: WatchConfig) -> None:
        self._config = config
        self._before: deque[bool] = deque(maxlen=_REMEMBERED)  # picks of versions that are not watched any more
        self._now: list[bool] = []
        self._version: int | None = None
        self._condemned = False  # until another version runs, picks tell nothing
        self.watch: PickWatch | None = None

    def changed(self, version: int) -> None:
        """From now on ``version`` runs. A later one than before is watched; one that was gone back to is not, and the
        picks of the one that it replaces are no measure for those to come."""
        known, self._version = self._version, version
        if known is None or version == known:
            return
        if version > known:
            self._settle()
        self._now, self._condemned = [], False
        self.watch = PickWatch(sum(self._before), len(self._before), self._config) if version > known else None

    def note(self, clean: bool) -> RobinError | None:
        """One pick; why the version that runs must go, told once."""
        if self.watch is None:
            if not self._condemned:
                self._before.append(clean)
            return None
        self._now.append(clean)
        state = self.watch.note(clean)
        error = self.watch.error()
        self._condemned = error is not None
        if state in (WatchState.PROVEN, WatchState.UNKNOWN):
            self._settle()
        if state is not WatchState.WATCHING:
            self.watch = None
        return error

    def _settle(self) -> None:
        self._before.extend(self._now)
        self._now = []
