"""Parts of a parcel on both sides of another are one parcel, and other neighbours are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from robin_perception.core.scene import Instance
from robin_perception.segmentation.decode import Decoded
from robin_perception.segmentation.parts import PartsConfig, with_parts_joined

HEIGHT, WIDTH = 480, 640
K = np.array([[600.0, 0, 320], [0, 600.0, 240], [0, 0, 1]])
BELT_M, LOW_M, HIGH_M = 1.2, 1.0, 0.9  # depth of the belt, of a long parcel, of a bar that lies across it
LEFT, RIGHT = (slice(180, 300), slice(140, 280)), (slice(180, 300), slice(360, 520))  # rows, columns
BAR = slice(100, 400), slice(280, 360)
ALIKE, OTHER = np.array([1.0, 0.0], np.float32), np.array([0.6, 0.8], np.float32)
Box = tuple[slice, slice]


def scene(*boxes: Box, embeddings: tuple[np.ndarray, ...] = (ALIKE, OTHER, ALIKE)) -> Decoded:
    """One instance per box, the later ones painted over the earlier ones, of rows 10, 11, ..."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint16)
    for number, box in enumerate(boxes, 1):
        labels[box] = number
    instances = []
    for number, (box, embedding) in enumerate(zip(boxes, embeddings, strict=True), 1):
        edges = (box[1].start, box[0].start, box[1].stop, box[0].stop)
        area = int(np.count_nonzero(labels == number))
        scores = (0.9 - 0.1 * number, 0.9, 0.8, 1.0)
        instances.append(Instance(number, edges, area, np.ones(1, np.float32), *scores, embedding))
    return Decoded(labels, tuple(instances), tuple(range(10, 10 + len(boxes))), truncated=False)


def depth_of(decoded: Decoded, *depths_m: float) -> np.ndarray:
    """float32 [H, W]: the belt, and one depth for each instance, with a noise of half a millimetre."""
    depth = np.array([BELT_M, *depths_m])[decoded.labels]
    return (depth + np.random.default_rng(3).normal(0, 5e-4, depth.shape)).astype(np.float32)


def joined(decoded: Decoded, depth: np.ndarray, **changes: float) -> Decoded:
    return with_parts_joined(decoded, depth, K, PartsConfig(**changes))


def test_two_parts_become_one_parcel_seen_in_part() -> None:
    decoded = scene(LEFT, BAR, RIGHT)
    whole = joined(decoded, depth_of(decoded, LOW_M, HIGH_M, LOW_M))
    parcel, bar = whole.instances
    assert (parcel.id, bar.id) == (1, 2) and whole.candidates == (10, 11)
    assert parcel.bbox == (140, 180, 520, 300) and parcel.area_px == 120 * (140 + 160)
    assert np.count_nonzero(whole.labels == 1) == parcel.area_px and not np.any(whole.labels == 3)
    assert parcel.detection == decoded.instances[0].detection
    assert parcel.visible_fraction == pytest.approx(300 / 380, abs=0.02)
    assert bar == replace(decoded.instances[1], id=2)


def test_a_tilted_parcel_is_joined_too() -> None:
    decoded = scene(LEFT, BAR, RIGHT)
    depth = depth_of(decoded, LOW_M, 0.7, LOW_M)
    columns = np.broadcast_to(np.arange(WIDTH), depth.shape)
    faces = np.isin(decoded.labels, (1, 3))
    depth[faces] = (1 / (1.0 + 4e-4 * (columns - 320)))[faces]  # a plane in perspective
    assert len(joined(decoded, depth).instances) == 2


def test_three_parts_under_two_bars_are_one() -> None:
    bars = (slice(100, 400), slice(220, 280)), (slice(100, 400), slice(400, 450))
    boxes = (LEFT[0], slice(100, 220)), bars[0], (LEFT[0], slice(280, 400)), bars[1], (LEFT[0], slice(450, 560))
    decoded = scene(*boxes, embeddings=(ALIKE, OTHER, ALIKE, OTHER, ALIKE))
    whole = joined(decoded, depth_of(decoded, LOW_M, HIGH_M, LOW_M, HIGH_M, LOW_M))
    assert [instance.id for instance in whole.instances] == [1, 2, 3]
    assert np.count_nonzero(whole.labels == 1) == whole.instances[0].area_px == 120 * (120 + 120 + 110)
    assert whole.candidates == (10, 11, 13)


@pytest.mark.parametrize(
    ("depths_m", "boxes"),
    [
        ((LOW_M, HIGH_M, LOW_M + 0.03), (LEFT, BAR, RIGHT)),  # the other face lies lower
        ((LOW_M, LOW_M + 0.1, LOW_M), (LEFT, BAR, RIGHT)),  # what lies between them lies beneath them
        ((LOW_M, HIGH_M, LOW_M), (LEFT, BAR, (slice(235, 355), RIGHT[1]))),  # the outlines do not go on
        ((LOW_M, HIGH_M, LOW_M), (LEFT, (slice(100, 230), BAR[1]), RIGHT)),  # the belt is seen between them
        ((LOW_M, HIGH_M, LOW_M), (LEFT, (slice(0, 60), BAR[1]), (LEFT[0], slice(280, 420)))),  # neighbours that touch
    ],
)
def test_neighbours_stay_apart(depths_m: tuple[float, ...], boxes: tuple[Box, ...]) -> None:
    decoded = scene(*boxes)
    assert joined(decoded, depth_of(decoded, *depths_m)) is decoded


def test_what_does_not_look_alike_stays_apart() -> None:
    decoded = scene(LEFT, BAR, RIGHT, embeddings=(ALIKE, OTHER, OTHER))
    assert joined(decoded, depth_of(decoded, LOW_M, HIGH_M, LOW_M)) is decoded


def test_without_depth_nothing_is_joined() -> None:
    decoded = scene(LEFT, BAR, RIGHT)
    assert joined(decoded, np.zeros((HEIGHT, WIDTH), np.float32)) is decoded


def test_it_can_be_switched_off() -> None:
    decoded = scene(LEFT, BAR, RIGHT)
    assert joined(decoded, depth_of(decoded, LOW_M, HIGH_M, LOW_M), enabled=False) is decoded
