"""Depth of boxes on a plane, by ray casting: frames whose geometry is known to the millimetre."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from robin_perception.core.frame import Frame

Box = tuple[float, float, float, float, float]  # x, y, width, depth, z of the top; upright, down to the ground, metres
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


def view(pose: np.ndarray, boxes: list[Box], noise_m: float = 0.0, ground_m: float = 0.0) -> Frame:
    """Depth of the plane z = ``ground_m`` with boxes on it, seen from ``pose``; the frame has no pose of its own."""
    origin, rays = pose[:3, 3], RAYS @ pose[:3, :3].T
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = np.where(rays[..., 2] < -1e-6, (ground_m - origin[2]) / rays[..., 2], np.inf)
        for x, y, w, d, top in boxes:
            low, high = np.array([x - w / 2, y - d / 2, ground_m]), np.array([x + w / 2, y + d / 2, top])
            a, b = (low - origin) / rays, (high - origin) / rays
            near, far = np.minimum(a, b).max(axis=2), np.maximum(a, b).min(axis=2)
            depth = np.where((near < far) & (near > 0), np.minimum(depth, near), depth)
    depth = np.where(np.isfinite(depth) & (depth < 5), depth, 0)
    depth += np.random.default_rng(0).normal(0, noise_m, depth.shape) * (depth > 0)
    return Frame(np.zeros((240, 320, 3), np.uint8), np.maximum(depth, 0).astype(np.float32), K, np.eye(4))


def heights(frame: Frame, pose: np.ndarray) -> np.ndarray:
    """z of every pixel [240, 320] in the frame that ``pose`` is given in, metres; nothing of worth without depth."""
    return np.asarray((RAYS * frame.depth[..., None]) @ pose[2, :3] + pose[2, 3])


def tote(height: float = 0.2) -> list[Box]:
    wall = 0.02
    return [
        (0.75, -0.3, 0.8, wall, height),
        (0.75, 0.3, 0.8, wall, height),
        (0.35, 0, wall, 0.6, height),
        (1.15, 0, wall, 0.6, height),
    ]
