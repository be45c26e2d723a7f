"""The dominant support plane (belt, tote floor, shelf) of a frame whose camera pose is not known.

Sequential RANSAC (Fischler & Bolles 1981) on decimated points, hypotheses from neighbouring pixels. Among the planes
found, the support is the large one that faces the camera and has nearly everything else on the camera's side of it.
Where no plane is clean enough (a tote full of bags hides its floor) coarser tolerances are tried, with less
confidence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robin_perception.core.config import StrictConfig
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame


class SupportPlaneConfig(StrictConfig):
    """How the plane is looked for, and where the frame it defines is put.

    anchor_m: base_link x, y given to the point where the optical axis meets the plane. The default is the middle of the
    default workspace, so that reach limits keep their meaning for a camera without a pose.
    """

    max_points: int = Field(4000, ge=200, le=200_000)
    hypotheses: int = Field(400, ge=10, le=20_000, description="per plane")
    max_planes: int = Field(5, ge=1, le=20)
    tolerance_m: float = Field(0.006, gt=0, le=0.1, description="inlier distance at 1 m; grows with depth squared")
    coarser: tuple[float, ...] = Field((1.0, 2.0, 4.0), description="tolerances tried in turn, times tolerance_m")
    min_inlier_fraction: float = Field(0.08, gt=0, lt=1)
    min_facing: float = Field(0.5, ge=0, le=1, description="|cos| between normal and the mean line of sight")
    max_behind_fraction: float = Field(0.25, gt=0, le=1, description="points allowed beyond the plane")
    min_confidence: float = Field(0.08, ge=0, le=1)
    anchor_m: tuple[float, float] = (0.75, 0.0)
    seed: int = Field(0, ge=0)


@dataclass(frozen=True)
class SupportPlane:
    """plane: float64 [4] (n, d) in camera coordinates, n·P + d = height, n towards the camera, metres.
    confidence in [0, 1]: inlier share x share of points not beyond the plane x how squarely it faces the camera."""

    plane: NDArray[np.float64]
    confidence: float
    inlier_fraction: float


def estimate(
    frame: Frame, config: SupportPlaneConfig | None = None, rng: np.random.Generator | None = None
) -> SupportPlane:
    """Find the support plane. Raises RobinError SUPPORT_PLANE_NOT_FOUND with what was seen instead."""
    config = config or SupportPlaneConfig()
    rng = rng or np.random.default_rng(config.seed)
    points = _decimated_points(frame, config.max_points)
    if len(points) < 100:
        raise RobinError(Code.SUPPORT_PLANE_NOT_FOUND, f"only {len(points)} depth points to look for a support plane")
    best: SupportPlane | None = None
    for scale in config.coarser:
        attempt = config.model_copy(update={"tolerance_m": config.tolerance_m * scale})
        for plane, inlier_fraction in _planes(points, attempt, rng):
            found = _judge(plane, inlier_fraction, points, attempt, 1.0 / scale)
            if found is not None and (best is None or found.confidence > best.confidence):
                best = found
        if best is not None and best.confidence >= config.min_confidence:
            break
    if best is None or best.confidence < config.min_confidence:
        seen = "none was found" if best is None else f"best has confidence {best.confidence:.2f}"
        raise RobinError(
            Code.SUPPORT_PLANE_NOT_FOUND, f"no support plane under the parcels: {seen}; give T_base_camera"
        )
    return best


def pose_from_support_plane(frame: Frame, config: SupportPlaneConfig | None = None) -> NDArray[np.float64]:
    """T_base_camera float64 [4, 4] with z = 0 in the support plane and z up, see ``SupportPlaneConfig.anchor_m``."""
    config = config or SupportPlaneConfig()
    return pose_from_plane(estimate(frame, config).plane, frame.K, (frame.width, frame.height), config.anchor_m)


def pose_from_plane(
    plane: NDArray[np.float64], K: NDArray[np.float64], size: tuple[int, int], anchor_m: tuple[float, float]
) -> NDArray[np.float64]:
    """Pose of the camera in a frame with z along ``plane``'s normal, x along the image's x, and the point seen at the
    image centre at (anchor_m, 0). A line of sight that misses the plane uses the foot of the perpendicular instead.

    plane: [4] (n, d) in the camera frame, n·P + d = 0, metres; size: (width, height), pixels. Returns T_base_camera,
    float64 [4, 4].
    """
    z = plane[:3] / np.linalg.norm(plane[:3])
    d = plane[3] / np.linalg.norm(plane[:3])
    x = np.array([1.0, 0.0, 0.0]) - z[0] * z
    x /= np.linalg.norm(x)
    rotation = np.stack([x, np.cross(z, x), z])
    ray = np.array([(size[0] / 2 - K[0, 2]) / K[0, 0], (size[1] / 2 - K[1, 2]) / K[1, 1], 1.0])
    along = float(z @ ray)
    centre = -d * z if along > -0.05 else ray * (-d / along)
    pose = np.eye(4)
    pose[:3, :3] = rotation
    pose[:3, 3] = np.array([anchor_m[0], anchor_m[1], 0.0]) - rotation @ centre
    return pose


def _decimated_points(frame: Frame, max_points: int) -> NDArray[np.float64]:
    step = max(1, int(np.sqrt(frame.depth.size / max_points)))
    v, u = np.mgrid[step // 2 : frame.height : step, step // 2 : frame.width : step]
    z = frame.depth[v, u].astype(np.float64)
    keep = z > 0
    z, u, v = z[keep], u[keep], v[keep]
    K = frame.K
    return np.stack([(u - K[0, 2]) / K[0, 0] * z, (v - K[1, 2]) / K[1, 1] * z, z], axis=1)


def _planes(
    points: NDArray[np.float64], config: SupportPlaneConfig, rng: np.random.Generator
) -> list[tuple[NDArray[np.float64], float]]:
    """Planes by falling inlier count, each refined on its inliers, with its share of all points."""
    total, rest, found = len(points), points, []
    for _ in range(config.max_planes):
        if len(rest) < config.min_inlier_fraction * total or len(rest) < 50:
            break
        plane = _best_hypothesis(rest, config, rng)
        for _ in range(3):
            inliers = _distance(plane, rest) < _tolerance(rest, config)
            if inliers.sum() < 10:
                break
            plane = _fit(rest[inliers])
        inliers = _distance(plane, rest) < _tolerance(rest, config)
        if inliers.sum() < config.min_inlier_fraction * total:
            break
        found.append((plane, float((_distance(plane, points) < _tolerance(points, config)).sum()) / total))
        rest = rest[~inliers]
    return found


def _best_hypothesis(
    points: NDArray[np.float64], config: SupportPlaneConfig, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Half of the triples come from a neighbourhood in the image (points are in raster order), half from anywhere:
    near ones find small planes, far ones are accurate."""
    count, n = config.hypotheses, len(points)
    anywhere = rng.integers(0, n, (count // 2, 3))
    first = rng.integers(0, n, (count - count // 2, 1))
    near = np.concatenate([first, first + rng.integers(-n // 8, n // 8 + 1, (len(first), 2))], axis=1) % n
    a, b, c = np.moveaxis(points[np.concatenate([anywhere, near])], 1, 0)
    normals = np.cross(b - a, c - a)
    length = np.linalg.norm(normals, axis=1)
    good = length > 1e-9
    normals = normals[good] / length[good, None]
    offsets = -np.einsum("ij,ij->i", normals, a[good])
    distance = np.abs(normals @ points.T + offsets[:, None])
    votes = (distance < _tolerance(points, config)).sum(axis=1)
    best = int(np.argmax(votes)) if len(votes) else 0
    if not len(votes):
        return np.array([0.0, 0.0, -1.0, float(points[:, 2].mean())])
    return np.append(normals[best], offsets[best])


def _tolerance(points: NDArray[np.float64], config: SupportPlaneConfig) -> NDArray[np.float64]:
    # Stereo depth noise grows with the square of the distance.
    return config.tolerance_m * np.maximum(0.5, points[:, 2] ** 2)


def _distance(plane: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.abs(points @ plane[:3] + plane[3])


def _fit(points: NDArray[np.float64]) -> NDArray[np.float64]:
    centre = points.mean(axis=0)
    normal = np.linalg.eigh(np.cov((points - centre).T))[1][:, 0]
    return np.append(normal, -normal @ centre)


def _judge(
    plane: NDArray[np.float64],
    inlier_fraction: float,
    points: NDArray[np.float64],
    config: SupportPlaneConfig,
    trust: float,
) -> SupportPlane | None:
    if plane[3] < 0:  # the camera is the origin: its height above the support is d, and positive
        plane = -plane
    sight = points.mean(axis=0)
    facing = float(-(plane[:3] @ sight) / np.linalg.norm(sight))
    height = points @ plane[:3] + plane[3]
    behind = float((height < -3 * _tolerance(points, config)).mean())
    if facing < config.min_facing or behind > config.max_behind_fraction:
        return None
    if trust < 1:
        # A coarse plane is the goods' own surface where they hide what they lie on: the support is beneath all of them.
        plane = plane + np.array([0.0, 0.0, 0.0, max(0.0, -float(np.percentile(height, 3)))])
    share = min(1.0, inlier_fraction / 0.4)
    confidence = trust * share * (1 - behind / config.max_behind_fraction) * min(1.0, facing / 0.6)
    return SupportPlane(plane, float(confidence), inlier_fraction)
