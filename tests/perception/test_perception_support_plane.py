"""Support plane: known planes under boxes, in totes, with noise; and a stated reason where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.support_plane import SupportPlaneConfig, estimate, pose_from_plane, pose_from_support_plane

K = np.array([[450.0, 0, 159.5], [0, 450.0, 119.5], [0, 0, 1]])
V, U = np.mgrid[:240, :320].astype(np.float64)
RAYS = np.dstack([(U - K[0, 2]) / K[0, 0], (V - K[1, 2]) / K[1, 1], np.ones_like(U)])


def camera_over(distance_m: float, tilt_rad: float, turn_rad: float) -> np.ndarray:
    """Pose of a camera that looks at base_link's (0.75, 0, 0) from ``distance_m``, tilted from straight down."""
    pose = np.eye(4)
    down = np.diag([1.0, -1.0, -1.0])
    turn, tilt = Rotation.from_euler("z", turn_rad), Rotation.from_euler("x", tilt_rad)
    pose[:3, :3] = (turn * tilt).as_matrix() @ down
    pose[:3, 3] = np.array([0.75, 0, 0]) - distance_m * pose[:3, 2]
    return pose


def view(pose: np.ndarray, boxes: list[tuple[float, float, float, float, float]], noise_m: float = 0.0) -> Frame:
    """Depth of the plane z = 0 with upright boxes (x, y, width, depth, height) on it, by ray casting."""
    origin, rays = pose[:3, 3], RAYS @ pose[:3, :3].T
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = np.where(rays[..., 2] < -1e-6, -origin[2] / rays[..., 2], np.inf)
        for x, y, w, d, h in boxes:
            low, high = np.array([x - w / 2, y - d / 2, 0]), np.array([x + w / 2, y + d / 2, h])
            a, b = (low - origin) / rays, (high - origin) / rays
            near, far = np.minimum(a, b).max(axis=2), np.maximum(a, b).min(axis=2)
            depth = np.where((near < far) & (near > 0), np.minimum(depth, near), depth)
    depth = np.where(np.isfinite(depth) & (depth < 5), depth, 0)
    depth += np.random.default_rng(0).normal(0, noise_m, depth.shape) * (depth > 0)
    return Frame(np.zeros((240, 320, 3), np.uint8), np.maximum(depth, 0).astype(np.float32), K, np.eye(4))


def tote(height: float = 0.2) -> list[tuple[float, float, float, float, float]]:
    wall = 0.02
    return [
        (0.75, -0.3, 0.8, wall, height),
        (0.75, 0.3, 0.8, wall, height),
        (0.35, 0, wall, 0.6, height),
        (1.15, 0, wall, 0.6, height),
    ]


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
    pose = pose_from_support_plane(frame)
    height = (RAYS * frame.depth[..., None])[frame.depth > 0] @ pose[2, :3] + pose[2, 3]
    assert np.percentile(height, 5) > -0.04 and 0.0 < np.median(height) < 0.15


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
