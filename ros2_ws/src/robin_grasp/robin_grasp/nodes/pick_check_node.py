"""Judges picks and says what to do about them: while the load hangs on the tool, and when the pick is over."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from robin_msgs.msg import GraspPlan, PickOutcome
from robin_msgs.srv import AnswerHelp, ListHelp, ReportOutcome

from robin_grasp.node_config import PickCheckNodeConfig
from robin_grasp.nodes.convert import outcome_from_msg, outcome_to_msg, plan_from_msg
from robin_grasp.nodes.help_service import HelpService
from robin_grasp.nodes.load_eyes import LoadEyes
from robin_grasp.nodes.scene_input import SceneInput
from robin_grasp.picks.open_picks import OpenPick, OpenPicks
from robin_grasp.picks.outcome_report import OutcomeReport, Stage
from robin_grasp.picks.pick_check import PickChecker, PickJudgement
from robin_grasp.picks.plan_server import seldom_held
from robin_grasp.recovery.help_desk import HelpDesk
from robin_grasp.recovery.machine import PickTarget
from robin_grasp.recovery.second_parcel import cups_on_another
from robin_grasp.recovery.station import StationRecovery, Told
from robin_grasp.tool import CellConfig
from robin_perception.core.config import config_digest, load_config
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene
from robin_perception.nodes.base import RobinNode
from robin_perception.nodes.frame_bus import FrameBus
from robin_perception.nodes.qos import RESULT
from robin_perception.nodes.run import run_nodes
from robin_perception.topics import OUTCOME, PLAN


class PickCheckNode(RobinNode[PickCheckNodeConfig]):
    """Takes ``report_outcome`` from the cell, judges the pick and publishes the outcome.

    A load is shown to the network of the segmentation node, too (``load_wait_s``).

    Of a load that is held (``stage``) the reply says what to do with it: a name of ``robin_grasp.recovery.Action``. A
    person is asked on the topic ``help``, and answers by ``answer_help``. With ``recover: false`` it only judges.

    An outcome whose plan it does not know (it was started in the middle of the pick) is published unjudged, so that the
    others learn that the pick has ended, and answered with PLAN_UNKNOWN.
    """

    def __init__(self, bus: FrameBus | None = None, **ros: Any) -> None:
        super().__init__("pick_check", PickCheckNodeConfig, bus=bus, **ros)
        self._requests = ThreadPoolExecutor(1, "report_outcome")
        self._picks = OpenPicks()
        self._input: SceneInput | None = None
        self._station: StationRecovery | None = None
        self._help: HelpService | None = None
        self._eyes = LoadEyes(self)
        self.add_service(ReportOutcome, "report_outcome", self._report_outcome, pool=self._requests)
        self.add_service(ListHelp, "list_help", lambda request, response: self._desk().list(request, response))
        self.add_service(AnswerHelp, "answer_help", lambda request, response: self._desk().answer(request, response))

    def setup(self) -> None:
        config = self.config
        see_load = self._see_load if config.load_wait_s > 0 else None
        self._checker = PickChecker(load_config(CellConfig, config.cell_file), config.judge, see_load)
        self._outcomes = self.add_publisher(PickOutcome, OUTCOME, RESULT)
        self.add_subscription(GraspPlan, PLAN, self._plan, RESULT)
        if config.recover:
            kept = config.recovery.help.kept
            desk = HelpDesk(config.help_folder, kept, clock=self.now_s, on_fault=self._desk_fault)
            self._station = StationRecovery(config.recovery, desk)
            self._help = HelpService(self, self._station, str(config.help_folder))
        self._input = SceneInput(self, config, self._segmented, lambda at, load: self._picks.see(at, load))

    def start(self) -> None:
        assert self._input is not None
        self._input.reset()
        self._picks = OpenPicks(self._opened, self.data_clock_s)

    def watch(self) -> None:
        if self._help is not None and self.is_active:
            self._help.tell()

    def time_jumped(self) -> None:
        if self._input is not None:
            self.start()

    def stop(self) -> None:
        self._requests.submit(lambda: None).result()  # a judgement under way is finished

    def teardown(self) -> None:
        if self._input is not None:
            self._input.close()
        self._input = self._station = self._help = None

    def _desk_fault(self, code: Code, text: str) -> None:
        self.report(code, text, warning=True)

    def _desk(self) -> HelpService:
        if self._help is None:
            raise RobinError(Code.NODE_NOT_ACTIVE, f"{self.get_name()} has no help desk (recover)")
        return self._help

    def _segmented(self, frame: Frame, scene: Scene) -> None:
        self._picks.offer(frame, scene)
        if self._station is not None and self._help is not None:
            self._station.scene(frame, scene)
            self._help.tell()

    def _plan(self, message: Any) -> None:
        if message.requested and (message.grasps or message.excluded_instances):
            self._picks.note_plan(plan_from_msg(message))

    def _opened(self, pick: OpenPick) -> None:
        """A plan was handed out. Where it has no grasp, because what is left was given up, a person is asked."""
        notice = pick.notice
        grasps = bool(notice.plan.grasps)
        if self._station is not None and self._help is not None:
            late = seldom_held(notice.plan, pick.scene)
            self._station.planned(notice.plan_id, pick.frame, pick.scene, notice.excluded, grasps, late)
            self._help.tell()
        if not grasps:
            self._picks.close(notice.plan_id)

    def _report_outcome(self, request: Any, response: Any) -> Any:
        report = outcome_from_msg(request.outcome).validated()
        if report.ended_s <= 0:
            report = replace(report, ended_s=self.now_s())
        judged, release_cups = self._judged(report)
        response.decision_id = judged.plan_id
        response.result = judged.result.value if judged.result is not None else PickOutcome.UNKNOWN
        response.probability = judged.probability or 0.0
        response.action, response.action_reason = judged.action, judged.action_reason
        response.help_id, response.release_cups = judged.help_id, release_cups
        response.code, response.text = int(judged.code), judged.text
        return response

    def _judged(self, report: OutcomeReport) -> tuple[OutcomeReport, int]:
        """The report with judgement and action, published, and the cups to open. Raises RobinError OUTCOME_INVALID."""
        picks, wait_s = self._picks, self.config.after_wait_s
        pick = picks.wait(report.plan_id, wait_s) if picks.knows(report.plan_id) else None
        release_cups = 0
        if pick is None:
            text = f"plan '{report.plan_id}' is not known here, or its frame never came: the pick is not judged"
            self.report(Code.PLAN_UNKNOWN, text, warning=True)
            judged = report.not_judged(Code.PLAN_UNKNOWN, text)
        else:
            judged, release_cups = self._judge(pick, report, wait_s)
            if report.stage is Stage.ENDED:
                picks.close(report.plan_id)
                self.counters.count(judged.result.value if judged.result is not None else "unknown")
        self._outcomes.publish(outcome_to_msg(judged))
        return judged, release_cups

    def _judge(self, pick: OpenPick, report: OutcomeReport, wait_s: float) -> tuple[OutcomeReport, int]:
        grasps = pick.notice.plan.grasps
        if not 0 <= report.grasp < len(grasps):
            text = f"plan '{report.plan_id}' has {len(grasps)} grasps, the outcome names number {report.grasp}"
            raise RobinError(Code.OUTCOME_INVALID, text)
        station, executed = self._station, grasps[report.grasp]
        known = None if station is None else station.judged(report.plan_id)
        grasp = executed if station is None else station.holding(report.plan_id, executed)
        target = PickTarget(grasp, pick.frame, pick.scene)
        if report.stage is Stage.HELD or known is None:
            known = self._look_at(target, report, wait_s)
        judged = report.judged(known, config_digest(self.config.judge))
        if station is None:
            return judged, 0
        if report.stage is Stage.HELD:
            apart = cups_on_another(target, report.measured(), self._checker.cell.tool)
            told = station.held(report.plan_id, target, known, apart)
        else:
            told = station.ended(report.plan_id, target, judged.result)
        return self._told(judged, told), told.step.release_cups

    def _look_at(self, target: PickTarget, report: OutcomeReport, wait_s: float) -> PickJudgement:
        after = self._picks.after(report.ended_s, wait_s)
        if after is None:
            self.counters.count("judged_without_frame_after")
        return self._checker.check(target.grasp, target.scene, target.frame, after, report.measured())

    def _see_load(self, frame: Frame) -> Scene:
        begin = time.perf_counter()
        try:
            return self._eyes.see(frame, self.config.load_wait_s)
        except RobinError as exc:
            self.report(Code.LOAD_NOT_SEGMENTED, str(exc), warning=True)
            raise
        finally:
            self.counters.latency("load_segmented", (time.perf_counter() - begin) * 1e3)

    def _told(self, report: OutcomeReport, told: Told) -> OutcomeReport:
        step = told.step
        self.counters.count(f"action.{step.action.value}")
        if self._help is not None:
            self._help.tell()
        if step.code is Code.DESTINATION_WRONG:
            self.report(step.code, f"'{report.plan_id}': {step.reason}", warning=True)
        return replace(report, action=step.action.value, action_reason=step.reason, help_id=told.help_id)


def main(args: Sequence[str] | None = None) -> int:
    """``ros2 run robin_grasp pick_check_node``"""
    return run_nodes(lambda: [PickCheckNode()], args)


if __name__ == "__main__":
    sys.exit(main())
