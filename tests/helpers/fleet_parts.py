"""Functions that workers import: parts of heavy work in the tests of compute."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from robin_perception.core.errors import Code, RobinError


def double(number: int) -> int:
    return 2 * number


def slow_first(number: int) -> int:
    time.sleep(0.3 if number == 0 else 0)
    return number


def refuse_seven(number: int) -> int:
    if number == 7:
        raise RobinError(Code.RECORD_INVALID, "the seventh")
    return number


def divide_by(number: int) -> float:
    return 1 / number


def die_once(task: tuple[str, int]) -> int:
    """The worker is killed the first time that number 3 comes."""
    folder, number = task
    mark = Path(folder) / "died"
    if number == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def always_die(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def own_pid(number: int) -> int:
    return os.getpid()
