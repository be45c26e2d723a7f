"""What the simulated cell asks of the other nodes and of people."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from robin_msgs.msg import HelpRequest
from robin_msgs.srv import AnswerHelp, PlanPick, ReportOutcome
from std_srvs.srv import Trigger

from robin_grasp.nodes.convert import outcome_to_msg
from robin_grasp.picks.outcome_report import OutcomeReport
from robin_grasp.recovery.help_request import DONE
from robin_perception.core.errors import Code
from robin_perception.nodes.base import RobinNode
from robin_perception.nodes.qos import LATCHED
from robin_perception.topics import HELP
from robin_sim.node_config import SimCellNodeConfig

TRY_AGAIN = frozenset({Code.FRAME_NONE, Code.FRAME_STALE, Code.NODE_NOT_ACTIVE, Code.SERVICE_UNAVAILABLE})


class WatchUntil(Protocol):
    """Go on as a camera until ``done``, at most ``timeout_s``; whether it is done."""

    def __call__(self, done: Callable[[], bool], timeout_s: float) -> bool: ...


class CellTalk:
    """Called from the cell's thread. wake: called from another one when something that is waited for may have come."""

    def __init__(self, node: RobinNode[SimCellNodeConfig], watch_until: WatchUntil, wake: Callable[[], None]) -> None:
        self._node, self._watch_until, self._wake = node, watch_until, wake
        self._planner = node.create_client(PlanPick, "plan_pick")
        self._reporter = node.create_client(ReportOutcome, "report_outcome")
        self._forgetter = node.create_client(Trigger, "forget_failures")
        self._answerer = node.create_client(AnswerHelp, "answer_help")
        self._lock = threading.Lock()
        self._answers: dict[str, str] = {}
        self._plans: dict[str, str] = {}

    def setup(self) -> None:
        """In the node's ``setup``."""
        self._node.add_subscription(HelpRequest, HELP, self._news, LATCHED)

    def plan(self, youngest_s: float) -> Any:
        """The reply, or None when there is none in time."""
        return self._call(self._planner, PlanPick.Request(max_frame_age_s=youngest_s), "plan_pick")

    def forget_failures(self) -> None:
        self._call(self._forgetter, Trigger.Request(), "forget_failures")

    def report(self, report: OutcomeReport) -> Any:
        """The reply of whoever takes the report, tried for ``give_up_s``; None when nobody does. The pick is done in
        any case."""
        request = ReportOutcome.Request(outcome=outcome_to_msg(report))
        end = time.monotonic() + self._node.config.give_up_s
        while True:
            reply = self._call(self._reporter, request, "report_outcome")
            code = Code.SERVICE_UNAVAILABLE if reply is None else Code(reply.code)
            if code in TRY_AGAIN and time.monotonic() < end:
                self.pause()
                continue
            if reply is None or code != Code.OK:
                text = f"outcome of '{report.plan_id}': {reply.text if reply else 'no answer'}"
                self._node.report(code, text, warning=True)
            return reply

    def pause(self) -> None:
        self._watch_until(lambda: False, self._node.config.retry_s)

    # People.

    def asked_about(self, plan_id: str) -> str:
        """The request for help about that plan, waited for; empty for none."""
        self._watch_until(lambda: plan_id in self._plans, self._node.config.reply_timeout_s)
        with self._lock:
            return self._plans.get(plan_id, "")

    def asked_about_the_station(self) -> str:
        """The open request that is about no pick; empty for none."""
        with self._lock:
            picks = self._plans.values()
            return next((h for h, answer in self._answers.items() if not answer and h not in picks), "")

    def answer(self, help_id: str) -> str:
        """What a person says, or the time-out; the simulated person says "done". Waits for as long as it takes."""
        person_s = self._node.config.person_answers_s
        if person_s > 0 and not self._watch_until(lambda: self._answered(help_id), person_s):
            request = AnswerHelp.Request(help_id=help_id, answer=DONE, answered_by="simulated person")
            self._call(self._answerer, request, "answer_help")
        while not self._watch_until(lambda: self._answered(help_id), 1.0):
            pass
        self._node.counters.count("helped")
        with self._lock:
            return self._answers[help_id]

    def _answered(self, help_id: str) -> bool:
        with self._lock:
            return self._answers.get(help_id, "") != ""

    def _news(self, message: Any) -> None:
        with self._lock:
            self._answers[message.help_id] = message.answer
            if message.plan_id:
                self._plans[message.plan_id] = message.help_id
        self._wake()

    def _call(self, client: Any, request: Any, name: str) -> Any:
        """The reply, or None when there is none in time."""
        timeout_s = self._node.config.reply_timeout_s
        if not self._watch_until(client.service_is_ready, timeout_s):
            return None
        begin = time.perf_counter()
        future = client.call_async(request)
        future.add_done_callback(lambda _: self._wake())
        if not self._watch_until(future.done, timeout_s):
            client.remove_pending_request(future)
            return None
        self._node.counters.latency(name, (time.perf_counter() - begin) * 1e3)
        return future.result()
