"""A client on real DDS for tests: starts nodes as processes, drives them as an operator would, and listens.

Every test process has a domain of its own, so that runs side by side do not meet.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Any, cast

import pytest

try:
    import rclpy
    import robin_msgs.msg
    from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState, GetState
    from rclpy.parameter import Parameter
    from rclpy.parameter_client import AsyncParameterClient
except ImportError as exc:  # said plainly instead of failing: ROS is an optional part
    pytest.skip(f"ROS 2 is not installed here: {exc} (`make ros`)", allow_module_level=True)

from robin_perception.core.parent_death import end_with_parent
from robin_perception.nodes.transport import use_large_message_profile

assert robin_msgs.msg
_AFTER = {"configure": "inactive", "activate": "active", "deactivate": "inactive", "cleanup": "unconfigured"}
_DOMAINS = range(1, 101)  # above, the ports of discovery run into those that Linux hands out
RESEND_S = 15.0
WAIT_S = 60.0  # a loaded machine is slow; nothing waits so long when all is well
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
use_large_message_profile()


def _claimed_domain() -> tuple[int, IO[str]]:
    """A domain that no other test process of this machine has, and the lock that says so until this process ends."""
    first = os.getpid() % len(_DOMAINS)
    for domain in (*_DOMAINS[first:], *_DOMAINS[:first]):
        lock = (Path(tempfile.gettempdir()) / f"robin_test_domain_{domain}").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return domain, lock
        except OSError:
            lock.close()
    pytest.skip("all ROS domains are taken by other tests", allow_module_level=True)


DOMAIN, _DOMAIN_LOCK = _claimed_domain()


class NodeProcess:
    """One process with nodes. ``module``: run with ``python -m``, or a script. arguments: its own, before ROS's."""

    def __init__(
        self,
        module: str | Path,
        log: Path,
        parameters: dict[str, Any] | None = None,
        *extra: str,
        arguments: Sequence[str] = (),
    ) -> None:
        start = [str(module)] if isinstance(module, Path) else ["-m", module]
        values = [part for key, value in (parameters or {}).items() for part in ("-p", f"{key}:={_yaml(value)}")]
        ros = ["--ros-args", *values, *extra] if values or extra else []
        environment = {**os.environ, "ROS_DOMAIN_ID": str(DOMAIN), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        self._log = log.open("wb")
        self.log_path = log
        self.process = subprocess.Popen(
            [sys.executable, *start, *arguments, *ros],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=environment,
            preexec_fn=partial(end_with_parent, os.getpid()),  # a test that is killed leaves no node behind
        )

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGINT as Ctrl-C; the exit status."""
        if self.running:
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(WAIT_S)
        finally:
            self.process.kill()
            self._log.close()


class RosClient:
    """An operator and a listener in this process. Everything is received while ``wait`` or a call spins."""

    def __init__(self, name: str = "test_client") -> None:
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=DOMAIN)
        self.node = rclpy.create_node(name, context=self._context)
        self._executor = rclpy.executors.SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._clients: dict[tuple[str, Any], Any] = {}
        self._parameters: dict[str, AsyncParameterClient] = {}
        self._diagnostics: dict[str, DiagnosticStatus] = {}
        self.heard: list[DiagnosticStatus] = []
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnosed, 50)

    def __enter__(self) -> RosClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.try_shutdown()

    def spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=min(left, 0.1))

    def wait(self, ready: Callable[[], Any], what: str, seconds: float = WAIT_S) -> Any:
        """Spin until ``ready()`` is true and return it; fail with ``what`` and the last diagnostics otherwise."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := ready():
                return found
            self._executor.spin_once(timeout_sec=0.05)
        pytest.fail(f"no {what} within {seconds:g} s; diagnostics: {self.messages()}")

    def call(self, service: type[Any], name: str, request: Any = None, again: bool = True) -> Any:
        """Call a service; waits for it to appear. again: ask once more after a while. What is sent to a server that was
        killed a moment ago, and still looks alive, is lost; and so is the answer of one that on a loaded machine does
        not know yet where to send it."""
        key = (name, service)
        if key not in self._clients:
            self._clients[key] = self.node.create_client(service, name)
        client = self._clients[key]
        self.wait(client.service_is_ready, f"service {name}")

        def ask() -> Any:
            return client.call_async(service.Request() if request is None else request)

        return self._answered(ask, f"answer of {name}", again and client.service_is_ready)

    def change(self, node: str, transition: str) -> bool:
        """``configure``, ``activate``, ``deactivate``, ``cleanup``: whether it succeeded."""
        request = ChangeState.Request(transition=Transition(id=getattr(Transition, f"TRANSITION_{transition.upper()}")))
        begin = time.monotonic()
        done = bool(self.call(ChangeState, f"{node}/change_state", request).success)
        if done or time.monotonic() - begin < RESEND_S:
            return done
        return self.state(node) == _AFTER[transition]  # the first request may have done it, and its answer was lost

    def state(self, node: str) -> str:
        return str(self.call(GetState, f"{node}/get_state").current_state.label)

    def set(self, node: str, **values: Any) -> tuple[bool, str]:
        """Set parameters at once: whether it was done, and the reason if not. Dots in names are written ``__``."""
        if node not in self._parameters:
            self._parameters[node] = AsyncParameterClient(self.node, node)
        client = self._parameters[node]
        self.wait(client.services_are_ready, f"parameters of {node}")
        changes = [Parameter(name.replace("__", "."), value=value) for name, value in values.items()]
        reply = self._answered(
            lambda: client.set_parameters_atomically(changes), f"answer of {node}", client.services_are_ready
        )
        return bool(reply.result.successful), str(reply.result.reason)

    def listen(self, kind: type[Any], topic: str, qos: Any = 10) -> list[Any]:
        """Everything that comes on ``topic`` from now on."""
        received: list[Any] = []
        self.node.create_subscription(kind, topic, received.append, qos)
        return received

    def status(self, node: str) -> DiagnosticStatus | None:
        """The last diagnostics of ``node`` ("/segmentation")."""
        return self._diagnostics.get(node)

    def values(self, node: str) -> dict[str, str]:
        found = self._diagnostics.get(node)
        return {} if found is None else {pair.key: pair.value for pair in found.values}

    def messages(self) -> dict[str, str]:
        return {name: status.message for name, status in self._diagnostics.items()}

    def wait_diagnosed(self, node: str, text: str) -> DiagnosticStatus:
        """Until the message of the node's diagnostics holds ``text``."""
        self.wait(lambda: text in self.messages().get(node, ""), f"{text!r} in diagnostics of {node}")
        return self._diagnostics[node]

    def wait_heard(self, node: str, text: str) -> DiagnosticStatus:
        """As ``wait_diagnosed``, of all that was ``heard``: what a node tells for two seconds may be over before a busy
        machine has looked."""

        def found() -> DiagnosticStatus | None:
            return next((said for said in self.heard if said.name == node and text in said.message), None)

        return cast(DiagnosticStatus, self.wait(found, f"{text!r} in diagnostics of {node}"))

    def wait_counted(self, node: str, key: str, least: int = 1) -> int:
        """Until counter ``key`` in the node's diagnostics is at least ``least``."""
        self.wait(lambda: int(self.values(node).get(key, "0").split()[0]) >= least, f"{key} >= {least} of {node}")
        return int(self.values(node)[key].split()[0])

    def _answered(self, ask: Callable[[], Any], what: str, again: Callable[[], bool] | bool) -> Any:
        """The first answer of those asked for; asked again after a while where ``again`` says so."""
        futures, asked = [ask()], time.monotonic()

        def answer() -> Any:
            nonlocal asked
            if callable(again) and time.monotonic() - asked > RESEND_S and again():
                futures.append(ask())
                asked = time.monotonic()
            return next((future for future in futures if future.done()), None)

        return self.wait(answer, what).result()

    def _diagnosed(self, message: DiagnosticArray) -> None:
        self._diagnostics |= {status.name: status for status in message.status}
        self.heard += message.status


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | Path):
        return f"'{value}'"
    if isinstance(value, Sequence):
        return f"[{', '.join(_yaml(v) for v in value)}]"
    return str(value)
