"""Position and quaternion to a rigid transform."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from robin_perception.core.errors import Code, RobinError


def pose_matrix(xyz_m: Sequence[float], xyzw: Sequence[float]) -> NDArray[np.float64]:
    """float64 [4, 4] of a position (metres) and a quaternion (x, y, z, w), which is normalised.

    Raises RobinError POSE_INVALID where the quaternion is not near unit length.
    """
    from scipy.spatial.transform import Rotation  # 40 MB that not every program with poses needs

    length = float(np.linalg.norm(xyzw))
    if not (np.isfinite(xyz_m).all() and abs(length - 1.0) < 1e-2):
        raise RobinError(Code.POSE_INVALID, f"quaternion {list(xyzw)} has length {length:g}, not 1")
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_quat(xyzw).as_matrix()
    pose[:3, 3] = xyz_m
    return pose


def rotation_matrix(xyzw: Sequence[float]) -> NDArray[np.float64]:
    """float64 [3, 3] of a quaternion (x, y, z, w) of any length but 0, for drawing: without SciPy."""
    x, y, z, w = np.asarray(xyzw, dtype=np.float64) / np.linalg.norm(xyzw)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def is_rigid(pose: NDArray[np.float64]) -> bool:
    """Whether ``pose`` is a rigid transform [4, 4]: finite, a rotation without mirror or scale, last row 0 0 0 1."""
    if pose.shape != (4, 4) or not np.isfinite(pose).all():
        return False
    R = pose[:3, :3]
    turns = np.abs(R @ R.T - np.eye(3)).max() < 1e-3 and np.linalg.det(R) > 0
    return bool(turns and np.abs(pose[3] - (0, 0, 0, 1)).max() < 1e-6)
