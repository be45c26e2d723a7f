"""Acceptance of a station: the figures of N picks against thresholds, and a candidate model beside the current one.

A threshold whose figure was not measured fails: an acceptance never passes on what it did not see.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import Field

from edge_adapt.decision import Decision
from robin_bringup.acceptance_watch import WatchThresholds, watch_figures
from robin_perception.core.config import StrictConfig
from robin_perception.core.errors import RobinError
from robin_perception.core.stats import percentiles, rate

RESULTS = {"clean": "clean", "miss": "missed", "drop": "dropped", "multi": "multi", "wrong": "wrong"}
FRAME_TO_PLAN = "frame_to_plan"


def _least(text: str) -> Any:
    return Field(None, ge=0, le=1, description=f"At least this {text}; null: not judged.")


def _most(text: str) -> Any:
    return Field(None, ge=0, le=1, description=f"At most this {text}; null: not judged.")


class PickThresholds(StrictConfig):
    """For the picks that the station makes with its current model. Rates are fractions of the attempts."""

    min_clean_rate: float | None = _least("rate of clean picks")
    max_missed_rate: float | None = _most("rate of misses")
    max_dropped_rate: float | None = _most("rate of drops")
    max_multi_rate: float | None = _most("rate of two or more parcels at once")
    max_wrong_rate: float | None = _most("rate of wrong parcels")
    max_infeasible_share: float | None = _most("share of plans without a grasp")
    max_unfinished: int | None = Field(
        None, ge=0, description="At most so many picks whose end nobody reported; null: not judged."
    )
    min_judged_right: float | None = _least(
        "share of picks whose result the pick check judged as the simulator knows it (simulated cell only)"
    )
    max_frame_to_plan_p95_ms: float | None = Field(
        None, gt=0, description="At most this 95th percentile of frame to plan, ms; null: not judged."
    )


class CandidateThresholds(StrictConfig):
    """For the candidate beside the current model, both run on the frames of the picks. They measure sameness,
    not truth: what is better may differ too, so loosen them where that is expected, and let the picks decide."""

    min_frames: int = Field(10, ge=1, description="Frames that must have been compared.")
    max_failures: int = Field(0, ge=0, description="At most so many frames that the candidate could not process.")
    min_mask_overlap_f: float | None = _least("mean overlap F of the two models' masks")
    min_grasp_found_share: float | None = _least(
        "share of the frames with a grasp in which the candidate finds one too"
    )
    min_same_parcel_share: float | None = _least("share of frames in which both choose the same parcel")
    max_segment_time_ratio: float | None = Field(
        None,
        gt=0,
        description="At most this many times the current model's median segmentation time; null: not judged.",
    )


class AcceptanceThresholds(StrictConfig):
    """The thresholds file. picks: attempts to wait for. stall_timeout_s: no pick for so long ends the acceptance."""

    picks: int = Field(20, ge=1, le=100_000)
    stall_timeout_s: float = Field(120.0, gt=0, le=86_400)
    current: PickThresholds = PickThresholds()
    watch: WatchThresholds = WatchThresholds()
    candidate: CandidateThresholds = CandidateThresholds()


@dataclass(frozen=True)
class AcceptanceCheck:
    """One line of the verdict. value: None where it was not measured. limit: with its comparison, such as ">= 0.8"."""

    name: str
    value: float | None
    limit: str
    passed: bool
    detail: str = ""


@dataclass(frozen=True)
class FrameComparison:
    """One frame through both models. same_parcel: None where one of them has no grasp. failure: of the candidate."""

    decision_id: str
    mask_overlap_f: float | None = None
    current_instances: int = 0
    candidate_instances: int = 0
    current_has_grasp: bool = False
    candidate_has_grasp: bool = False
    same_parcel: bool | None = None
    current_segment_ms: float = 0.0
    candidate_segment_ms: float = 0.0
    failure: str = ""


@dataclass(frozen=True)
class Candidate:
    """What came of the candidate. failure: why it could not be compared at all (a damaged bundle)."""

    path: str
    model_id: str = ""
    frames: tuple[FrameComparison, ...] = ()
    failure: str = ""


@dataclass(frozen=True)
class Verdict:
    """Pass only if every check passed. figures: what was measured, as JSON values."""

    checks: tuple[AcceptanceCheck, ...]
    figures: dict[str, Any]
    ended: str = ""
    frames: tuple[FrameComparison, ...] = field(default=())

    @property
    def passed(self) -> bool:
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def line(self) -> str:
        """One line that says pass or fail, and which checks failed."""
        failed = [check for check in self.checks if not check.passed]
        if not failed:
            return f"PASS: {len(self.checks)} checks"
        return "FAIL: " + "; ".join(_in_words(check) for check in failed)

    def to_json(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "line": self.line,
            "ended": self.ended,
            "checks": [asdict(check) for check in self.checks],
            **self.figures,
            "frames": [asdict(frame) for frame in self.frames],
        }


def attempts(decisions: Sequence[Decision]) -> int:
    """Picks that were executed and have a result."""
    return sum(decision.result in RESULTS for decision in decisions)


def judge(
    decisions: Sequence[Decision],
    candidate: Candidate | None,
    thresholds: AcceptanceThresholds,
    picks: int | None = None,
    ended: str = "",
) -> Verdict:
    """The verdict over all decisions of the run. picks: attempts that were asked for, None = the file's.

    ended: why the run ended before that, empty if it did not.
    """
    current = pick_figures(decisions)
    wanted = thresholds.picks if picks is None else picks
    if candidate is not None and candidate.failure:  # nothing was picked: it was looked at first
        only = AcceptanceCheck("loading the candidate", None, "no failure", False, candidate.failure)
        return Verdict(
            (only,),
            {
                "picks_wanted": wanted,
                "current": current,
                "watch": watch_figures(decisions),
                "candidate": _who(candidate),
            },
            ended,
        )
    checks = [_check("picks made", current["attempts"], wanted, least=True, detail=ended)]
    checks += _pick_checks(current, thresholds.current)
    watched = watch_figures(decisions)
    checks += _watch_checks(watched, thresholds.watch)
    figures: dict[str, Any] = {"picks_wanted": wanted, "current": current, "watch": watched}
    frames: tuple[FrameComparison, ...] = ()
    if candidate is not None:
        frames = candidate.frames
        compared = candidate_figures(frames)
        checks += _candidate_checks(candidate, compared, thresholds.candidate)
        figures["candidate"] = {**_who(candidate), **compared}
    return Verdict(tuple(checks), figures, ended, frames)


def pick_figures(decisions: Sequence[Decision]) -> dict[str, Any]:
    """Counts, rates with 95 % Wilson intervals, times. judged_right: None without the simulator's truth."""
    results = Counter(decision.result for decision in decisions)
    done = attempts(decisions)
    known = [d for d in decisions if d.outcome is not None and "result" in d.outcome.truth and d.result in RESULTS]
    right = sum(d.result == d.outcome.truth["result"] for d in known if d.outcome is not None)
    times = [d.timings_ms[FRAME_TO_PLAN] for d in decisions if FRAME_TO_PLAN in d.timings_ms]
    rates = {f"{name}_rate": rate(results[result], done) if done else None for result, name in RESULTS.items()}
    planned = done + results["infeasible"]
    return {
        "models": sorted({d.model_id for d in decisions}),
        "attempts": done,
        **{name: results[result] for result, name in RESULTS.items()},
        "infeasible": results["infeasible"],
        "unfinished": results["unfinished"],
        **rates,
        "infeasible_share": rate(results["infeasible"], planned) if planned else None,
        "judged_right": rate(right, len(known)) if known else None,
        "frame_to_plan_ms": percentiles(times) if times else None,
    }


def candidate_figures(frames: Sequence[FrameComparison]) -> dict[str, Any]:
    """Over the frames that both models processed."""
    good = [frame for frame in frames if not frame.failure]
    with_grasp = [frame for frame in good if frame.current_has_grasp]
    both = [frame for frame in good if frame.same_parcel is not None]
    overlaps = [frame.mask_overlap_f for frame in good if frame.mask_overlap_f is not None]
    times = [percentiles([getattr(f, f"{who}_segment_ms") for f in good])["p50"] for who in ("current", "candidate")]
    return {
        "frames_compared": len(good),
        "failures": len(frames) - len(good),
        "mask_overlap_f": sum(overlaps) / len(overlaps) if overlaps else None,
        "grasp_found_share": (
            rate(sum(f.candidate_has_grasp for f in with_grasp), len(with_grasp)) if with_grasp else None
        ),
        "same_parcel_share": rate(sum(bool(f.same_parcel) for f in both), len(both)) if both else None,
        "segment_p50_ms": {"current": times[0], "candidate": times[1]} if good else None,
        "segment_time_ratio": times[1] / times[0] if good and times[0] > 0 else None,
    }


def _pick_checks(figures: dict[str, Any], limits: PickThresholds) -> list[AcceptanceCheck]:
    times = figures["frame_to_plan_ms"]
    found = [
        _rate_check("clean rate", figures["clean_rate"], limits.min_clean_rate, least=True),
        _rate_check("missed rate", figures["missed_rate"], limits.max_missed_rate),
        _rate_check("dropped rate", figures["dropped_rate"], limits.max_dropped_rate),
        _rate_check("multi-pick rate", figures["multi_rate"], limits.max_multi_rate),
        _rate_check("wrong parcel rate", figures["wrong_rate"], limits.max_wrong_rate),
        _rate_check("plans without a grasp", figures["infeasible_share"], limits.max_infeasible_share),
        _maybe("unfinished picks", figures["unfinished"], limits.max_unfinished),
        _rate_check("judged right", figures["judged_right"], limits.min_judged_right, least=True),
        _maybe("frame to plan p95, ms", times["p95"] if times else None, limits.max_frame_to_plan_p95_ms),
    ]
    return [check for check in found if check is not None]


def _watch_checks(figures: dict[str, Any], limits: WatchThresholds) -> list[AcceptanceCheck]:
    raised, cups = figures["conditions"], figures["cups_found"]
    told = ", ".join(f"{name} {count}x" for name, count in raised.items())
    found = [
        _rate_check("picks judged", figures["judged_share"], limits.min_judged_share, least=True),
        _rate_check("bad picks that nobody noticed", figures["uncaught_rate"], limits.max_uncaught_rate),
        _maybe("requests for help a pick", figures["help_rate"], limits.max_help_rate),
        _maybe("conditions raised", sum(raised.values()), limits.max_conditions, detail=told),
        _rate_check("unfamiliar parcels", figures["unfamiliar_share"], limits.max_unfamiliar_share),
        _maybe(
            "cups not trusted",
            None if cups is None else len(cups),
            limits.max_cups_found,
            detail=", ".join(f"cup {cup}" for cup in cups or ()),
        ),
    ]
    return [check for check in found if check is not None]


def _candidate_checks(
    candidate: Candidate, figures: dict[str, Any], limits: CandidateThresholds
) -> list[AcceptanceCheck]:
    first = next((frame.failure for frame in candidate.frames if frame.failure), "")
    found = [
        _check("candidate: frames compared", figures["frames_compared"], limits.min_frames, least=True),
        _check("candidate: frames it failed on", figures["failures"], limits.max_failures, detail=first),
        _maybe("candidate: mask overlap F", figures["mask_overlap_f"], limits.min_mask_overlap_f, least=True),
        _rate_check("candidate: grasp found", figures["grasp_found_share"], limits.min_grasp_found_share, least=True),
        _rate_check("candidate: same parcel", figures["same_parcel_share"], limits.min_same_parcel_share, least=True),
        _maybe("candidate: segmentation time ratio", figures["segment_time_ratio"], limits.max_segment_time_ratio),
    ]
    return [check for check in found if check is not None]


def _rate_check(name: str, found: Any, limit: float | None, least: bool = False) -> AcceptanceCheck | None:
    if limit is None:
        return None
    if found is None:
        return _check(name, None, limit, least)
    interval = f"{found['count']} of {found['of']}, 95 % interval {found['low']:.2f} to {found['high']:.2f}"
    return _check(name, found["rate"], limit, least, interval)


def _maybe(
    name: str, value: float | None, limit: float | None, least: bool = False, detail: str = ""
) -> AcceptanceCheck | None:
    return None if limit is None else _check(name, value, limit, least, detail)


def _check(name: str, value: float | None, limit: float, least: bool = False, detail: str = "") -> AcceptanceCheck:
    words = f"{'>=' if least else '<='} {limit:g}"
    if value is None:
        return AcceptanceCheck(name, None, words, False, detail or "not measured")
    return AcceptanceCheck(name, float(value), words, value >= limit if least else value <= limit, detail)


def _in_words(check: AcceptanceCheck) -> str:
    if check.value is None:
        return f"{check.name}: {check.detail}, needs {check.limit}"
    detail = f" ({check.detail})" if check.detail else ""
    return f"{check.name} {check.value:.4g}, needs {check.limit}{detail}"


def _who(candidate: Candidate) -> dict[str, str]:
    return {"path": candidate.path, "model": candidate.model_id}


def candidate_failed(path: str, reason: RobinError) -> Candidate:
    """A candidate that could not even be loaded."""
    return Candidate(path, failure=str(reason))
