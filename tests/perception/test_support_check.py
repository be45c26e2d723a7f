"""The surface under the parcels against z = 0: where it lies, and no answer where it is hidden."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.ray_cast import Box, camera_over, heights, tote, view
from scipy.spatial.transform import Rotation

from robin_perception.core.errors import Code
from robin_perception.core.frame import Frame
from robin_perception.core.support_check import SupportCheckConfig, measure_support

LIMITS = SupportCheckConfig()
PARCELS: list[Box] = [
    (0.55, -0.12, 0.12, 0.10, 0.12),
    (0.95, 0.13, 0.14, 0.12, 0.05),
    (0.60, 0.14, 0.10, 0.10, 0.20),
    (0.92, -0.13, 0.10, 0.12, 0.08),
]


def seen(believed: np.ndarray, true: np.ndarray, boxes: list[Box], ground_m: float = 0.0) -> tuple[Frame, np.ndarray]:
    """What a camera at ``true`` sees, with the pose it is believed to have, and a label on all that stands on z = 0."""
    frame = view(true, boxes, 0.002, ground_m)
    labels = (heights(frame, true) > 0.015).astype(np.uint16)
    return replace(frame, T_base_camera=believed), labels


@pytest.mark.parametrize("tilt_rad", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("in_a_tote", [False, True])
def test_a_right_pose_is_not_doubted(tilt_rad: float, in_a_tote: bool) -> None:
    pose = camera_over(0.9, tilt_rad, 0.4)
    support = measure_support(*seen(pose, pose, PARCELS + (tote() if in_a_tote else [])))
    assert support is not None and support.tilt_rad is not None
    assert abs(support.height_m) < 0.004 and support.tilt_rad < 0.009
    assert support.code(LIMITS) == Code.OK


@pytest.mark.parametrize(
    ("raised_m", "code"),
    [
        (-0.30, Code.POSE_CONTRADICTED),
        (-0.06, Code.POSE_CONTRADICTED),
        (-0.025, Code.POSE_DOUBTFUL),
        (0.010, Code.OK),
        (0.025, Code.POSE_DOUBTFUL),
        (0.15, Code.POSE_CONTRADICTED),
    ],
)
def test_a_pose_at_a_wrong_height_is_measured(raised_m: float, code: Code) -> None:
    true = camera_over(0.9, 0.2, 0.4)
    believed = true.copy()
    believed[2, 3] += raised_m
    support = measure_support(*seen(believed, true, PARCELS))
    assert support is not None and support.height_m == pytest.approx(raised_m, abs=0.004)
    assert support.code(LIMITS) == code


@pytest.mark.parametrize(
    ("tilt_deg", "code"), [(1.0, Code.OK), (2.5, Code.POSE_DOUBTFUL), (6.0, Code.POSE_CONTRADICTED)]
)
def test_a_tilted_pose_is_measured(tilt_deg: float, code: Code) -> None:
    true = camera_over(0.9, 0.1, 0.0)
    believed = true.copy()
    turn = Rotation.from_rotvec(np.radians(tilt_deg) * np.array([0.6, 0.8, 0.0])).as_matrix()
    believed[:3, :3] = turn @ true[:3, :3]
    believed[:3, 3] = (0.75, 0, 0) + turn @ (true[:3, 3] - (0.75, 0, 0))  # about the point it looks at
    support = measure_support(*seen(believed, true, PARCELS))
    assert support is not None and support.tilt_rad is not None
    assert np.degrees(support.tilt_rad) == pytest.approx(tilt_deg, abs=0.4)
    assert support.code(LIMITS) == code


def test_height_counts_from_the_belt() -> None:
    pose = camera_over(0.9, 0.1, 0.0)
    frame, labels = seen(pose, pose, PARCELS)
    support = measure_support(frame, labels, belt_z_m=-0.15)
    assert support is not None and support.height_m == pytest.approx(0.15, abs=0.004)
    assert support.text(-0.15).startswith("the surface seen lies 1") and "mm above z = -0.15" in support.text(-0.15)


def test_a_pile_that_hides_its_belt_is_not_measured() -> None:
    pose = camera_over(0.9, 0.1, 0.0)
    rng = np.random.default_rng(1)
    grid = [(x, y) for x in np.arange(0.2, 1.4, 0.1) for y in np.arange(-0.6, 0.6, 0.1)]
    boxes: list[Box] = [(float(x), float(y), 0.1, 0.1, rng.uniform(0.1, 0.3)) for x, y in grid]
    assert measure_support(*seen(pose, pose, boxes)) is None


def test_neither_a_missed_parcel_nor_the_floor_of_the_hall_is_taken_for_the_belt() -> None:
    """A narrow belt: most of what lies around the parcels is a floor 0.7 m below it, and one parcel has no mask."""
    pose = camera_over(0.9, 0.1, 0.0)
    belt: Box = (0.75, 0.0, 0.8, 0.2, 0.0)
    parcels: list[Box] = [(0.50, 0.05, 0.1, 0.1, 0.1), (0.95, -0.05, 0.1, 0.1, 0.1), (0.72, 0.02, 0.12, 0.12, 0.1)]
    frame, labels = seen(pose, pose, [belt, *parcels], ground_m=-0.7)
    labels[110:130, 140:170] = 0
    support = measure_support(frame, labels)
    assert support is not None and abs(support.height_m) < 0.004


def test_the_limits_must_be_in_order() -> None:
    with pytest.raises(ValueError, match="refuse_height_m"):
        SupportCheckConfig(flag_height_m=0.05)
