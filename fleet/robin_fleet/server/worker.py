"""What waits for disks and databases, in a thread of its own: the fleet's answers to offers, and ingest."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from robin_fleet.ingest.ingest import Answer, Incoming, Outcome
from robin_fleet.server.desk import Result, Work
from robin_fleet.server.partials import read_partial, recover
from robin_perception.core.errors import Code, RobinError

_STORES, _STORE_BYTES = 32, 16_000_000  # at most in one transaction; offers are answered in between


class Ingest(Protocol):
    """``robin_fleet.ingest.ingest.Ingest``: verifies and books; what it has returned for is durable."""

    def blobs(self, incoming: Sequence[Incoming]) -> list[Outcome]: ...

    def has(self, names: Iterable[str]) -> set[str]: ...


class Worker:
    """done: called in its thread when there are results to ``take``."""

    def __init__(self, ingest: Ingest, done: Callable[[], object]) -> None:
        self._ingest, self._done = ingest, done
        self._queue: queue.SimpleQueue[list[Work] | None] = queue.SimpleQueue()
        self._results: deque[Result] = deque()
        self._thread = threading.Thread(target=self._run, name="fleet-ingest", daemon=True)
        self._thread.start()

    def put(self, works: list[Work]) -> None:
        self._queue.put(works)

    def take(self) -> list[Result]:
        taken = []
        while self._results:
            taken.append(self._results.popleft())
        return taken

    def close(self) -> None:
        """What it has in hand is finished; the rest is not begun."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        stores: deque[Work] = deque()
        while True:
            asked = self._waiting(wait=not stores)
            if asked is None:
                return
            stores.extend(work for work in asked if work.store)
            self._answer([work for work in asked if not work.store])
            if stores:
                self._results.extend(self._stored(_batch(stores)))
                self._done()

    def _waiting(self, *, wait: bool) -> list[Work] | None:
        """What stands in the queue; None: it is to end."""
        found: list[Work] = []
        while True:
            try:
                works = self._queue.get(block=wait and not found)
            except queue.Empty:
                return found
            if works is None:
                return None
            found += works

    def _answer(self, offers: list[Work]) -> None:
        if not offers:
            return
        try:
            had = self._ingest.has({work.name for work in offers})
            self._results.extend(_looked(work, work.name in had) for work in offers)
        except Exception as exc:
            error = _numbered(exc)
            self._results.extend(Result(work, error=error, again=True) for work in offers)
        self._done()

    def _stored(self, batch: list[Work]) -> list[Result]:
        try:
            outcomes = self._ingest.blobs([Incoming(w.robot, w.name, w.kind.name.lower(), _data(w)) for w in batch])
        except RobinError as exc:
            return [Result(work, error=exc, again=True) for work in batch]
        except Exception as exc:  # nobody knows which of them it was
            if len(batch) > 1:
                return [result for work in batch for result in self._stored([work])]
            return [Result(batch[0], error=_numbered(exc), again=True)]
        return [_told(work, outcome) for work, outcome in zip(batch, outcomes, strict=True)]


def _batch(stores: deque[Work]) -> list[Work]:
    batch, size = [stores.popleft()], 0
    while stores and len(batch) < _STORES and (size := size + batch[-1].size) < _STORE_BYTES:
        batch.append(stores.popleft())
    return batch


def _data(work: Work) -> bytes:
    return b"".join(work.chunks if work.chunks is not None else read_partial(work.path))


def _told(work: Work, outcome: Outcome) -> Result:
    if outcome.answer in (Answer.STORED, Answer.HAVE):
        return Result(work)
    error = RobinError(outcome.code, outcome.reason)
    return Result(work, error=error, again=outcome.answer is Answer.WAITING)


def _looked(work: Work, had: bool) -> Result:
    if had:
        return Result(work, had=True)
    try:
        return Result(work, False, *recover(work.path, work.size))
    except OSError as exc:
        return Result(work, error=RobinError(Code.UPLOAD_NOT_KEPT, f"{work.path}: {exc.strerror}"), again=True)


def _numbered(exc: Exception) -> RobinError:
    if isinstance(exc, RobinError):
        return exc
    return RobinError(Code.INTERNAL_ERROR, f"{type(exc).__name__}: {exc}")
