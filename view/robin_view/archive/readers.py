"""Where decisions come from on a robot: a run's file that grows, the store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from edge_adapt.decision import Decision
from edge_adapt.evidence import Evidence, FolderEvidence, SampleEvidence
from edge_adapt.record_file import LONGEST_RECORD, RECORD_FILE
from edge_adapt.store.blobs import BlobFolder
from edge_adapt.store.sample import SampleRecord, StoredSample
from edge_adapt.store.store import StoreReader
from robin_perception.core.bounded import require_plain_file
from robin_perception.core.errors import Code, RobinError
from robin_view.archive.facts import Facts, facts_of
from robin_view.archive.index import Place

STEP = 200  # records taken at a time, so that the index grows while a long file is read


class Began(Exception):
    """A run replaced its records."""


class Reader(Protocol):
    """One source. number: of the source in the index. title: for people."""

    title: str

    def new(self) -> Iterator[tuple[Facts, Place] | RobinError]:
        """What came since the last call, at most some hundreds; a record that is none as its numbered line.
        Raises Began, and RobinError where the source cannot be read now."""
        ...

    def evidence(self, place: Place) -> Evidence:
        """Record and pictures. Raises RobinError."""
        ...


class RunReader:
    """The records of a run's folder, also of one that is not there yet."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder, self.number, self.title = folder, number, str(folder)
        self._path = folder / RECORD_FILE
        self._end, self._lines, self._file = 0, 0, 0

    def new(self) -> Iterator[tuple[Facts, Place] | RobinError]:
        try:
            now = self._path.stat()
        except OSError:
            return
        if now.st_size < self._end or (self._file and now.st_ino != self._file):
            self._end, self._lines, self._file = 0, 0, 0
            raise Began
        self._file = now.st_ino
        if now.st_size == self._end:
            return
        require_plain_file(self._path)
        with self._path.open("rb") as stream:
            stream.seek(self._end)
            for _ in range(STEP):
                line = stream.readline(LONGEST_RECORD + 1)
                if not line.endswith(b"\n"):
                    return  # it is being written
                place = Place(self.number, self._end, len(line))
                self._end += len(line)
                self._lines += 1
                if line.strip():
                    yield told(line, place, f"{self._path}:{self._lines}")

    def evidence(self, place: Place) -> Evidence:
        with self._path.open("rb") as stream:
            stream.seek(place.start)
            line = stream.read(place.length)
        try:
            return FolderEvidence(self.folder, Decision.model_validate_json(line))
        except ValueError:
            raise RobinError(Code.RECORD_INVALID, f"{self._path}: not a decision record (any more)") from None


class SampleReader:
    """The samples of the robot's store."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder, self.number, self.title = folder, number, str(folder)
        self._blobs = BlobFolder(folder)
        self._after = 0

    def new(self) -> Iterator[tuple[Facts, Place] | RobinError]:
        with StoreReader(self.folder) as store:
            rows = list(store.samples(self._after, STEP))
        for row in rows:
            self._after = row.seq
            try:
                sample = self.sample(row.record)
            except RobinError as exc:
                yield exc
                continue
            record = sample.record
            place = Place(self.number, blob=row.record)
            yield told(record.decision, place, row.record, record.station, "color.png" in record.files)

    def evidence(self, place: Place) -> Evidence:
        return SampleEvidence(self.sample(place.blob))

    def sample(self, blob: str) -> StoredSample:
        """blob: its record's name. Raises RobinError STORE_*, RECORD_INVALID."""
        record = SampleRecord.parse(self._blobs.read(blob), str(self._blobs.path(blob)))
        return StoredSample(record, self._blobs.read)


def id_of(robot: str, decision_id: str) -> str:
    """What the page calls a decision: two robots may have begun a run in the same second."""
    return f"{robot}.{decision_id}"[:128] if robot else decision_id


def told(
    data: bytes | dict[str, object],
    place: Place,
    source: str,
    station: str = "",
    pictures: bool | None = None,
    robot: str = "",
) -> tuple[Facts, Place] | RobinError:
    """The facts of one record and its place, or why it is none. robot: whose it is, where there are several."""
    try:
        facts = facts_of(data, source, station, pictures)
        return replace(facts, decision_id=id_of(robot, facts.decision_id)), place
    except RobinError as exc:
        return exc
