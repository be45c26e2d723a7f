"""Support plane: known planes under boxes, in totes, with noise; and a stated reason where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.ray_cast import RAYS, Box, K, camera_over, heights, tote, view
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.support_plane import (
    BARE_FLAG,
    SupportPlaneConfig,
    estimate,
    on_support_plane,
    pose_from_plane,
)

PARCELS = [(0.65, -0.1, 0.2, 0.15, 0.12), (0.9, 0.1, 0.25, 0.2, 0.05), (0.62, 0.15, 0.1, 0.1, 0.2)]


@settings(max_examples=12, deadline=None)
@given(distance=st.floats(0.7, 1.5), tilt=st.floats(-0.7, 0.7), turn=st.floats(-3, 3), with_tote=st.booleans())
def test_the_belt_is_found_under_parcels(distance: float, tilt: float, turn: float, with_tote: bool) -> None:
    pose = camera_over(distance, tilt, turn)
    found = estimate(view(pose, PARCELS + (tote() if with_tote else []), noise_m=0.002))
    wanted = np.append(pose[2, :3], pose[2, 3])
    assert np.degrees(np.arccos(np.clip(found.plane[:3] @ wanted[:3], -1, 1))) < 1.5
    assert abs(found.plane[3] - wanted[3]) < 0.01
    assert 0 < found.confidence <= 1


@settings(max_examples=30, deadline=None)
@given(distance=st.floats(0.5, 1.5), tilt=st.floats(-0.8, 0.8), turn=st.floats(-3, 3))
def test_the_pose_puts_the_plane_at_zero_and_the_image_centre_at_the_anchor(
    distance: float, tilt: float, turn: float
) -> None:
    truth = camera_over(distance, tilt, turn)
    pose = pose_from_plane(np.append(truth[2, :3], truth[2, 3]), K, (320, 240), (0.75, 0.0))
    assert np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3)) and np.isclose(np.linalg.det(pose[:3, :3]), 1)
    assert np.allclose(pose[2], truth[2], atol=1e-9)  # heights are those of the true pose
    seen = pose @ np.append(np.array([0.5 / 450, 0.5 / 450, 1.0]) * distance, 1.0)
    assert np.allclose(seen[:3], (0.75, 0, 0), atol=0.01)
    x_axis = pose[:3, :3] @ np.array([1.0, 0, 0])
    assert x_axis[0] > 0 and abs(x_axis[1]) < 1e-9  # the image's x runs along base_link's x


def test_a_pile_that_hides_its_floor_stands_on_a_plane_beneath_it() -> None:
    rng = np.random.default_rng(4)
    boxes = [
        (float(x), float(y), 0.13, 0.13, float(h))
        for x in np.arange(0.2, 1.4, 0.11)
        for y in np.arange(-0.6, 0.6, 0.11)
        for h in [rng.uniform(0.05, 0.15)]
    ]
    frame = view(camera_over(0.9, 0.2, 0.3), boxes)
    pose = on_support_plane(frame).T_base_camera
    height = (RAYS * frame.depth[..., None])[frame.depth > 0] @ pose[2, :3] + pose[2, 3]
    assert np.percentile(height, 5) > -0.04 and 0.0 < np.median(height) < 0.15


def off(frame: Frame, pose: np.ndarray) -> tuple[float, float]:
    """Of the plane found: its angle to z = 0 of ``pose`` in degrees, its height at the point looked at in metres."""
    plane = estimate(frame).plane
    looked_at = np.linalg.inv(pose) @ (0.75, 0.0, 0.0, 1.0)
    return float(np.degrees(np.arccos(np.clip(plane[:3] @ pose[2, :3], -1, 1)))), float(plane @ looked_at)


def test_the_table_is_found_and_not_the_floor_under_it() -> None:
    pose = camera_over(1.1, 0.2, 0.3)
    table = (0.75, 0.0, 0.5, 0.3, 0.0)
    frame = view(pose, [table, (0.65, -0.05, 0.1, 0.1, 0.1), (0.85, 0.05, 0.12, 0.1, 0.06)], 0.002, ground_m=-0.7)
    assert (heights(frame, pose) < -0.5).mean() > 0.4
    tilt_deg, height_m = off(frame, pose)
    assert tilt_deg < 1.0 and abs(height_m) < 0.008


def test_the_floor_of_a_tote_is_found_and_not_the_tops_of_its_boxes() -> None:
    """The tops, all at one height, cover more than the floor between them."""
    pose = camera_over(0.9, 0.1, 0.0)
    boxes = [(x, y, 0.11, 0.11, 0.15) for x in (0.55, 0.69, 0.83, 0.97) for y in (-0.2, -0.06, 0.08, 0.22)]
    frame = view(pose, [*boxes, *tote()], noise_m=0.001)
    z = heights(frame, pose)
    assert 0.08 < (abs(z) < 0.01).mean() < 0.5 * (abs(z - 0.15) < 0.01).mean()
    tilt_deg, height_m = off(frame, pose)
    assert tilt_deg < 1.0 and abs(height_m) < 0.008


def test_a_shelf_is_found_and_not_the_wall_behind_the_goods() -> None:
    """The camera looks nearly level into a shelf bin, 12 cm above its floor: the wall is larger in the picture."""
    pose = np.eye(4)
    pose[:3, :3] = np.array([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]]) @ Rotation.from_euler("x", -0.03).as_matrix()
    pose[:3, 3] = (0.75, -0.9, 0.12)
    wall, sides = (0.75, 0.31, 1.4, 0.02, 0.9), [(0.4, 0.05, 0.02, 0.5, 0.9), (1.1, 0.05, 0.02, 0.5, 0.9)]
    goods = [(0.65, 0.05, 0.1, 0.1, 0.15), (0.85, 0.1, 0.12, 0.08, 0.2)]
    frame = view(pose, [wall, *sides, *goods], 0.001)
    z = heights(frame, pose)
    assert (abs(z) < 0.01).mean() < (frame.depth > 1.15).mean()
    tilt_deg, height_m = off(frame, pose)
    assert tilt_deg < 2.0 and abs(height_m) < 0.01


def test_furniture_beside_the_table_does_not_count_against_it() -> None:
    """More than a quarter of the picture lies up to 40 cm beneath the table, none of it among the goods."""
    pose = camera_over(1.1, 0.3, 0.2)
    table, goods = (0.75, 0.0, 0.6, 0.4, 0.0), [(0.68, -0.04, 0.1, 0.1, 0.1), (0.85, 0.05, 0.1, 0.08, 0.05)]
    lower = [(0.3, 0.1, -0.2), (0.3, -0.25, -0.3), (1.2, 0.2, -0.25), (1.2, -0.2, -0.15), (0.75, 0.4, -0.22)]
    furniture = [(x, y, 0.3, 0.25, top) for x, y, top in [*lower, (0.75, -0.38, -0.28)]]
    frame = view(pose, [table, *goods, *furniture], 0.002, ground_m=-0.7)
    z = heights(frame, pose)
    assert ((z < -0.03) & (z > -0.4)).mean() > 0.25
    tilt_deg, height_m = off(frame, pose)
    assert tilt_deg < 1.0 and abs(height_m) < 0.008


def test_two_planes_that_explain_the_picture_alike_are_told() -> None:
    """A chute, seen from straight above: either side may be what carries."""
    depth = (1.0 / (1.0 + 0.8 * np.abs(RAYS[..., 0]))).astype(np.float32)
    frame = Frame(np.zeros((240, 320, 3), np.uint8), depth, K, np.eye(4))
    with pytest.raises(RobinError, match="two planes") as caught:
        estimate(frame)
    assert caught.value.code == Code.SUPPORT_PLANE_AMBIGUOUS
    assert estimate(frame, SupportPlaneConfig(max_rival=1.0)).confidence > 0


@pytest.mark.parametrize(("boxes", "carries"), [([], False), (PARCELS, True)], ids=["nothing", "parcels"])
def test_a_plane_that_carries_nothing_says_so(boxes: list[Box], carries: bool) -> None:
    frame = view(camera_over(1.0, 0.3, 0.5), boxes, noise_m=0.002)
    assert estimate(frame).carries == carries
    assert (BARE_FLAG in on_support_plane(frame).gate.flags) != carries


def test_the_same_frame_gives_the_same_plane() -> None:
    frame = view(camera_over(1.0, 0.3, 1.0), PARCELS, noise_m=0.003)
    assert np.array_equal(estimate(frame).plane, estimate(frame).plane)


def scattered() -> np.ndarray:
    return np.random.default_rng(0).uniform(0.4, 3.0, (240, 320)).astype(np.float32)


def few() -> np.ndarray:
    depth = np.zeros((240, 320), dtype=np.float32)
    depth[100:104, 100:104] = 1
    return depth


@pytest.mark.parametrize("depth", [scattered(), few()], ids=["scattered", "few"])
def test_no_plane_is_a_reason_not_a_guess(depth: np.ndarray) -> None:
    frame = Frame(np.zeros((240, 320, 3), np.uint8), depth, K, np.eye(4))
    with pytest.raises(RobinError) as caught:
        estimate(frame)
    assert caught.value.code == Code.SUPPORT_PLANE_NOT_FOUND


def test_settings_are_strict() -> None:
    with pytest.raises(ValueError):
        SupportPlaneConfig.model_validate({"tolerance_m": -1})
