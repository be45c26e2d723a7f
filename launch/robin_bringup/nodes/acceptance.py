"""The acceptance of a running station: waits for N picks, compares the candidate, writes the report.

Exit status: 0 pass, 1 fail (also when the picks did not come, or the candidate is damaged), 2 wrong parameters.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import rclpy
from pydantic import ValidationError
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from robin_msgs.msg import Decision as DecisionMsg
from std_srvs.srv import Trigger

from edge_adapt.decision import Decision
from edge_adapt.nodes.convert import decision_from_msg
from robin_bringup.acceptance import AcceptanceThresholds, Candidate, Verdict, attempts, candidate_failed, judge
from robin_bringup.acceptance_report import write_acceptance
from robin_bringup.candidate import PlannerFiles, SideBySide
from robin_bringup.node_config import AcceptanceConfig
from robin_bringup.node_table import ACCEPTANCE, MANAGER
from robin_bringup.stations import CONFIG_FOLDER
from robin_grasp.planner.config import PlannerConfig
from robin_grasp.tool import CellConfig
from robin_perception.core.config import load_config
from robin_perception.core.errors import Code, RobinError
from robin_perception.nodes.parameters import NodeParameters
from robin_perception.nodes.qos import RESULT
from robin_perception.nodes.run import init_ros, make_node
from robin_perception.segmentation.segmenter import Segmenter, load_segmenter
from robin_perception.topics import DECISION

_ANSWER_S = 5.0
_PASSED, _FAILED, _BAD_INPUT = 0, 1, 2


class AcceptanceNode(Node):
    """Everything happens in ``run``, in the thread that calls it."""

    def __init__(self, **ros: Any) -> None:
        super().__init__(ACCEPTANCE, **ros)
        parameters: NodeParameters[AcceptanceConfig] = NodeParameters(
            self,
            AcceptanceConfig,
            lambda: False,
            lambda config: None,
            lambda old, new: None,
        )
        if parameters.fault is not None:
            raise parameters.fault
        self._config = parameters.config
        thresholds = self._config.thresholds_file or CONFIG_FOLDER / "acceptance.yaml"
        self._thresholds = load_config(AcceptanceThresholds, thresholds)
        self._picks = self._config.picks or self._thresholds.picks
        self._decisions: list[tuple[Decision, Path]] = []
        self._began_s = self.get_clock().now().nanoseconds * 1e-9
        self._latest_s = time.monotonic()
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self)
        self._active = self.create_client(Trigger, f"{MANAGER}/is_active")
        self._stop = self.create_client(Trigger, f"{MANAGER}/stop")
        self.create_subscription(DecisionMsg, DECISION, self._decided, RESULT)

    def run(self, stopping: Callable[[], bool]) -> Verdict:
        """The whole acceptance. Raises RobinError for wrong files, a damaged current model and a full disk."""
        config = self._config
        try:
            candidate = None if config.candidate is None else load_segmenter(config.candidate, config.engine)
        except RobinError as exc:
            return self._report(candidate_failed(str(config.candidate), exc), "the candidate cannot be loaded")
        both = None if candidate is None else self._beside_current(candidate)
        ended = self._wait_for_station(stopping) or self._wait_for_picks(stopping)
        if self._config.stop_station and self._stop.service_is_ready():
            self._call(self._stop)
        compared = None if both is None else self._compare(both, stopping)
        return self._report(compared, ended)

    def _beside_current(self, candidate: Segmenter) -> SideBySide:
        config = self._config
        planning = PlannerFiles(
            config.planner,
            load_config(CellConfig, config.cell_file),
            load_config(PlannerConfig, config.planner_file),
        )
        return SideBySide(load_segmenter(config.model, config.engine), candidate, planning)

    def _wait_for_station(self, stopping: Callable[[], bool]) -> str:
        """Until the manager says that all nodes are active, or a pick comes; else why it does not go on."""
        ending = time.monotonic() + self._config.appear_timeout_s
        said = "the lifecycle manager does not answer"
        while time.monotonic() < ending and not self._decisions:
            if stopping():
                return "interrupted"
            reply = self._call(self._active) if self._active.service_is_ready() else None
            if reply is not None and reply.success:
                break
            said = said if reply is None else reply.message
            self._executor.spin_once(timeout_sec=0.5)
        else:
            if not self._decisions:
                return f"the station is not active after {self._config.appear_timeout_s:g} s: {said}"
        self._latest_s = time.monotonic()
        return ""

    def _wait_for_picks(self, stopping: Callable[[], bool]) -> str:
        while attempts([decision for decision, _ in self._decisions]) < self._picks:
            if stopping():
                return "interrupted"
            silent = time.monotonic() - self._latest_s
            if silent > self._thresholds.stall_timeout_s:
                reply = self._call(self._active) if self._active.service_is_ready() else None
                said = "the lifecycle manager does not answer" if reply is None else reply.message
                return f"no pick for {silent:.0f} s: {said}"
            self._executor.spin_once(timeout_sec=0.2)
        return ""

    def _decided(self, message: Any) -> None:
        try:
            decision = decision_from_msg(message)
        except ValidationError as exc:
            self.get_logger().error(f"a decision cannot be read: {str(exc).splitlines()[0]}")
            return
        if decision.result == "unfinished" and decision.stamp_s < self._began_s:
            self.get_logger().info(f"{decision.decision_id}: left unfinished by an earlier run, not counted")
            return
        self._decisions.append((decision, Path(message.record_path)))
        done = attempts([known for known, _ in self._decisions])
        self.get_logger().info(f"{done} of {self._picks}: {decision.decision_id} {decision.result}")
        self._latest_s = time.monotonic()

    def _compare(self, both: SideBySide, stopping: Callable[[], bool]) -> Candidate:
        frames = []
        for decision, record in self._decisions:
            if stopping():
                break
            if decision.result == "unfinished":
                continue
            frames.append(both.compare(decision, record))
            self._executor.spin_once(timeout_sec=0.0)
        model = both.model_id
        both.close()
        return Candidate(str(self._config.candidate), model, tuple(frames))

    def _report(self, candidate: Candidate | None, ended: str) -> Verdict:
        decisions = tuple(decision for decision, _ in self._decisions)
        verdict = judge(decisions, candidate, self._thresholds, self._picks, ended)
        page = write_acceptance(
            self._config.report_folder, self.get_namespace().strip("/") or "test_station", verdict, decisions
        )
        print(f"{verdict.line}\nreport: {page}", flush=True)
        return verdict

    def _call(self, client: Any) -> Any:
        """The reply, or None when none came in time."""
        future = client.call_async(Trigger.Request())
        self._executor.spin_until_future_complete(future, _ANSWER_S)
        if not future.done():
            client.remove_pending_request(future)
            return None
        return future.result()


def main(args: Sequence[str] | None = None) -> int:
    """``ros2 run robin_bringup acceptance --ros-args -p candidate:=DIR``"""
    interrupted = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: interrupted.set())
    try:
        init_ros(args)
        node = make_node(AcceptanceNode)
        verdict = node.run(interrupted.is_set)
        node.destroy_node()
    except RobinError as exc:
        print(f"error {exc}", file=sys.stderr)
        return _BAD_INPUT if exc.code != Code.DISK_FULL else _FAILED
    finally:
        rclpy.try_shutdown()
    return _PASSED if verdict.passed else _FAILED


if __name__ == "__main__":
    sys.exit(main())
