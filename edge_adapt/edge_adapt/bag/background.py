"""Recording beside a running pipeline: a bounded queue, one writer thread, and counts of what was dropped."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter, deque
from dataclasses import dataclass

from edge_adapt.bag.writer import BagWriter
from robin_perception.core.errors import RobinError

_IDLE_S = 0.2


@dataclass(frozen=True)
class RecorderState:
    """Counts since the start. failure: why nothing is written any more, None while all is well."""

    received: int
    written: int
    dropped: dict[str, int]
    queued_bytes: int
    size_bytes: int
    failure: RobinError | None


class BackgroundBagWriter:
    """Takes messages from any thread without blocking; one thread of its own compresses and writes.

    When the queue is full the *new* message is dropped and counted by topic, so that what is in the bag is whole up to
    there. After a failed write everything is dropped and counted, and ``state.failure`` says why: the pipeline goes on.
    """

    def __init__(self, writer: BagWriter, queue_bytes: int = 256 << 20) -> None:
        """queue_bytes: memory that waiting messages may take."""
        self._writer = writer
        self._limit = queue_bytes
        self._queue: deque[tuple[str, bytes, int]] = deque()
        self._queued = 0
        self._received = 0
        self._written = 0
        self._dropped: Counter[str] = Counter()
        self._failure: RobinError | None = None
        self._stop = False
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="bag-writer", daemon=True)
        self._thread.start()

    def put(self, topic: str, data: bytes, log_ns: int) -> bool:
        """Queue one CDR message of a topic that the writer knows. False: it was dropped (and counted)."""
        with self._wake:
            self._received += 1
            full = self._queued + len(data) > self._limit and self._queue
            if full or self._failure is not None or self._stop:
                self._dropped[topic] += 1
                return False
            self._queue.append((topic, data, log_ns))
            self._queued += len(data)
            self._wake.notify()
            return True

    @property
    def state(self) -> RecorderState:
        with self._wake:
            return RecorderState(
                self._received,
                self._written,
                dict(self._dropped),
                self._queued,
                self._writer.size_bytes,
                self._failure,
            )

    def close(self) -> RecorderState:
        """Write what waits, finish the bag and return the last counts; a failure is in them, nothing is raised."""
        with self._wake:
            self._stop = True
            self._wake.notify()
        self._thread.join()
        try:
            self._writer.close()
        except RobinError as exc:
            self._failure = self._failure or exc
        return self.state

    def _run(self) -> None:
        while True:
            with self._wake:
                if not self._queue and not self._stop:
                    self._wake.wait(_IDLE_S)
                item = self._queue.popleft() if self._queue else None
                if item is None and self._stop:
                    return
            try:
                if item is None:
                    self._writer.flush()
                    continue
                self._writer.write_cdr(*item)
            except RobinError as exc:
                self._give_up(exc, item)
                return
            with self._wake:
                self._queued -= len(item[1])
                self._written += 1

    def _give_up(self, failure: RobinError, item: tuple[str, bytes, int] | None) -> None:
        with self._wake:
            self._failure = failure
            for topic, _, _ in ([item] if item is not None else []) + list(self._queue):
                self._dropped[topic] += 1
            self._queue.clear()
            self._queued = 0
        with contextlib.suppress(RobinError):
            self._writer.close()
