"""How fast frames come, and whether one that has waited should make room for the next. No ROS in here."""

from __future__ import annotations

import threading
from collections import deque
from statistics import median

_KEPT = 9  # intervals: their median forgets a hiccup at once, and a change of rate within a second
_KNOWN = 4
_LATE = 1.25  # periods after which the next frame is no longer counted on


class FramePace:
    """When frames came, by any clock that does not jump, seconds. Thread-safe.

    Where a frame takes longer than a period, the newest one has waited when the work on it may begin: up to a period,
    which then is a part of the age of all that comes of it. Begun at once it ties up the processor while a fresh one
    comes in. Passing over what waited long makes results fewer, but no older on the whole, and each is fresher.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._came_s: float | None = None
        self._intervals: deque[float] = deque(maxlen=_KEPT)

    def came(self, now_s: float) -> None:
        """A frame has come."""
        with self._lock:
            if self._came_s is not None:
                self._intervals.append(now_s - self._came_s)
            self._came_s = now_s

    def pause_s(self, now_s: float, share: float) -> float:
        """For how long to wait for the next frame rather than begin with the last one; 0: begin.

        share: of a period, what a frame may have waited; 1: never wait for the next.
        """
        with self._lock:
            if self._came_s is None or share >= 1 or len(self._intervals) < _KNOWN:
                return 0.0
            period, waited = median(self._intervals), now_s - self._came_s
        return 0.0 if waited <= share * period else max(0.0, _LATE * period - waited)
