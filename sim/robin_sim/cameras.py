"""Where the simulated camera stands and what it sees: pinhole views in base_link."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_grasp.tool import WorkspaceConfig
from robin_sim.faults import Faults

D435_COLOUR_HFOV_RAD = math.radians(69.0)
NOMINAL_HEIGHT_M = 1.2
NOMINAL_TILT_RAD = math.radians(3.0)


@dataclass(frozen=True)
class CameraView:
    """A pinhole camera. K float64 [3, 3], pixel centres at integer coordinates; T_base_camera float64 [4, 4], pose of
    the optical frame (x right, y down, z forward) in base_link."""

    width: int
    height: int
    K: NDArray[np.float64]
    T_base_camera: NDArray[np.float64]

    @property
    def position_m(self) -> NDArray[np.float64]:
        """Optical centre in base_link, float64 [3]."""
        return np.asarray(self.T_base_camera[:3, 3])

    def directions(self, u: NDArray[np.float32], v: NDArray[np.float32]) -> NDArray[np.float32]:
        """Ray directions in base_link through pixels (u, v) [M], float32 [3, M], scaled so that a hit's parameter t
        is the depth along the optical axis."""
        K = self.K
        local = np.ones((3, len(u)), dtype=np.float32)
        local[0] = (u - np.float32(K[0, 2])) / np.float32(K[0, 0])
        local[1] = (v - np.float32(K[1, 2])) / np.float32(K[1, 1])
        return np.asarray(self.T_base_camera[:3, :3].astype(np.float32) @ local)

    def pixel_grid(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(u, v) of every pixel, float32 [H, W] each."""
        u = np.broadcast_to(np.arange(self.width, dtype=np.float32), (self.height, self.width))
        v = np.broadcast_to(np.arange(self.height, dtype=np.float32)[:, None], (self.height, self.width))
        return u, v

    def heights(self, depth: NDArray[np.float32], belt_z_m: float = 0.0) -> NDArray[np.float32]:
        """Height above z = belt_z_m of every pixel of a z-depth image, float32 [H, W]; meaningless where depth is 0."""
        R = self.T_base_camera
        K = self.K
        a = R[2, 0] * (np.arange(self.width) - K[0, 2]) / K[0, 0]
        b = R[2, 1] * (np.arange(self.height) - K[1, 2]) / K[1, 1] + R[2, 2]
        slope = (a[None, :] + b[:, None]).astype(np.float32)
        return depth * slope + np.float32(R[2, 3] - belt_z_m)


def intrinsics(width: int, height: int, hfov_rad: float) -> NDArray[np.float64]:
    """float64 [3, 3], pixels: square ones, principal point in the image's middle."""
    f = 0.5 * width / math.tan(0.5 * hfov_rad)
    return np.array([[f, 0.0, (width - 1) / 2], [0.0, f, (height - 1) / 2], [0.0, 0.0, 1.0]])


def hfov_of_aspect(width: int, height: int, hfov_16x9_rad: float = D435_COLOUR_HFOV_RAD) -> float:
    """Horizontal field of view of a camera whose 16:9 mode has ``hfov_16x9_rad``: narrower shapes crop its sides, as
    the RealSense colour modes do."""
    share = min(1.0, (width / height) / (16 / 9))
    return 2.0 * math.atan(share * math.tan(0.5 * hfov_16x9_rad))


def look_at(
    target_m: NDArray[np.float64], distance_m: float, tilt_rad: float, azimuth_rad: float, roll_rad: float
) -> NDArray[np.float64]:
    """T_base_camera, float64 [4, 4], of a camera ``distance_m`` from ``target_m`` (base_link), tilted from straight
    down by ``tilt_rad`` towards ``azimuth_rad``, image turned by ``roll_rad`` (at zero the image's right is
    base +x when looking straight down)."""
    offset = np.array(
        [math.sin(tilt_rad) * math.cos(azimuth_rad), math.sin(tilt_rad) * math.sin(azimuth_rad), math.cos(tilt_rad)]
    )
    z = -offset
    right = np.array([math.cos(roll_rad), math.sin(roll_rad), 0.0])
    x = right - z * (right @ z)
    x /= np.linalg.norm(x)
    T = np.eye(4)
    T[:3, 0], T[:3, 1], T[:3, 2] = x, np.cross(z, x), z
    T[:3, 3] = target_m + distance_m * offset
    return T


def nominal_camera(width: int, height: int, workspace: WorkspaceConfig) -> CameraView:
    """The cell's own camera: a D435 1.2 m above the belt, 3 degrees off vertical, which sees the whole workspace."""
    target = np.array([*workspace.centre_m, workspace.belt_z_m])
    pose = look_at(target, NOMINAL_HEIGHT_M, NOMINAL_TILT_RAD, math.pi, 0.0)
    return CameraView(width, height, intrinsics(width, height, hfov_of_aspect(width, height)), pose)


def draw_camera(
    rng: np.random.Generator,
    workspace: WorkspaceConfig,
    width: int = 512,
    height: int = 384,
    max_tilt_rad: float = math.radians(38.0),
) -> CameraView:
    """A camera for training: 0.85 to 1.65 m away, straight down to oblique, any mounting direction, D435 or other
    optics.

    The distance grows where needed so that about four fifths of the workspace's short side stay in view.
    """
    if rng.random() < 0.5:
        hfov = hfov_of_aspect(width, height)
    else:
        hfov = hfov_of_aspect(width, height, math.radians(rng.uniform(56.0, 80.0)))
    near_vertical = rng.random() < 0.55
    tilt = rng.uniform(0.0, math.radians(8.0)) if near_vertical else rng.uniform(math.radians(8.0), max_tilt_rad)
    jitter = rng.uniform(-0.06, 0.06, size=2)
    target = np.array([workspace.centre_m[0] + jitter[0], workspace.centre_m[1] + jitter[1], workspace.belt_z_m])
    K = intrinsics(width, height, hfov)
    K[0, 2] += rng.normal(0.0, 0.008) * width
    K[1, 2] += rng.normal(0.0, 0.008) * width
    needed = 0.8 * min(workspace.size_m) * K[1, 1] / height
    distance = max(rng.uniform(0.85, 1.65), min(needed, 1.65))
    quarter = int(rng.integers(4)) if rng.random() < 0.5 else 0
    roll = 0.5 * math.pi * quarter + rng.uniform(-1.0, 1.0) * math.radians(10.0)
    pose = look_at(target, distance, tilt, rng.uniform(-math.pi, math.pi), roll)
    return CameraView(width, height, K, pose)


def moved(camera: CameraView, translation_m: NDArray[np.float64], rotation_rad: NDArray[np.float64]) -> CameraView:
    """The camera after a small rigid motion given in its own optical frame: translation [3] metres, rotation vector
    [3]."""
    T = camera.T_base_camera.copy()
    T[:3, 3] += T[:3, :3] @ translation_m
    T[:3, :3] = T[:3, :3] @ cv2.Rodrigues(np.asarray(rotation_rad, dtype=np.float64))[0]
    return replace(camera, T_base_camera=T)


def true_camera(camera: CameraView, faults: Faults) -> CameraView:
    """Where the camera really stands when the cell believes ``camera``: render from this one, report that one."""
    shift = faults.camera_shift
    return moved(camera, np.array(shift.translation_m), np.array(shift.rotation_rad)) if shift.active else camera


def misplaced(camera: CameraView, rng: np.random.Generator, shift_m: float, turn_rad: float) -> CameraView:
    """The camera at a pose that is off by ``shift_m`` and ``turn_rad`` in a random direction: a calibration's error."""
    directions = rng.normal(size=(2, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return moved(camera, shift_m * directions[0], turn_rad * directions[1])
