"""The lifecycle manager: brings the station's nodes up in order, keeps them up, takes them down.

Services (std_srvs/Trigger), under the manager's name: ``start`` brings all up again, also what was given up or held;
``stop`` takes all down; ``is_active`` says whether all nodes are active, or which one is not and why.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from std_srvs.srv import Trigger

from robin_bringup.bring_up import BringUp
from robin_bringup.node_config import LifecycleManagerConfig
from robin_bringup.node_table import MANAGER
from robin_bringup.nodes.lifecycle_link import RosLink
from robin_perception.core.disk import make_folder, write_atomic
from robin_perception.core.errors import RobinError
from robin_perception.nodes.parameters import NodeParameters
from robin_perception.nodes.run import Ending, init_ros, leave, make_node

_GRACE_S = 5.0  # from the end of the take-down to the end of the process


class LifecycleManager(Node):
    """The executor's thread answers services; one worker thread does the bring-up, so that both go on at once."""

    def __init__(self, **ros: Any) -> None:
        super().__init__(MANAGER, **ros)
        self._parameters_of_node: NodeParameters[LifecycleManagerConfig] = NodeParameters(
            self,
            LifecycleManagerConfig,
            lambda: False,
            lambda config: None,
            lambda old, new: None,
        )
        if (fault := self._parameters_of_node.fault) is not None:
            raise fault
        config = self._config
        self._ending = threading.Event()
        self._wishes: deque[tuple[str, str]] = deque()
        self._written = b""
        link = RosLink(self, config.nodes, lambda name: self._wishes.append(("hold", name)))
        self._bring_up = BringUp(config.nodes, link, config.limits, self._say, self._ending.is_set)
        for service, answer in (("start", self._on_start), ("stop", self._on_stop), ("is_active", self._on_is_active)):
            self.create_service(Trigger, f"{MANAGER}/{service}", answer)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Simulated time stands still while a recording is paused; whether nodes are alive is told all the same.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0 / config.diagnostics_rate_hz, self._publish, clock=steady)
        self._worker = threading.Thread(target=self._work, name="bring_up", daemon=True)

    @property
    def _config(self) -> LifecycleManagerConfig:
        return self._parameters_of_node.config

    @property
    def take_down_s(self) -> float:
        """How long ``end`` may take at most."""
        return self._config.limits.stop_timeout_s

    def begin(self) -> None:
        """Start to bring up. The node must be spun."""
        if self._config.autostart:
            self._wishes.append(("start", ""))
        self._worker.start()

    def end(self) -> None:
        """Take all down in reverse order; returns when the worker is done. The node must still be spun."""
        self._ending.set()

    @property
    def ended(self) -> bool:
        return not self._worker.is_alive()

    def _work(self) -> None:
        managing = False
        while not self._ending.is_set():
            managing = self._wanted(managing)
            if managing:
                self._bring_up.watch()
            self._write_status()
            self._ending.wait(self._config.limits.watch_period_s)
        self._bring_up.stopping = lambda: False
        self._bring_up.take_down()
        self._write_status()

    def _wanted(self, managing: bool) -> bool:
        """Do what services and events asked for; returns whether the nodes are to be kept up."""
        while self._wishes:
            wish, name = self._wishes.popleft()
            if wish == "hold":
                self._bring_up.hold(name)
            elif wish == "start":
                managing = True
                self._bring_up.release()
                began = time.monotonic()
                if self._bring_up.bring_up():
                    self._say(f"all nodes active after {time.monotonic() - began:.1f} s")
            else:
                managing = False
                self._bring_up.take_down()
                self._say("all nodes taken down")
        return managing

    def _on_start(self, request: Any, response: Any) -> Any:
        self._wishes.append(("start", ""))
        response.success, response.message = True, "bringing up"
        return response

    def _on_stop(self, request: Any, response: Any) -> Any:
        self._wishes.append(("stop", ""))
        response.success, response.message = True, "taking down"
        return response

    def _on_is_active(self, request: Any, response: Any) -> Any:
        response.success, response.message = self._bring_up.all_active, self._summary()
        return response

    def _summary(self) -> str:
        """One line: all active, or each node that is not and why."""
        wrong = [node for node in self._bring_up.nodes.values() if node.phase != "active"]
        if not wrong:
            return "all nodes active"
        return "; ".join(f"{n.name} {n.phase}" + (f" (E{int(n.code)} {n.text})" if n.text else "") for n in wrong)

    def _publish(self) -> None:
        nodes = self._bring_up.nodes.values()
        failed = any(node.phase in ("failed", "lost") for node in nodes)
        level = DiagnosticStatus.ERROR if failed else DiagnosticStatus.OK
        if level == DiagnosticStatus.OK and not self._bring_up.all_active:
            level = DiagnosticStatus.WARN
        values = [KeyValue(key=node.name, value=f"{node.phase}, recovered {node.recovered}") for node in nodes]
        status = DiagnosticStatus(
            level=level,
            name=self.get_fully_qualified_name(),
            message=self._summary(),
            hardware_id="robin_edge",
            values=values,
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    def _write_status(self) -> None:
        path = self._config.status_file
        if path is None:
            return
        status = {
            "pid": os.getpid(),
            "all_active": self._bring_up.all_active,
            "settled": self._bring_up.settled,
            "nodes": {name: node.to_json() for name, node in self._bring_up.nodes.items()},
        }
        data = json.dumps(status, indent=1).encode() + b"\n"
        if data == self._written:
            return
        try:
            make_folder(path.parent)
            write_atomic(path, data)
            self._written = data
        except RobinError as exc:
            self.get_logger().error(str(exc))

    def _say(self, text: str, error: bool = False) -> None:
        self._write_status()
        if error:
            self.get_logger().error(text)
        else:
            self.get_logger().info(text)


def main(args: Sequence[str] | None = None) -> int:
    """Run until SIGINT or SIGTERM, then take the nodes down. Exit status 1 when the parameters are wrong."""
    try:
        init_ros(args)
        ending = Ending()
        executor = SingleThreadedExecutor()
        manager = make_node(LifecycleManager)
        ending.give_up_s = max(ending.give_up_s, manager.take_down_s + _GRACE_S)
        executor.add_node(manager)
        manager.begin()
        while not ending.asked:
            executor.spin_once(timeout_sec=0.2)
        manager.end()
        while not manager.ended:
            executor.spin_once(timeout_sec=0.05)
        executor.shutdown()
        manager.destroy_node()
    except ExternalShutdownException:
        pass
    except RobinError as exc:
        print(f"error {exc}", file=sys.stderr)
        return 1
    finally:
        rclpy.try_shutdown()
    leave(0)


if __name__ == "__main__":
    sys.exit(main())
