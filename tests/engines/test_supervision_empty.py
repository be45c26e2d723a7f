"""When an answer without parcels is suspicious: what counts as empty, and what counts as relief."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from robin_perception.engines.base import Tensors
from robin_perception.model.bundle import CalibrationTables, IsotonicTable
from robin_perception.supervision import SupervisionConfig
from robin_perception.supervision.empty import STRIDE, EmptyCheck, relief, sees_nothing

HEIGHT, WIDTH, FOCAL = 384, 512, 460.0
TILT = np.deg2rad(35.0)
CAMERA_HEIGHT_M = 1.2
PLAIN = CalibrationTables()


def answer(detection: list[float], with_mask: list[bool]) -> Tensors:
    logits = np.full((len(detection), 4, 4), -3.0, dtype=np.float32)
    logits[np.array(with_mask), 1, 1] = 2.0
    return {"detection": np.array(detection, dtype=np.float32), "mask_logits": logits}


def scene(*boxes: tuple[slice, slice, float], noise_m: float = 0.0) -> Tensors:
    """A belt seen by a tilted camera. boxes: rows, columns, height above the belt in metres."""
    rng = np.random.default_rng(1)
    normal = np.array([0.0, -np.sin(TILT), -np.cos(TILT)])
    u, v = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    rays = np.stack([(u - WIDTH / 2) / FOCAL, (v - HEIGHT / 2) / FOCAL, np.ones_like(u)], axis=-1)
    height: NDArray[np.float64] = np.zeros((HEIGHT, WIDTH))
    for rows, columns, metres in boxes:
        height[rows, columns] = metres
    depth = (height - CAMERA_HEIGHT_M) / (rays @ normal)
    depth += rng.normal(0.0, noise_m, depth.shape) if noise_m else 0.0
    return {
        "depth": depth.astype(np.float32),
        "intrinsics": np.array([FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2], dtype=np.float32),
        "belt_plane": np.array([*normal, CAMERA_HEIGHT_M], dtype=np.float32),
    }


BOX = (slice(100, 160), slice(200, 280), 0.1)
EMPTY = answer([0.01, 0.02], [True, True])


@pytest.mark.parametrize(
    ("found", "empty"),
    [
        (answer([0.9, 0.0], [True, True]), False),
        (answer([0.09, 0.05], [True, True]), True),
        (answer([0.11, 0.05], [True, True]), False),  # a lone, faint parcel
        (answer([0.9, 0.0], [False, True]), True),  # sure of something that has no mask
        ({"boundary": np.zeros((4, 4), np.float32)}, False),  # instances were not asked for
    ],
)
def test_empty_is_no_candidate_with_detection_and_mask(found: Tensors, empty: bool) -> None:
    assert sees_nothing(found, PLAIN, 0.1) is empty


def test_detections_are_judged_calibrated() -> None:
    tables = CalibrationTables(detection=IsotonicTable(x=(0.0, 0.5, 1.0), y=(0.0, 0.05, 1.0)))
    assert sees_nothing(answer([0.5], [True]), tables, 0.1)
    assert not sees_nothing(answer([0.5], [True]), PLAIN, 0.1)


def test_relief_stands_above_the_belt_of_a_tilted_camera() -> None:
    raised = relief(scene(BOX), 0.03)
    assert raised.shape == (HEIGHT // STRIDE, WIDTH // STRIDE)
    expected = np.zeros_like(raised)
    expected[25:40, 50:70] = True
    np.testing.assert_array_equal(raised, expected)


@pytest.mark.parametrize(
    ("inputs", "suspicious"),
    [
        (scene(), False),
        (scene(noise_m=0.012), False),
        (scene(BOX), True),
        (scene(BOX, noise_m=0.012), True),
        (scene((slice(100, 160), slice(200, 280), 0.02)), False),  # flatter than relief
        (scene((slice(100, 112), slice(200, 216), 0.1)), False),  # smaller than .5 % of the picture
        (scene((slice(100, 160), slice(200, 280), -0.1)), False),  # a hole in the belt
    ],
    ids=["belt", "noisy belt", "box", "noisy box", "flat", "small", "hole"],
)
def test_an_empty_answer_is_suspicious_where_something_stands(inputs: Tensors, suspicious: bool) -> None:
    check = EmptyCheck(SupervisionConfig(), PLAIN)
    assert check.suspicious(inputs, EMPTY) is suspicious
    assert not check.suspicious(inputs, answer([0.9], [True]))
    assert not EmptyCheck(SupervisionConfig(check_empty=False), PLAIN).suspicious(inputs, EMPTY)


def test_no_depth_is_no_relief() -> None:
    inputs = scene(BOX)
    inputs["depth"][:] = 0.0
    assert not EmptyCheck(SupervisionConfig(), PLAIN).suspicious(inputs, EMPTY)


def test_confirmed_relief_is_known_and_more_of_it_is_not() -> None:
    check = EmptyCheck(SupervisionConfig(), PLAIN)
    rail, beside = (slice(0, 384), slice(20, 50), 0.1), (slice(100, 160), slice(60, 140), 0.1)
    assert check.suspicious(scene(rail), EMPTY)
    check.confirm(scene(rail))
    assert not check.suspicious(scene(rail), EMPTY)
    moved = (slice(0, 384), slice(22, 52), 0.1)  # by less than a cell
    assert not check.suspicious(scene(moved), EMPTY)
    assert check.suspicious(scene(rail, beside), EMPTY)
    check.confirm(scene())  # the rail has gone, and is news when it comes back
    assert check.suspicious(scene(rail), EMPTY)
