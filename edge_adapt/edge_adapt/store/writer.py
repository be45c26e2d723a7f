"""Storing beside picking: a bounded queue, one thread that encodes and inserts, and counts of what was dropped."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from edge_adapt.store.sample import Sample
from edge_adapt.store.store import Receipt, SampleStore
from robin_perception.core.errors import RobinError

Acknowledge = Callable[[Receipt], object]


@dataclass(frozen=True)
class WriterState:
    """Counts since the start. failure: of the newest sample that could not be written, None while all is well."""

    offered: int
    written: int
    dropped: int
    failure: RobinError | None


class StoreWriter:
    """Takes picks from any thread without a wait. The store belongs to its thread from then on.

    When the queue is full the *new* pick is dropped and counted. One that cannot be written is dropped, counted and
    told as ``state.failure``; the next is tried again.
    """

    def __init__(self, store: SampleStore, queue_limit: int = 8) -> None:
        """queue_limit: picks that may wait; each holds its frames."""
        self._store, self._limit = store, queue_limit
        self._queue: deque[tuple[Callable[[], Sample], Acknowledge | None]] = deque()
        self._offered = self._written = self._dropped = 0
        self._failure: RobinError | None = None
        self._stop = False
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def put(self, encode: Callable[[], Sample], done: Acknowledge | None = None, *, wait: bool = False) -> bool:
        """Queue a pick. encode: makes its sample, in the writer's thread. done: called there once it is durable.
        wait: for room in the queue. False: it was dropped, and counted."""
        with self._wake:
            self._offered += 1
            while wait and len(self._queue) >= self._limit and not self._stop:
                self._wake.wait()
            if len(self._queue) >= self._limit or self._stop:
                self._dropped += 1
                return False
            self._queue.append((encode, done))
            self._wake.notify_all()
            return True

    @property
    def state(self) -> WriterState:
        with self._wake:
            return WriterState(self._offered, self._written, self._dropped, self._failure)

    def close(self) -> WriterState:
        """Write what waits, and close the store; a failure is in the counts, nothing is raised."""
        with self._wake:
            self._stop = True
            self._wake.notify_all()
        self._thread.join()
        self._store.close()
        return self.state

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._queue and not self._stop:
                    self._wake.wait()
                if not self._queue:
                    return
                encode, done = self._queue.popleft()
                self._wake.notify_all()
            failure, receipt = None, None
            try:
                receipt = self._store.add(encode())
            except RobinError as exc:
                failure = exc
            with self._wake:
                self._failure = failure
                self._written += receipt is not None
                self._dropped += receipt is None
            if receipt is not None and done is not None:
                done(receipt)
