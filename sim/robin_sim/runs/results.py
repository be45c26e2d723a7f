"""Results of a closed-loop run: counts, rates with Wilson intervals, times, breakdowns and the list of failures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from robin_grasp.tool import mask_to_cups
from robin_perception.core.stats import percentiles, rate
from robin_sim.pick_event import PickEvent
from robin_sim.runs.recovery_results import RecoverySummary, recovery_figures, summarize_recovery

NOT_ATTEMPTED = ("infeasible", "unstable", "waited")
"""Results that count as no attempt: nothing to grasp, physics that diverged, which says nothing of the pick, or a
person who was asked before anything was picked."""

RESULT_KEYS = {"clean": "clean", "miss": "missed", "drop": "dropped", "multi": "multi", "wrong": "wrong"}


Progress = Callable[[int, int, str], None]
"""Called with attempts done, attempts wanted, latest result."""


def is_attempt(result: str) -> bool:
    return result not in NOT_ATTEMPTED


class AttemptCounter:
    """Counts attempts towards the total and passes them on to the progress call."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total, self._progress, self._done = total, progress, 0

    def count(self, result: str) -> None:
        if self._done == self._total:  # of a pile that a worker began beyond the last counted attempt
            return
        self._done += is_attempt(result)
        if self._progress is not None:
            self._progress(self._done, self._total, result)


@dataclass(frozen=True)
class PickSummary:
    """One pick of the loop, in figures.

    result: a PickResult value, or one of NOT_ATTEMPTED. reason: what the physics saw, or the plan's message; empty for
    a clean pick. kind: of the target, empty when there is none. duration_s: simulated motion with its overhead;
    latency_ms: frame to ranked plan. knocked_off: other parcels that were pushed out of the workspace. recovery: what
    the policy did, None without one. judge_late_ms: what judging took beyond the lowering of the load.
    """

    pile: int
    pick: int
    result: str
    reason: str
    kind: str
    arrangement: str
    container: str
    parcels_left: int
    instances: int
    cups: tuple[int, ...]
    model_id: str
    engine: str
    segment_ms: float
    plan_ms: float
    duration_s: float
    knocked_off: int
    recovery: RecoverySummary | None = None
    judge_late_ms: float = 0.0

    @property
    def attempted(self) -> bool:
        return is_attempt(self.result)

    @property
    def latency_ms(self) -> float:
        return self.segment_ms + self.plan_ms


def summarize(event: PickEvent) -> PickSummary:
    """The figures of one pick, without its images."""
    best = event.plan.best
    outcome = event.outcome
    reason = ""
    if outcome is None:
        reason = event.fault or event.plan.message
    elif event.result != "clean":
        reason = str(outcome.truth.get("reason", ""))
    return PickSummary(
        pile=event.pile_index,
        pick=event.pick_index,
        result=event.result,
        reason=reason,
        kind=event.target_kind,
        arrangement=event.arrangement,
        container=event.container,
        parcels_left=event.parcels_left,
        instances=len(event.scene.instances),
        cups=() if best is None else mask_to_cups(best.cups),
        model_id=event.scene.model_id,
        engine=event.scene.engine,
        segment_ms=event.timings_ms["segment"],
        plan_ms=event.timings_ms["plan"],
        duration_s=event.extra_s + (0.0 if outcome is None else outcome.duration_s),
        knocked_off=0 if outcome is None else _knocked_off(outcome.truth),
        recovery=None if event.recovered is None else summarize_recovery(event.recovered),
        judge_late_ms=event.timings_ms.get("judge_late", 0.0),
    )


def _knocked_off(truth: dict[str, Any]) -> int:
    return len(set(truth.get("fallen", ())) - set(truth.get("lifted", ())))


@dataclass(frozen=True)
class RunResult:
    """A run's picks and what they amount to; ``to_json`` gives the documented keys."""

    scenario: str
    seed: int
    planner: str
    masks: str
    engine: str
    model: str
    workers: int
    picks: tuple[PickSummary, ...]
    wall_s: float

    @property
    def attempts(self) -> int:
        return sum(pick.attempted for pick in self.picks)

    def count(self, result: str) -> int:
        return sum(pick.result == result for pick in self.picks)

    @property
    def cell_time_s(self) -> float:
        """Simulated motion with its overhead, and the measured time to think."""
        return sum(pick.duration_s + (pick.latency_ms + pick.judge_late_ms) / 1e3 for pick in self.picks)

    @property
    def picks_per_hour(self) -> float:
        """Parcels cleanly delivered per hour of the cell's own time."""
        return 3600.0 * self.count("clean") / self.cell_time_s if self.picks else 0.0

    def to_json(self) -> dict[str, Any]:
        """Rates are fractions with 95 % Wilson intervals: of attempts, the infeasible rate of planned scenes."""
        attempts = self.attempts
        infeasible = self.count("infeasible")
        rates = {key: rate(self.count(result), attempts) for result, key in RESULT_KEYS.items()}
        rates["infeasible"] = rate(infeasible, len(self.picks))
        return {
            "scenario": self.scenario,
            "seed": self.seed,
            "planner": self.planner,
            "model": self.model,
            "masks": self.masks,
            "engine": self.engine,
            "workers": self.workers,
            "attempts": attempts,
            **{key: self.count(result) for result, key in RESULT_KEYS.items()},
            "infeasible": infeasible,
            "unstable": self.count("unstable"),
            "picks_per_hour": round(self.picks_per_hour, 1),
            **recovery_figures([pick.recovery for pick in self.picks], self.cell_time_s),
            "latency_ms": self._times(lambda pick: pick.latency_ms),
            "segment_ms": self._times(lambda pick: pick.segment_ms),
            "plan_ms": self._times(lambda pick: pick.plan_ms),
            "rates": rates,
            "knocked_off": sum(pick.knocked_off for pick in self.picks),
            "piles": len({pick.pile for pick in self.picks}),
            "plans": len(self.picks),
            "by_kind": self._breakdown(lambda pick: pick.kind or "none"),
            "by_arrangement": self._breakdown(lambda pick: pick.arrangement),
            "by_container": self._breakdown(lambda pick: pick.container),
            "by_cup_count": self._breakdown(lambda pick: str(len(pick.cups)) if pick.attempted else "none"),
            "failures": [_failure(pick) for pick in self.picks if pick.result != "clean"],
            "wall_s": round(self.wall_s, 2),
            "wall_picks_per_s": round(attempts / self.wall_s, 3) if self.wall_s > 0 else 0.0,
        }

    def outcome_key(self) -> tuple[tuple[Any, ...], ...]:
        """All that must not depend on the number of processes or the machine's speed."""
        measured = ("segment_ms", "plan_ms", "judge_late_ms")
        return tuple(tuple(v for k, v in asdict(pick).items() if k not in measured) for pick in self.picks)

    def _times(self, of: Callable[[PickSummary], float]) -> dict[str, float]:
        return {k: round(v, 2) for k, v in percentiles([of(pick) for pick in self.picks]).items()}

    def _breakdown(self, key: Callable[[PickSummary], str]) -> dict[str, dict[str, Any]]:
        groups: dict[str, Counter[str]] = {}
        for pick in self.picks:
            groups.setdefault(key(pick), Counter())[pick.result] += 1
        table: dict[str, dict[str, Any]] = {}
        for name, counts in sorted(groups.items()):
            attempts = sum(n for result, n in counts.items() if is_attempt(result))
            row: dict[str, Any] = {"attempts": attempts}
            row.update({column: counts[result] for result, column in RESULT_KEYS.items()})
            row["infeasible"] = counts["infeasible"]
            row["clean_rate"] = rate(counts["clean"], attempts)
            table[name] = row
        return table


def _failure(pick: PickSummary) -> dict[str, Any]:
    return {
        "pile": pick.pile,
        "pick": pick.pick,
        "result": pick.result,
        "reason": pick.reason,
        "kind": pick.kind,
        "arrangement": pick.arrangement,
        "container": pick.container,
        "cups": list(pick.cups),
        "parcels_left": pick.parcels_left,
    }
