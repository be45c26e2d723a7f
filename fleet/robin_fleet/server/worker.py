"""What waits for disks and databases, in a thread of its own: the fleet's answers to offers, and ingest."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from robin_fleet.server.desk import Result, Work
from robin_fleet.server.partials import read_partial, recover
from robin_perception.core.errors import Code, RobinError

_STORES = 8  # at most, before offers are answered again


class Outcome(Protocol):
    """What became of a blob. error: why it is in quarantine, None where it is stored."""

    @property
    def error(self) -> RobinError | None: ...


class Ingest(Protocol):
    """Verifies and books; what it has returned for is durable."""

    def blob(self, robot: str, name: str, kind: str, data: bytes) -> Outcome: ...

    def has(self, names: Iterable[str]) -> set[str]: ...


class Worker:
    """done: called in its thread when there are results to ``take``."""

    def __init__(self, ingest: Ingest, done: Callable[[], object]) -> None:
        self._ingest, self._done = ingest, done
        self._queue: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._results: deque[Result] = deque()
        self._thread = threading.Thread(target=self._run, name="fleet-ingest", daemon=True)
        self._thread.start()

    def put(self, work: Work) -> None:
        self._queue.put(work)

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
            for _ in range(min(_STORES, len(stores))):
                self._results.append(self._stored(stores.popleft()))
                self._done()

    def _waiting(self, *, wait: bool) -> list[Work] | None:
        """What stands in the queue; None: it is to end."""
        found: list[Work] = []
        while True:
            try:
                work = self._queue.get(block=wait and not found)
            except queue.Empty:
                return found
            if work is None:
                return None
            found.append(work)

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

    def _stored(self, work: Work) -> Result:
        try:
            data = work.data if work.data is not None else b"".join(read_partial(work.path))
            outcome = self._ingest.blob(work.robot, work.name, work.kind.name.lower(), data)
        except Exception as exc:
            return Result(work, error=_numbered(exc), again=True)
        return Result(work, error=outcome.error)


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
