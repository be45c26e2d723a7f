"""Cup health in the planning node: learned from outcomes, published cup by cup, in diagnostics, reset by a service."""

from __future__ import annotations

from typing import Any

from robin_msgs.msg import CupHealth as CupHealthMsg

from robin_grasp.cup_health import CupReport, CupState
from robin_grasp.picks.outcome_report import OutcomeReport
from robin_grasp.picks.plan_server import PlanServer
from robin_perception.core.errors import Code, RobinError
from robin_perception.nodes.base import RobinNode
from robin_perception.nodes.convert import stamp_from_s
from robin_perception.nodes.qos import RESULT
from robin_perception.topics import CUP_HEALTH

FINDINGS = (Code.CUP_BLOCKED, Code.CUP_WEAK)
OF_THE_FILE = (Code.CUPS_STATE_DAMAGED, Code.CUPS_NOT_SAVED)


def cup_to_msg(report: CupReport) -> CupHealthMsg:
    """What is believed of one cup."""
    good, weak, blocked = report.probabilities
    return CupHealthMsg(
        cup=report.cup,
        state=report.state.name.lower(),
        good=good,
        weak=weak,
        blocked=blocked,
        share=report.share,
        picks=report.picks,
        held=report.held,
        changed=stamp_from_s(report.changed_s),
        text=report.text,
    )


class CupWatch:
    """Made in the node's ``setup``. Called from the executor's thread."""

    def __init__(self, node: RobinNode[Any], server: PlanServer) -> None:
        self._node, self._server = node, server
        self._publisher = node.add_publisher(CupHealthMsg, CUP_HEALTH, RESULT)

    def learn(self, report: OutcomeReport) -> None:
        """From what the cell measured; once for each pick, at its first report."""
        try:
            self._server.note_cups(report.plan_id, report.grasp, report.measured())
        except RobinError as exc:
            self._node.report_exception(exc, warning=True)
            return
        self.tell()

    def reset(self, request: Any, response: Any) -> Any:
        """Answers ResetCups."""
        cups = self._server.reset_cups(tuple(int(cup) for cup in request.cups))
        which = ", ".join(str(int(cup)) for cup in request.cups) or "all"
        self._node.get_logger().info(f"cups reset: {which}")
        self.tell()
        response.text, response.cups = f"cups reset: {which}", [cup_to_msg(report) for report in cups]
        return response

    def tell(self) -> None:
        """Publish all cups; findings and what is wrong with the file stand in diagnostics until they are over."""
        cups = self._server.cups
        for report in cups:
            self._publisher.publish(cup_to_msg(report))
        for code in FINDINGS:
            told = [report.text for report in cups if report.code is code]
            if told:
                self._node.report(code, "; ".join(told), warning=True, lasting=True)
            else:
                self._node.recovered("cups", code)
        problem = self._server.cups_problem
        if problem is None:
            self._node.recovered("the file of the cups' health", *OF_THE_FILE)
        else:
            self._node.report(problem.code, problem.text, warning=True, lasting=True)

    def line(self) -> str:
        """For /diagnostics: "good", or which cups are not."""
        bad = [f"{r.cup} {r.state.name.lower()}" for r in self._server.cups if r.state is not CupState.GOOD]
        return ", ".join(bad) or "good"
