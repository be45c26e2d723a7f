"""What robots report without pictures: counters, and the decision of each pick. Handlers of ``robin_fleet.ingest``:
each blob is booked once, in the transaction that makes it known."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import sqlalchemy as sa
from pydantic import Field, ValidationError

from edge_adapt.decision import Decision
from edge_adapt.releases.trial import SOURCE, STAGES
from robin_fleet.ingest.checks import DECISION, METRICS
from robin_fleet.ingest.ingest import Handler, Incoming
from robin_fleet.ledger.metrics import add_fact, add_values
from robin_fleet.ledger.rollouts import count_pick, find_rollout, put
from robin_fleet.rollout.plan import Stage
from robin_fleet.rollout.state import Trial, tried
from robin_perception.core.bounded import parse_json
from robin_perception.core.config import first_fault
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.wire import WireModel, known_fields, parse_wire

OWN = "fleet"
MOST_VALUES = 300
"""Of one report."""
TRIED = ("clean", "miss", "drop", "multi", "wrong")
"""Results of picks that were tried; others say nothing about the model."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,60}")
_TERMS = (
    "mass_kg",
    "thickness_m",
    "long_side_m",
    "short_side_m",
    "seal_min",
    "wrench_margin",
    "height_rank",
    "cover",
    "overlap",
    "ragged",
    "tool_tilt_rad",
    "depth_share",
    "other_min_m",
)


class Report(WireModel):
    """Figures of one part of a robot. source: "uplink", "store" ...; values: by name; at_s: by the robot's clock."""

    format: int = Field(1, ge=1, le=1)
    source: str = Field(pattern=r"^[a-z][a-z0-9]{0,30}$")
    at_s: float
    values: dict[str, float] = Field(max_length=MOST_VALUES)


def handlers() -> Mapping[str, Handler]:
    """For ``Ingest``."""
    return {METRICS: book_report, DECISION: book_decision}


def book_report(connection: sa.Connection, incoming: Incoming, now_s: float) -> None:
    """That of a trial is told to its roll-out, too. Raises RobinError METRICS_INVALID, ROLLOUT_*."""
    report = parse_report(incoming.data, incoming.name)
    if report.source == SOURCE:
        _book_trial(connection, incoming.robot, report.values, now_s)
    values = {f"robin_{report.source}_{name}": value for name, value in report.values.items()}
    add_values(connection, incoming.robot, _believed(report.at_s, now_s), values)


def parse_report(data: bytes, source: str) -> Report:
    """Raises RobinError METRICS_INVALID, FORMAT_NEWER."""
    report = parse_wire(Report, data, source, Code.METRICS_INVALID)
    if report.source == OWN:
        raise RobinError(Code.METRICS_INVALID, f"{source}: figures of the source '{OWN}' are the aggregator's own")
    for name in report.values:
        if _NAME.fullmatch(name) is None:
            raise RobinError(Code.METRICS_INVALID, f"{source}: '{name[:80]}' is no name of a figure")
    return report


def book_decision(connection: sa.Connection, incoming: Incoming, now_s: float) -> None:
    """Count a pick that was tried, and keep the facts that may explain it. Raises RobinError RECORD_INVALID."""
    try:
        values = parse_json(incoming.data, incoming.name, Code.RECORD_INVALID)
        decision = Decision.model_validate(known_fields(Decision, values))
    except ValidationError as exc:
        raise RobinError(Code.RECORD_INVALID, f"{incoming.name}: {first_fault(exc)}") from None
    if decision.result not in TRIED:
        return
    at_s, clean = _believed(_recorded_s(decision), now_s), decision.result == "clean"
    count_pick(connection, incoming.robot, decision.model_id, at_s, clean)
    add_fact(connection, incoming.robot, decision.decision_id, at_s, not clean, facts_of(decision, at_s))


def facts_of(decision: Decision, at_s: float) -> dict[str, Any]:
    """Properties of one pick: figures and words. Times of stages are told as ``ms_…``."""
    chosen, engine = decision.chosen, decision.context.engine
    seen = next((one for one in decision.instances if chosen and one.id == chosen.instance), None)
    facts: dict[str, Any] = {
        "result": decision.result,
        "model": decision.model_id,
        "planner": decision.planner,
        "engine": engine,
        "hour": datetime.fromtimestamp(at_s, timezone.utc).hour,
        "parcels": len(decision.instances),
        "grasps": len(decision.candidates),
        "tries_before": len(decision.failed_before),
        "depth_valid": decision.frame.valid_depth_share,
        "weak_cups": sum(cup.state != "good" for cup in decision.cup_health),
        "conditions": " ".join(sorted({one.name for one in decision.conditions})) or "none",
    }
    if chosen is not None:
        facts |= {"cups": len(chosen.cups), **{k: v for k, v in chosen.terms.items() if k in _TERMS}}
    if seen is not None:
        facts |= {"goods": seen.class_name, "detection": seen.detection, "mask_quality": seen.mask_quality}
        facts |= {"visible": seen.visible_fraction, "area_px": seen.area_px}
        facts |= {} if seen.novelty is None else {"novelty": seen.novelty}
    if "frame_to_plan" in decision.timings_ms:
        facts["latency_ms"] = decision.timings_ms["frame_to_plan"]
    return facts | {f"ms_{name}": value for name, value in decision.timings_ms.items()}


class _TrialValues(WireModel):
    """As ``edge_adapt.releases.trial`` reports them. fault: number of a code, 0 for none."""

    rollout: int = Field(ge=1, le=9999)
    stage: int = Field(ge=0, lt=len(STAGES))
    picks: int = Field(ge=0)
    lost: int = Field(ge=0)
    fault: int = Field(0, ge=0)


def _book_trial(connection: sa.Connection, robot: str, values: Mapping[str, float], now_s: float) -> None:
    """Of the robot that the trial is for, and no other."""
    try:
        found = _TrialValues.model_validate(dict(values))
    except ValidationError as exc:
        raise RobinError(Code.METRICS_INVALID, f"report of a trial: {first_fault(exc)}") from None
    state = find_rollout(connection, f"r{found.rollout:04d}")
    if robot != state.pilot:
        raise RobinError(Code.METRICS_INVALID, f"report of a trial: of {robot}, it is for {state.pilot}")
    trial = Trial(picks=found.picks, lost=min(found.lost, found.picks), fault=f"E{found.fault}" if found.fault else "")
    put(connection, tried(state, Stage(STAGES[found.stage]), trial), now_s)


def _recorded_s(decision: Decision) -> float:
    try:
        at = datetime.fromisoformat(decision.recorded_at)
        return (at if at.tzinfo else at.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def _believed(at_s: float, now_s: float) -> float:
    """A robot's clock may run ahead; what it tells of the future is of now."""
    return min(at_s, now_s)
