"""Labels that nobody drew: from the picks of a sample's pile, and where no pick tells, what the model proposes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from edge_adapt.annotations.picture import Mask
from edge_adapt.decision import Decision
from edge_adapt.labels.label import PILE_PICKS, LabelConfig, MaskLabel
from edge_adapt.labels.pile import FrameLabels, PileLabels
from edge_adapt.learn.lessons import pile_of, seen_pick
from edge_adapt.store.runs import encode_labels
from edge_adapt.store.sample import SampleRecord, StoredSample
from robin_fleet.ledger.core import Ledger
from robin_fleet.ledger.labels import PICK, PSEUDO, Label
from robin_fleet.ledger.novelties import NOVELTIES, SIGHTINGS
from robin_fleet.ledger.samples import SAMPLES, SampleRow
from robin_fleet.objects.interface import Objects
from robin_perception.core.errors import RobinError

IGNORED = "ignore"
_TAKEN = 0.5  # share of a proposal that lies under labels from picks, from which it says nothing new


def stored(objects: Objects, sample: str) -> StoredSample:
    """Raises RobinError OBJECT_*, RECORD_INVALID."""
    return StoredSample(SampleRecord.parse(objects.get(sample), sample), objects.get)


def prefilled(
    ledger: Ledger, objects: Objects, wanted: Iterable[SampleRow], config: LabelConfig | None = None
) -> Iterator[dict[str, list[Label]]]:
    """Sample -> labels, pile by pile, of those that can be read. Nothing is written, and the ledger is free meanwhile:
    a pile takes seconds. Raises RobinError LEDGER_*, OBJECTS_UNREACHABLE."""
    piles: dict[tuple[str, str], set[str]] = {}
    for row in wanted:
        piles.setdefault((row.robot, pile_of(row.decision_id)), set()).add(row.sample)
    for (robot, pile), samples in piles.items():
        with ledger.read() as connection:
            rows = _pile_rows(connection, robot, pile)
            names = {sample: _names(connection, sample) for sample in samples}
        yield _of_pile(objects, rows, names, config)


def _pile_rows(connection: sa.Connection, robot: str, pile: str) -> list[SampleRow]:
    """Samples of a pile, in order."""
    mine = (SAMPLES.c.robot == robot) & SAMPLES.c.decision_id.startswith(pile + "-", autoescape=True)
    rows = connection.execute(sa.select(SAMPLES).where(mine).order_by(SAMPLES.c.seq).limit(PILE_PICKS))
    return [SampleRow(*row) for row in rows]


def _of_pile(
    objects: Objects, rows: Sequence[SampleRow], wanted: Mapping[str, Mapping[int, str]], config: LabelConfig | None
) -> dict[str, list[Label]]:
    """wanted: sample -> what persons call its instances."""
    labels, last = PileLabels(config), None
    numbers: dict[str, int] = {}
    whole: dict[str, tuple[StoredSample, Decision]] = {}
    for row in rows:
        try:
            sample = stored(objects, row.sample)
            decision = sample.decision()
            seen = seen_pick(sample, decision)
            whole[row.sample] = sample, decision
        except RobinError as exc:
            if int(exc.code) in range(821, 827):  # the ledger or the store, not the sample
                raise
            continue
        if seen is not None:
            numbers[row.sample] = len(numbers)
            labels.add(seen)
            last = seen.after
    found = {}
    for name in wanted.keys() & whole.keys():
        told = labels.of_frame(numbers[name], last) if name in numbers else None
        found[name] = _labels(name, *whole[name], told, wanted[name])
    return found


def _labels(
    name: str, sample: StoredSample, decision: Decision, told: FrameLabels | None, names: Mapping[int, str]
) -> list[Label]:
    """Later labels lie on earlier ones: what is ignored, then proposals, then what picks tell."""
    proposed = sample.labels()
    height, width = proposed.shape
    taken = np.zeros(proposed.shape, dtype=bool) if told is None else told.labels > 0
    ignored = np.ones(proposed.shape, dtype=bool) if told is None else told.ignore.copy()
    kinds = {one.id: names.get(one.id, one.class_name) for one in decision.instances}
    masks: list[tuple[Mask, str, str, float]] = []
    for one in decision.instances:
        mask = proposed == one.id
        if mask.any() and (mask & taken).sum() <= _TAKEN * mask.sum():
            masks.append((mask & ~taken, kinds[one.id], PSEUDO, one.detection * one.mask_quality))
    for label in () if told is None else told.parcels.values():
        masks.append((label.mask, kinds.get(_under(label, proposed), ""), label.origin.value, label.confidence))
    for mask, *_ in masks:
        ignored &= ~mask
    if ignored.any():
        masks.insert(0, (ignored, IGNORED, PICK if told is not None else PSEUDO, 1.0))
    now_s = time.time()
    return [
        Label(name, number, kind, origin, float(min(max(sure, 0.0), 1.0)), width, height, runs(mask), "", now_s)
        for number, (mask, kind, origin, sure) in enumerate(masks, 1)
    ]


def _under(label: MaskLabel, proposed: NDArray[np.uint16]) -> int:
    """The proposal that covers most of the label; 0: none."""
    counts = np.bincount(proposed[label.mask])
    counts[0] = 0
    return int(counts.argmax()) if counts.any() else 0


def runs(mask: Mask) -> str:
    """Run lengths of one mask; empty for an empty one."""
    return encode_labels(mask.astype(np.uint16)).get(1, "")


def _names(connection: sa.Connection, sample: str) -> dict[int, str]:
    """Instance -> what persons call the novelty that it is."""
    both = SIGHTINGS.join(NOVELTIES, SIGHTINGS.c.novelty == NOVELTIES.c.novelty)
    chosen = sa.select(SIGHTINGS.c.instance, NOVELTIES.c.name).select_from(both).where(SIGHTINGS.c.sample == sample)
    return {row.instance: row.name for row in connection.execute(chosen) if row.name}
