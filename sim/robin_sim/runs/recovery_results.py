"""What the recovery policy made of a run, in figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from robin_perception.core.stats import rate
from robin_sim.pick_event import Recovered


@dataclass(frozen=True)
class RecoverySummary:
    """One turn. Words as in ``Recovered``; helped: requests for help; help_s: cell time that they took."""

    actions: tuple[str, ...]
    bad_load: bool
    caught: bool
    uncaught: bool
    corrected: bool
    false_stop: bool
    helped: int
    help_s: float


def summarize_recovery(recovered: Recovered) -> RecoverySummary:
    return RecoverySummary(
        tuple(taken.step.action.value for taken in recovered.steps),
        recovered.bad_load,
        recovered.caught,
        recovered.uncaught,
        recovered.corrected,
        recovered.false_stop,
        len(recovered.helps),
        sum(taken.duration_s for taken in recovered.steps if taken.help is not None),
    )


def recovery_figures(turns: Sequence[RecoverySummary | None], cell_time_s: float) -> dict[str, Any]:
    """Keys of a run's results; all 0 without a recovery policy, ``recovery`` false."""
    told = [turn for turn in turns if turn is not None]
    bad = sum(turn.bad_load for turn in told)
    help_s = sum(turn.help_s for turn in told)
    corrected = sum(turn.corrected for turn in told)
    return {
        "recovery": bool(told),
        "bad_loads": bad,
        "caught": sum(turn.caught for turn in told),
        "uncaught": sum(turn.uncaught for turn in told),
        "corrected": corrected,
        "corrected_rate": rate(corrected, bad),
        "helped": sum(turn.helped for turn in told),
        "help_s": round(help_s, 1),
        "help_share_of_time": round(help_s / cell_time_s, 4) if cell_time_s > 0 else 0.0,
        "false_stops": sum(turn.false_stop for turn in told),
        "actions": dict(sorted(Counter(action for turn in told for action in turn.actions).items())),
    }
