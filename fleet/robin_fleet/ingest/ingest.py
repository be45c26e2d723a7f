"""What comes in from robots, one blob at a time or many: verified, made durable, booked. What came twice is there
once; what does not verify goes into quarantine with its reason."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

import sqlalchemy as sa

from edge_adapt.store.sample import SampleRecord, StoredSample
from robin_fleet.ingest.checks import RECORD, Booked, check_content, check_name, parse_record
from robin_fleet.ingest.looks import NEAR_AMONG, NEAR_WITHIN_S, look_of, nearest
from robin_fleet.ledger.core import Ledger
from robin_fleet.ledger.events import Refused, add_event, add_refused, count_refused, find_refused, remove_refused
from robin_fleet.ledger.robots import Robot, find_robots
from robin_fleet.ledger.samples import SampleRow, add_blobs, add_samples, embeddings_near, known_blobs
from robin_fleet.objects.interface import Objects, is_blob
from robin_perception.core.errors import Code, RobinError, one_line

WAIT_S = 86_400.0
"""A record whose files do not come is refused so long after it came first, s."""
AREA = "quarantine"
"""Area of the object store for what does not verify, for a person to look at."""
MOST_REFUSED = 1000
"""Blobs in quarantine from which on the reason alone is kept, not the bytes."""
_MOST_KEPT = 4_000_000  # bytes of such a blob
_NAME_SHOWN = 120
_MOST_TOLD = 8


class Answer(Enum):
    """STORED: durable and booked. HAVE: it was already. WAITING: a record whose files have not come; to be sent again
    after them. QUARANTINED: it does not verify, and need not be sent again."""

    STORED = "stored"
    HAVE = "have"
    WAITING = "waiting"
    QUARANTINED = "quarantined"


@dataclass(frozen=True)
class Outcome:
    """code, reason: why it was not taken. missing: files that a record waits for."""

    answer: Answer
    code: Code = Code.OK
    reason: str = ""
    missing: tuple[str, ...] = ()


class Incoming(NamedTuple):
    """kind: "file", "record", "metrics", "decision"."""

    robot: str
    name: str
    kind: str
    data: bytes


Handler = Callable[[sa.Connection, Incoming, float], None]
"""What else is booked of a new blob, in the same transaction: the blob, and the time now. A RobinError that it raises
puts the blob into quarantine."""


@dataclass
class _Item:
    incoming: Incoming
    outcome: Outcome | None = None
    record: SampleRecord | None = None
    booked: Booked | None = None
    look: bytes | None = None
    hashed: bool = False

    def refuse(self, reason: RobinError) -> None:
        self.outcome = Outcome(Answer.QUARANTINED, reason.code, reason.text)


@dataclass
class _Batch:
    """What is known before anything is written. known: bytes of blobs that are booked. data: new ones, to be kept."""

    items: list[_Item]
    now_s: float
    known: dict[str, int] = field(default_factory=dict)
    robots: dict[str, Robot] = field(default_factory=dict)
    data: dict[str, bytes] = field(default_factory=dict)

    @property
    def open(self) -> list[_Item]:
        """Not yet answered; of one blob that came several times the first."""
        found: dict[str, _Item] = {}
        for item in self.items:
            if item.outcome is None:
                found.setdefault(item.incoming.name, item)
        return list(found.values())


class Ingest:
    """May be used from several threads. handlers: by kind. clock: seconds since 1970."""

    def __init__(
        self,
        ledger: Ledger,
        objects: Objects,
        handlers: Mapping[str, Handler] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger, self._objects = ledger, objects
        self._handlers, self._clock = dict(handlers or {}), clock

    def has(self, names: Iterable[str]) -> set[str]:
        """Those that are booked, and whose object is there at its full length. Raises RobinError LEDGER_*,
        OBJECTS_UNREACHABLE."""
        with self._ledger.read() as connection:
            booked = known_blobs(connection, filter(is_blob, names))
        return {name for name, size in booked.items() if self._objects.size(name) == size}

    def blob(self, robot: str, name: str, kind: str, data: bytes) -> Outcome:
        """As ``blobs``, of one."""
        return self.blobs([Incoming(robot, name, kind, data)])[0]

    def blobs(self, incoming: Sequence[Incoming]) -> list[Outcome]:
        """Durable and booked when it returns, all in one transaction; files may come with their record in one call.
        Raises RobinError LEDGER_*, OBJECTS_UNREACHABLE, DISK_FULL: nothing was booked then, and all may be sent
        again."""
        batch = _Batch([_Item(one) for one in incoming], self._clock())
        for item in batch.items:
            _open(item)
        self._look_up(batch)
        self._verify(batch)
        self._complete(batch)
        if any(item.outcome is None or item.outcome.code is not Code.OK for item in batch.items):
            self._store(batch)
            with self._ledger.write() as connection:
                self._book(connection, batch)
        return [_answered(item, batch) for item in batch.items]

    def _look_up(self, batch: _Batch) -> None:
        """What the ledger knows of them; what it has is answered."""
        names = {item.incoming.name for item in batch.open}
        names |= {blob for item in batch.open if item.booked for blob, _ in item.booked.files.values()}
        with self._ledger.read() as connection:
            batch.known = known_blobs(connection, names)
            batch.robots = find_robots(connection, {item.incoming.robot for item in batch.open})
        for item in batch.open:
            name = item.incoming.name
            if name in batch.known and self._objects.size(name) == batch.known[name]:
                item.outcome = Outcome(Answer.HAVE)

    def _verify(self, batch: _Batch) -> None:
        for item in batch.open:
            if item.booked is None:
                try:
                    check_content(item.incoming.name, item.incoming.kind, item.incoming.data)
                except RobinError as exc:
                    item.refuse(exc)
                    continue
                batch.data[item.incoming.name] = item.incoming.data

    def _complete(self, batch: _Batch) -> None:
        """Records whose files are all there, and how their parcels look."""
        for item in batch.open:
            if item.booked is None or item.record is None:
                continue
            try:
                missing = _missing(item, item.booked, batch)
            except RobinError as exc:
                item.refuse(exc)
                continue
            if missing:
                item.outcome = self._waiting(item, missing, batch.now_s)
                continue
            sample = StoredSample(item.record, lambda name: batch.data.get(name) or self._objects.get(name))
            item.look = look_of(sample, item.booked.decision.chosen)
            batch.data[item.incoming.name] = item.incoming.data

    def _waiting(self, item: _Item, missing: tuple[str, ...], now_s: float) -> Outcome:
        name, robot = item.incoming.name, item.incoming.robot
        with self._ledger.read() as connection:
            refused = find_refused(connection, (name, *missing), robot)
        first = refused.pop(name, None)
        if refused:
            other: Refused = next(iter(refused.values()))
            text = f"{name}: its file {other.blob} was refused: {other.reason}"
        elif first is not None and now_s - first.at_s > WAIT_S:
            text = f"{name}: files that it names did not come in {WAIT_S / 3600:g} h, {missing[0]} is the first"
        else:
            text = f"{name}: files that it names have not come yet"
            return Outcome(Answer.WAITING, Code.SAMPLE_WAITING, text, missing)
        return Outcome(Answer.QUARANTINED, Code.SAMPLE_INCOMPLETE, text, missing)

    def _store(self, batch: _Batch) -> None:
        kept = {
            f"{AREA}/{item.incoming.name}": item.incoming.data
            for item in batch.items
            if item.hashed and _is_refused(item) and len(item.incoming.data) <= _MOST_KEPT
        }
        if kept:
            with self._ledger.read() as connection:
                kept = {} if count_refused(connection) >= MOST_REFUSED else kept
        if batch.data or kept:
            self._objects.put_all({**batch.data, **kept})

    def _book(self, connection: sa.Connection, batch: _Batch) -> None:
        for item in batch.open:
            handler = self._handlers.get(item.incoming.kind)
            if handler is not None:
                try:
                    with connection.begin_nested():
                        handler(connection, item.incoming, batch.now_s)
                except RobinError as exc:
                    item.refuse(exc)
        taken = batch.open
        add_blobs(connection, {item.incoming.name: len(item.incoming.data) for item in taken}, batch.now_s)
        self._book_samples(connection, batch)
        if taken:
            remove_refused(connection, [item.incoming.name for item in taken])
        for item in taken:
            item.outcome = Outcome(Answer.STORED)
            if item.incoming.name in batch.known:
                text = f"{item.incoming.name}: was booked, and was not in the object store"
                add_event(connection, batch.now_s, "restored", text, robot=item.incoming.robot)
        for item in batch.items:
            if item.outcome is not None and item.outcome.code is not Code.OK:
                _tell(connection, item.incoming, item.outcome, batch.now_s)

    def _book_samples(self, connection: sa.Connection, batch: _Batch) -> None:
        rows: dict[SampleRow, Mapping[str, str]] = {}
        for item in batch.open:
            if item.booked is None:
                continue
            row = _row(item, item.booked, batch)
            if row.embedding is not None:
                own = [(one.sample, one.embedding) for one in rows if one.embedding and _is_close(one, row)]
                place = (row.site, row.station, row.at_s)
                known = embeddings_near(connection, *place, NEAR_WITHIN_S, NEAR_AMONG)
                row = row._replace(near_of=nearest(row.embedding, [*known, *own]))
            rows[row] = {file: blob for file, (blob, _) in item.booked.files.items()}
        add_samples(connection, rows)


def _open(item: _Item) -> None:
    """What can be judged without the ledger, and quickly."""
    _, name, kind, data = item.incoming
    try:
        check_name(name, kind, data)
        item.hashed = True
        if kind == RECORD:
            item.record, item.booked = parse_record(name, data)
    except RobinError as exc:
        item.refuse(exc)


def _missing(item: _Item, booked: Booked, batch: _Batch) -> tuple[str, ...]:
    """Raises RobinError RECORD_INVALID for a file of another size than the record says."""
    missing = []
    for file, (blob, size) in booked.files.items():
        found = len(batch.data[blob]) if blob in batch.data else batch.known.get(blob)
        if found is None:
            missing.append(blob)
        elif found != size:
            text = f"{item.incoming.name}: {file} has {found:,} bytes, not {size:,}"
            raise RobinError(Code.RECORD_INVALID, text)
    return tuple(missing)


def _row(item: _Item, booked: Booked, batch: _Batch) -> SampleRow:
    """The site is the robot's, as it was enrolled; so is the station, where it was enrolled for one."""
    robot = batch.robots.get(item.incoming.robot)
    return SampleRow(
        sample=item.incoming.name,
        robot=item.incoming.robot,
        site=robot.site if robot is not None else "",
        station=(robot.station if robot is not None else "") or booked.station,
        decision_id=booked.decision.decision_id,
        seq=booked.seq,
        name=booked.name,
        result=booked.result,
        novel=booked.novel,
        share=booked.share,
        model=booked.decision.model_id,
        at_s=booked.at_s,
        received_s=batch.now_s,
        bytes=len(item.incoming.data) + sum(size for _, size in booked.files.values()),
        environment=booked.decision.environment,
        embedding=item.look,
    )


def _is_close(one: SampleRow, other: SampleRow) -> bool:
    """Of one station, within the time in which samples may be nearly the same, and not nearly the same as another."""
    same_place = (one.site, one.station) == (other.site, other.station)
    return same_place and one.near_of is None and abs(one.at_s - other.at_s) <= NEAR_WITHIN_S


def _is_refused(item: _Item) -> bool:
    return item.outcome is not None and item.outcome.answer is Answer.QUARANTINED


def _tell(connection: sa.Connection, incoming: Incoming, outcome: Outcome, now_s: float) -> None:
    name = one_line(incoming.name[:_NAME_SHOWN])
    kind = outcome.answer.value
    if add_refused(connection, name, incoming.robot, outcome.code, outcome.reason, now_s):
        data = {"blob": name, "code": int(outcome.code), "missing": list(outcome.missing[:_MOST_TOLD])}
        add_event(connection, now_s, kind, outcome.reason, robot=incoming.robot, data=data)


def _answered(item: _Item, batch: _Batch) -> Outcome:
    """One that came twice in a batch is answered as its first."""
    if item.outcome is not None:
        return item.outcome
    first = next(
        other for other in batch.items if other.outcome is not None and other.incoming.name == item.incoming.name
    )
    assert first.outcome is not None
    return Outcome(Answer.HAVE) if first.outcome.answer is Answer.STORED else first.outcome
