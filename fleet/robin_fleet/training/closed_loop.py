"""The simulated closed loop in the gate: the same piles picked with the model that runs, and with the candidate.

No simulator is known here: whoever orders a training passes in what picks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from edge_adapt.models.gate import Check
from robin_fleet.ledger.samples import FAILED
from robin_perception.core.config import StrictConfig
from robin_perception.core.stats import rate_difference


class LoopConfig(StrictConfig):
    """What "not worse" means in the closed loop."""

    margin: float = Field(0.05, gt=0, lt=1, description="Of clean picks that may be lost, at the interval's low end.")


@dataclass(frozen=True)
class Tally:
    """Picks that were tried, by result."""

    results: dict[str, int]

    @property
    def of(self) -> int:
        return sum(self.results.values())

    @property
    def failed(self) -> int:
        return sum(self.results.get(result, 0) for result in FAILED)

    @property
    def clean(self) -> int:
        return self.of - self.failed

    def __add__(self, other: Tally) -> Tally:
        return Tally(dict(Counter(self.results) + Counter(other.results)))

    @property
    def text(self) -> str:
        return f"{self.clean} of {self.of} clean"


PickWith = Callable[[Path], Tally]
"""Picks in the simulated cell with a bundle; the same piles at every call."""


@dataclass(frozen=True)
class Looped:
    """running, candidate: of the same piles. check: whether so much at most is lost."""

    running: Tally
    candidate: Tally
    check: Check

    def to_json(self) -> dict[str, Any]:
        sides = {"running": self.running.results, "candidate": self.candidate.results}
        return {**sides, "passed": self.check.passed, "text": self.check.text}


def judge_loop(pick: PickWith, running: Path, candidate: Path, config: LoopConfig) -> Looped:
    """Raises what ``pick`` raises."""
    before, after = pick(running), pick(candidate)
    found = rate_difference(after.clean, after.of, before.clean, before.of)
    text = (
        f"{before.text} before, {after.text} after, change [{found['low']:+.3f}, {found['high']:+.3f}], "
        f"may be worse by {config.margin:g}"
    )
    passed = found["low"] > -config.margin
    check = Check("closed loop", passed, found["rate"], -config.margin, found["low"], found["high"], text)
    return Looped(before, after, check)
