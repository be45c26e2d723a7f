"""The managed nodes over ROS: their lifecycle services, their transition events, what they say on /diagnostics."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition, TransitionEvent
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.client import Client
from rclpy.node import Node

from robin_bringup.bring_up import ACTIVATE, CLEANUP, CONFIGURE, DEACTIVATE

_TRANSITIONS = {
    CONFIGURE: Transition.TRANSITION_CONFIGURE,
    ACTIVATE: Transition.TRANSITION_ACTIVATE,
    DEACTIVATE: Transition.TRANSITION_DEACTIVATE,
    CLEANUP: Transition.TRANSITION_CLEANUP,
}


class RosLink:
    """``state`` and ``change`` block and belong to a thread of their own; an executor must spin ``node`` meanwhile.

    deactivated: called in the executor's thread with the name of a node that begins to deactivate.
    """

    def __init__(self, node: Node, names: tuple[str, ...], deactivated: Callable[[str], None]) -> None:
        self._states = {name: node.create_client(GetState, f"{name}/get_state") for name in names}
        self._changes = {name: node.create_client(ChangeState, f"{name}/change_state") for name in names}
        self._reasons: dict[str, str] = {}
        self._names = {node.resolve_topic_name(name): name for name in names}
        for name in names:
            node.create_subscription(TransitionEvent, f"{name}/transition_event", _told(name, deactivated), 10)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnostics, 50)

    def state(self, node: str, timeout_s: float) -> str | None:
        reply = _call(self._states[node], GetState.Request(), timeout_s)
        return None if reply is None else str(reply.current_state.label)

    def change(self, node: str, transition: str, timeout_s: float) -> bool | None:
        request = ChangeState.Request(transition=Transition(id=_TRANSITIONS[transition]))
        reply = _call(self._changes[node], request, timeout_s)
        return None if reply is None else bool(reply.success)

    def reason(self, node: str) -> str:
        return self._reasons.get(node, "")

    def present(self, node: str) -> bool:
        return bool(self._states[node].service_is_ready())

    def _diagnostics(self, message: Any) -> None:
        for status in message.status:
            name = self._names.get(status.name)
            if name is not None:
                self._reasons[name] = status.message if status.level == DiagnosticStatus.ERROR else ""


def _told(name: str, deactivated: Callable[[str], None]) -> Callable[[Any], None]:
    def received(event: Any) -> None:
        if event.transition.id == Transition.TRANSITION_DEACTIVATE:
            deactivated(name)

    return received


def _call(client: Client, request: Any, timeout_s: float) -> Any:
    """The reply, or None when none came in time."""
    if not client.service_is_ready():
        return None
    answered = threading.Event()
    future = client.call_async(request)
    future.add_done_callback(lambda _: answered.set())
    if not answered.wait(timeout_s):
        client.remove_pending_request(future)
        return None
    return future.result()
