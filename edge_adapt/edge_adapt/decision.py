"""The decision record: one per pick, what was seen, what was weighed, what was chosen and what became of it.

It is what the logs, ``robin trace``, the report and the tests read. It holds digests and figures, never arrays; images
lie beside it, named by relative paths. See ``docs/decision-record.md``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone

from pydantic import Field, ValidationError, model_validator

from edge_adapt.record_build import (
    condition_record,
    frame_record,
    instance_record,
    outcome_record,
    ranked_record,
    rejected_record,
    vector,
    versions_record,
)
from edge_adapt.record_parts import (
    CandidateRecord,
    ConditionRecord,
    Count,
    CupRecord,
    FailedPickRecord,
    FrameRecord,
    ImagePath,
    InstanceRecord,
    JudgementRecord,
    OutcomeRecord,
    RecoveryStepRecord,
    ToolRecord,
    VersionsRecord,
)
from robin_grasp.picks.outcome import PickOutcome
from robin_grasp.plan import FailedPick, Grasp, Plan, Rejected
from robin_grasp.tool import CellConfig, ToolConfig, mask_to_cups
from robin_perception.core.config import StrictConfig, config_digest, first_fault
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.ids import PlainId
from robin_perception.core.scene import Scene

RECORD_VERSION = 6
MAX_REJECTED = 32  # keeps a record of a 60-parcel pile below 50 kB; the counts are of all that were ruled out
MAX_RANKED = 12
BEFORE_A_PICK = "look"
"""State of a recovery step that was taken before anything moved."""


class DecisionContext(StrictConfig):
    """Where a decision belongs, and what it was made with.

    engine: the one that answered for this frame, "fallback:NAME" where it stood in for another. digests: sha256 of the
    settings of "cell", "scenario" (simulation only), "planner", and where they ran "pick_check", "monitors", "novelty",
    "recovery" and "cup_health". config_digest: of all these together. thresholds: figures of the planner that rule
    candidates out.
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
    versions: VersionsRecord = Field(VersionsRecord(), description="of what is learned")
    scene_flags: tuple[str, ...]
    conditions: tuple[ConditionRecord, ...] = Field((), description="of station and goods, as they stood")
    class_names: tuple[str, ...] = Field((), description="what the model tells apart; empty in records of version 1")
    instances: tuple[InstanceRecord, ...]
    code: int = Field(ge=0, le=65_535)
    message: str
    candidates: tuple[CandidateRecord, ...]
    rejected: tuple[CandidateRecord, ...]
    rejected_counts: dict[str, Count]
    choice: int | None
    failed_before: tuple[FailedPickRecord, ...] = ()
    cup_health: tuple[CupRecord, ...] = Field((), description="what was believed of the cups; empty: not watched")
    steps: tuple[RecoveryStepRecord, ...] = Field((), description="of the recovery policy, in order")
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
        """'clean', 'miss', 'drop', 'multi', 'wrong', 'infeasible' when there was nothing to execute, 'waited' when
        nothing was picked before a person had answered, or 'unfinished' when a grasp was handed out and nobody told
        what became of it."""
        if self.outcome is not None:
            return self.outcome.result
        if self.steps and all(step.state == BEFORE_A_PICK for step in self.steps):
            return "waited"
        return "infeasible" if self.choice is None else "unfinished"


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
    judgement: JudgementRecord | None = None,
    steps: Sequence[RecoveryStepRecord] = (),
    cup_health: Sequence[CupRecord] = (),
    digests: Mapping[str, str] | None = None,
) -> Decision:
    """One record of one pick. ``chosen`` defaults to the plan's best grasp; it must be one of the plan's grasps.
    judgement: of ``outcome``. digests: of the settings of what watched and judged, see ``DecisionContext``.

    Raises RobinError RECORD_INVALID for figures that no cell can have.
    """
    made_with = {"engine": scene.engine, "thresholds": dict(plan.basis.thresholds)}
    context = context.model_copy(update=made_with).with_digests(planner=plan.basis.digest, **(digests or {}))
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
            frame=frame_record(frame),
            model_id=scene.model_id,
            planner=plan.planner,
            versions=versions_record(scene, plan),
            scene_flags=scene.flags,
            conditions=tuple(condition_record(condition) for condition in scene.conditions),
            class_names=scene.class_names,
            instances=tuple(instance_record(instance, scene) for instance in scene.instances),
            code=int(plan.code),
            message=plan.message,
            candidates=tuple(ranked_record(rank, grasp) for rank, grasp in enumerate(ranked)),
            rejected=tuple(rejected_record(rejected) for rejected in _worth_keeping(plan.rejected)),
            rejected_counts={reason.name: count for reason, count in plan.rejected_counts.items()},
            choice=choice,
            failed_before=tuple(
                FailedPickRecord(position_m=vector(f.position_m), cups=mask_to_cups(f.cups), times=f.times)
                for f in failed
            ),
            cup_health=tuple(cup_health),
            steps=tuple(steps),
            outcome=None if outcome is None else outcome_record(outcome, judgement),
            timings_ms={name: round(float(value), 3) for name, value in timings.items()},
            flags=flags,
            images=dict(images or {}),
        )


def with_outcome(
    decision: Decision,
    grasp: int,
    outcome: PickOutcome,
    judgement: JudgementRecord | None = None,
    flags: tuple[str, ...] = (),
    steps: Sequence[RecoveryStepRecord] = (),
    digests: Mapping[str, str] | None = None,
) -> Decision:
    """The record once the pick has ended. grasp: index of the executed one. judgement: of the pick check. steps: of the
    recovery policy, after those that the record has. digests: of the settings of what judged.

    Raises RobinError OUTCOME_INVALID for a grasp that the record does not hold, RECORD_INVALID as ``build_decision``.
    """
    if not 0 <= grasp < len(decision.candidates):
        kept = len(decision.candidates)
        raise RobinError(Code.OUTCOME_INVALID, f"{decision.decision_id}: grasp {grasp} is none of its {kept}")
    with _refused(decision.decision_id):
        record = outcome_record(outcome, judgement)
    update = {
        "context": decision.context.with_digests(**(digests or {})),
        "choice": grasp,
        "outcome": record,
        "flags": (*decision.flags, *flags),
        "steps": (*decision.steps, *steps),
    }
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
