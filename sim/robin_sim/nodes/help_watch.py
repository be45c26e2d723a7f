"""What the simulated cell knows of requests for help."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from robin_msgs.msg import HelpRequest

from robin_perception.nodes.base import RobinNode
from robin_perception.nodes.qos import LATCHED
from robin_perception.topics import HELP


class HelpWatch:
    """Made in the node's ``setup``. on_news: called when a request was asked or closed, from the executor's thread."""

    def __init__(self, node: RobinNode[Any], on_news: Callable[[], None]) -> None:
        self._on_news = on_news
        self._lock = threading.Lock()
        self._answers: dict[str, str] = {}
        self._plans: dict[str, str] = {}
        node.add_subscription(HelpRequest, HELP, self._news, LATCHED)

    def answer(self, help_id: str) -> str:
        """Empty while it is open, or not known yet."""
        with self._lock:
            return self._answers.get(help_id, "")

    def about(self, plan_id: str) -> str:
        """The request about that plan; empty for none."""
        with self._lock:
            return self._plans.get(plan_id, "")

    def about_the_station(self) -> str:
        """The open request that is about no pick; empty for none."""
        with self._lock:
            picks = self._plans.values()
            return next((h for h, answer in self._answers.items() if not answer and h not in picks), "")

    def _news(self, message: Any) -> None:
        with self._lock:
            self._answers[message.help_id] = message.answer
            if message.plan_id:
                self._plans[message.plan_id] = message.help_id
        self._on_news()
