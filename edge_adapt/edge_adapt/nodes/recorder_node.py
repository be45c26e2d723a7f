"""Decision records of a running cell: joins frame, scene, plan and outcome of every pick."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from robin_msgs.msg import CupHealth, GraspPlan, HelpRequest, PickOutcome
from robin_msgs.msg import Decision as DecisionMessage

from edge_adapt.decision import Decision, run_context
from edge_adapt.node_config import RecorderNodeConfig
from edge_adapt.nodes.convert import cup_from_msg, decision_to_msg, help_from_msg
from edge_adapt.pick_recorder import PickRecorder
from robin_grasp.nodes.convert import outcome_from_msg, plan_from_msg
from robin_grasp.nodes.scene_input import SceneInput
from robin_grasp.picks.open_picks import OpenPick, OpenPicks
from robin_grasp.picks.outcome_report import OutcomeReport, Stage
from robin_grasp.tool import CellConfig
from robin_perception.core.config import load_config
from robin_perception.core.errors import Code
from robin_perception.nodes.base import RobinNode
from robin_perception.nodes.frame_bus import FrameBus
from robin_perception.nodes.qos import RESULT
from robin_perception.nodes.run import run_nodes
from robin_perception.topics import CUP_HEALTH, DECISION, HELP, OUTCOME, PLAN

FRAME_WAIT_S = 1.0  # how long an outcome waits for the frame that its plan was made on


class RecorderNode(RobinNode[RecorderNodeConfig]):
    """Writes in a thread of its own and holds nobody up: picks go on when the disk is full or slow, only unrecorded,
    and that is said in the log and in /diagnostics.
    """

    def __init__(self, bus: FrameBus | None = None, **ros: Any) -> None:
        super().__init__("recorder", RecorderNodeConfig, bus=bus, **ros)
        self._writer = ThreadPoolExecutor(1, "recorder")
        self._waiting_lock = threading.Lock()
        self._waiting = 0
        self._recorder: PickRecorder | None = None
        self._picks = OpenPicks(self._opened)
        self._input: SceneInput | None = None
        self._infeasible_due_s = 0.0

    def setup(self) -> None:
        config = self.config
        cell = load_config(CellConfig, config.cell_file)
        run_id = config.run_id or time.strftime("run-%Y%m%d-%H%M%S", time.gmtime())
        context = run_context(run_id, config.source, cell)
        samples = None
        if config.store_folder is not None:
            from edge_adapt.store.store import SampleStore  # its libraries are asked for where there is a store

            samples = SampleStore(config.store_folder, config.store)
        self._recorder = PickRecorder(config.folder, context, config.keep_images, config.pictures, samples)
        self._decisions = self.add_publisher(DecisionMessage, DECISION, RESULT)
        self.add_subscription(GraspPlan, PLAN, self._plan, RESULT)
        self.add_subscription(PickOutcome, OUTCOME, self._outcome, RESULT)
        self.add_subscription(CupHealth, CUP_HEALTH, self._cup, RESULT)
        self.add_subscription(HelpRequest, HELP, self._help, RESULT)
        self._input = SceneInput(
            self, config, lambda f, s: self._picks.offer(f, s), lambda at, load: self._picks.see(at, load)
        )

    def start(self) -> None:
        assert self._input is not None
        self._input.reset()
        self._picks = OpenPicks(self._opened, self.data_clock_s)

    def time_jumped(self) -> None:
        if self._input is not None:
            self.start()

    def stop(self) -> None:
        self._writer.submit(lambda: None).result()  # what waits is written

    def teardown(self) -> None:
        if self._input is not None:
            self._input.close()
        if self._recorder is not None:
            self._recorder.shut()
        self._input = self._recorder = None

    def status_values(self) -> dict[str, str]:
        recorder = self._recorder
        if recorder is None:
            return {"folder": str(self.config.folder)}
        samples = {} if recorder.samples is None else {"store_mb": f"{recorder.samples.state.bytes / 1e6:.0f}"}
        return {
            **samples,
            "records": str(recorder.path),
            "recording": str(recorder.recording).lower(),
            "open_pick": recorder.open_id or "",
            "waiting": str(self._waiting),
            "pictures_mb": f"{recorder.pictures.kept_bytes / 1e6:.0f}",
            "pictures_removed": str(recorder.pictures.removed),
        }

    def _plan(self, message: Any) -> None:
        if not message.requested:
            return
        if not message.grasps:
            now = time.monotonic()
            if now < self._infeasible_due_s:
                self.counters.count("infeasible_not_recorded")
                return
            self._infeasible_due_s = now + self.config.infeasible_period_s
        self._picks.note_plan(plan_from_msg(message))

    def _opened(self, pick: OpenPick) -> None:
        self._submit(lambda recorder: recorder.open(pick))

    def _outcome(self, message: Any) -> None:
        report = outcome_from_msg(message)
        self._submit(lambda recorder: self._close(recorder, report))

    def _cup(self, message: Any) -> None:
        cup = cup_from_msg(message)
        self._note(lambda recorder: recorder.note_cup(cup))

    def _help(self, message: Any) -> None:
        told = help_from_msg(message)
        self._note(lambda recorder: recorder.note_help(told))

    def _note(self, note: Callable[[PickRecorder], None]) -> None:
        """In the writer's turn, behind what waits: that is no record, so it is not counted among those."""
        if (recorder := self._recorder) is not None:
            self._writer.submit(note, recorder)

    def _close(self, recorder: PickRecorder, report: OutcomeReport) -> list[Decision]:
        picks, plan_id = self._picks, report.plan_id
        pick = picks.wait(plan_id, FRAME_WAIT_S) if picks.knows(plan_id) else None
        written = [] if pick is None else recorder.open(pick)
        if report.stage is Stage.HELD:
            if recorder.open_id == plan_id:
                recorder.note_held(report)
            return written
        picks.close(plan_id)
        if report.result is None:
            if recorder.open_id == plan_id:
                written += recorder.abandon(f"its outcome was not judged (E{int(report.code)} {report.code.name})")
            return written
        after = picks.after(report.ended_s, self.config.after_wait_s)
        written.append(recorder.close(report, after))
        return written

    def _submit(self, work: Callable[[PickRecorder], list[Decision]]) -> None:
        """Have the writer do it, unless it is too far behind."""
        with self._waiting_lock:
            full = self._waiting >= self.config.queue_limit
            self._waiting += not full
        if full:
            self.counters.drop("writer_behind")
            self.report(Code.RECORD_DROPPED, f"{self._waiting} picks wait to be written: this one is not recorded")
            return
        self._writer.submit(self._work, work)

    def _work(self, work: Callable[[PickRecorder], list[Decision]]) -> None:
        begin = time.perf_counter()
        try:
            if (recorder := self._recorder) is not None:
                for decision in work(recorder):
                    self._announce(decision, recorder)
                if (failure := recorder.samples_failure) is not None:
                    self.counters.drop("not_stored")
                    self.report(failure.code, failure.text, warning=True)
        except Exception as exc:
            self.counters.drop("not_written")
            self.report_exception(exc)
        finally:
            self.counters.latency("write", (time.perf_counter() - begin) * 1e3)
            with self._waiting_lock:
                self._waiting -= 1

    def _announce(self, decision: Decision, recorder: PickRecorder) -> None:
        self.counters.count("records")
        if decision.result == "unfinished":
            self.report(Code.PICK_UNFINISHED, f"{decision.decision_id}: {decision.message}", warning=True)
        self._decisions.publish(decision_to_msg(decision, decision.decision_id, recorder.path))


def main(args: Sequence[str] | None = None) -> int:
    """``ros2 run edge_adapt recorder_node``"""
    return run_nodes(lambda: [RecorderNode()], args)


if __name__ == "__main__":
    sys.exit(main())
