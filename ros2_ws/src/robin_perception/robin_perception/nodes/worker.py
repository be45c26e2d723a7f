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
    """

    def __init__(
        self,
        name: str,
        work: Callable[[T], None],
        on_drop: Callable[[], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._work, self._on_drop, self._on_error = work, on_drop, on_error
        self._changed = threading.Condition()
        self._waiting: list[T] = []
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def offer(self, item: T) -> None:
        """Hand over ``item``; returns at once. After ``stop`` it is ignored."""
        with self._changed:
            if self._stopping:
                return
            replaced = bool(self._waiting)
            self._waiting[:] = [item]
            self._changed.notify()
        if replaced:
            self._on_drop()

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
            if self._stopping:
                return None
            item = list(self._waiting)
            self._waiting.clear()
            return item
