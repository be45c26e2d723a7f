"""What a running node counts: events, drops by cause, latencies, numbered faults. Logs and diagnostics read these."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from robin_perception.core.errors import Code

_KEPT_EVENTS = 2048


@dataclass(frozen=True)
class Fault:
    """A numbered reason and how often it came. last_s: time of the counters' clock."""

    code: Code
    text: str
    count: int
    last_s: float
    warning: bool


class Counters:
    """Thread-safe. Rates and percentiles are over the last ``window_s`` seconds; totals since the start."""

    def __init__(self, window_s: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.window_s = window_s
        self._clock = clock
        self._lock = threading.Lock()
        self._started = clock()
        self._totals: dict[str, int] = {}
        self._events: dict[str, deque[float]] = {}
        self._latencies: dict[str, deque[tuple[float, float]]] = {}
        self._faults: dict[Code, Fault] = {}

    def count(self, name: str, n: int = 1) -> None:
        """Add ``n`` events called ``name``."""
        now = self._clock()
        with self._lock:
            self._totals[name] = self._totals.get(name, 0) + n
            self._events.setdefault(name, deque(maxlen=_KEPT_EVENTS)).extend([now] * n)

    def drop(self, cause: str, n: int = 1) -> None:
        """Count input that was not used, by cause: ``dropped.<cause>``."""
        self.count(f"dropped.{cause}", n)

    def latency(self, name: str, milliseconds: float) -> None:
        """Add one measured duration."""
        with self._lock:
            self._latencies.setdefault(name, deque(maxlen=_KEPT_EVENTS)).append((self._clock(), milliseconds))

    def fault(self, code: Code, text: str, warning: bool = False) -> Fault:
        """Count a numbered reason; the last text of each code is kept."""
        with self._lock:
            known = self._faults.get(code)
            fresh = Fault(code, text, 1 if known is None else known.count + 1, self._clock(), warning)
            self._faults[code] = fresh
            return fresh

    def total(self, name: str) -> int:
        with self._lock:
            return self._totals.get(name, 0)

    def rate_hz(self, name: str) -> float:
        """Events per second over the window (over the time since the start while that is shorter)."""
        now = self._clock()
        with self._lock:
            return self._rate(name, now)

    def percentiles_ms(self, name: str) -> tuple[float, float] | None:
        """p50 and p95 over the window, or None when nothing was measured in it."""
        oldest = self._clock() - self.window_s
        with self._lock:
            recent = [ms for at, ms in self._latencies.get(name, ()) if at >= oldest]
        if not recent:
            return None
        p50, p95 = np.percentile(recent, (50, 95))
        return float(p50), float(p95)

    def faults(self) -> tuple[Fault, ...]:
        """Every fault so far, the latest first."""
        with self._lock:
            return tuple(sorted((replace(f) for f in self._faults.values()), key=lambda f: -f.last_s))

    def recent_fault(self, hold_s: float) -> Fault | None:
        """The gravest fault of the last ``hold_s`` seconds: errors before warnings, then the latest."""
        oldest = self._clock() - hold_s
        recent = [fault for fault in self.faults() if fault.last_s >= oldest]
        return min(recent, key=lambda f: (f.warning, -f.last_s), default=None)

    def values(self) -> dict[str, str]:
        """All of it as key and text, in the order in which things first happened."""
        now = self._clock()
        with self._lock:
            shown = {}
            for name, total in self._totals.items():
                shown[name] = str(total)
                if not name.startswith("dropped."):
                    shown[f"{name}.rate_hz"] = f"{self._rate(name, now):.2f}"
            measured = tuple(self._latencies)
        for name in measured:
            if (found := self.percentiles_ms(name)) is not None:
                shown[f"{name}.p50_ms"], shown[f"{name}.p95_ms"] = f"{found[0]:.1f}", f"{found[1]:.1f}"
        for fault in self.faults():
            shown[f"fault.E{int(fault.code)}_{fault.code.name}"] = f"{fault.count} ({fault.text})"
        return shown

    def _rate(self, name: str, now: float) -> float:
        span = min(self.window_s, now - self._started)
        recent = sum(at >= now - self.window_s for at in self._events.get(name, ()))
        return recent / span if span > 0 else 0.0
