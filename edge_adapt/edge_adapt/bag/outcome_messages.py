"""Outcomes of picks as values of ``robin_msgs/PickOutcome``, and back: what a bag holds of what the cell measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from edge_adapt.bag.messages import OUTCOME_TYPE, pose_of_values, pose_values
from robin_grasp.picks.outcome import PickOutcome, PickResult
from robin_grasp.picks.outcome_report import OutcomeReport
from robin_grasp.picks.traces import LoadView, PickTraces, traces_from_flat
from robin_grasp.recovery.help_request import HelpRequest
from robin_perception.bags import cdr
from robin_perception.bags.cdr import Message
from robin_perception.bags.frames import (
    BASE_FRAME,
    frame_of_messages,
    header,
    nanoseconds,
    picture_messages,
    stamp_of,
)
from robin_perception.core.errors import Code, RobinError


def outcome_message(report: OutcomeReport, ns: int) -> Message:
    """robin_msgs/PickOutcome. ns: when it was, nanoseconds; the truth holds plain values."""
    return {
        "header": header(ns, BASE_FRAME),
        "plan_id": report.plan_id,
        "grasp": report.grasp,
        "stage": report.stage.value,
        "result": "" if report.result is None else report.result.value,
        "vacuum_pa": np.array(report.vacuum_pa, dtype=np.float64),
        "lifted_weight_n": report.lifted_weight_n,
        "traces": _traces(report.traces),
        "load_view": _load_view(report.load),
        "duration_s": report.duration_s,
        "truth_json": json.dumps(report.truth) if report.truth else "",
        "probability": 0.0 if report.probability is None else report.probability,
        "result_names": [result.value for result in report.probabilities],
        "result_probabilities": np.array(list(report.probabilities.values()), dtype=np.float64),
        "reasons": list(report.reasons),
        "feature_names": list(report.features),
        "feature_values": np.array(list(report.features.values()), dtype=np.float64),
        "after_stamp": stamp_of(nanoseconds(report.after_s or 0.0)),
        "check_digest": report.check_digest,
        "target_gone": report.target_gone,
        "neighbours_gone": np.array(report.neighbours_gone, dtype=np.uint16),
        "action": report.action,
        "action_reason": report.action_reason,
        "help_id": report.help_id,
        "code": int(report.code),
        "text": report.text,
    }


def recorded_outcome(values: Mapping[str, Any]) -> PickOutcome:
    """What the cell measured, of a recorded PickOutcome; without traces and look where it has none or is older.

    The result is a placeholder where the cell told none. Raises RobinError BAG_INVALID, TRACES_INVALID, and what
    ``make_frame`` raises for the look.
    """
    try:
        result = PickResult(values["result"] or PickResult.MISS)
        vacuum = tuple(float(pa) for pa in values["vacuum_pa"])
        weight_n, duration_s = float(values["lifted_weight_n"]), float(values["duration_s"])
    except (KeyError, ValueError) as exc:
        raise RobinError(Code.BAG_INVALID, f"outcome of '{values.get('plan_id', '')}': {exc}") from None
    traces, load = recorded_traces(values.get("traces")), recorded_load(values.get("load_view"))
    return PickOutcome(result, vacuum, weight_n, duration_s, traces=traces, load=load)


def outcome_as_recorded(outcome: PickOutcome) -> PickOutcome:
    """What a reader of the bag gets for ``outcome``: depth of the look in whole millimetres. Keeps result and truth."""
    report = OutcomeReport.of("", 0.0, replace(outcome, truth={}))
    read = recorded_outcome(cdr.decode(OUTCOME_TYPE, cdr.encode(OUTCOME_TYPE, outcome_message(report, 0))))
    return replace(read, result=outcome.result, truth=outcome.truth)


def help_message(request: HelpRequest) -> Message:
    """robin_msgs/HelpRequest without its picture."""
    return {
        "header": header(nanoseconds(request.asked_s), ""),
        "help_id": request.help_id,
        "code": int(request.code),
        "text": request.text,
        "plan_id": request.plan_id,
        "answers": list(request.answers),
        "timeout_s": request.timeout_s,
        "timeout_answer": request.timeout_answer,
        "answer": request.answer,
        "answered_by": request.answered_by,
    }


def recorded_traces(values: Mapping[str, Any] | None) -> PickTraces | None:
    """Raises RobinError TRACES_INVALID."""
    if values is None or not values["rate_hz"]:
        return None
    vacuum, weight = (np.asarray(values[name], dtype=np.float32) for name in ("vacuum_pa", "weight_n"))
    marks = (values["mark_names"], values["mark_samples"])
    return traces_from_flat(values["rate_hz"], int(values["cups"]), vacuum, weight, *marks)


def recorded_load(values: Mapping[str, Any] | None) -> LoadView | None:
    """Raises RobinError POSE_INVALID, and what ``make_frame`` raises."""
    if values is None or not values["color"]["height"]:
        return None
    color, depth, info = (values[name] for name in ("color", "depth", "info"))
    camera_id = str(color["header"]["frame_id"])
    frame = frame_of_messages(color, depth, info, pose_of_values(values["camera"]), camera_id)
    return LoadView(frame, pose_of_values(values["tool"]))


def _traces(traces: PickTraces | None) -> Message:
    if traces is None:
        return {}
    return {
        "rate_hz": traces.rate_hz,
        "cups": traces.vacuum_pa.shape[1],
        "vacuum_pa": np.ascontiguousarray(traces.vacuum_pa, dtype=np.float32).reshape(-1),
        "weight_n": np.asarray(traces.weight_n, dtype=np.float32),
        "mark_names": list(traces.marks),
        "mark_samples": np.array(list(traces.marks.values()), dtype=np.uint32),
    }


def _load_view(load: LoadView | None) -> Message:
    if load is None:
        return {}
    color, depth, info = picture_messages(load.frame, load.frame.camera_id)
    poses = {"camera": pose_values(load.frame.T_base_camera), "tool": pose_values(load.T_base_tool)}
    return {"color": color, "depth": depth, "info": info, **poses}
