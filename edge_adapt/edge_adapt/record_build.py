"""Parts of a decision record, made from what cameras, segmenter, planner and cell hand over."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_adapt.record_parts import (
    CandidateRecord,
    ConditionRecord,
    CupRecord,
    FrameRecord,
    HelpRecord,
    InstanceRecord,
    JudgementRecord,
    LearnedRecord,
    LoadRecord,
    OutcomeRecord,
    Quaternion,
    RecoveryStepRecord,
    TracesRecord,
    Vector3,
    VersionsRecord,
)
from robin_grasp.cup_health import CupReport, CupState
from robin_grasp.learned import NOT_LEARNED, LearnedState
from robin_grasp.picks.outcome import PickOutcome
from robin_grasp.picks.outcome_report import OutcomeReport
from robin_grasp.picks.pick_check import PickJudgement
from robin_grasp.picks.traces import LoadView, PickTraces
from robin_grasp.plan import Grasp, Plan, Rejected
from robin_grasp.recovery.action import Action
from robin_grasp.recovery.help_request import HelpRequest
from robin_grasp.recovery.machine import Step
from robin_grasp.tool import mask_to_cups
from robin_perception.core.condition import Condition
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Instance, Scene

_CAME_OF = {
    Action.DELIVER: "it left the cell",
    Action.PUT_BACK: "the rest hangs on the tool again",
    Action.SET_DOWN: "it lies where it came from",
}


def frame_digest(frame: Frame) -> str:
    """sha256 (hex) over the colour bytes, then the depth bytes, both row-major."""
    digest = hashlib.sha256(np.ascontiguousarray(frame.rgb).tobytes())
    digest.update(np.ascontiguousarray(frame.depth, dtype=np.float32).tobytes())
    return digest.hexdigest()


def number(value: float) -> float:
    """Six significant digits: enough for every figure, and a third of the bytes. NaN becomes 0, infinity ±1e30."""
    value = float(value)
    if not math.isfinite(value):
        return 0.0 if math.isnan(value) else math.copysign(1e30, value)
    return float(f"{value:.6g}")


def figure(value: float) -> float | None:
    """Six significant digits; None for what is not finite."""
    return number(value) if math.isfinite(value) else None


def vector(values: Any) -> Vector3:
    x, y, z = (round(float(v), 5) for v in values)
    return x, y, z


def quaternion(rotation: NDArray[np.float64]) -> Quaternion:
    from scipy.spatial.transform import Rotation  # 40 MB that reading records does without

    x, y, z, w = (round(float(v), 6) for v in Rotation.from_matrix(rotation).as_quat())
    return x, y, z, w


def terms(terms: Mapping[str, float]) -> dict[str, float]:
    return {name: number(value) for name, value in terms.items()}


def frame_record(frame: Frame) -> FrameRecord:
    return FrameRecord(
        digest=frame_digest(frame),
        width=frame.width,
        height=frame.height,
        intrinsics=(float(frame.K[0, 0]), float(frame.K[1, 1]), float(frame.K[0, 2]), float(frame.K[1, 2])),
        camera_id=frame.camera_id,
        camera_position_m=vector(frame.T_base_camera[:3, 3]),
        camera_quaternion_xyzw=quaternion(frame.T_base_camera[:3, :3]),
        valid_depth_share=round(float((frame.depth > 0).mean()), 4),
    )


def versions_record(scene: Scene, plan: Plan) -> VersionsRecord:
    hold = NOT_LEARNED if plan.holding is None else plan.holding.state
    return VersionsRecord(see=scene.model_version, hold=_learned(hold), tool=_learned(plan.basis.tool))


def _learned(state: LearnedState) -> LearnedRecord | None:
    return LearnedRecord(picks=state.picks, digest=state.digest) if state.digest else None


def _film_terms(instance: Instance) -> tuple[()] | tuple[float, float, float, float, float, float]:
    if not instance.film_depth:
        return ()
    a, b, c, d, e, f = map(number, instance.film_depth)
    return a, b, c, d, e, f


def instance_record(instance: Instance, scene: Scene) -> InstanceRecord:
    return InstanceRecord(
        id=instance.id,
        class_name=scene.class_name(instance),
        class_probability=number(float(np.max(instance.class_probabilities))),
        detection=number(instance.detection),
        mask_quality=number(instance.mask_quality),
        visible_fraction=number(instance.visible_fraction),
        boundary_uncertainty_px=number(instance.boundary_uncertainty_px),
        bbox=instance.bbox,
        area_px=int(instance.area_px),
        novelty=figure(instance.novelty),
        film_depth=_film_terms(instance),
    )


def ranked_record(rank: int, grasp: Grasp) -> CandidateRecord:
    return CandidateRecord(
        rank=rank,
        instance=grasp.instance_id,
        position_m=vector(grasp.T_base_tool[:3, 3]),
        quaternion_xyzw=quaternion(grasp.T_base_tool[:3, :3]),
        cups=mask_to_cups(grasp.cups),
        score=number(grasp.score),
        terms=terms(grasp.terms),
        cup_seal=tuple(figure(seal) for seal in grasp.cup_seal),
    )


def rejected_record(rejected: Rejected) -> CandidateRecord:
    return CandidateRecord(
        rank=-1,
        instance=rejected.instance_id,
        position_m=vector(rejected.T_base_tool[:3, 3]),
        quaternion_xyzw=quaternion(rejected.T_base_tool[:3, :3]),
        cups=mask_to_cups(rejected.cups),
        terms=terms(rejected.terms),
        reason=rejected.reason.name,
        reason_code=int(rejected.reason),
    )


def outcome_record(outcome: PickOutcome, judgement: JudgementRecord | None = None) -> OutcomeRecord:
    return OutcomeRecord(
        **({} if judgement is None else judgement.model_dump()),
        result=outcome.result.value,
        vacuum_pa=tuple(round(float(p), 1) for p in outcome.vacuum_pa),
        lifted_weight_n=number(outcome.lifted_weight_n),
        duration_s=number(outcome.duration_s),
        truth=plain(outcome.truth),
        traces=None if outcome.traces is None else traces_record(outcome.traces),
        load=None if outcome.load is None else load_record(outcome.load),
    )


def judgement_record(judgement: PickJudgement) -> JudgementRecord:
    return JudgementRecord(
        judged=judgement.result.value,
        probability=judgement.probability,
        probabilities={result.value: float(p) for result, p in judgement.probabilities.items()},
        reasons=judgement.reasons,
        features={name: figure(value) for name, value in judgement.features.items()},
        after_stamp_s=judgement.after_s,
    )


def reported_judgement(report: OutcomeReport) -> JudgementRecord:
    """Of a report that came from the pick check. A result that the cell itself gave is not the judged one."""
    odds = report.probabilities
    judged = max(odds, key=lambda result: odds[result]) if odds else report.result
    return JudgementRecord(
        judged=None if report.probability is None or judged is None else judged.value,
        probability=report.probability,
        probabilities={result.value: float(p) for result, p in odds.items()},
        reasons=report.reasons,
        features={name: figure(value) for name, value in report.features.items()},
        after_stamp_s=report.after_s,
    )


def step_record(
    step: Step, judgement: JudgementRecord | None = None, help: HelpRecord | None = None, took_s: float = 0.0
) -> RecoveryStepRecord:
    """One decision of the recovery policy, with the judgement that it was made on."""
    return RecoveryStepRecord(
        **({} if judgement is None else judgement.model_dump()),
        state=step.state.value,
        action=step.action.value,
        reason=step.reason,
        code=int(step.code),
        release_cups=mask_to_cups(step.release_cups),
        came_of=_CAME_OF.get(step.action, ""),
        took_s=number(took_s),
        help=help,
    )


def help_record(request: HelpRequest, picture: str = "") -> HelpRecord:
    """picture: key of the decision's images."""
    return HelpRecord(
        help_id=request.help_id,
        code=int(request.code),
        text=request.text,
        answer=request.answer,
        answered_by=request.answered_by,
        waited_s=None if request.is_open else number(request.answered_s - request.asked_s),
        picture=picture,
    )


def cup_record(report: CupReport) -> CupRecord:
    return CupRecord(
        cup=report.cup,
        state=report.state.name.lower(),
        share=number(report.share),
        probabilities={state.name.lower(): number(report.probabilities[state]) for state in CupState},
        picks=report.picks,
        held=report.held,
        text=report.text,
    )


def traces_record(traces: PickTraces) -> TracesRecord:
    return TracesRecord(rate_hz=float(traces.rate_hz), samples=traces.samples, marks=dict(traces.marks))


def load_record(load: LoadView) -> LoadRecord:
    T = load.T_base_tool
    return LoadRecord(
        frame=frame_record(load.frame), tool_position_m=vector(T[:3, 3]), tool_quaternion_xyzw=quaternion(T[:3, :3])
    )


def condition_record(condition: Condition) -> ConditionRecord:
    return ConditionRecord(
        code=int(condition.code),
        name=condition.name,
        family=condition.family.value,
        value=figure(condition.value),
        limit=figure(condition.limit),
        unit=condition.unit,
        since_s=condition.since_s,
        effect=condition.effect.value,
        text=condition.text,
        instances=condition.instances,
    )


def plain(value: Any) -> Any:
    """Truth values as JSON can hold them: numpy scalars and arrays, tuples and sets become plain numbers and lists."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((plain(item) for item in value), key=str)
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return number(value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return str(value)
