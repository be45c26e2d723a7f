"""Who learns to hold, as a cell sees it. What learns lives in a room that this one does not import."""

from __future__ import annotations

from typing import Protocol

from robin_grasp.holding import Holding
from robin_grasp.learned import LearnedState
from robin_grasp.picks.outcome import PickOutcome, PickResult
from robin_grasp.plan import ALL_SOUND, CupTrust
from robin_grasp.recovery.machine import PickTarget
from robin_perception.core.errors import RobinError


class HoldLearning(Holding, Protocol):
    """A ``Holding`` that learns from picks, one call at a time."""

    @property
    def learned(self) -> LearnedState:
        """What it knows by now."""

    @property
    def problem(self) -> RobinError | None:
        """What is wrong with its file now; None while it is well."""

    def note(
        self, pick: PickTarget, outcome: PickOutcome, result: PickResult | None, trust: CupTrust = ALL_SOUND
    ) -> None:
        """A pick has ended. result: as judged, None where nobody judged. trust: what the plan expected of the cups."""
