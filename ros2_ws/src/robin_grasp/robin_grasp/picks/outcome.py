"""What became of one pick."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from robin_grasp.picks.traces import LoadView, PickTraces


class PickResult(str, Enum):
    """clean: the target alone arrived. miss: nothing was lifted. drop: lifted, did not arrive. multi: two or more were
    lifted or arrived. wrong: one arrived, not the target."""

    CLEAN = "clean"
    MISS = "miss"
    DROP = "drop"
    MULTI = "multi"
    WRONG = "wrong"


OTHER_LOAD = (PickResult.MULTI, PickResult.WRONG)


def other_load(odds: Mapping[PickResult, float]) -> float:
    """Probability of two parcels, or another one than the target, on the tool."""
    return sum(odds.get(kind, 0.0) for kind in OTHER_LOAD)


@dataclass(frozen=True)
class PickOutcome:
    """result plus what the cell measured.

    vacuum_pa: pressure difference of each of the tool's cups after the lift, Pa (0 for a closed valve or no seal).
    lifted_weight_n: force on the tool after the lift, newtons.
    traces: the same over time; load: a look at what hangs on the tool, from below; None where the cell has neither.
    truth: simulation only, never shown to the planner: target, delivered, moved parcels, peel events.
    """

    result: PickResult
    vacuum_pa: tuple[float, ...]
    lifted_weight_n: float
    duration_s: float
    truth: dict[str, object] = field(default_factory=dict)
    traces: PickTraces | None = field(default=None, compare=False)
    load: LoadView | None = field(default=None, compare=False)
