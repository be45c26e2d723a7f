"""What a sample shows of unfamiliar parcels, and of faults of its station. Needs no network: looks are measured in the
picture, under the masks that the robot saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_adapt.recorded_scene import recorded_scene
from edge_adapt.store.blobs import blob_name
from edge_adapt.store.sample import SampleRecord, StoredSample
from robin_fleet.ledger.novelties import FaultRow, SightingRow
from robin_fleet.ledger.samples import FAILED, SampleRow
from robin_perception.core.condition import Family
from robin_perception.novelty.watch import sightings

PICTURE = ".jpg"


@dataclass(frozen=True)
class LookedAt:
    """sightings with their pictures, blob -> JPEG; faults: conditions of the station that stood."""

    sightings: tuple[SightingRow, ...]
    faults: tuple[FaultRow, ...]
    pictures: dict[str, bytes]


def look_at(row: SampleRow, read: Callable[[str], bytes]) -> LookedAt:
    """read: blob -> bytes. Raises RobinError OBJECT_*, RECORD_INVALID, and what ``StoredSample.frame`` raises."""
    sample = StoredSample(SampleRecord.parse(read(row.sample), row.sample), read)
    decision = sample.decision()
    faults = tuple(
        FaultRow(row.sample, one.name, one.code, row.site, row.station, row.at_s)
        for one in decision.conditions
        if one.family == Family.ENVIRONMENT.value
    )
    if faults or not any(one.novelty is not None and one.novelty > 1 for one in decision.instances):
        return LookedAt((), faults, {})
    chosen = None if decision.chosen is None else decision.chosen.instance
    scene = recorded_scene(decision, sample.labels())
    found, pictures = [], {}
    for one in sightings(sample.frame(), scene):
        name = blob_name(one.picture, PICTURE)
        pictures[name] = one.picture
        failed = one.instance == chosen and decision.result in FAILED
        place = row.site, row.station, row.at_s
        look = stored_look(one.appearance)
        found.append(SightingRow(row.sample, one.instance, *place, float(one.novelty), failed, False, look, name))
    return LookedAt(tuple(found), faults, pictures)


def stored_look(appearance: NDArray[np.float32]) -> bytes:
    """As the ledger keeps it."""
    return appearance.astype("<f2").tobytes()
