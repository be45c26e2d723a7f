"""Segmented frames in, ranked grasps out: on request, or on every scene."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from robin_msgs.msg import GraspPlan, PickOutcome
from robin_msgs.srv import PlanPick, ResetCups
from std_srvs.srv import Trigger
from visualization_msgs.msg import MarkerArray

from robin_grasp.cup_health_file import CupHealthKeeper
from robin_grasp.hold_learning import HoldLearning
from robin_grasp.node_config import PlanningNodeConfig
from robin_grasp.nodes.convert import outcome_from_msg, plan_to_msg
from robin_grasp.nodes.cup_watch import CupWatch
from robin_grasp.nodes.hold_watch import HoldWatch
from robin_grasp.nodes.markers import plan_markers
from robin_grasp.nodes.scene_input import SceneInput
from robin_grasp.picks.outcome_report import Stage
from robin_grasp.picks.plan_server import IssuedPlan, PlanServer
from robin_grasp.planner.config import PlannerConfig
from robin_grasp.planner.registry import make_planner
from robin_grasp.recovery.action import known_action
from robin_grasp.recovery.machine import gravest, slowed
from robin_grasp.tool import CellConfig
from robin_perception.core.condition import PickingEffect
from robin_perception.core.config import load_config
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.latest_worker import LatestWorker
from robin_perception.core.scene import Scene
from robin_perception.nodes.base import ACTIVE, INACTIVE, RobinNode
from robin_perception.nodes.frame_bus import FrameBus, PriorityWork
from robin_perception.nodes.qos import RESULT
from robin_perception.nodes.run import run_nodes
from robin_perception.topics import GRASPS, OUTCOME, PLAN


class PlanningNode(RobinNode[PlanningNodeConfig]):
    """Answers ``plan_pick`` with a plan on the newest segmented frame, or says by number why it does not.

    Plans are made in a thread of their own. Every plan is published; those that a pick may follow say so.
    """

    def __init__(
        self, bus: FrameBus | None = None, config_type: type[PlanningNodeConfig] = PlanningNodeConfig, **ros: Any
    ) -> None:
        super().__init__("planning", config_type, bus=bus, **ros)
        self._requests = ThreadPoolExecutor(1, "plan_pick")
        self._priority = PriorityWork() if bus is None else bus.planning
        self._server: PlanServer | None = None
        self._cell = CellConfig()
        self._input: SceneInput | None = None
        self._every_scene: LatestWorker[tuple[Frame, Scene]] | None = None
        self._cups: CupWatch | None = None
        self._hold: HoldWatch | None = None
        self._markers_lock = threading.Lock()
        self._markers_due_s = 0.0
        self.add_service(PlanPick, "plan_pick", self._plan_pick, pool=self._requests)
        self.add_service(ResetCups, "reset_cups", self._reset_cups, (INACTIVE, ACTIVE))
        self.create_service(Trigger, "forget_failures", self._forget_failures)

    def make_holding(self, cell: CellConfig) -> HoldLearning | None:
        """What learns to hold; nobody here. For the node of a room that knows how."""
        return None

    def setup(self) -> None:
        config = self.config
        self._cell = load_config(CellConfig, config.cell_file)
        planner_config = load_config(PlannerConfig, config.planner_file)
        learning = self.make_holding(self._cell)
        self._hold = None if learning is None else HoldWatch(self, learning, self._requests)
        planner = make_planner(config.planner, self._cell, planner_config, holding=self._hold)
        keeper = CupHealthKeeper(self._cell.tool, config.cups_file, config.cups, self.now_s())
        self._server = PlanServer(planner, clock=self.now_s, cups=keeper)
        self._cups = CupWatch(self, self._server)
        self._plans = self.add_publisher(GraspPlan, PLAN, RESULT)
        self._markers = self.add_publisher(MarkerArray, GRASPS, 1)
        self.add_subscription(PickOutcome, OUTCOME, self._outcome, RESULT)
        self._input = SceneInput(self, config, self._segmented)

    def start(self) -> None:
        assert self._input is not None and self._server is not None
        self._input.reset()
        self._server.forget_frame()
        for watch in (self._cups, self._hold):
            if watch is not None:
                watch.tell()
        self._every_scene = LatestWorker("plan_every_scene", self._plan_scene, self._dropped, self.report_exception)

    def stop(self) -> None:
        if self._every_scene is not None:
            self._every_scene.stop()
            self._every_scene = None
        self._requests.submit(lambda: None).result()  # a plan under way is finished

    def teardown(self) -> None:
        if self._input is not None:
            self._input.close()
        self._input = self._server = self._cups = self._hold = None

    def time_jumped(self) -> None:
        if self._input is not None and self._server is not None:
            self._input.reset()
            self._server.forget_time()

    def status_values(self) -> dict[str, str]:
        server = self._server
        if server is None or self._input is None:
            return {"planner": self.config.planner}
        return {
            "planner": self.config.planner,
            "planner_flags": " ".join(server.planner_flags),
            "input": self._input.source,
            "failed_picks_remembered": str(len(server.failed)),
            "stuck": str(server.stuck).lower(),
            "cups": "" if self._cups is None else self._cups.line(),
            "holding": "nobody learns" if self._hold is None else self._hold.line(),
        }

    def _segmented(self, frame: Frame, scene: Scene) -> None:
        server, worker = self._server, self._every_scene
        if server is None:
            return
        self.counters.count("scenes")
        server.offer(frame, scene)
        if self.config.plan_every_scene and worker is not None:
            self._priority.begin()  # here, before the segmentation looks for its next frame
            if not worker.offer((frame, scene)):
                self._priority.end()

    def _plan_pick(self, request: Any, response: Any) -> Any:
        wanted_s, limit_s = float(request.max_frame_age_s), self.config.frame_age_limit_s
        if not (math.isfinite(wanted_s) and wanted_s >= 0):
            raise RobinError(Code.OPTION_INVALID, f"max_frame_age_s must be 0 or more, got {wanted_s:g}")
        limit_s = min(wanted_s, limit_s) if wanted_s > 0 else limit_s
        excluded = [int(number) for number in request.exclude_instances]
        response.plan = self._planned(limit_s, excluded)
        if not self.is_active:
            raise RobinError(Code.NODE_NOT_ACTIVE, f"{self.get_name()} became {self.phase} while it planned")
        response.code, response.text = response.plan.code, response.plan.text
        return response

    def _planned(self, age_limit_s: float, excluded: Sequence[int]) -> Any:
        server = self._server
        if server is None:
            raise RobinError(Code.NODE_NOT_ACTIVE, f"{self.get_name()} is {self.phase}")
        self._priority.begin()
        try:
            return self._publish(server.plan_requested(age_limit_s, excluded))
        finally:
            self._priority.end()

    def _plan_scene(self, segmented: tuple[Frame, Scene]) -> None:
        try:
            if (server := self._server) is not None:
                self._publish(server.plan_scene(*segmented))
        finally:
            self._priority.end()

    def _dropped(self) -> None:
        self._priority.end()
        self.counters.drop("busy")

    def _publish(self, issued: IssuedPlan) -> Any:
        message = plan_to_msg(issued, self._cell_for(issued.scene))
        self._plans.publish(message)
        self._show(issued, message.header)
        if self._hold is not None and issued.requested:
            self._hold.planned(issued)
        self.counters.count("requested_plans" if issued.requested else "plans")
        if issued.plan.code != Code.OK:
            self.counters.count(issued.plan.code.name.lower())
        self.counters.latency("plan", sum(issued.plan.timings_ms.values()))
        self.counters.latency("age", (self.now_s() - issued.frame.stamp_s) * 1e3)
        return message

    def _cell_for(self, scene: Scene) -> CellConfig:
        found, factor = gravest(scene.conditions), self.config.slow_factor
        if found is None or found.effect is not PickingEffect.SLOW_DOWN:
            return self._cell
        return self._cell.model_copy(update={"motion": slowed(self._cell.motion, factor)})

    def _show(self, issued: IssuedPlan, header: Any) -> None:
        """Markers at a bounded rate, and only if someone listens."""
        rate, now = self.config.markers_rate_hz, time.monotonic()
        if rate <= 0 or self._markers.get_subscription_count() == 0:
            return
        with self._markers_lock:
            if now < self._markers_due_s:
                return
            self._markers_due_s = now + 1.0 / rate
        self._markers.publish(plan_markers(issued.plan, self._cell, header, self.config.markers_shown))

    def _outcome(self, message: Any) -> None:
        server = self._server
        if server is None:
            return
        outcome = outcome_from_msg(message)
        if self._cups is not None:
            self._cups.learn(outcome)
        if self._hold is not None:
            self._hold.note(server.issued(outcome.plan_id), outcome)
        if outcome.stage is Stage.HELD:
            server.note_held(outcome.ended_s)
            return
        action = known_action(outcome.action)
        if not server.note_outcome(outcome.plan_id, outcome.grasp, outcome.result, outcome.ended_s, action):
            self.counters.count("outcomes_of_unknown_plans")
        if server.stuck and action is None:
            self.report(Code.NO_GRASP, "too many picks failed in a row: someone should look at the pile", warning=True)

    def _reset_cups(self, request: Any, response: Any) -> Any:
        assert self._cups is not None
        return self._cups.reset(request, response)

    def _forget_failures(self, request: Any, response: Any) -> Any:
        if self._server is not None:
            self._server.forget_failures()
        response.success, response.message = True, "E0 OK: failed picks are forgotten"
        return response


def main(args: Sequence[str] | None = None) -> int:
    """``ros2 run robin_grasp planning_node``"""
    return run_nodes(lambda: [PlanningNode()], args)


if __name__ == "__main__":
    sys.exit(main())
