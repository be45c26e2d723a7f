"""Keeps a child process with an engine alive: starts it, ends it when it fails, starts it again, gives up in time."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import Literal

from robin_perception.core.errors import Code, RobinError
from robin_perception.supervision.config import SupervisionConfig
from robin_perception.supervision.process import Child, ChildSpec

State = Literal["starting", "ready", "restarting", "given_up", "closed"]

_log = logging.getLogger(__name__)
_JOIN_S = 2.0
_KEPT_FAULTS = 64
COUNTS = ("hangs", "crashes", "invalid_outputs", "errors", "restarts")
# Of a start, what another one may not meet: memory is given back by those who end. All others would say the same again.
_MAY_PASS = (Code.ENGINE_FAILED, Code.ENGINE_OUT_OF_MEMORY)
_CAUSES = {Code.ENGINE_HUNG: "hangs", Code.ENGINE_CRASHED: "crashes", Code.ENGINE_OUTPUT_INVALID: "invalid_outputs"}


@dataclass(frozen=True)
class WatchdogStatus:
    """state: of the child. pid: 0 = none. Counts are since the start; errors: failures that the engine itself named.
    last: the latest fault in words, empty = none. start_ms: how long the latest start took, 0 = none was ready."""

    state: State
    pid: int
    hangs: int
    crashes: int
    invalid_outputs: int
    errors: int
    restarts: int
    last: str
    start_ms: float


class Watchdog:
    """All methods may be called from any thread, and none waits for the child but ``wait_ready`` and ``close``."""

    def __init__(self, spec: ChildSpec, config: SupervisionConfig) -> None:
        self._spec, self._config = spec, config
        self._changed = threading.Condition()
        self._child: Child | None = None  # the one that was started last, while it lives
        self._failed: RobinError | None = None  # why that one is not to be asked any more
        self._state: State = "starting"
        self._counts: Counter[str] = Counter()
        self._restarts: deque[float] = deque()
        self._faults: deque[RobinError] = deque(maxlen=_KEPT_FAULTS)
        self._last: RobinError | None = None
        self._start_ms = 0.0
        self._thread = threading.Thread(target=self._run, name="engine_watchdog", daemon=True)
        self._thread.start()

    @property
    def state(self) -> State:
        return self._state

    @property
    def child(self) -> Child | None:
        """The child to ask; None while there is none that is ready."""
        with self._changed:
            return self._child if self._state == "ready" else None

    @property
    def reason(self) -> RobinError:
        """Why there is no child to ask."""
        with self._changed:
            if self._state == "given_up" and self._last is not None:
                return self._last
            text = f"{self._spec.engine}: its process is {self._state}"
            return RobinError(Code.ENGINE_STARTING, text + (f" after {self._last}" if self._last else ""))

    def wait_ready(self, timeout_s: float) -> bool:
        """Until a child is ready, or none will ever be."""
        with self._changed:
            self._changed.wait_for(lambda: self._state in ("ready", "given_up", "closed"), timeout_s)
            return self._state == "ready"

    def fail(self, child: Child, reason: RobinError) -> None:
        """``child`` is not to be asked again: it is killed at once, and replaced."""
        with self._changed:
            if self._child is child and self._failed is None and self._state != "closed":
                self._failed = reason
                self._state = "restarting"
                self._note(reason)
        child.kill()

    def status(self) -> WatchdogStatus:
        with self._changed:
            counts = {name: self._counts[name] for name in COUNTS}
            pid = 0 if self._child is None else self._child.pid
            return WatchdogStatus(self._state, pid, last=str(self._last or ""), start_ms=self._start_ms, **counts)

    def take_faults(self) -> list[RobinError]:
        """What happened since the last call of this, oldest first."""
        with self._changed:
            faults = list(self._faults)
            self._faults.clear()
            return faults

    def close(self) -> None:
        """End the child. Waits a moment for it, not for one that cannot be ended."""
        with self._changed:
            self._state = "closed"
            child = self._child
            self._changed.notify_all()
        if child is not None:
            child.kill()
        self._thread.join(_JOIN_S)

    # The watchdog's own thread.

    def _run(self) -> None:
        try:
            self._keep()
        except Exception as exc:  # a bug here must not look like an engine that is about to be ready
            _log.exception("the engine's watchdog failed")
            with self._changed:
                self._give_up(f"{self._spec.engine} stays off: {type(exc).__name__}: {exc}")
            if self._child is not None:
                self._child.kill()

    def _keep(self) -> None:
        while self._may_start():
            if (child := self._started()) is None:
                continue
            ending = child.wait_end()
            with self._changed:
                if self._failed is None and self._state != "closed":
                    text = f"{child.engine_name} in process {child.pid}: {ending}"
                    self._note(RobinError(Code.ENGINE_CRASHED, text))
                    self._state = "restarting"
                self._child = None
            child.release()

    def _may_start(self) -> bool:
        """Whether to start a child now: the first one, or one more after a pause, while that is allowed."""
        config = self._config
        with self._changed:
            if self._state == "starting" and self._last is None:
                return True
            if self._state in ("closed", "given_up"):
                return False
            oldest = time.monotonic() - config.restart_window_s
            while self._restarts and self._restarts[0] < oldest:
                self._restarts.popleft()
            if len(self._restarts) >= config.max_restarts:
                limit = f"{config.max_restarts} restarts within {config.restart_window_s:g} s"
                self._give_up(f"{self._spec.engine} stays off after {limit}; the last failure: {self._last}")
                return False
            self._changed.wait_for(lambda: self._state == "closed", config.restart_pause_s)
            if self._state == "closed":
                return False
            self._restarts.append(time.monotonic())
            self._counts["restarts"] += 1
            return True

    def _started(self) -> Child | None:
        """Start a child and wait until it is ready; None where there is none to wait for the end of."""
        try:
            child = Child(self._spec)
        except OSError as exc:
            with self._changed:
                self._state = "restarting"
                self._note(RobinError(Code.ENGINE_CRASHED, f"{self._spec.engine}: no process could be started: {exc}"))
            return None
        with self._changed:
            self._child, self._failed = child, None
            closed = self._state == "closed"
        if closed:
            child.kill()
            return child
        try:
            start_ms = child.wait_ready(self._config.start_timeout_s)
        except RobinError as exc:
            self.fail(child, exc)
            if exc.code not in (*_CAUSES, *_MAY_PASS):
                with self._changed:
                    if self._state != "closed":
                        self._give_up(f"{self._spec.engine} stays off: {exc}")
            return child
        with self._changed:
            if self._state != "closed":
                self._start_ms = start_ms
                self._state = "ready"
            self._changed.notify_all()
        return child

    def _give_up(self, text: str) -> None:
        self._state = "given_up"
        self._last = RobinError(Code.ENGINE_GIVEN_UP, text)
        self._faults.append(self._last)
        _log.error("%s", str(self._last))
        self._changed.notify_all()

    def _note(self, reason: RobinError) -> None:
        self._counts[_CAUSES.get(reason.code, "errors")] += 1
        self._last = RobinError(reason.code, reason.text)  # without the traceback, which holds the child and its memory
        self._faults.append(self._last)
        _log.warning("%s", str(self._last))
        self._changed.notify_all()
