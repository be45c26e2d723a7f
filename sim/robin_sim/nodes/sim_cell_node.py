"""The simulated cell as ROS sees it: a camera that publishes frames, and an arm that executes planned grasps."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from robin_msgs.msg import PickOutcome, SegmentedScene
from sensor_msgs.msg import CameraInfo, Image
from std_srvs.srv import Trigger

from robin_grasp.nodes.convert import plan_from_msg
from robin_grasp.picks.open_picks import SAME_STAMP_S, PlanNotice, same_stamp
from robin_grasp.picks.outcome import PickOutcome as SimOutcome
from robin_grasp.picks.outcome import PickResult
from robin_grasp.picks.outcome_report import OutcomeReport, Stage
from robin_grasp.recovery.action import Action
from robin_grasp.recovery.failure_memory import FailureMemory
from robin_grasp.recovery.help_request import DONE, SET_DOWN, STOP
from robin_grasp.tool import CellConfig
from robin_perception.core.config import load_config
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene
from robin_perception.nodes.base import RobinNode
from robin_perception.nodes.convert import frame_to_msgs, scene_from_msg, stamp_to_s
from robin_perception.nodes.frame_bus import FrameBus
from robin_perception.nodes.qos import RESULT, SENSOR_OUT
from robin_perception.nodes.run import run_nodes
from robin_perception.topics import SCENE, camera_topics
from robin_sim.live_cell import LiveCell
from robin_sim.load_camera import LoadCameraConfig
from robin_sim.node_config import SimCellNodeConfig
from robin_sim.nodes.cell_talk import TRY_AGAIN, CellTalk
from robin_sim.scenario import ScenarioConfig, load_scenario

KEPT_SCENES = 8
FAILURES_OF_A_PILE = 5  # turns in a row that came to nothing, and the pile is replaced
STAMP_MARGIN_S = 0.05  # less than any pick takes, more than a request is under way: no frame from before the last look
STATION = frozenset(code for code in Code if 141 <= int(code) <= 159)
"""Conditions of light, lens, depth and camera."""
NOTHING_TO_PICK = frozenset({Code.NO_GRASP, Code.NO_INSTANCE})


class _Stopping(Exception):
    """The node is being deactivated."""


class SimCellNode(RobinNode[SimCellNodeConfig]):
    """One thread is camera, arm and physics. While the arm picks it stands in the image, so no frame is published.

    In auto mode it picks by itself; otherwise each call of ``pick_once`` makes one pick. ``new_pile`` replaces the
    pile. A grasp is executed only if it was planned on a frame of the pile as it lies now.
    """

    def __init__(self, bus: FrameBus | None = None, **ros: Any) -> None:
        super().__init__("sim_cell", SimCellNodeConfig, bus=bus, **ros)
        if bus is not None:
            bus.frames.announce()
        self.create_service(Trigger, "pick_once", self._pick_once)
        self.create_service(Trigger, "new_pile", self._new_pile)
        self._orders: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._cell: LiveCell | None = None
        self._memory = FailureMemory()
        self._image_publishers: tuple[Any, ...] = ()
        self._scenes_lock = threading.Lock()
        self._scenes: deque[tuple[float, Callable[[], Scene]]] = deque(maxlen=KEPT_SCENES)
        self._unsubscribe: Callable[[], None] | None = None
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._looked_s = 0.0
        self._due_s = 0.0
        self._picks = 0
        self._failures = 0
        self._stopped = False
        self._talk = CellTalk(self, self._watch_until, self._wake.set)

    def setup(self) -> None:
        config = self.config
        self._cell = LiveCell(
            scenario_of(config),
            load_config(CellConfig, config.cell_file),
            config.seed,
            config.required_camera_pose(),
            LoadCameraConfig() if config.load_camera else None,
        )
        self._talk.setup()
        topics = camera_topics(config.camera_prefix)
        kinds = ((Image, topics.color), (Image, topics.depth), (CameraInfo, topics.info))
        self._image_publishers = tuple(self.add_publisher(kind, topic, SENSOR_OUT) for kind, topic in kinds)
        if self.bus is not None and self.bus.scenes.has_source:
            self._unsubscribe = self.bus.scenes.subscribe(lambda s: self._scene(s.frame.stamp_s, lambda: s.scene))
        else:
            self.add_subscription(
                SegmentedScene,
                SCENE,
                lambda m: self._scene(stamp_to_s(m.header.stamp), lambda: scene_from_msg(m)),
                RESULT,
            )

    def start(self) -> None:
        self._ending.clear()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="sim_cell", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ending.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def teardown(self) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        self._cell = None
        self._image_publishers = ()

    def status_values(self) -> dict[str, str]:
        stopped = str(self._stopped).lower()
        return {
            "scenario": self.config.scenario,
            "seed": str(self.config.seed),
            "picks": str(self._picks),
            "stopped": stopped,
        }

    # Camera.

    def _publish(self, frame: Frame) -> None:
        self._due_s = time.monotonic() + 1.0 / self.config.rate_hz
        if self.bus is not None:
            self.bus.frames.publish(frame)
        if any(publisher.get_subscription_count() for publisher in self._image_publishers):
            for publisher, message in zip(
                self._image_publishers, frame_to_msgs(frame, self.config.frame_id), strict=True
            ):
                publisher.publish(message)
        self.counters.count("frames")

    def _look(self, stamp_s: float) -> None:
        assert self._cell is not None
        self._looked_s = stamp_s
        self._publish(self._cell.look(stamp_s))

    def _watch_until(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Go on as a camera until ``done``, at most ``timeout_s``. Whoever makes it true sets ``_wake``."""
        assert self._cell is not None
        end = time.monotonic() + timeout_s
        while True:
            self._wake.clear()
            if self._ending.is_set():
                raise _Stopping
            if done():
                return True
            now = time.monotonic()
            if now >= end:
                return False
            due_s = end
            if self._cell.has_looked:
                if now >= self._due_s:
                    self._publish(self._cell.latest(self.now_s()))
                due_s = min(self._due_s, end)
            self._wake.wait(max(0.0, due_s - time.monotonic()))

    # Arm.

    def _run(self) -> None:
        try:
            self._safely(self._open_pile)
            while True:
                if self.config.auto and not self._stopped and not 0 < self.config.picks <= self._picks:
                    self._safely(self._turn)
                else:
                    self._watch_until(lambda: not self._orders.empty(), 1.0)
                while not self._orders.empty():
                    self._safely(self._orders.get())
        except _Stopping:
            return

    def _safely(self, step: Callable[[], object]) -> None:
        """A step that failed is told by its number, and the cell goes on; after a bug, or when it fails again and
        again, with another pile."""
        try:
            step()
            self._failures = 0
        except RobinError as exc:
            self.report(exc.code, exc.text, warning=True)
            self._failures += 1
            if self._failures % FAILURES_OF_A_PILE == 0:
                self._orders.put(self._open_pile)
            self._talk.pause()
        except _Stopping:
            raise
        except Exception as exc:
            self.report_exception(exc)
            self._ending.wait(1.0)
            self._orders.put(self._open_pile)

    def _open_pile(self) -> None:
        assert self._cell is not None
        begin = time.perf_counter()
        self._memory, self._stopped = FailureMemory(), False
        self._looked_s = self.now_s()
        self._publish(self._cell.next_pile(self._looked_s))
        self.counters.count("piles")
        self.counters.latency("new_pile", (time.perf_counter() - begin) * 1e3)
        self._talk.forget_failures()

    def _turn(self) -> str:
        """One pick: plan, execute, look, report. Returns the result. Raises RobinError with what kept it from it."""
        cell = self._cell
        assert cell is not None
        if cell.used_up or self._memory.stuck:
            self._open_pile()
        notice = self._plan()
        if not notice.plan.grasps:
            if not self._left_over(cell, notice):
                self._open_pile()
            return "infeasible"
        scene = self._scene_of(notice)
        grasp = notice.plan.grasps[0]
        begin = time.perf_counter()
        outcome = cell.execute(grasp, scene, notice.motion)
        self._picks += 1
        self.counters.latency("execute", (time.perf_counter() - begin) * 1e3)
        self._look(self.now_s())
        while cell.is_holding:
            outcome = self._with_load(cell, notice, outcome) or outcome
        cell.deliver()
        truth = str(outcome.truth["result"])
        self.counters.count(f"truly_{truth}")
        report = OutcomeReport.of(notice.plan_id, self._looked_s, outcome)
        reply = self._talk.report(replace(report, result=None))
        judged = self._judged(reply)
        if reply is None or not reply.action:  # nobody says what to do about failures
            self._memory.note(grasp, judged or outcome.result)
        elif reply.action == Action.ASK_HELP.value:
            self._helped(reply.help_id, cell.remove_meant)
        self._stopped |= reply is not None and reply.action == Action.STOP.value
        return f"{judged.value if judged else 'not judged'} (truly {truth})"

    def _with_load(self, cell: LiveCell, notice: PlanNotice, outcome: SimOutcome) -> SimOutcome | None:
        """Ask what to do with what hangs on the tool, and do it. Returns the outcome of what hangs there then."""
        report = OutcomeReport.of(notice.plan_id, self._looked_s, outcome)
        reply = self._talk.report(replace(report, result=None, stage=Stage.HELD))
        action = "" if reply is None else reply.action
        if action == Action.ASK_HELP.value:
            answer = self._talk.answer(reply.help_id)
            self._stopped |= answer == STOP
            action = Action.SET_DOWN.value if answer in (SET_DOWN, STOP) else Action.DELIVER.value
        if action == Action.PUT_BACK.value:
            left = cell.let_go(int(reply.release_cups))
            self._look(self.now_s())
            return left
        if action == Action.SET_DOWN.value:
            cell.set_down()
            self._look(self.now_s())
        else:
            cell.deliver()
        return None

    def _left_over(self, cell: LiveCell, notice: PlanNotice) -> bool:
        """Parcels that the policy has given up are left: a person removes them. False where nobody asks."""
        if not notice.excluded or not (help_id := self._talk.asked_about(notice.plan_id)):
            return False
        scene = self._scene_of(notice)
        return self._helped(help_id, lambda: cell.remove(scene, notice.excluded))

    def _helped(self, help_id: str, remove: Callable[[], None]) -> bool:
        """Wait for a person, who may have removed something. False where the pile is not worth going on with."""
        answer = self._talk.answer(help_id)
        self._stopped |= answer == STOP
        if answer != DONE:
            return self._stopped
        remove()
        self._talk.forget_failures()
        self._look(self.now_s())
        return True

    def _plan(self) -> PlanNotice:
        """A plan on the pile as it lies now, which may have no grasp. Raises RobinError when nobody plans."""
        end = time.monotonic() + self.config.give_up_s
        self._watch_until(self._sees_the_pile, self.config.give_up_s)
        while True:
            youngest_s = self.now_s() - self._looked_s + STAMP_MARGIN_S
            reply = self._talk.plan(youngest_s)
            code = Code.SERVICE_UNAVAILABLE if reply is None else Code(reply.code)
            text = "plan_pick does not answer" if reply is None else reply.text
            if reply is not None and (code == Code.OK or code in NOTHING_TO_PICK):
                if stamp_to_s(reply.plan.header.stamp) >= self._looked_s - SAME_STAMP_S:
                    return plan_from_msg(reply.plan)
                code, text = Code.FRAME_STALE, "planned on a frame from before the last look"
            self.counters.count(f"plan_refused.{code.name.lower()}")
            if self._station_refuses(code):
                end = time.monotonic() + self.config.give_up_s
                continue
            if code not in TRY_AGAIN or time.monotonic() > end:
                raise RobinError(code, f"no plan: {text}")
            self._talk.pause()

    def _sees_the_pile(self) -> bool:
        """The pile as it lies now was segmented: before that, planning could only refuse."""
        with self._scenes_lock:
            return bool(self._scenes) and self._scenes[-1][0] >= self._looked_s - SAME_STAMP_S

    def _scene_of(self, notice: PlanNotice) -> Scene:
        """The segmentation that the plan was made on: which parcel is meant stands there."""

        def found() -> Callable[[], Scene] | None:
            with self._scenes_lock:
                return next((load for stamp, load in self._scenes if same_stamp(stamp, notice.stamp_s)), None)

        self._watch_until(lambda: found() is not None, self.config.reply_timeout_s)
        load = found()
        if load is None:
            raise RobinError(Code.FRAME_NONE, f"the scene of plan '{notice.plan_id}' never came")
        return load()

    def _station_refuses(self, code: Code) -> bool:
        """Nothing is picked because of a condition of the station: wait for the person who was asked about it."""
        cell = self._cell
        if code not in STATION or cell is None:
            return False
        asked = self._talk.asked_about_the_station()
        if asked and self._talk.answer(asked) == DONE:
            cell.put_right()
            self._look(self.now_s())
        else:
            self._talk.pause()
        return True

    def _judged(self, reply: Any) -> PickResult | None:
        return PickResult(reply.result) if reply is not None and reply.result != PickOutcome.UNKNOWN else None

    def _scene(self, stamp_s: float, load: Callable[[], Scene]) -> None:
        with self._scenes_lock:
            self._scenes.append((stamp_s, load))
        self._wake.set()

    # Orders from outside.

    def _pick_once(self, request: Any, response: Any) -> Any:
        if self.config.auto:
            response.message = f"E{int(Code.OPTION_INVALID)} OPTION_INVALID: the cell picks by itself (auto)"
            return response
        return self._ordered("one pick", self._turn, response)

    def _new_pile(self, request: Any, response: Any) -> Any:
        return self._ordered("a new pile", self._open_pile, response)

    def _ordered(self, what: str, order: Callable[[], object], response: Any) -> Any:
        """Taken now, done by the cell's thread; what became of it is told by ``outcome`` and ``decision``."""
        if not self.is_active:
            response.message = f"E{int(Code.NODE_NOT_ACTIVE)} NODE_NOT_ACTIVE: {self.get_name()} is {self.phase}"
            return response
        self._orders.put(order)
        self._wake.set()
        response.success, response.message = True, f"E0 OK: {what} is ordered"
        return response


def scenario_of(config: SimCellNodeConfig) -> ScenarioConfig:
    """The scenario with the node's image size. Raises RobinError SCENARIO_UNKNOWN, CONFIG_*."""
    scenario = load_scenario(config.scenario).config
    camera = scenario.camera.model_copy(update={"width": config.width, "height": config.height})
    return scenario.model_copy(update={"camera": camera})


def main(args: Sequence[str] | None = None) -> int:
    """``ros2 run robin_sim sim_cell_node``"""
    return run_nodes(lambda: [SimCellNode()], args)


if __name__ == "__main__":
    sys.exit(main())
