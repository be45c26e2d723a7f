"""All sources as one: a thread keeps the index up to date, anybody asks for records and pictures by id."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from edge_adapt.evidence import Evidence
from robin_perception.core.errors import RobinError
from robin_perception.core.ids import plain_id
from robin_view.archive.frames import FrameReader
from robin_view.archive.index import DecisionIndex
from robin_view.archive.readers import Began, Reader, RunReader, SampleReader
from robin_view.refusal import unknown
from robin_view.sources import Sources

if TYPE_CHECKING:
    from robin_fleet.folder import Fleet

LOOK_S = 0.1
MOST_FAULTS = 20


class Archive:
    """Started with ``with``. Safe to use from several threads."""

    def __init__(self, sources: Sources, fleet: Fleet | None = None) -> None:
        self.index = DecisionIndex()
        self.faults: list[str] = []
        self.readers: list[Reader] = []
        for folder in sources.runs:
            self.readers.append(RunReader(folder, len(self.readers)))
        for folder in sources.frames:
            self.readers.append(FrameReader(folder, len(self.readers)))
        if sources.store is not None:
            self.readers.append(SampleReader(sources.store, len(self.readers)))
        if fleet is not None:
            from robin_view.archive.fleet_reader import FleetReader  # a robot has no ledger

            self.readers.append(FleetReader(fleet, len(self.readers)))
        self.news = threading.Condition()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="archive", daemon=True)
        self.whole = threading.Event()
        """Set once everything that was there at the start is in the index."""

    def evidence(self, decision_id: str) -> Evidence:
        """Raises RobinError VIEW_UNKNOWN, RECORD_INVALID, STORE_*, OBJECT_*."""
        row = self.index.row(plain_id(decision_id, "decision"))
        if row is None:
            raise unknown("decision", decision_id)
        place = self.index.place(row)
        return self.readers[place.source].evidence(place)

    def step(self) -> int:
        """Take what is new; how many decisions that were."""
        return sum(self._take(number, reader) for number, reader in enumerate(self.readers))

    def _take(self, number: int, reader: Reader) -> int:
        taken = 0
        try:
            for told in reader.new():
                taken += 1
                if isinstance(told, RobinError):
                    self._fault(told)
                else:
                    self.index.add(*told)
        except Began:
            self.index.forget(number)
            return 1
        except (RobinError, OSError) as exc:
            self._fault(exc)
        return taken

    def _fault(self, exc: Exception) -> None:
        line = str(exc)
        if line not in self.faults:
            self.faults = [*self.faults, line][-MOST_FAULTS:]

    def _follow(self) -> None:
        while not self._stopped.is_set():
            if self.step():
                with self.news:
                    self.news.notify_all()
                continue
            self.whole.set()
            self._stopped.wait(LOOK_S)

    def wait(self, until: Callable[[], bool], timeout_s: float) -> bool:
        """Whether ``until`` became true; it is asked again after every change."""
        with self.news:
            return self.news.wait_for(lambda: until() or self._stopped.is_set(), timeout_s)

    def __enter__(self) -> Archive:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        with self.news:
            self.news.notify_all()
        self._thread.join(5.0)
