"""Sightings of unfamiliar parcels, the novelties that they make up, and faults of stations that keep them out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from robin_fleet.ledger.core import METADATA, insert_new
from robin_fleet.ledger.samples import SAMPLES

OPEN, CONFIRMED, DISMISSED, MERGED = STATES = ("open", "confirmed", "dismissed", "merged")
LOOKED = sa.Table(
    "looked",
    METADATA,
    sa.Column("sample", sa.Text, sa.ForeignKey("samples.sample"), primary_key=True),
)
NOVELTIES = sa.Table(
    "novelties",
    METADATA,
    sa.Column("novelty", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("merged_into", sa.Text),
    sa.Column("decided_by", sa.Text, nullable=False),
    sa.Column("decided_s", sa.Double),
    sa.Column("made_s", sa.Double, nullable=False),
)
SIGHTINGS = sa.Table(
    "sightings",
    METADATA,
    sa.Column("sample", sa.Text, sa.ForeignKey("samples.sample"), primary_key=True),
    sa.Column("instance", sa.Integer, primary_key=True),
    sa.Column("site", sa.Text, nullable=False),
    sa.Column("station", sa.Text, nullable=False),
    sa.Column("at_s", sa.Double, nullable=False),
    sa.Column("level", sa.Double, nullable=False),
    sa.Column("failed", sa.Boolean, nullable=False),
    sa.Column("kept_out", sa.Boolean, nullable=False),
    sa.Column("look", sa.LargeBinary, nullable=False),
    sa.Column("picture", sa.Text, nullable=False),
    sa.Column("novelty", sa.Text, sa.ForeignKey("novelties.novelty")),
    sa.Index("sightings_novelty", "novelty"),
    sa.Index("sightings_station", "site", "station", "at_s"),
)
FAULTS = sa.Table(
    "station_faults",
    METADATA,
    sa.Column("sample", sa.Text, sa.ForeignKey("samples.sample"), primary_key=True),
    sa.Column("condition", sa.Text, primary_key=True),
    sa.Column("code", sa.Integer, nullable=False),
    sa.Column("site", sa.Text, nullable=False),
    sa.Column("station", sa.Text, nullable=False),
    sa.Column("at_s", sa.Double, nullable=False),
    sa.Index("station_faults_station", "site", "station", "at_s"),
)


class SightingRow(NamedTuple):
    """An unfamiliar parcel in a sample's scene. level: its novelty, 1 is the station's limit. failed: it was picked,
    and that failed. kept_out: a fault of the station stood. look: float16 bytes. picture: blob of its crop (JPEG).
    novelty: what it belongs to, None as long as it belongs to nothing."""

    sample: str
    instance: int
    site: str
    station: str
    at_s: float
    level: float
    failed: bool
    kept_out: bool
    look: bytes
    picture: str
    novelty: str | None = None

    @property
    def key(self) -> tuple[str, int]:
        return self.sample, self.instance

    def looks(self) -> NDArray[np.float64]:
        return np.frombuffer(self.look, dtype=np.float16).astype(np.float64)


class NoveltyRow(NamedTuple):
    """state: one of STATES. merged_into: where it went. decided_by: the person who spoke last, empty: nobody."""

    novelty: str
    name: str
    state: str
    merged_into: str | None
    decided_by: str
    decided_s: float | None
    made_s: float


class FaultRow(NamedTuple):
    """A condition of the station that stood in a sample."""

    sample: str
    condition: str
    code: int
    site: str
    station: str
    at_s: float


def unlooked(connection: sa.Connection, limit: int) -> list[str]:
    """Samples that nobody has looked at, the oldest first."""
    seen = sa.select(LOOKED.c.sample).where(LOOKED.c.sample == SAMPLES.c.sample)
    chosen = sa.select(SAMPLES.c.sample).where(~sa.exists(seen)).order_by(SAMPLES.c.received_s, SAMPLES.c.sample)
    return list(connection.execute(chosen.limit(limit)).scalars())


def add_looked(
    connection: sa.Connection, samples: Iterable[str], sightings: Sequence[SightingRow], faults: Sequence[FaultRow]
) -> None:
    """What was seen in samples, once."""
    insert_new(connection, LOOKED, [{"sample": sample} for sample in sorted(samples)])
    insert_new(connection, SIGHTINGS, [row._asdict() for row in sightings])
    insert_new(connection, FAULTS, [row._asdict() for row in faults])


def keep_out(connection: sa.Connection, guard_s: float) -> int:
    """Take sightings out that came within ``guard_s`` of a fault of their station; returns how many."""
    near = sa.select(sa.literal(1)).where(
        FAULTS.c.site == SIGHTINGS.c.site,
        FAULTS.c.station == SIGHTINGS.c.station,
        FAULTS.c.at_s.between(SIGHTINGS.c.at_s - guard_s, SIGHTINGS.c.at_s + guard_s),
    )
    chosen = sa.update(SIGHTINGS).where(SIGHTINGS.c.kept_out.is_(False), sa.exists(near))
    return connection.execute(chosen.values(kept_out=True, novelty=None)).rowcount


def sightings(connection: sa.Connection, novelty: str | None = None, *, kept_out: bool = False) -> list[SightingRow]:
    """In order of time. novelty: of this one alone. kept_out: those that do not count, in place of those that do."""
    chosen = sa.select(SIGHTINGS).where(SIGHTINGS.c.kept_out.is_(kept_out))
    if novelty is not None:
        chosen = chosen.where(SIGHTINGS.c.novelty == novelty)
    ordered = chosen.order_by(SIGHTINGS.c.at_s, SIGHTINGS.c.sample, SIGHTINGS.c.instance)
    return [SightingRow(*row) for row in connection.execute(ordered)]


def novelties(connection: sa.Connection) -> dict[str, NoveltyRow]:
    """By id, also dismissed and merged ones."""
    rows = connection.execute(sa.select(NOVELTIES).order_by(NOVELTIES.c.novelty))
    return {row.novelty: NoveltyRow(*row) for row in rows}


def add_novelties(connection: sa.Connection, keys: Iterable[str], now_s: float) -> None:
    empty = {"name": "", "state": OPEN, "merged_into": None, "decided_by": "", "decided_s": None, "made_s": now_s}
    insert_new(connection, NOVELTIES, [{"novelty": key, **empty} for key in sorted(keys)])


def give_homes(connection: sa.Connection, homes: Mapping[tuple[str, int], str]) -> None:
    """Sighting -> the novelty that it belongs to."""
    for (sample, instance), key in homes.items():
        mine = (SIGHTINGS.c.sample == sample) & (SIGHTINGS.c.instance == instance)
        connection.execute(sa.update(SIGHTINGS).where(mine).values(novelty=key))


def record_merge(connection: sa.Connection, gone: str, kept: str, by: str, now_s: float) -> None:
    """All that was ``gone`` is ``kept``."""
    connection.execute(sa.update(SIGHTINGS).where(SIGHTINGS.c.novelty == gone).values(novelty=kept))
    decide(connection, gone, by, now_s, state=MERGED, merged_into=kept)


def decide(connection: sa.Connection, novelty: str, by: str, now_s: float, **values: Any) -> None:
    """What a person (or, with ``by`` empty, the machine) says of it: name, state, merged_into."""
    given = {**values, "decided_by": by, "decided_s": now_s}
    connection.execute(sa.update(NOVELTIES).where(NOVELTIES.c.novelty == novelty).values(given))


def faults_by_station(connection: sa.Connection) -> list[dict[str, Any]]:
    """site, station, condition, code, samples, first_s, last_s; kept_out: sightings of the station that do not
    count."""
    place = FAULTS.c.site, FAULTS.c.station
    out = (
        sa.select(sa.func.count())
        .select_from(SIGHTINGS)
        .where(SIGHTINGS.c.kept_out, SIGHTINGS.c.site == FAULTS.c.site, SIGHTINGS.c.station == FAULTS.c.station)
        .correlate(FAULTS)
        .scalar_subquery()
    )
    chosen = sa.select(
        *place,
        FAULTS.c.condition,
        FAULTS.c.code,
        sa.func.count().label("samples"),
        sa.func.min(FAULTS.c.at_s).label("first_s"),
        sa.func.max(FAULTS.c.at_s).label("last_s"),
        out.label("kept_out"),
    )
    grouped = chosen.group_by(*place, FAULTS.c.condition, FAULTS.c.code)
    return [dict(row._mapping) for row in connection.execute(grouped.order_by(*place, FAULTS.c.condition))]
