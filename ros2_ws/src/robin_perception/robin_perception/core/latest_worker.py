"""A thread that always works on the newest item, so that the executor stays free and nothing queues up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class LatestWorker(Generic[T]):
    """Runs ``work(item)`` in a thread of its own, one item at a time.

    ``offer`` may be called from any thread; an item that was not begun when a newer one comes is replaced, and
    ``on_drop`` is called for it. What ``work`` raises goes to ``on_error``, and the thread goes on.

    pause_s: seconds for which the item that waits is not to be begun yet, 0: begin. Asked before each item, when a
    newer one has come, when time is up and after ``nudge``; it must return at once.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[T], None],
        on_drop: Callable[[], None],
        on_error: Callable[[Exception], None],
        pause_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._work, self._on_drop, self._on_error, self._pause_s = work, on_drop, on_error, pause_s
        self._changed = threading.Condition()
        self._waiting: list[T] = []
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def offer(self, item: T) -> bool:
        """Hand over ``item``; returns at once. False: not taken, after ``stop``."""
        with self._changed:
            if self._stopping:
                return False
            replaced = bool(self._waiting)
            self._waiting[:] = [item]
            self._changed.notify()
        if replaced:
            self._on_drop()
        return True

    def nudge(self) -> None:
        """What ``pause_s`` says may have changed."""
        with self._changed:
            self._changed.notify()

    def stop(self, timeout_s: float = 10.0) -> bool:
        """End the thread after the item in work; what waits is dropped. False if it did not end in time."""
        with self._changed:
            self._stopping = True
            waited = bool(self._waiting)
            self._waiting.clear()
            self._changed.notify()
        if waited:
            self._on_drop()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (item := self._next()) is not None:
            try:
                self._work(item[0])
            except Exception as exc:
                self._on_error(exc)

    def _next(self) -> list[T] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or bool(self._waiting))
            while not self._stopping and (pause_s := self._pause_s()) > 0:
                self._changed.wait(pause_s)
            if self._stopping:
                return None
            item = list(self._waiting)
            self._waiting.clear()
            return item
