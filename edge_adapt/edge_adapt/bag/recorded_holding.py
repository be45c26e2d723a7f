"""What recorded plans were told of things that are learned from picks, so that they can be made again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from robin_grasp.holding import HOLD_FIELDS, HoldTerms
from robin_grasp.learned import LearnedState
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene


class RecordedHolding:
    """Implements ``robin_grasp.holding.Holding`` with what ``plan``, the recorded GraspPlan, was told."""

    def __init__(self) -> None:
        self.plan: Mapping[str, Any] = {}

    def expected(self, frame: Frame, scene: Scene) -> HoldTerms | None:
        return recorded_holding(self.plan, scene)


def recorded_holding(plan: Mapping[str, Any], scene: Scene) -> HoldTerms | None:
    """What a recorded GraspPlan was told of holding each instance of ``scene``; of one that was not recorded, as the
    factory expects. None where nobody learned, as in a bag from before that was told."""
    state = recorded_state(plan, "holding")
    if not state.digest:
        return None
    told = {int(terms["instance_id"]): terms for terms in plan["hold_terms"]}
    found = HoldTerms.factory(len(scene.instances))
    for row, one in enumerate(scene.instances):
        if (terms := told.get(one.id)) is not None:
            for name in terms.keys() & HOLD_FIELDS:
                getattr(found, name)[row] = terms[name]
    return replace(found, state=state)


def recorded_state(plan: Mapping[str, Any], name: str) -> LearnedState:
    """``holding`` or ``tool`` of a recorded GraspPlan."""
    told = plan.get(name, {})
    return LearnedState(int(told.get("picks", 0)), str(told.get("digest", "")))
