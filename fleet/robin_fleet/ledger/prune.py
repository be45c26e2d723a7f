"""What may leave the ledger: old samples that nothing rests on, and what nobody will look at any more."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

import sqlalchemy as sa

from robin_fleet.ledger.events import QUARANTINE
from robin_fleet.ledger.labels import LABELS, PERSON
from robin_fleet.ledger.novelties import CONFIRMED, FAULTS, LOOKED, NOVELTIES, OPEN, SIGHTINGS
from robin_fleet.ledger.samples import BLOBS, SAMPLE_FILES, SAMPLES

_OF_SAMPLES = (LABELS, LOOKED, SIGHTINGS, FAULTS, SAMPLE_FILES, SAMPLES)
_PART = 500  # names in one statement


class Old(NamedTuple):
    """A sample, oldest first. received_s: by this machine's clock; bytes: of its record and files."""

    sample: str
    received_s: float
    bytes: int


def samples_by_age(connection: sa.Connection) -> list[Old]:
    chosen = sa.select(SAMPLES.c.sample, SAMPLES.c.received_s, SAMPLES.c.bytes)
    return [Old(*row) for row in connection.execute(chosen.order_by(SAMPLES.c.received_s, SAMPLES.c.sample))]


def rested_on(connection: sa.Connection) -> set[str]:
    """Samples that a person has labelled or seen, and those that show a novelty which is open or confirmed."""
    labelled = sa.select(LABELS.c.sample).where(sa.or_(LABELS.c.origin == PERSON, LABELS.c.checked_by != ""))
    both = SIGHTINGS.join(NOVELTIES, SIGHTINGS.c.novelty == NOVELTIES.c.novelty)
    shown = sa.select(SIGHTINGS.c.sample).select_from(both).where(NOVELTIES.c.state.in_((OPEN, CONFIRMED)))
    return {row.sample for row in connection.execute(sa.union(labelled, shown))}


def remove_samples(connection: sa.Connection, samples: Collection[str]) -> set[str]:
    """With all that is told of them; names of the objects that nothing names any more."""
    mine = list(samples)
    files = {row.blob for row in connection.execute(sa.select(SAMPLE_FILES.c.blob).where(_of(SAMPLE_FILES, mine)))}
    pictures = {row.picture for row in connection.execute(sa.select(SIGHTINGS.c.picture).where(_of(SIGHTINGS, mine)))}
    for table in _OF_SAMPLES:
        connection.execute(sa.delete(table).where(_of(table, mine)))
    gone = {*mine, *files}
    gone -= _named(connection, SAMPLE_FILES.c.blob, gone)
    connection.execute(sa.delete(BLOBS).where(BLOBS.c.name.in_(gone)))
    return gone | (pictures - _named(connection, SIGHTINGS.c.picture, pictures))


def unknown(connection: sa.Connection, names: Iterable[str]) -> set[str]:
    """Those of ``names`` that are no booked blob and no picture of a sighting."""
    left = sorted(names)
    found: set[str] = set()
    for at in range(0, len(left), _PART):
        part = set(left[at : at + _PART])
        found |= part - _named(connection, BLOBS.c.name, part) - _named(connection, SIGHTINGS.c.picture, part)
    return found


def forget_refused(connection: sa.Connection, most: int) -> list[str]:
    """Keep the newest ``most`` rows of the quarantine; blobs of the others that no row names any more."""
    newest = sa.select(QUARANTINE.c.id).order_by(QUARANTINE.c.id.desc()).limit(most)
    old = QUARANTINE.c.id.not_in(newest.scalar_subquery())
    blobs = {row.blob for row in connection.execute(sa.select(QUARANTINE.c.blob).where(old))}
    connection.execute(sa.delete(QUARANTINE).where(old))
    return sorted(blobs - _named(connection, QUARANTINE.c.blob, blobs))


def _of(table: sa.Table, samples: list[str]) -> sa.ColumnElement[bool]:
    return table.c.sample.in_(samples)


def _named(connection: sa.Connection, column: sa.Column[str], names: Collection[str]) -> set[str]:
    return {row[0] for row in connection.execute(sa.select(column).where(column.in_(list(names))))}
