"""The planner, asked again about a recorded frame: why not this parcel, why not here, why not with these cups."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_adapt.decision import Decision
from edge_adapt.record_parts import ToolRecord
from edge_adapt.trace import REASON_TEXT
from robin_grasp.plan import CupTrust, FailedPick, Grasp, Plan, PlanBasis, Rejected
from robin_grasp.planner.config import PlannerConfig, plan_basis
from robin_grasp.planner.registry import make_planner
from robin_grasp.tool import CellConfig, cups_to_mask, mask_to_cups
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene
from robin_view.decision.answer import Answer, Difference, Question, Reason

MOST_EXAMPLES, MOST_GRASPS = 50, 10


def ask_again(
    frame: Frame, scene: Scene, decision: Decision, cell: CellConfig, config: PlannerConfig, question: Question
) -> Answer:
    """Raises RobinError OPTION_INVALID for a planner that is not known here, CUPS_MISMATCH."""
    wide = config.sampling.model_copy(
        update={"grasps_per_instance": MOST_GRASPS, "rejects_per_instance": MOST_EXAMPLES}
    )
    planner = make_planner(decision.planner, cell, config=config.model_copy(update={"sampling": wide}))
    plan = planner.plan(frame, scene, failed_then(decision), _trust(decision, cell, question.cups))
    own = [grasp for grasp in plan.grasps if grasp.instance_id == question.parcel]
    own.sort(key=lambda grasp: _away(grasp, question))
    here, best = (own[0] if own else None), plan.best
    seen = next((i for i in scene.instances if i.id == question.parcel), None)
    return Answer(
        parcel=question.parcel,
        class_name=scene.class_name(seen) if seen is not None else "",
        rank=None if here is None else len(_better(plan, here)),
        parcels=len({grasp.instance_id for grasp in plan.grasps}),
        score=None if here is None else here.score,
        best_score=None if best is None else best.score,
        cups=() if here is None else mask_to_cups(here.cups),
        away_m=float("nan") if here is None or question.at_m is None else _away(here, question),
        reasons=_reasons(plan, question),
        differences=_differences(here, best),
        notes=_notes(decision, cell, config),
        milliseconds=sum(plan.timings_ms.values()),
    )


def _better(plan: Plan, here: Grasp) -> set[int]:
    """Other parcels with a better grasp."""
    return {g.instance_id for g in plan.grasps if g.score > here.score} - {here.instance_id}


def failed_then(decision: Decision) -> tuple[FailedPick, ...]:
    return tuple(FailedPick(f.position_m, cups_to_mask(f.cups), f.times) for f in decision.failed_before)


def cups_then(decision: Decision) -> CupTrust:
    """What was expected of the cups."""
    return PlanBasis(thresholds=decision.context.thresholds).cups


def _trust(decision: Decision, cell: CellConfig, cups: tuple[int, ...] | None) -> CupTrust:
    then = cups_then(decision)
    if cups is None:
        return then
    shares = then.shares or (1.0,) * cell.tool.cup_count
    return CupTrust(tuple(share if cup in cups else 0.0 for cup, share in enumerate(shares)))


def _away(candidate: Grasp | Rejected, question: Question) -> float:
    """From the spot to the tool, along the belt, metres; 0 without a spot."""
    if question.at_m is None:
        return 0.0
    return float(np.linalg.norm(candidate.T_base_tool[:2, 3] - np.asarray(question.at_m)[:2]))


def _reasons(plan: Plan, question: Question) -> tuple[Reason, ...]:
    """With a spot the nearest first; else the one that the last candidate met, since it came furthest."""
    own = [rejected for rejected in plan.rejected if rejected.instance_id == question.parcel][::-1]
    if question.at_m is not None:
        own.sort(key=lambda rejected: _away(rejected, question))
    groups: dict[int, list[Rejected]] = {}
    for rejected in own:
        groups.setdefault(int(rejected.reason), []).append(rejected)
    return tuple(_reason(group, question) for group in groups.values())


def _reason(group: Sequence[Rejected], question: Question) -> Reason:
    first = group[0]
    name = first.reason.name
    away = float("nan") if question.at_m is None else _away(first, question)
    return Reason(int(first.reason), name, REASON_TEXT[name], len(group), mask_to_cups(first.cups), away)


def _differences(here: Grasp | None, best: Grasp | None) -> tuple[Difference, ...]:
    """Terms in which they differ most, by their size."""
    if here is None or best is None or here is best:
        return ()
    found = [Difference(name, here.terms[name], value) for name, value in best.terms.items() if name in here.terms]
    found = [d for d in found if not np.isclose(d.here, d.best, rtol=1e-3, atol=1e-6)]
    return tuple(sorted(found, key=lambda d: -abs(d.here - d.best) / (abs(d.here) + abs(d.best)))[:8])


def _notes(decision: Decision, cell: CellConfig, config: PlannerConfig) -> tuple[str, ...]:
    notes = []
    if decision.context.tool != ToolRecord.of(cell.tool):
        notes.append("the tool was another one; --cell names its file")
    then = decision.context.digests.get("planner", "")
    if then and then != plan_basis(decision.planner, cell, config).digest:
        notes.append("the settings of cell or planner were others then")
    if decision.versions.hold is not None:
        notes.append("what was learned of holding is not asked")
    return tuple(notes)
