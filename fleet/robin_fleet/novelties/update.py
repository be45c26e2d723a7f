"""The ledger's novelties brought up to date: samples that came in are looked at, sightings put together, and what came
while a station had a fault is taken out again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import sqlalchemy as sa

from robin_fleet.compute import open_compute
from robin_fleet.compute.interface import Compute
from robin_fleet.folder import Fleet
from robin_fleet.ledger import novelties as booked
from robin_fleet.ledger.core import Ledger
from robin_fleet.ledger.novelties import CONFIRMED, DISMISSED, MERGED, NoveltyRow, SightingRow
from robin_fleet.ledger.samples import SampleRow, find_sample
from robin_fleet.novelties.clusters import Cluster, ClusterConfig, Clustering, next_number
from robin_fleet.novelties.ranking import GUARD_S
from robin_fleet.novelties.sightings import LookedAt, look_at
from robin_fleet.objects import open_objects
from robin_fleet.objects.interface import Objects
from robin_perception.core.errors import Code, RobinError

_BATCH = 64
_GONE = frozenset({Code.RECORD_INVALID, Code.OBJECT_MISSING, Code.OBJECT_DAMAGED})

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Spread:
    """Work on other processes or machines. objects: URL of the object store, which each of them opens by itself."""

    compute: Compute
    objects: str


@dataclass
class Updated:
    """looked: samples; sightings: unfamiliar parcels in them. kept_out: sightings that a fault took out. unreadable:
    samples that are damaged. new, merged: novelties."""

    looked: int = 0
    sightings: int = 0
    kept_out: int = 0
    unreadable: int = 0
    new: int = 0
    merged: int = 0


def update(
    ledger: Ledger,
    objects: Objects,
    spread: Spread | None = None,
    progress: Progress = lambda done, total: None,
    config: ClusterConfig | None = None,
) -> Updated:
    """Do all that is to be done; what was done before is not done again. spread: None works in this process.
    Raises RobinError LEDGER_*, OBJECTS_UNREACHABLE, DISK_FULL, COMPUTE_*."""
    done = Updated()
    while samples := _next_samples(ledger):
        if spread is None:
            found = [_looked(objects, row) for row in samples]
        else:
            found = list(spread.compute.map(partial(_looked_there, spread.objects), samples))
        _book(ledger, objects, samples, found, done)
        progress(done.looked, done.looked)
    with ledger.write() as connection:
        done.kept_out = booked.keep_out(connection, GUARD_S)
        _settle(connection, done, config or ClusterConfig())
    return done


def update_fleet(fleet: Fleet, progress: Progress = lambda done, total: None) -> Updated:
    """``update``, where the fleet's settings have heavy work done."""
    if not fleet.config.compute:
        return update(fleet.ledger, fleet.objects, progress=progress)
    with open_compute(fleet.config.compute) as compute:
        return update(fleet.ledger, fleet.objects, Spread(compute, fleet.objects_url), progress)


def _next_samples(ledger: Ledger) -> list[SampleRow]:
    with ledger.read() as connection:
        found = (find_sample(connection, name) for name in booked.unlooked(connection, _BATCH))
        return [row for row in found if row is not None]


def _looked(objects: Objects, row: SampleRow) -> LookedAt | None:
    """None for a sample that cannot be read."""
    try:
        return look_at(row, objects.get)
    except RobinError as exc:
        if exc.code in _GONE or int(exc.code) < 200:  # the picture, not the place where it lies
            return None
        raise


def _looked_there(url: str, row: SampleRow) -> LookedAt | None:
    return _looked(_opened(url), row)


@cache
def _opened(url: str) -> Objects:
    """Once in each worker."""
    return open_objects(url)


def _book(
    ledger: Ledger, objects: Objects, samples: Sequence[SampleRow], found: Sequence[LookedAt | None], done: Updated
) -> None:
    whole = [one for one in found if one is not None]
    for one in whole:
        for name, picture in one.pictures.items():
            objects.put(name, picture)
    sightings = [row for one in whole for row in one.sightings]
    with ledger.write() as connection:
        names = [row.sample for row in samples]
        booked.add_looked(connection, names, sightings, [row for one in whole for row in one.faults])
    done.looked += len(samples)
    done.unreadable += len(samples) - len(whole)
    done.sightings += len(sightings)


def _settle(connection: sa.Connection, done: Updated, config: ClusterConfig) -> None:
    rows, known = booked.sightings(connection), booked.novelties(connection)
    clustering = clustering_of(rows, known, config)
    before = set(clustering.clusters)
    clustering.add({row.key: row.looks() for row in rows if row.novelty is None})
    clustering.settle()
    now_s = time.time()
    made = {clustering.where(key) for key in clustering.home.values()} - before
    booked.add_novelties(connection, made, now_s)
    for gone in clustering.merged:
        if gone in before:
            booked.record_merge(connection, gone, clustering.where(gone), "", now_s)
            done.merged += 1
    homes = {sighting: clustering.where(key) for sighting, key in clustering.home.items()}
    booked.give_homes(connection, homes)
    done.new = len(made)


def clustering_of(
    rows: Sequence[SightingRow], known: dict[str, NoveltyRow], config: ClusterConfig | None = None
) -> Clustering:
    """The novelties as they stand, each with the mean look of its sightings."""
    looks: dict[str, list[Any]] = {}
    for row in rows:
        if row.novelty is not None:
            looks.setdefault(row.novelty, []).append(row.looks())
    clusters = {
        key: Cluster(np.mean(mine, axis=0), len(mine), known[key].state in (CONFIRMED, DISMISSED))
        for key, mine in looks.items()
        if known[key].state != MERGED
    }
    return Clustering(config or ClusterConfig(), clusters, next_number=next_number(known))
