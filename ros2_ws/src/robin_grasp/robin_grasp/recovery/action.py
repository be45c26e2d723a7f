"""What the recovery policy can ask for."""

from __future__ import annotations

from enum import Enum


class Action(str, Enum):
    """Its values are what messages and records carry."""

    GO_ON = "go_on"
    GO_SLOWLY = "go_slowly"
    LOOK_AGAIN = "look_again"
    DELIVER = "deliver"
    PUT_BACK = "put_back"
    SET_DOWN = "set_down"
    OTHER_CUPS = "other_cups"
    OTHER_POSE = "other_pose"
    OTHER_PARCEL = "other_parcel"
    MARK_DESTINATION = "mark_destination"
    ASK_HELP = "ask_help"
    STOP = "stop"


MEANING = {
    Action.GO_ON: "pick the next parcel",
    Action.GO_SLOWLY: "pick with slower motion",
    Action.LOOK_AGAIN: "take another image before anything moves",
    Action.DELIVER: "let the load go at the place station",
    Action.PUT_BACK: "bring the load back, let go of the second parcel only, weigh and look again",
    Action.SET_DOWN: "bring the load back where it came from, let go of all of it, look again",
    Action.OTHER_CUPS: "other cups, or another spot, are tried before the same ones",
    Action.OTHER_POSE: "the cups that failed are ruled out where they failed",
    Action.OTHER_PARCEL: "this parcel is not tried again until a person or a pick has changed its place",
    Action.MARK_DESTINATION: "say that what was put down is not what was meant",
    Action.ASK_HELP: "ask a person and wait for the answer",
    Action.STOP: "nothing moves until the cell is started again",
}


def known_action(name: str) -> Action | None:
    """The action of that name; None for none, and for one of another version."""
    return Action(name) if name in {action.value for action in Action} else None
