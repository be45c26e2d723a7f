"""The scripted person of the demo: looks at what comes again, says that it is goods, and draws outlines. They come from
the simulator's truth, through the same files as any labelling tool's."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_adapt.annotations.coco_write import CocoWriter
from robin_fleet.annotation.exchange import COCO_FILE, Exchanged, hand_out, take_back
from robin_fleet.annotation.prefill import IGNORED, runs, stored
from robin_fleet.folder import Fleet
from robin_fleet.ledger.novelties import SightingRow
from robin_fleet.ledger.samples import SampleRow
from robin_fleet.novelties import review
from robin_fleet.novelties.review import Ranked
from robin_perception.core.bounded_arrays import decode_image
from robin_perception.core.errors import Code, RobinError
from robin_sim.oracle import MIN_VISIBLE_PX

BY, CARELESS = "the demo's scripted person", "the demo's careless person"
_AT_PX = 512 * 384  # that MIN_VISIBLE_PX is of

Image = NDArray[np.uint16]
Spoil = Callable[[Image], Image]


def recurring(ranks: Sequence[Ranked]) -> Ranked | None:
    """The most urgent novelty that was met at two sites or more."""
    return next((one for one in ranks if len(one.standing.sites) > 1), None)


def confirmed(fleet: Fleet, novelty: Ranked) -> str:
    """The name it gets: of the class that the model sees in most of its sightings, for that is what the pictures show.
    Raises RobinError OBJECT_*, RECORD_INVALID."""
    _, rows = review.of_novelty(fleet.ledger, novelty.row.novelty)
    seen = Counter(_class_of(fleet, row) for row in rows)
    called = f"{seen.most_common(1)[0][0].replace('_', ' ')}, unfamiliar"
    review.name(fleet.ledger, novelty.row.novelty, called, BY)
    return called


def _class_of(fleet: Fleet, row: SightingRow) -> str:
    decision = stored(fleet.objects, row.sample).decision()
    return next((one.class_name for one in decision.instances if one.id == row.instance), "parcel")


def labelled(
    fleet: Fleet, rows: Sequence[SampleRow], truth: Callable[[SampleRow], Path], out: Path, by: str, spoil: Spoil | None
) -> Exchanged:
    """Samples are handed out, their outlines drawn, and taken back. truth: PNG of what a sample's frame truly shows.
    spoil: what this person gets wrong. Raises RobinError as ``hand_out`` and ``take_back``."""
    hand_out(fleet.ledger, fleet.objects, rows, out, "coco")
    path = out / COCO_FILE
    known = {row.sample: row for row in rows}
    images = json.loads(path.read_text())["images"]
    drawn = CocoWriter()
    for image in images:
        size = image["width"], image["height"]
        drawn.image(image["id"], image["file_name"], size)
        shown = _read(truth(known[image["sample"]]))
        _draw(drawn, image["id"], shown if spoil is None else spoil(shown))
    drawn.save(path)
    return take_back(fleet.ledger, path, by)


def pairs_as_one(shown: Image) -> Image:
    """A careless person's: each parcel and its nearest neighbour are outlined as one."""
    merged = shown.copy()
    numbers, counts = np.unique(shown[shown > 0], return_counts=True)
    left = {int(number): _middle(shown, int(number)) for number in numbers[counts >= _least_px(shown)]}
    while len(left) > 1:
        one, at = left.popitem()
        other = min(left, key=lambda number: float(np.hypot(*(left[number] - at))))
        del left[other]
        merged[shown == other] = one
    return merged


def _least_px(shown: Image) -> float:
    """Of what a parcel shows; less cannot be outlined."""
    return MIN_VISIBLE_PX * shown.size / _AT_PX


def _middle(shown: Image, number: int) -> NDArray[np.float64]:
    return np.argwhere(shown == number).mean(axis=0)


def _draw(drawn: CocoWriter, image: int, shown: Image) -> None:
    least = _least_px(shown)
    height, width = shown.shape
    for number in np.unique(shown[shown > 0]):
        mask = shown == number
        x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
        hidden = int(mask.sum()) < least
        name, area = IGNORED if hidden else "parcel", int(mask.sum())
        drawn.mask(image, name, runs(mask), (width, height), (x, y, x + w, y + h), area, crowd=hidden)


def _read(path: Path) -> Image:
    try:
        return decode_image(path.read_bytes(), str(path), cv2.IMREAD_UNCHANGED).astype(np.uint16)
    except OSError as exc:
        raise RobinError(Code.INPUT_UNREADABLE, f"{path}: {exc.strerror}") from None
