"""Judges picks: what the tool measured, and what the frames before and after show."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from robin_msgs.msg import GraspPlan, PickOutcome
from robin_msgs.srv import ReportOutcome

from robin_grasp.node_config import PickCheckNodeConfig
from robin_grasp.nodes.convert import outcome_from_msg, outcome_to_msg, plan_from_msg
from robin_grasp.nodes.scene_input import SceneInput
from robin_grasp.picks.open_picks import OpenPick, OpenPicks
from robin_grasp.picks.outcome_report import OutcomeReport
from robin_grasp.picks.pick_check import judge_pick
from robin_grasp.tool import CellConfig
from robin_perception.core.config import config_digest, load_config
from robin_perception.core.errors import Code, RobinError
from robin_perception.nodes.base import RobinNode
from robin_perception.nodes.frame_bus import FrameBus
from robin_perception.nodes.qos import RESULT
from robin_perception.nodes.run import run_nodes
from robin_perception.topics import OUTCOME, PLAN


class PickCheckNode(RobinNode[PickCheckNodeConfig]):
    """Takes ``report_outcome`` from the cell, judges the pick and publishes the outcome.

    An outcome whose plan it does not know (it was started in the middle of the pick) is published unjudged, so that the
    others learn that the pick has ended, and answered with PLAN_UNKNOWN.
    """

    def __init__(self, bus: FrameBus | None = None, **ros: Any) -> None:
        super().__init__("pick_check", PickCheckNodeConfig, bus=bus, **ros)
        self._requests = ThreadPoolExecutor(1, "report_outcome")
        self._cell = CellConfig()
        self._picks = OpenPicks()
        self._input: SceneInput | None = None
        self.add_service(ReportOutcome, "report_outcome", self._report_outcome, pool=self._requests)

    def setup(self) -> None:
        config = self.config
        self._cell = load_config(CellConfig, config.cell_file)
        self._outcomes = self.add_publisher(PickOutcome, OUTCOME, RESULT)
        self.add_subscription(GraspPlan, PLAN, self._plan, RESULT)
        self._input = SceneInput(
            self, config, lambda f, s: self._picks.offer(f, s), lambda at, load: self._picks.see(at, load)
        )

    def start(self) -> None:
        assert self._input is not None
        self._input.reset()
        self._picks = OpenPicks(clock=self.data_clock_s)

    def time_jumped(self) -> None:
        if self._input is not None:
            self.start()

    def stop(self) -> None:
        self._requests.submit(lambda: None).result()  # a judgement under way is finished

    def teardown(self) -> None:
        if self._input is not None:
            self._input.close()
        self._input = None

    def _plan(self, message: Any) -> None:
        if message.requested and message.grasps:
            self._picks.note_plan(plan_from_msg(message))

    def _report_outcome(self, request: Any, response: Any) -> Any:
        report = outcome_from_msg(request.outcome).validated()
        if report.ended_s <= 0:
            report = replace(report, ended_s=self.now_s())
        judged = self._judged(report)
        response.decision_id = judged.plan_id
        response.result = judged.result.value if judged.result is not None else PickOutcome.UNKNOWN
        response.probability = judged.probability or 0.0
        response.code, response.text = int(judged.code), judged.text
        return response

    def _judged(self, report: OutcomeReport) -> OutcomeReport:
        """The report with the judgement, published. Raises RobinError OUTCOME_INVALID."""
        picks, wait_s = self._picks, self.config.after_wait_s
        pick = picks.wait(report.plan_id, wait_s) if picks.knows(report.plan_id) else None
        if pick is None:
            text = f"plan '{report.plan_id}' is not known here, or its frame never came: the pick is not judged"
            self.report(Code.PLAN_UNKNOWN, text, warning=True)
            judged = report.not_judged(Code.PLAN_UNKNOWN, text)
        else:
            judged = self._judge(pick, report, wait_s)
            picks.close(report.plan_id)
            self.counters.count(judged.result.value if judged.result is not None else "unknown")
        self._outcomes.publish(outcome_to_msg(judged))
        return judged

    def _judge(self, pick: OpenPick, report: OutcomeReport, wait_s: float) -> OutcomeReport:
        grasps = pick.notice.plan.grasps
        if not 0 <= report.grasp < len(grasps):
            text = f"plan '{report.plan_id}' has {len(grasps)} grasps, the outcome names number {report.grasp}"
            raise RobinError(Code.OUTCOME_INVALID, text)
        after = self._picks.after(report.ended_s, wait_s)
        if after is None:
            self.counters.count("judged_without_frame_after")
        judgement = judge_pick(
            grasps[report.grasp], pick.scene, pick.frame, after, report.measured(), self._cell, self.config.judge
        )
        return report.judged(judgement, config_digest(self.config.judge))


def main(args: Sequence[str] | None = None) -> int:
    """``ros2 run robin_grasp pick_check_node``"""
    return run_nodes(lambda: [PickCheckNode()], args)


if __name__ == "__main__":
    sys.exit(main())
