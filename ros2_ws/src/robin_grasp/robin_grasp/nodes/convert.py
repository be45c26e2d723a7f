"""ROS messages of plans and outcomes to the core's types and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from typing import Any, TypeVar

import numpy as np
from geometry_msgs.msg import Point, Pose
from pydantic import ValidationError
from robin_msgs.msg import FailedPick as FailedPickMsg
from robin_msgs.msg import Grasp as GraspMsg
from robin_msgs.msg import GraspPlan, PickMotion, RejectedCandidate
from robin_msgs.msg import LoadView as LoadViewMsg
from robin_msgs.msg import PickOutcome as PickOutcomeMsg
from robin_msgs.msg import PickTraces as PickTracesMsg
from std_msgs.msg import Header

from robin_grasp.learned import NOT_LEARNED
from robin_grasp.nodes.convert_learned import hold_from_msg, hold_to_msgs, learned_from_msg, learned_to_msg
from robin_grasp.picks.open_picks import PlanNotice
from robin_grasp.picks.outcome import PickResult
from robin_grasp.picks.outcome_report import OutcomeReport, Stage
from robin_grasp.picks.plan_server import IssuedPlan
from robin_grasp.picks.traces import LoadView, PickTraces, traces_from_flat
from robin_grasp.plan import FailedPick, Grasp, Plan, PlanBasis, Reject, Rejected
from robin_grasp.planner.term_table import TermTable, named_terms
from robin_grasp.tool import CellConfig, MotionConfig
from robin_perception.bags.frames import BASE_FRAME
from robin_perception.core.bounded import parse_json
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.ids import plain_id
from robin_perception.nodes.convert import (
    floats_of,
    frame_from_msgs,
    frame_to_msgs,
    pose_from_msg,
    poses_to_msgs,
    stamp_from_s,
    stamp_to_s,
    timings_from_msg,
    timings_to_msg,
)

KindT = TypeVar("KindT", bound=Enum)
PartT = TypeVar("PartT")
LONGEST_TRUTH = 1_000_000  # characters; a pile of sixty parcels takes five thousand


def base_header(stamp_s: float) -> Header:
    """Header of what is said in ``base_link``."""
    return Header(stamp=stamp_from_s(stamp_s), frame_id=BASE_FRAME)


def plan_to_msg(issued: IssuedPlan, cell: CellConfig) -> GraspPlan:
    """The plan with its name, what the planner was told, and the stamp of the frame it was made on. cell: its tool, and
    what it does with a grasp."""
    plan = issued.plan
    poses = poses_to_msgs([g.T_base_tool for g in plan.grasps] + [r.T_base_tool for r in plan.rejected])
    best, worst = poses[: len(plan.grasps)], poses[len(plan.grasps) :]
    table = TermTable()
    grasps = [_grasp_to_msg(grasp, pose, table) for grasp, pose in zip(plan.grasps, best, strict=True)]
    rejected = [_rejected_to_msg(r, pose, table) for r, pose in zip(plan.rejected, worst, strict=True)]
    counts = sorted(plan.rejected_counts.items())
    return GraspPlan(
        header=base_header(issued.frame.stamp_s),
        plan_id=issued.plan_id,
        requested=issued.requested,
        model_id=issued.scene.model_id,
        planner=plan.planner,
        basis_digest=plan.basis.digest,
        threshold_names=list(plan.basis.thresholds),
        thresholds=[float(value) for value in plan.basis.thresholds.values()],
        code=int(plan.code),
        text=plan.message,
        flags=list(issued.flags),
        term_names=table.names,
        cup_centres=[Point(x=x, y=y, z=z) for x, y, z in cell.tool.cups_m.tolist()],
        motion=PickMotion(**cell.motion.model_dump()),
        grasps=grasps,
        rejected=rejected,
        rejected_codes=[int(reason) for reason, _ in counts],
        rejected_counts=[int(count) for _, count in counts],
        failed=[_failed_to_msg(failed) for failed in issued.failed],
        excluded_instances=[int(i) for i in issued.excluded],
        holding=learned_to_msg(NOT_LEARNED if plan.holding is None else plan.holding.state),
        hold_terms=[] if plan.holding is None else hold_to_msgs(plan.holding, issued.scene),
        tool=learned_to_msg(plan.basis.tool),
        timings=timings_to_msg(plan.timings_ms),
    )


def plan_from_msg(message: GraspPlan) -> PlanNotice:
    """The plan as it was handed out; poses are right to 1e-12.

    Raises RobinError ID_INVALID, POSE_INVALID, or INPUT_UNREADABLE for a frame other than base_link, codes of another
    version, counts that lack their codes, cups that the tool lacks, or a motion that cannot be.
    """
    plain_id(message.plan_id, "plan_id")
    if message.header.frame_id != BASE_FRAME:
        text = f"plan '{message.plan_id}' is in '{message.header.frame_id}', not in {BASE_FRAME}"
        raise RobinError(Code.INPUT_UNREADABLE, text)
    plan = Plan(
        code=_known(Code, message.code, message.plan_id),
        message=message.text,
        grasps=tuple(_grasp_from_msg(grasp, message) for grasp in message.grasps),
        rejected=tuple(_rejected_from_msg(rejected, message) for rejected in message.rejected),
        rejected_counts=_counts_from_msg(message),
        planner=message.planner,
        timings_ms=timings_from_msg(message.timings),
        basis=PlanBasis(
            message.basis_digest,
            dict(zip(message.threshold_names, message.thresholds, strict=False)),
            learned_from_msg(message.tool),
        ),
        holding=hold_from_msg(message),
    )
    return PlanNotice(
        plan_id=message.plan_id,
        stamp_s=stamp_to_s(message.header.stamp),
        plan=plan,
        failed=tuple(_failed_from_msg(failed) for failed in message.failed),
        excluded=tuple(int(i) for i in message.excluded_instances),
        flags=tuple(message.flags),
        motion=_motion_from_msg(message),
    )


def outcome_to_msg(report: OutcomeReport) -> PickOutcomeMsg:
    """What the cell measured and, where it was judged, the judgement.

    Raises RobinError OUTCOME_INVALID for figures that no cell can have measured, TRACES_INVALID.
    """
    report = report.validated()
    message = PickOutcomeMsg(
        header=base_header(report.ended_s),
        plan_id=report.plan_id,
        grasp=int(report.grasp),
        stage=report.stage.value,
        result="" if report.result is None else report.result.value,
        vacuum_pa=np.array(report.vacuum_pa, dtype=np.float64),
        lifted_weight_n=float(report.lifted_weight_n),
        duration_s=float(report.duration_s),
        truth_json=json.dumps(report.truth, default=_plain) if report.truth else "",
        probability=0.0 if report.probability is None else float(report.probability),
        result_names=[result.value for result in report.probabilities],
        result_probabilities=[float(p) for p in report.probabilities.values()],
        reasons=list(report.reasons),
        feature_names=list(report.features),
        feature_values=[float(value) for value in report.features.values()],
        after_stamp=stamp_from_s(report.after_s or 0.0),
        check_digest=report.check_digest,
        target_gone=float(report.target_gone),
        neighbours_gone=[int(i) for i in report.neighbours_gone],
        action=report.action,
        action_reason=report.action_reason,
        help_id=report.help_id,
        code=int(report.code),
        text=report.text,
    )
    if report.traces is not None:
        message.traces = _traces_to_msg(report.traces)
    if report.load is not None:
        message.load_view = _load_view_to_msg(report.load)
    return message


def outcome_from_msg(message: PickOutcomeMsg) -> OutcomeReport:
    """The outcome. Traces and a look at the load that cannot be used are left out and told in ``lacking``.

    Raises RobinError ID_INVALID, or OUTCOME_INVALID for a result, figures or truth that cannot be.
    """
    for field_name in ("plan_id", "help_id"):
        if (value := getattr(message, field_name)) or field_name == "plan_id":
            plain_id(value, field_name)
    name = f"outcome of '{message.plan_id}'"
    result = _one_of(PickResult, message.result, f"{name}: result") if message.result else None
    stage = _one_of(Stage, message.stage, f"{name}: stage") if message.stage else Stage.ENDED
    if len(message.truth_json) > LONGEST_TRUTH:
        raise RobinError(Code.OUTCOME_INVALID, f"{name}: truth_json has {len(message.truth_json):,} characters")
    truth = parse_json(message.truth_json or "{}", f"{name}: truth_json", Code.OUTCOME_INVALID)
    if not isinstance(truth, dict):
        raise RobinError(Code.OUTCOME_INVALID, f"{name}: truth_json is no JSON object")
    lacking: list[RobinError] = []
    report = OutcomeReport(
        plan_id=message.plan_id,
        grasp=int(message.grasp),
        ended_s=stamp_to_s(message.header.stamp),
        result=result,
        vacuum_pa=tuple(float(pa) for pa in message.vacuum_pa),
        lifted_weight_n=message.lifted_weight_n,
        duration_s=message.duration_s,
        truth=truth,
        probability=message.probability or None,
        reasons=tuple(message.reasons),
        check_digest=message.check_digest,
        target_gone=message.target_gone,
        neighbours_gone=tuple(int(i) for i in message.neighbours_gone),
        code=_known(Code, message.code, message.plan_id),
        text=message.text,
        stage=stage,
        probabilities=_probabilities(message, name),
        features=_features(message, name),
        after_s=stamp_to_s(message.after_stamp) or None,
        action=message.action,
        action_reason=message.action_reason,
        help_id=message.help_id,
    ).validated()
    traces = _usable(lambda: _traces_from_msg(message.traces, len(report.vacuum_pa)), f"{name}: traces", lacking)
    load = _usable(lambda: _load_view_from_msg(message.load_view), f"{name}: load view", lacking)
    return replace(report, traces=traces, load=load, lacking=tuple(lacking))


def _one_of(kind: type[KindT], value: str, name: str) -> KindT:
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(str(member.value) for member in kind)
        raise RobinError(Code.OUTCOME_INVALID, f"{name} '{value}', known are {known}") from None


def _probabilities(message: PickOutcomeMsg, name: str) -> dict[PickResult, float]:
    names, values = message.result_names, message.result_probabilities
    if len(names) != len(values) or len(set(names)) != len(names):
        text = f"{name}: {len(names)} names of results for {len(values)} probabilities, each name once"
        raise RobinError(Code.OUTCOME_INVALID, text)
    return {_one_of(PickResult, n, f"{name}: result"): float(p) for n, p in zip(names, values, strict=True)}


def _features(message: PickOutcomeMsg, name: str) -> dict[str, float]:
    names, values = message.feature_names, message.feature_values
    if len(names) != len(values):
        raise RobinError(Code.OUTCOME_INVALID, f"{name}: {len(names)} names of features for {len(values)} values")
    return {feature: float(value) for feature, value in zip(names, values, strict=True)}


def _usable(read: Callable[[], PartT], name: str, lacking: list[RobinError]) -> PartT | None:
    """What a pick can be judged without is no reason to refuse its outcome."""
    try:
        return read()
    except RobinError as exc:
        lacking.append(RobinError(exc.code, f"{name}: {exc.text}"))
        return None


def _traces_to_msg(traces: PickTraces) -> PickTracesMsg:
    return PickTracesMsg(
        rate_hz=float(traces.rate_hz),
        cups=int(traces.vacuum_pa.shape[1]),
        vacuum_pa=floats_of(traces.vacuum_pa),
        weight_n=floats_of(traces.weight_n),
        mark_names=list(traces.marks),
        mark_samples=[int(sample) for sample in traces.marks.values()],
    )


def _traces_from_msg(message: PickTracesMsg, cups: int) -> PickTraces | None:
    if message.rate_hz == 0:
        return None
    vacuum, weight = (np.array(values, dtype=np.float32) for values in (message.vacuum_pa, message.weight_n))
    marks = (message.mark_names, message.mark_samples)
    return traces_from_flat(message.rate_hz, int(message.cups), vacuum, weight, *marks).validated(cups)


def _load_view_to_msg(load: LoadView) -> LoadViewMsg:
    color, depth, info = frame_to_msgs(load.frame, load.frame.camera_id)
    camera, tool = poses_to_msgs([load.frame.T_base_camera, load.T_base_tool])
    return LoadViewMsg(color=color, depth=depth, info=info, camera=camera, tool=tool)


def _load_view_from_msg(message: LoadViewMsg) -> LoadView | None:
    if not message.color.height:
        return None
    frame = frame_from_msgs(message.color, message.depth, message.info, pose_from_msg(message.camera))
    return LoadView(frame, pose_from_msg(message.tool))


def _grasp_to_msg(grasp: Grasp, pose: Pose, table: TermTable) -> GraspMsg:
    message = GraspMsg(instance_id=int(grasp.instance_id), pose=pose, cups=int(grasp.cups), score=float(grasp.score))
    message.term_indices, message.term_values = table.split(grasp.terms)
    message.cup_seal = [float(seal) for seal in grasp.cup_seal]
    return message


def _grasp_from_msg(message: GraspMsg, plan: GraspPlan) -> Grasp:
    pose, count = pose_from_msg(message.pose), len(plan.cup_centres)
    if message.cups >> count:
        text = f"plan '{plan.plan_id}': a grasp opens cup {message.cups.bit_length() - 1} of a tool with {count} cups"
        raise RobinError(Code.INPUT_UNREADABLE, text)
    if len(message.cup_seal) not in (0, count):
        text = f"plan '{plan.plan_id}': a grasp tells the seal of {len(message.cup_seal)} cups of {count}"
        raise RobinError(Code.INPUT_UNREADABLE, text)
    seals = tuple(float(seal) for seal in message.cup_seal)
    terms = _terms_from_msg(message, plan)
    return Grasp(pose, int(message.cups), int(message.instance_id), message.score, terms, seals)


def _counts_from_msg(plan: GraspPlan) -> dict[Reject, int]:
    codes, counts = plan.rejected_codes, plan.rejected_counts
    if len(codes) != len(counts):
        text = f"plan '{plan.plan_id}': {len(codes)} reject codes, but {len(counts)} counts"
        raise RobinError(Code.INPUT_UNREADABLE, text)
    return {_known(Reject, code, plan.plan_id): int(count) for code, count in zip(codes, counts, strict=True)}


def _rejected_to_msg(rejected: Rejected, pose: Pose, table: TermTable) -> RejectedCandidate:
    message = RejectedCandidate(
        instance_id=int(rejected.instance_id),
        pose=pose,
        cups=int(rejected.cups),
        code=int(rejected.reason),
        name=rejected.reason.name,
    )
    message.term_indices, message.term_values = table.split(rejected.terms)
    return message


def _rejected_from_msg(message: RejectedCandidate, plan: GraspPlan) -> Rejected:
    return Rejected(
        instance_id=int(message.instance_id),
        T_base_tool=pose_from_msg(message.pose),
        cups=int(message.cups),
        reason=_known(Reject, message.code, plan.plan_id),
        terms=_terms_from_msg(message, plan),
    )


def _terms_from_msg(message: GraspMsg | RejectedCandidate, plan: GraspPlan) -> dict[str, float]:
    try:
        return named_terms(plan.term_names, message.term_indices, message.term_values)
    except ValueError as exc:
        raise RobinError(Code.INPUT_UNREADABLE, f"plan '{plan.plan_id}': {exc}") from None


def _motion_from_msg(plan: GraspPlan) -> MotionConfig:
    values = {name: getattr(plan.motion, name) for name in MotionConfig.model_fields}
    try:
        return MotionConfig.model_validate({**values, "transfer_axis_xy": plan.motion.transfer_axis_xy.tolist()})
    except ValidationError as exc:
        first = exc.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise RobinError(Code.INPUT_UNREADABLE, f"plan '{plan.plan_id}': motion.{key}: {first['msg']}") from None


def _failed_to_msg(failed: FailedPick) -> FailedPickMsg:
    x, y, z = (float(v) for v in failed.position_m)
    return FailedPickMsg(position=Point(x=x, y=y, z=z), cups=int(failed.cups), times=int(failed.times))


def _failed_from_msg(message: FailedPickMsg) -> FailedPick:
    at = message.position
    return FailedPick((at.x, at.y, at.z), int(message.cups), int(message.times))


def _known(kind: Any, value: int, plan_id: str) -> Any:
    try:
        return kind(value)
    except ValueError:
        text = f"'{plan_id}': {kind.__name__} {value} is not known here: is the sender of another version?"
        raise RobinError(Code.INPUT_UNREADABLE, text) from None


def _plain(value: Any) -> Any:
    """Truth values as JSON can hold them."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=str)
    return str(value)
