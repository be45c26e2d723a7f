"""The uplink as a child process, watched: started again when it ends, and what it says of itself."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import IO, Any

import numpy as np

from edge_adapt.uplink.client import read_status
from edge_adapt.uplink.config import UplinkConfig
from edge_adapt.uplink.pace import Backoff
from robin_perception.core.errors import Code, RobinError, parse_error
from robin_perception.core.parent_death import end_child

_STOP_S = 5.0
_LIVED_S = 60.0  # a process that lived so long may be started again at once
_GROWING = {"lost": Code.UPLINK_LOST, "fleet_lost": Code.UPLINK_FLEET_LOST}
_TEXTS = {
    Code.UPLINK_LOST: "{} samples had to go before the fleet was known to have them",
    Code.UPLINK_FLEET_LOST: "the fleet had lost {} samples that it had acknowledged; they were sent again",
}


class UplinkChild:
    """Owned by one thread; nothing here waits but ``stop``. clock: monotonic seconds."""

    def __init__(
        self, config: UplinkConfig, clock: Callable[[], float] = time.monotonic, rng: np.random.Generator | None = None
    ) -> None:
        self._config, self._clock = config, clock
        self._backoff = Backoff(config.backoff_least_s, config.backoff_most_s, rng or np.random.default_rng())
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._started_s = self._due_s = clock()
        self._seen: dict[str, int] = {}
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def look(self) -> list[RobinError]:
        """Start it where it is due; what is to be told of it now."""
        faults = [] if (ended := self._ended()) is None else [ended]
        if self._process is None and self._clock() >= self._due_s:
            self._start()
        return faults + self._said()

    def status(self) -> dict[str, Any]:
        """As the process wrote it last; empty until it has."""
        status = read_status(self._config.folder) or {}
        return status if status.get("pid") == self.pid else {}

    def stop(self) -> None:
        """It writes down what it has heard, and ends."""
        if self._process is not None:
            end_child(self._process, _STOP_S)
            self._close()

    def _start(self) -> None:
        self._started_s = self._clock()
        command = [sys.executable, "-m", "edge_adapt.uplink.run", self._config.model_dump_json()]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self._errors = self._process.stderr

    def _ended(self) -> RobinError | None:
        if self._process is None or self._process.poll() is None:
            return None
        said = b"" if self._errors is None else self._errors.read(4000)
        line = (said.decode(errors="replace").strip().splitlines() or [f"status {self._process.returncode}"])[-1]
        if self._clock() - self._started_s > _LIVED_S:
            self._backoff.reset()
        wait_s = self._backoff.next_s()
        self._due_s = self._clock() + wait_s
        self.restarts += 1
        self._close()
        known = parse_error(line)
        code, reason = (known.code, known.text) if known else (Code.UPLINK_ENDED, line)
        return RobinError(code, f"the uplink ended: {reason}; it is started again in {wait_s:.0f} s")

    def _said(self) -> list[RobinError]:
        status = self.status()
        faults = []
        if known := parse_error(str(status.get("text", ""))):
            faults.append(known)
        for key, grown in _GROWING.items():
            count = int(status.get(key, 0) or 0)
            if count > self._seen.get(key, count if key == "lost" else 0):
                faults.append(RobinError(grown, _TEXTS[grown].format(count)))
            if status:
                self._seen[key] = count
        return faults

    def _close(self) -> None:
        if self._errors is not None:
            self._errors.close()
        self._process = self._errors = None
