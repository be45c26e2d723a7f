"""Looks at the repository now and then, each in a process of its own, so that no pick shares an interpreter with it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable

from edge_adapt.releases.config import LookOrder
from robin_perception.core.errors import Code, RobinError, parse_error
from robin_perception.core.parent_death import end_child

_STOP_S = 5.0
_SAID_BYTES = 20_000


class ReleaseChild:
    """Owned by one thread; nothing here waits but ``stop``. clock: monotonic seconds."""

    def __init__(self, order: LookOrder, clock: Callable[[], float] = time.monotonic) -> None:
        self._order, self._clock = order, clock
        self._process: subprocess.Popen[bytes] | None = None
        self._began_s = self._due_s = clock()
        self.looks = 0

    def step(self) -> tuple[list[str], RobinError | None]:
        """Begin a look where one is due, end one that takes too long; (what happened, why one failed)."""
        if self._process is None:
            if self._clock() >= self._due_s:
                self._start()
            return [], None
        late = self._clock() - self._began_s > self._order.releases.most_s
        if self._process.poll() is None and not late:
            return [], None
        return self._ended(late)

    def stop(self) -> None:
        if self._process is not None:
            end_child(self._process, _STOP_S)
            self._close()

    def _start(self) -> None:
        self._began_s = self._clock()
        self._due_s = self._began_s + self._order.releases.every_s
        command = [sys.executable, "-m", "edge_adapt.releases.run", self._order.model_dump_json()]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def _ended(self, late: bool) -> tuple[list[str], RobinError | None]:
        process = self._process
        assert process is not None and process.stdout is not None
        if late:
            process.kill()
        status = process.wait()
        lines = process.stdout.read(_SAID_BYTES).decode(errors="replace").strip().splitlines() or [""]
        self._close()
        self.looks += 1
        if late:
            text = f"{self._order.releases.source}: a look took more than {self._order.releases.most_s:g} s"
            return [], RobinError(Code.RELEASE_UNREACHABLE, text)
        if status == 0:
            return list(json.loads(lines[-1])), None
        return [], parse_error(lines[-1]) or RobinError(
            Code.RELEASE_UNREACHABLE, f"the look at releases ended: {lines[-1][:300] or f'status {status}'}"
        )

    def _close(self) -> None:
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None
