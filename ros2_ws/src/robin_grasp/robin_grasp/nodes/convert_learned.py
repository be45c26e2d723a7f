"""What plans were told of things that are learned from picks, as ROS messages and back."""

from __future__ import annotations

from dataclasses import replace

from robin_msgs.msg import GraspPlan
from robin_msgs.msg import HoldTerms as HoldTermsMsg
from robin_msgs.msg import LearnedState as LearnedStateMsg

from robin_grasp.holding import HOLD_FIELDS, HoldTerms
from robin_grasp.learned import LearnedState
from robin_perception.core.scene import Scene


def learned_to_msg(state: LearnedState) -> LearnedStateMsg:
    """Which state was used."""
    return LearnedStateMsg(picks=int(state.picks), digest=state.digest)


def learned_from_msg(message: LearnedStateMsg) -> LearnedState:
    """The same."""
    return LearnedState(int(message.picks), message.digest)


def hold_to_msgs(holding: HoldTerms, scene: Scene) -> list[HoldTermsMsg]:
    """One of each instance of the scene, in order."""
    rows = {name: getattr(holding, name).tolist() for name in HOLD_FIELDS}
    return [
        HoldTermsMsg(instance_id=int(one.id), **{name: values[row] for name, values in rows.items()})
        for row, one in enumerate(scene.instances)
    ]


def hold_from_msg(message: GraspPlan) -> HoldTerms | None:
    """What the plan was told of holding; None where nobody learns."""
    if not message.holding.digest:
        return None
    found = HoldTerms.factory(len(message.hold_terms))
    for row, terms in enumerate(message.hold_terms):
        for name in HOLD_FIELDS:
            getattr(found, name)[row] = getattr(terms, name)
    return replace(found, state=learned_from_msg(message.holding))
