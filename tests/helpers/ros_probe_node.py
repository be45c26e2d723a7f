"""A small node on the base of all nodes, for tests: what fails, fails on demand."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from robin_msgs.srv import LoadModel
from sensor_msgs.msg import Image

from robin_perception.core.errors import Code, RobinError
from robin_perception.node_config import NodeConfig
from robin_perception.node_parameters import DYNAMIC
from robin_perception.nodes import run
from robin_perception.nodes.base import RobinNode


class ProbeConfig(NodeConfig):
    """low, high: a range that must be one. fail: where setup, start or the service fails, and how; hang: deactivate;
    wait, spin: start never comes back from C, without and with Python's lock."""

    rate_hz: float = Field(5.0, gt=0, le=60, json_schema_extra=DYNAMIC)
    low: float = Field(1.0, ge=0, le=10, json_schema_extra=DYNAMIC)
    high: float = Field(2.0, ge=0, le=10, json_schema_extra=DYNAMIC)
    cups: int = Field(8, ge=1, le=8)
    model: Path = Path("models/base")
    fail: Literal[
        "", "setup", "setup_bug", "start", "service", "service_bug", "callback_bug", "hang", "wait", "spin"
    ] = Field("", json_schema_extra=DYNAMIC)


def never_back(libc: ctypes.CDLL) -> None:
    """Lock a mutex twice; a PyDLL keeps Python's lock meanwhile."""
    mutex = ctypes.create_string_buffer(64)
    for _ in range(2):
        libc.pthread_mutex_lock(mutex)


class ProbeNode(RobinNode[ProbeConfig]):
    """Answers ``ask`` with the request's path and the rate in force."""

    def __init__(self) -> None:
        super().__init__("probe", ProbeConfig)
        self.add_service(LoadModel, "ask", self._answer)

    def setup(self) -> None:
        self.publisher = self.add_publisher(Image, "echo", 10)
        self.add_subscription(Image, "images", self._received, 10)
        self._fail("setup")

    def start(self) -> None:
        self._fail("start")
        if self.config.fail == "wait":
            never_back(ctypes.CDLL(None))
        if self.config.fail == "spin":
            run.STUCK_S = 2 * run.BEAT_S
            time.sleep(run.STUCK_S)  # until that is in force
            never_back(ctypes.PyDLL(None))

    def stop(self) -> None:
        if self.config.fail == "hang":
            threading.Event().wait()

    def check_parameters(self, config: ProbeConfig) -> None:
        if config.low > config.high:
            raise RobinError(Code.CONFIG_OUT_OF_RANGE, f"low {config.low:g} is above high {config.high:g}")

    def _answer(self, request: Any, response: Any) -> Any:
        response.model_id = f"{request.path} at {self.config.rate_hz:g}"
        response.text = "half an answer"
        self._fail("service")
        response.text = ""
        return response

    def _received(self, message: Any) -> None:
        if self.config.fail == "callback_bug":
            raise ValueError("bug in a callback")
        self.counters.count("images")
        self.publisher.publish(message)

    def _fail(self, where: str) -> None:
        if self.config.fail == where:
            raise RobinError(Code.MODEL_MISSING, "there is none")
        if self.config.fail == f"{where}_bug":
            raise ValueError("bug")


if __name__ == "__main__":
    sys.exit(run.run_nodes(lambda: [ProbeNode()]))
