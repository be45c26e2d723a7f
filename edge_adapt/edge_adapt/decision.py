"""The decision record: one per pick, what was seen, what was weighed, what was chosen and what became of it.

It is what the logs, ``robin trace``, the report and the tests read. It holds digests and figures, never arrays; images
lie beside it, named by relative paths. See ``docs/decision-record.md``.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator
from scipy.spatial.transform import Rotation

from edge_adapt.record_parts import (
    CandidateRecord,
    Count,
    FailedPickRecord,
    FrameRecord,
    ImagePath,
    InstanceRecord,
    OutcomeRecord,
    Quaternion,
    ToolRecord,
    Vector3,
)
from robin_grasp.picks.outcome import PickOutcome
from robin_grasp.plan import FailedPick, Grasp, Plan, Rejected
from robin_grasp.tool import CellConfig, ToolConfig, mask_to_cups
from robin_perception.core.config import StrictConfig, config_digest, first_fault
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.ids import PlainId
from robin_perception.core.scene import Instance, Scene

RECORD_VERSION = 2
MAX_REJECTED = 32  # keeps a record of a 60-parcel pile below 50 kB; the counts are of all that were ruled out
MAX_RANKED = 12


class DecisionContext(StrictConfig):
    """Where a decision belongs, and what it was made with.

    engine: the one that answered for this frame, "fallback:NAME" where it stood in for another. digests: sha256 of the
    settings of "cell", "scenario" (simulation only), "planner" and "pick_check" (where it was asked). config_digest: of
    all these together. thresholds: figures of the planner that rule candidates out.
    """

    run_id: PlainId
    pile: Count
    pick: Count
    source: str = Field("robot", description="'robot', or the simulated scenario's name")
    seed: int | None = None
    engine: str = ""
    digests: dict[str, str] = Field(default_factory=dict)
    config_digest: str = ""
    thresholds: dict[str, float] = Field(default_factory=dict)
    tool: ToolRecord = ToolRecord.of(ToolConfig())

    @property
    def decision_id(self) -> str:
        return f"{self.run_id}-{self.pile:05d}-{self.pick:03d}"

    def in_pile(self, pile: int, pick: int) -> DecisionContext:
        """The same run's context for one of its picks."""
        return self.model_copy(update={"pile": pile, "pick": pick})

    def with_digests(self, **digests: str) -> DecisionContext:
        """More of them; empty ones are left out."""
        known = {**self.digests, **{name: digest for name, digest in digests.items() if digest}}
        return self.model_copy(update={"digests": known, "config_digest": config_digest(known)})


def run_context(
    run_id: str, source: str, cell: CellConfig, seed: int | None = None, scenario: StrictConfig | None = None
) -> DecisionContext:
    """What is the same for all picks of a run, simulated, recorded or on a robot. What made each decision (engine,
    thresholds, settings of planner and pick check) comes with its scene, plan and outcome."""
    context = DecisionContext(run_id=run_id, pile=0, pick=0, source=source, seed=seed, tool=ToolRecord.of(cell.tool))
    return context.with_digests(cell=config_digest(cell), scenario=config_digest(scenario) if scenario else "")


class Decision(StrictConfig):
    """One pick, or one frame in which no grasp was found (then ``choice`` and ``outcome`` are None). A choice without
    an outcome is a pick that nobody told the end of, see ``flags``."""

    version: int = Field(RECORD_VERSION, ge=1, le=RECORD_VERSION)
    decision_id: PlainId
    context: DecisionContext
    stamp_s: float
    recorded_at: str
    frame: FrameRecord
    model_id: str
    planner: str
    scene_flags: tuple[str, ...]
    class_names: tuple[str, ...] = Field((), description="what the model tells apart; empty in records of version 1")
    instances: tuple[InstanceRecord, ...]
    code: int = Field(ge=0, le=65_535)
    message: str
    candidates: tuple[CandidateRecord, ...]
    rejected: tuple[CandidateRecord, ...]
    rejected_counts: dict[str, Count]
    choice: int | None
    failed_before: tuple[FailedPickRecord, ...] = ()
    outcome: OutcomeRecord | None = None
    timings_ms: dict[str, float]
    flags: tuple[str, ...] = ()
    images: dict[str, ImagePath] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _choice_is_a_candidate(self) -> Decision:
        if self.choice is not None and not 0 <= self.choice < len(self.candidates):
            raise ValueError(f"'choice' is {self.choice}, of {len(self.candidates)} candidates")
        return self

    @property
    def chosen(self) -> CandidateRecord | None:
        return None if self.choice is None else self.candidates[self.choice]

    @property
    def result(self) -> str:
        """'clean', 'miss', 'drop', 'multi', 'wrong', 'infeasible' when there was nothing to execute, or 'unfinished'
        when a grasp was handed out and nobody told what became of it."""
        if self.outcome is not None:
            return self.outcome.result
        return "infeasible" if self.choice is None else "unfinished"


def frame_digest(frame: Frame) -> str:
    """sha256 (hex) over the colour bytes, then the depth bytes, both row-major."""
    digest = hashlib.sha256(np.ascontiguousarray(frame.rgb).tobytes())
    digest.update(np.ascontiguousarray(frame.depth, dtype=np.float32).tobytes())
    return digest.hexdigest()


def build_decision(
    context: DecisionContext,
    frame: Frame,
    scene: Scene,
    plan: Plan,
    outcome: PickOutcome | None,
    *,
    chosen: Grasp | None = None,
    failed: tuple[FailedPick, ...] = (),
    timings_ms: Mapping[str, float] | None = None,
    flags: tuple[str, ...] = (),
    images: Mapping[str, str] | None = None,
) -> Decision:
    """One record of one pick. ``chosen`` defaults to the plan's best grasp; it must be one of the plan's grasps.

    Raises RobinError RECORD_INVALID for figures that no cell can have.
    """
    made_with = {"engine": scene.engine, "thresholds": dict(plan.basis.thresholds)}
    context = context.model_copy(update=made_with).with_digests(planner=plan.basis.digest)
    chosen = chosen if chosen is not None else plan.best
    choice = next((i for i, grasp in enumerate(plan.grasps) if grasp is chosen), None)
    ranked = plan.grasps[: max(MAX_RANKED, (choice or 0) + 1)]
    timings = {**scene.timings_ms, **plan.timings_ms, **(timings_ms or {})}
    with _refused(context.decision_id):
        return Decision(
            decision_id=context.decision_id,
            context=context,
            stamp_s=frame.stamp_s,
            recorded_at=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            frame=_frame_record(frame),
            model_id=scene.model_id,
            planner=plan.planner,
            scene_flags=scene.flags,
            class_names=scene.class_names,
            instances=tuple(_instance_record(instance, scene) for instance in scene.instances),
            code=int(plan.code),
            message=plan.message,
            candidates=tuple(_ranked_record(rank, grasp) for rank, grasp in enumerate(ranked)),
            rejected=tuple(_rejected_record(rejected) for rejected in _worth_keeping(plan.rejected)),
            rejected_counts={reason.name: count for reason, count in plan.rejected_counts.items()},
            choice=choice,
            failed_before=tuple(
                FailedPickRecord(position_m=_vector(f.position_m), cups=mask_to_cups(f.cups), times=f.times)
                for f in failed
            ),
            outcome=None if outcome is None else _outcome_record(outcome),
            timings_ms={name: round(float(value), 3) for name, value in timings.items()},
            flags=flags,
            images=dict(images or {}),
        )


def with_outcome(
    decision: Decision,
    grasp: int,
    outcome: PickOutcome,
    probability: float | None = None,
    reasons: tuple[str, ...] = (),
    flags: tuple[str, ...] = (),
    check_digest: str = "",
) -> Decision:
    """The record once the pick has ended. grasp: index of the executed one; probability, reasons and check_digest (of
    its settings): of the pick check.

    Raises RobinError OUTCOME_INVALID for a grasp that the record does not hold, RECORD_INVALID as ``build_decision``.
    """
    if not 0 <= grasp < len(decision.candidates):
        kept = len(decision.candidates)
        raise RobinError(Code.OUTCOME_INVALID, f"{decision.decision_id}: grasp {grasp} is none of its {kept}")
    with _refused(decision.decision_id):
        record = _outcome_record(outcome).model_copy(update={"probability": probability, "reasons": reasons})
    context = decision.context.with_digests(pick_check=check_digest)
    update = {"context": context, "choice": grasp, "outcome": record, "flags": (*decision.flags, *flags)}
    return decision.model_copy(update=update)


@contextlib.contextmanager
def _refused(decision_id: str) -> Iterator[None]:
    """Figures that no cell can have, from a message: one numbered line."""
    try:
        yield
    except ValidationError as exc:
        raise RobinError(Code.RECORD_INVALID, f"{decision_id}: {first_fault(exc)}") from None


def _worth_keeping(rejected: tuple[Rejected, ...]) -> list[Rejected]:
    """Up to MAX_REJECTED: round-robin over (instance, reason), so that each parcel's every reason is shown first."""
    groups: dict[tuple[int, int], list[Rejected]] = {}
    for candidate in rejected:
        groups.setdefault((candidate.instance_id, int(candidate.reason)), []).append(candidate)
    kept: list[Rejected] = []
    depth = 0
    while len(kept) < MAX_REJECTED and any(len(group) > depth for group in groups.values()):
        kept.extend(group[depth] for group in groups.values() if len(group) > depth)
        depth += 1
    return kept[:MAX_REJECTED]


def _number(value: float) -> float:
    """Six significant digits: enough for every figure, and a third of the bytes. NaN becomes 0, infinity ±1e30."""
    value = float(value)
    if not math.isfinite(value):
        return 0.0 if math.isnan(value) else math.copysign(1e30, value)
    return float(f"{value:.6g}")


def _vector(values: Any) -> Vector3:
    x, y, z = (round(float(v), 5) for v in values)
    return x, y, z


def _quaternion(rotation: NDArray[np.float64]) -> Quaternion:
    x, y, z, w = (round(float(v), 6) for v in Rotation.from_matrix(rotation).as_quat())
    return x, y, z, w


def _terms(terms: Mapping[str, float]) -> dict[str, float]:
    return {name: _number(value) for name, value in terms.items()}


def _frame_record(frame: Frame) -> FrameRecord:
    return FrameRecord(
        digest=frame_digest(frame),
        width=frame.width,
        height=frame.height,
        intrinsics=(float(frame.K[0, 0]), float(frame.K[1, 1]), float(frame.K[0, 2]), float(frame.K[1, 2])),
        camera_id=frame.camera_id,
        camera_position_m=_vector(frame.T_base_camera[:3, 3]),
        camera_quaternion_xyzw=_quaternion(frame.T_base_camera[:3, :3]),
        valid_depth_share=round(float((frame.depth > 0).mean()), 4),
    )


def _instance_record(instance: Instance, scene: Scene) -> InstanceRecord:
    return InstanceRecord(
        id=instance.id,
        class_name=scene.class_name(instance),
        class_probability=_number(float(np.max(instance.class_probabilities))),
        detection=_number(instance.detection),
        mask_quality=_number(instance.mask_quality),
        visible_fraction=_number(instance.visible_fraction),
        boundary_uncertainty_px=_number(instance.boundary_uncertainty_px),
        bbox=instance.bbox,
        area_px=int(instance.area_px),
    )


def _ranked_record(rank: int, grasp: Grasp) -> CandidateRecord:
    return CandidateRecord(
        rank=rank,
        instance=grasp.instance_id,
        position_m=_vector(grasp.T_base_tool[:3, 3]),
        quaternion_xyzw=_quaternion(grasp.T_base_tool[:3, :3]),
        cups=mask_to_cups(grasp.cups),
        score=_number(grasp.score),
        terms=_terms(grasp.terms),
    )


def _rejected_record(rejected: Rejected) -> CandidateRecord:
    return CandidateRecord(
        rank=-1,
        instance=rejected.instance_id,
        position_m=_vector(rejected.T_base_tool[:3, 3]),
        quaternion_xyzw=_quaternion(rejected.T_base_tool[:3, :3]),
        cups=mask_to_cups(rejected.cups),
        terms=_terms(rejected.terms),
        reason=rejected.reason.name,
        reason_code=int(rejected.reason),
    )


def _outcome_record(outcome: PickOutcome) -> OutcomeRecord:
    return OutcomeRecord(
        result=outcome.result.value,
        vacuum_pa=tuple(round(float(p), 1) for p in outcome.vacuum_pa),
        lifted_weight_n=_number(outcome.lifted_weight_n),
        duration_s=_number(outcome.duration_s),
        truth=_plain(outcome.truth),
    )


def _plain(value: Any) -> Any:
    """Truth values as JSON can hold them: numpy scalars and arrays, tuples and sets become plain numbers and lists."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((_plain(item) for item in value), key=str)
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return _number(value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return str(value)
