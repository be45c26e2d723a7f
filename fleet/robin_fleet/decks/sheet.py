"""A picture of what juxtaposition makes of a deck: pictures as taken, with parcels laid in, and the new masks."""

from __future__ import annotations

import json
from itertools import islice

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_fleet.decks.export import Scene, juxtaposed_scenes, labelled
from robin_fleet.decks.manifest import Manifest
from robin_fleet.objects.interface import Objects
from robin_perception.core.bounded_arrays import decode_image
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.image_folder import COLOR_FILE, LABELS_FILE, SCENE_FILE
from robin_perception.segmentation.overlay import draw_labels

ROWS, WIDTH_PX = 3, 420


def juxtaposition_sheet(objects: Objects, deck: Manifest) -> NDArray[np.uint8]:
    """RGB uint8 [H, W, 3]. Raises RobinError DECK_EMPTY where the deck has none, DECK_DAMAGED."""
    members = {one.sample: one for one in deck.members}
    rows = []
    for scene in islice(juxtaposed_scenes(objects, deck), ROWS):
        info = json.loads(scene.files[SCENE_FILE])
        before = labelled(objects, deck, members[info["source"]])[0].frame.rgb
        rows.append(np.hstack([_sized(before), *(_sized(each) for each in _after(scene, info))]))
    if not rows:
        raise RobinError(Code.DECK_EMPTY, f"{deck.deck}:{deck.version}: no picture has parcels laid in")
    return np.vstack(rows)


def _after(scene: Scene, info: dict[str, object]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    rgb = np.ascontiguousarray(decode_image(scene.files[COLOR_FILE], COLOR_FILE)[:, :, ::-1])
    labels = decode_image(scene.files[LABELS_FILE], LABELS_FILE).astype(np.uint16)
    instances = info["instances"]
    assert isinstance(instances, list)
    laid = [row["id"] for row in instances if row.get("juxtaposed")]
    return rgb, draw_labels(rgb, np.where(np.isin(labels, laid), labels, 0).astype(np.uint16))


def _sized(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height = round(rgb.shape[0] * WIDTH_PX / rgb.shape[1])
    return np.asarray(cv2.resize(rgb, (WIDTH_PX, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
