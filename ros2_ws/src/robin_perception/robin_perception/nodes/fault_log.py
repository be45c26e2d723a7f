"""Numbered faults of a node: counted for /diagnostics, logged at once and then at growing intervals."""

from __future__ import annotations

import threading
import traceback
from typing import Any

from robin_perception.core.counters import Counters
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.repeated import RepeatedFaults


class FaultLog:
    """Thread-safe. logger: the node's."""

    def __init__(self, counters: Counters, logger: Any) -> None:
        self._counters, self._logger = counters, logger
        self._repeated = RepeatedFaults()
        self._lock = threading.Lock()

    def report(self, code: Code, text: str, warning: bool = False, lasting: bool = False) -> bool:
        """lasting: it lasts until ``recovered``, as a camera that is gone. Returns whether it was logged now."""
        self._counters.fault(code, text, warning)
        with self._lock:
            line = self._repeated.line(code, text, lasting)
        if line is not None:
            self._write(f"E{int(code)} {code.name}: {line}", warning)
        return line is not None

    def report_exception(self, exc: Exception, warning: bool = False) -> None:
        """An expected failure by its code; anything else as INTERNAL_ERROR, with its traceback."""
        if isinstance(exc, RobinError):
            self.report(exc.code, exc.text, warning)
        elif self.report(Code.INTERNAL_ERROR, f"{type(exc).__name__}: {exc}"):
            self._logger.error("".join(traceback.format_exception(exc)))

    def recovered(self, what: str, *codes: Code) -> None:
        """These faults are over; one line says so where there were any."""
        with self._lock:
            after = self._repeated.ended(*codes)
        if after is not None:
            self._logger.info(f"{what} back {after}")

    def begin_anew(self, code: Code) -> None:
        """The next fault of this code is logged at once."""
        with self._lock:
            self._repeated.ended(code)

    def _write(self, line: str, warning: bool) -> None:
        if warning:  # rclpy takes one level only from each line of source
            self._logger.warning(line)
        else:
            self._logger.error(line)
