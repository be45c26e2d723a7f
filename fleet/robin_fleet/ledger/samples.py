"""Blobs that are durable, and the samples that they make up."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from robin_fleet.ledger.core import METADATA, insert_new

FAILED = ("miss", "drop", "multi", "wrong")
"""Results of picks that went wrong."""
BLOBS = sa.Table(
    "blobs",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("stored_s", sa.Double, nullable=False),
)
SAMPLES = sa.Table(
    "samples",
    METADATA,
    sa.Column("sample", sa.Text, primary_key=True),
    sa.Column("robot", sa.Text, nullable=False),
    sa.Column("site", sa.Text, nullable=False),
    sa.Column("station", sa.Text, nullable=False),
    sa.Column("decision_id", sa.Text, nullable=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("result", sa.Text, nullable=False),
    sa.Column("novel", sa.Boolean, nullable=False),
    sa.Column("share", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("at_s", sa.Double, nullable=False),
    sa.Column("received_s", sa.Double, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("environment", sa.Boolean, nullable=False),
    sa.Column("near_of", sa.Text),
    sa.Column("embedding", sa.LargeBinary),
    sa.Index("samples_robot", "robot", "seq"),
    sa.Index("samples_station", "site", "station", "at_s"),
    sa.Index("samples_received", "received_s"),
    sa.Index("samples_decision", "decision_id"),
)
SAMPLE_FILES = sa.Table(
    "sample_files",
    METADATA,
    sa.Column("sample", sa.Text, sa.ForeignKey("samples.sample"), primary_key=True),
    sa.Column("file", sa.Text, primary_key=True),
    sa.Column("blob", sa.Text, sa.ForeignKey("blobs.name"), nullable=False),
    sa.Index("sample_files_blob", "blob"),
)


class SampleRow(NamedTuple):
    """A sample as it is booked. sample: name of its record's blob. seq, at_s: by the robot's own count and clock;
    received_s: by this machine's. bytes: of the record and all files. environment: a condition of the station stood
    (light, lens, depth, camera). near_of: an earlier sample that shows nearly the same. embedding: how the
    chosen parcel looks, float16 bytes, None where that was not measured."""

    sample: str
    robot: str
    site: str
    station: str
    decision_id: str
    seq: int
    name: str
    result: str
    novel: bool
    share: str
    model: str
    at_s: float
    received_s: float
    bytes: int
    environment: bool
    near_of: str | None = None
    embedding: builtins.bytes | None = None


@dataclass(frozen=True)
class SampleFilter:
    """Which samples; None takes all. since_s: received from then on."""

    robot: str | None = None
    site: str | None = None
    station: str | None = None
    result: str | None = None
    name: str | None = None
    novel: bool | None = None
    since_s: float | None = None

    def clause(self) -> sa.ColumnElement[bool]:
        equal = ("robot", "site", "station", "result", "name", "novel")
        chosen = [SAMPLES.c[key] == value for key in equal if (value := getattr(self, key)) is not None]
        if self.since_s is not None:
            chosen.append(SAMPLES.c.received_s >= self.since_s)
        return sa.and_(sa.true(), *chosen)


def known_blobs(connection: sa.Connection, names: Iterable[str]) -> dict[str, int]:
    """Those of ``names`` that are booked as durable, with their bytes."""
    chosen = sa.select(BLOBS.c.name, BLOBS.c.bytes).where(BLOBS.c.name.in_(list(names)))
    return {row[0]: row[1] for row in connection.execute(chosen)}


def add_blobs(connection: sa.Connection, sizes: Mapping[str, int], now_s: float) -> None:
    """name -> bytes; those that are there stay as they are."""
    # In one order everywhere, so that two writers never wait for each other.
    rows = [{"name": name, "bytes": sizes[name], "stored_s": now_s} for name in sorted(sizes)]
    insert_new(connection, BLOBS, rows)


def add_samples(connection: sa.Connection, samples: Mapping[SampleRow, Mapping[str, str]]) -> None:
    """Each with its files, name -> blob, which must be booked. A sample that is there stays as it is."""
    ordered = sorted(samples)
    insert_new(connection, SAMPLES, [row._asdict() for row in ordered])
    files = [
        {"sample": row.sample, "file": file, "blob": blob}
        for row in ordered
        for file, blob in sorted(samples[row].items())
    ]
    insert_new(connection, SAMPLE_FILES, files)


def find_sample(connection: sa.Connection, sample: str) -> SampleRow | None:
    row = connection.execute(sa.select(SAMPLES).where(SAMPLES.c.sample == sample)).first()
    return None if row is None else SampleRow(*row)


def find_samples(connection: sa.Connection, chosen: SampleFilter, limit: int | None = None) -> list[SampleRow]:
    """The latest first."""
    latest = SAMPLES.c.received_s.desc(), SAMPLES.c.sample
    return [
        SampleRow(*row)
        for row in connection.execute(sa.select(SAMPLES).where(chosen.clause()).order_by(*latest).limit(limit))
    ]


def count_samples(connection: sa.Connection, chosen: SampleFilter) -> int:
    return connection.execute(sa.select(sa.func.count()).select_from(SAMPLES).where(chosen.clause())).scalar_one()


def files_of(connection: sa.Connection, sample: str) -> dict[str, str]:
    """File name -> blob."""
    chosen = sa.select(SAMPLE_FILES.c.file, SAMPLE_FILES.c.blob).where(SAMPLE_FILES.c.sample == sample)
    return {row.file: row.blob for row in connection.execute(chosen.order_by(SAMPLE_FILES.c.file))}


def counts_by_station(connection: sa.Connection) -> list[dict[str, Any]]:
    """site, station, samples, novel, failed, near, bytes, at_s of the latest."""
    failed = SAMPLES.c.result.in_(FAILED)
    place = SAMPLES.c.site, SAMPLES.c.station
    chosen = sa.select(
        *place,
        sa.func.count().label("samples"),
        _count(SAMPLES.c.novel, "novel"),
        _count(failed, "failed"),
        _count(SAMPLES.c.near_of.is_not(None), "near"),
        sa.cast(sa.func.sum(SAMPLES.c.bytes), sa.BigInteger).label("bytes"),
        sa.func.max(SAMPLES.c.received_s).label("latest_s"),
    )
    rows = connection.execute(chosen.group_by(*place).order_by(*place))
    return [dict(row._mapping) for row in rows]


def blob_counts(connection: sa.Connection) -> tuple[int, int]:
    """Blobs, and the bytes of them all."""
    total = sa.cast(sa.func.coalesce(sa.func.sum(BLOBS.c.bytes), 0), sa.BigInteger)
    count, size = connection.execute(sa.select(sa.func.count(), total).select_from(BLOBS)).one()
    return count, size


def embeddings_near(
    connection: sa.Connection, site: str, station: str, at_s: float, within_s: float, limit: int
) -> Sequence[tuple[str, bytes]]:
    """(sample, embedding) of a station's samples up to ``within_s`` before or after, the latest first."""
    chosen = (
        sa.select(SAMPLES.c.sample, SAMPLES.c.embedding)
        .where(SAMPLES.c.site == site, SAMPLES.c.station == station, SAMPLES.c.embedding.is_not(None))
        .where(SAMPLES.c.near_of.is_(None), SAMPLES.c.at_s.between(at_s - within_s, at_s + within_s))
    )
    rows = connection.execute(chosen.order_by(SAMPLES.c.at_s.desc()).limit(limit))
    return [(row.sample, row.embedding) for row in rows]


def _count(condition: sa.ColumnElement[bool], label: str) -> sa.Label[int]:
    return sa.func.sum(sa.case((condition, 1), else_=0)).label(label)
