"""The robot's side in `robin bench ros`: brings nodes up, asks for plans, receives them, reads /diagnostics."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.utilities import get_rmw_implementation_identifier
from robin_msgs.msg import GraspPlan
from robin_msgs.srv import PlanPick
from std_srvs.srv import Trigger

from robin_perception.core.errors import Code, RobinError
from robin_perception.nodes.convert import stamp_to_s
from robin_perception.nodes.qos import RESULT
from robin_perception.nodes.transport import use_large_message_profile
from robin_perception.topics import PLAN

_POLL_S = 0.005


def middleware() -> str:
    """The middleware in force, as ROS names it."""
    return str(get_rmw_implementation_identifier())


@dataclass(frozen=True)
class PlanSeen:
    """A plan when it had come: stamp of its frame and time of its arrival, seconds since 1970."""

    stamp_s: float
    received_s: float
    requested: bool

    @property
    def latency_ms(self) -> float:
        return (self.received_s - self.stamp_s) * 1e3


class BenchClient:
    """A node of its own in ROS domain ``domain``. An own thread receives; methods belong to the caller's thread.

    Whatever does not answer in time raises RobinError NODE_UNREACHABLE with the node's last diagnostics.
    """

    def __init__(self, domain: int) -> None:
        # Not an argument of rclpy: the middleware reads it when the context is made.
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
        use_large_message_profile()
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=domain)
        self._node = rclpy.create_node("bench_client", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._lock = threading.Lock()
        self._plans: list[PlanSeen] = []
        self._diagnostics: dict[str, dict[str, str]] = {}
        self._clients: dict[str, Any] = {}
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnosed, 50)
        self._thread = threading.Thread(target=self._spin, name="bench_client", daemon=True)
        self._thread.start()

    def __enter__(self) -> BenchClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._executor.shutdown()
        self._thread.join()
        self._node.destroy_node()
        self._context.try_shutdown()

    def state(self, node: str, timeout_s: float) -> str:
        """Lifecycle state; waits for the node to appear."""
        reply, _ = self._call(GetState, f"{node}/get_state", GetState.Request(), timeout_s)
        return str(reply.current_state.label)

    def change(self, node: str, transition: str, timeout_s: float) -> None:
        """``configure``, ``activate``, ``deactivate``. Raises RobinError TRANSITION_FAILED where the node refuses."""
        wanted = Transition(id=getattr(Transition, f"TRANSITION_{transition.upper()}"))
        request = ChangeState.Request(transition=wanted)
        reply, _ = self._call(ChangeState, f"{node}/change_state", request, timeout_s)
        if not reply.success:
            raise RobinError(Code.TRANSITION_FAILED, f"{node} cannot {transition}, see its log")

    def bench(self, name: str, timeout_s: float) -> dict[str, Any]:
        """Ask the bench node of the host process. Raises RobinError SERVICE_UNAVAILABLE with its text."""
        reply, _ = self._call(Trigger, f"bench/{name}", Trigger.Request(), timeout_s)
        if not reply.success:
            raise RobinError(Code.SERVICE_UNAVAILABLE, f"bench/{name}: {reply.message}")
        found: dict[str, Any] = json.loads(reply.message)
        return found

    def plan_pick(self, timeout_s: float) -> float:
        """Milliseconds from the request to its reply. Raises RobinError SERVICE_UNAVAILABLE where there is no plan."""
        reply, ms = self._call(PlanPick, "plan_pick", PlanPick.Request(), timeout_s)
        if not reply.plan.plan_id:
            raise RobinError(Code.SERVICE_UNAVAILABLE, f"plan_pick: E{reply.code} {reply.text}")
        return ms

    def listen_to_plans(self) -> None:
        """From now on every plan is received; a program that only asks for plans need not do that."""
        self._node.create_subscription(GraspPlan, PLAN, self._plan, RESULT)

    def take_plans(self) -> list[PlanSeen]:
        """Plans that came since the last call."""
        with self._lock:
            taken, self._plans = self._plans, []
            return taken

    def values(self, node: str) -> dict[str, str]:
        """The node's last diagnostics."""
        with self._lock:
            return dict(self._diagnostics.get(f"/{node}", {}))

    def fresh_values(self, node: str, timeout_s: float) -> dict[str, str]:
        """The node's diagnostics as they are from now on."""
        with self._lock:
            self._diagnostics.pop(f"/{node}", None)
        self._wait(lambda: bool(self.values(node)), f"diagnostics of {node}", timeout_s)
        return self.values(node)

    def _call(self, kind: type[Any], name: str, request: Any, timeout_s: float) -> tuple[Any, float]:
        client = self._clients.get(name)
        if client is None:
            client = self._clients[name] = self._node.create_client(kind, name)
        ending = time.monotonic() + timeout_s
        self._wait(client.service_is_ready, f"service {name}", timeout_s)
        answered, arrived_s = threading.Event(), [0.0]

        def done(_: Any) -> None:
            arrived_s[0] = time.perf_counter()
            answered.set()

        begin = time.perf_counter()
        future = client.call_async(request)
        future.add_done_callback(done)
        if not answered.wait(max(0.0, ending - time.monotonic())):
            client.remove_pending_request(future)
            raise RobinError(Code.NODE_UNREACHABLE, f"no answer of {name} within {timeout_s:g} s")
        return future.result(), (arrived_s[0] - begin) * 1e3

    def _wait(self, ready: Callable[[], bool], what: str, timeout_s: float) -> None:
        ending = time.monotonic() + timeout_s
        while not ready():
            if time.monotonic() > ending:
                raise RobinError(Code.NODE_UNREACHABLE, f"no {what} within {timeout_s:g} s")
            time.sleep(_POLL_S)

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()

    def _plan(self, message: Any) -> None:
        seen = PlanSeen(stamp_to_s(message.header.stamp), time.time(), message.requested)
        with self._lock:
            self._plans.append(seen)

    def _diagnosed(self, message: Any) -> None:
        with self._lock:
            for status in message.status:
                self._diagnostics[status.name] = {pair.key: pair.value for pair in status.values}
