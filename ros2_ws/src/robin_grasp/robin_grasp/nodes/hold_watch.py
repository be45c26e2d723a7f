"""Learning to hold in the planning node: from ended picks, beside the plans; its faults stand in diagnostics."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from robin_grasp.hold_learning import HoldLearning
from robin_grasp.holding import HoldTerms
from robin_grasp.picks.outcome import PickOutcome, PickResult
from robin_grasp.picks.outcome_report import OutcomeReport, Stage
from robin_grasp.picks.plan_server import KEPT_PLANS, IssuedPlan, seldom_held
from robin_grasp.plan import CupTrust
from robin_grasp.recovery.machine import PickTarget
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene
from robin_perception.nodes.base import RobinNode

OF_THE_FILE = (Code.HOLDING_DAMAGED, Code.HOLDING_NOT_SAVED)


class HoldWatch:
    """Made in the node's ``setup``; the planner asks it as its ``Holding``. Thread-safe. What is learned is learned in
    ``pool``, where plans are made that a pick may follow: the next of them knows it."""

    def __init__(self, node: RobinNode[Any], learning: HoldLearning, pool: ThreadPoolExecutor) -> None:
        self._node, self._learning, self._pool = node, learning, pool
        self._lock = threading.Lock()
        self._held: OrderedDict[str, PickOutcome | None] = OrderedDict()

    def expected(self, frame: Frame, scene: Scene) -> HoldTerms | None:
        """``Holding.expected``."""
        with self._lock:
            return self._learning.expected(frame, scene)

    def note(self, issued: IssuedPlan | None, report: OutcomeReport) -> None:
        """A report of a pick. issued: its plan, None where nobody knows it. A load that was put back in part was one of
        two, which teaches nothing."""
        if issued is None or not 0 <= report.grasp < len(issued.plan.grasps):
            return
        if report.stage is Stage.HELD:
            self._held[report.plan_id] = None if report.plan_id in self._held else report.measured()
            while len(self._held) > KEPT_PLANS:
                self._held.popitem(last=False)
            return
        outcome = self._held.pop(report.plan_id, report.measured())
        if outcome is not None:
            pick = PickTarget(issued.plan.grasps[report.grasp], issued.frame, issued.scene)
            self._pool.submit(self._learn, pick, outcome, report.result, issued.plan.basis.cups)

    def planned(self, issued: IssuedPlan) -> None:
        """Tell where nothing is left but goods that were seldom held."""
        left = sorted(set(seldom_held(issued.plan, issued.scene)) & set(issued.excluded))
        if left and not issued.plan.grasps:
            text = f"only goods that were seldom held are left: parcels {', '.join(map(str, left))}"
            self._node.report(Code.GOODS_SELDOM_HELD, text, warning=True, lasting=True)
        else:
            self._node.recovered("what is left", Code.GOODS_SELDOM_HELD)

    def tell(self) -> None:
        """What is wrong with the file stands in diagnostics until it is over."""
        with self._lock:
            problem = self._learning.problem
        if problem is None:
            self._node.recovered("the file of what was learned of holding", *OF_THE_FILE)
        else:
            self._node.report(problem.code, problem.text, warning=True, lasting=True)

    def line(self) -> str:
        """For /diagnostics."""
        with self._lock:
            learned = self._learning.learned
        return f"learned from {learned.picks} picks ({learned.digest[:12]})"

    def _learn(self, pick: PickTarget, outcome: PickOutcome, result: PickResult | None, cups: CupTrust) -> None:
        try:
            with self._lock:
                self._learning.note(pick, outcome, result, cups)
        except RobinError as exc:
            self._node.report_exception(exc, warning=True)
            return
        self.tell()
