"""What labels begin with: all that is known of a picture already, so that a person draws nothing twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from edge_adapt.decision import Decision
from edge_adapt.evidence import frame_of
from edge_adapt.labels.label import PILE_PICKS
from robin_perception.core.errors import RobinError
from robin_perception.core.image_folder import IGNORE_LABEL
from robin_view.annotate.drafts import IGNORE, MaskEntry, Origin
from robin_view.archive.archive import Archive
from robin_view.archive.frames import FrameEvidence
from robin_view.archive.index import Place
from robin_view.archive.readers import SampleReader
from robin_view.decision.worker import Seen, Worker

Told = tuple[NDArray[np.uint16], list[MaskEntry]]
_TAKEN = 0.5  # of a proposal, that a pick's label covers which then stands for it


class PickTold(NamedTuple):
    """What later picks say of a picture. labels: 1 + place in ``parcels``; parcels: origin and confidence of each."""

    labels: NDArray[np.uint16]
    parcels: tuple[tuple[Origin, float], ...]


def entry(number: int, decision: Decision) -> MaskEntry:
    """What the model told of that mask."""
    one = next(one for one in decision.instances if one.id == number)
    sure, visible = (round(min(max(v, 0.0), 1.0), 3) for v in (one.detection * one.mask_quality, one.visible_fraction))
    name = one.class_name[:80]
    return MaskEntry(id=number, class_name=name, visible_fraction=visible, origin="pseudo", confidence=sure, counts="")


def of_frame(evidence: FrameEvidence, worker: Worker, model: Path | None) -> Told:
    """Labels that lie in the image folder; else what ``model`` sees. Raises RobinError MODEL_*, ENGINE_*,
    VIEW_WORKER_LOST."""
    labels, frame = evidence.labels(), frame_of(evidence)
    if labels is not None and labels.shape == evidence.frame.depth.shape:
        rows = {row["id"]: row for row in evidence.rows() if isinstance(row.get("id"), int)}
        return labels, [_kept(int(i), rows.get(int(i), {})) for i in np.unique(labels[labels > 0])]
    empty = np.zeros(evidence.frame.depth.shape, dtype=np.uint16)
    if model is None or frame is None:
        return empty, []
    made = worker.replan(Seen(frame, empty, evidence.decision), model)
    return made.labels, [entry(one.id, made.decision) for one in made.decision.instances if one.id > 0]


def _kept(number: int, row: Mapping[str, Any]) -> MaskEntry:
    """As ``robin view`` and others write it; what is no such value is left out."""
    name = IGNORE if number == IGNORE_LABEL else str(row.get("kind", ""))[:80]
    origin = row.get("origin") if row.get("origin") in get_args(Origin) else "person"
    visible, sure = (v if isinstance(v := row.get(key), (int, float)) and 0 <= v <= 1 else None for key in _SHARES)
    told = {"visible_fraction": visible, "confidence": 1.0 if sure is None else sure}
    return MaskEntry(id=number, class_name=name, origin=origin, counts="", **told)


_SHARES = ("visible_fraction", "confidence")


def with_picks(told: Told, archive: Archive, place: Place, key: str, worker: Worker) -> Told:
    """``told`` with what picks of the same pile tell better. Of a store alone: a run keeps no depth after a pick."""
    reader = archive.readers[place.source]
    if not isinstance(reader, SampleReader):
        return told
    try:
        blobs = tuple(_later(archive, place.source, key))
        found: PickTold = worker.asked((key, "picks", blobs), partial(by_picks, reader.folder, blobs))
    except RobinError:
        return told  # a sample of the pile has left the store, or the process is gone
    return merged(told, found)


def _later(archive: Archive, source: int, key: str) -> list[str]:
    """The samples of this pick and of those after it in its pile."""
    pile, _, number = key.rpartition("-")
    found = []
    for pick in range(int(number), int(number) + PILE_PICKS) if number.isdecimal() else ():
        row = archive.index.row(f"{pile}-{pick:03d}")
        if row is not None and (place := archive.index.place(row)).source == source:
            found.append(place.blob)
    return found


def by_picks(store: Path, blobs: Sequence[str]) -> PickTold:
    """In the process beside the page. Raises RobinError STORE_*."""
    from edge_adapt.labels.pile import PileLabels
    from edge_adapt.learn.lessons import seen_pick

    reader, labels = SampleReader(store, 0), PileLabels()
    seen = [seen_pick(sample, sample.decision()) for sample in map(reader.sample, blobs)]
    if not seen or seen[0] is None:
        return PickTold(np.zeros((0, 0), dtype=np.uint16), ())
    for pick in seen:
        if pick is not None:
            labels.add(pick)
    told = labels.of_frame(0)
    return PickTold(told.labels, tuple((one.origin.value, one.confidence) for one in told.parcels.values()))


def merged(told: Told, found: PickTold) -> Told:
    """Labels of picks lie on proposals; a proposal of which they cover the greater part is theirs."""
    labels, entries = told[0].copy(), {one.id: one for one in told[1]}
    next_id = max(entries, default=0) + 1
    for number, (origin, sure) in enumerate(found.parcels, 1):
        mask = np.asarray(found.labels == number)
        if not mask.any():
            continue
        counts = np.bincount(told[0][mask], minlength=1)
        counts[0] = 0
        under = entries.get(int(counts.argmax())) if counts.any() else None
        for other in np.flatnonzero(counts):
            if other in entries and counts[other] > _TAKEN * (labels == other).sum():
                labels[labels == other] = 0
                del entries[int(other)]
        labels[mask] = next_id
        name, visible = ("", None) if under is None else (under.class_name, under.visible_fraction)
        confidence = round(min(max(sure, 0.0), 1.0), 3)
        entries[next_id] = MaskEntry(
            id=next_id, class_name=name, visible_fraction=visible, origin=origin, confidence=confidence, counts=""
        )
        next_id += 1
    return labels, list(entries.values())
