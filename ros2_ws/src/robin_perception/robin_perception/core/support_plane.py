"""The plane that carries the goods (belt, tote floor, shelf), of a frame whose camera pose is not known.

Sequential RANSAC (Fischler & Bolles 1981) on decimated points, hypotheses from neighbouring pixels. Of the planes
found, the support is the one that explains the picture best: its points lie among the things that stand on it, hardly
anything lies beneath it, least of all among these things, and nothing stands higher than goods do. So neither the
floor under a table nor the tops of boxes nor a wall behind the goods passes for it: a wall has its normal sideways, or
what stands before it reaches too far. Two that explain it nearly as well are told, not guessed between.
Where no plane is clean enough (a tote full of bags hides its floor) coarser tolerances are tried, with less confidence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robin_perception.core.config import StrictConfig
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame, GateWarning
from robin_perception.core.masks import outline

BARE_FLAG = Code.SUPPORT_PLANE_BARE.name.lower()
RIM_CELLS = 2  # of the thinned image
_BESIDE = 0.3  # how much a point beneath the plane counts that lies beside what stands on it
_OTHER_PLANE_RAD = np.radians(15)
_OTHER_PLANE_M = 0.05


class SupportPlaneConfig(StrictConfig):
    """How the plane is looked for, and where the frame it defines is put.

    anchor_m: base_link x, y given to the point where the optical axis meets the plane. The default is the middle of the
    default workspace, so that reach limits keep their meaning for a camera without a pose.
    """

    max_points: int = Field(4000, ge=200, le=200_000)
    hypotheses: int = Field(600, ge=10, le=20_000, description="per plane")
    max_planes: int = Field(8, ge=1, le=20)
    tolerance_m: float = Field(0.006, gt=0, le=0.1, description="inlier distance at 1 m; grows with depth squared")
    coarser: tuple[float, ...] = Field((1.0, 2.0, 4.0), description="tolerances tried in turn, times tolerance_m")
    min_inlier_fraction: float = Field(0.03, gt=0, lt=1)
    min_upright: float = Field(0.25, ge=0, le=1, description="squared share of the normal towards camera or image top")
    max_beneath_fraction: float = Field(0.25, gt=0, le=1, description="points allowed beneath the plane")
    max_floor_fraction: float = Field(0.8, gt=0, le=1, description="points allowed farther beneath than goods are high")
    goods_height_m: float = Field(0.4, gt=0, le=3, description="what stands higher than this on a plane is no goods")
    max_high_fraction: float = Field(0.2, gt=0, le=1, description="points allowed higher than goods stand")
    min_carried_fraction: float = Field(0.005, ge=0, lt=1, description="points above the plane, or it carries nothing")
    min_confidence: float = Field(0.06, ge=0, le=1)
    max_rival: float = Field(0.75, gt=0, le=1, description="confidence of another plane over that of the best")
    anchor_m: tuple[float, float] = (0.75, 0.0)
    seed: int = Field(0, ge=0)


@dataclass(frozen=True)
class SupportPlane:
    """plane: float64 [4] (n, d) in camera coordinates, n·P + d = height, n towards the camera, metres.
    confidence in [0, 1]: how well it explains the picture, see ``_judge``. carries: whether anything stands on it."""

    plane: NDArray[np.float64]
    confidence: float
    carries: bool


@dataclass(frozen=True)
class _Points:
    """xyz: float64 [N, 3], camera coordinates, metres. cells: int64 [N], their place in the thinned image, of ``shape``
    (rows, columns), row by row."""

    xyz: NDArray[np.float64]
    cells: NDArray[np.int64]
    shape: tuple[int, int]


def estimate(
    frame: Frame, config: SupportPlaneConfig | None = None, rng: np.random.Generator | None = None
) -> SupportPlane:
    """Find the support plane. Raises RobinError SUPPORT_PLANE_NOT_FOUND with what was seen instead, or
    SUPPORT_PLANE_AMBIGUOUS where another plane is nearly as likely."""
    config = config or SupportPlaneConfig()
    rng = rng or np.random.default_rng(config.seed)
    points = _decimated_points(frame, config.max_points)
    count = len(points.xyz)
    if count < 100:
        raise RobinError(Code.SUPPORT_PLANE_NOT_FOUND, f"only {count} depth points to look for a support plane")
    found: list[SupportPlane] = []
    for scale in config.coarser:
        attempt = config.model_copy(update={"tolerance_m": config.tolerance_m * scale})
        judged = [_judge(plane, points, attempt, 1.0 / scale) for plane in _planes(points.xyz, attempt, rng)]
        found += [plane for plane in judged if plane is not None]
        if any(plane.confidence >= config.min_confidence for plane in found):
            break
    best = max(found, key=lambda plane: plane.confidence, default=None)
    if best is None or best.confidence < config.min_confidence:
        seen = "none was found" if best is None else f"best has confidence {best.confidence:.2f}"
        raise RobinError(
            Code.SUPPORT_PLANE_NOT_FOUND, f"no support plane under the parcels: {seen}; give T_base_camera"
        )
    for other in found:
        if other.confidence > config.max_rival * best.confidence and _differ(best, other, points.xyz):
            told = f"{best.confidence:.2f} and {other.confidence:.2f}"
            raise RobinError(
                Code.SUPPORT_PLANE_AMBIGUOUS,
                f"two planes may carry the parcels, with confidence {told}; give T_base_camera",
            )
    return best


def _differ(a: SupportPlane, b: SupportPlane, points: NDArray[np.float64]) -> bool:
    """Whether a pick would go elsewhere: another direction, or another height at the points seen."""
    angle = np.arccos(np.clip(a.plane[:3] @ b.plane[:3], -1, 1))
    apart = abs(np.median(points @ (a.plane - b.plane)[:3] + (a.plane - b.plane)[3]))
    return bool(angle > _OTHER_PLANE_RAD or apart > _OTHER_PLANE_M)


def on_support_plane(frame: Frame, config: SupportPlaneConfig | None = None) -> Frame:
    """The frame with a pose that has z = 0 in its support plane and z up, see ``SupportPlaneConfig.anchor_m``; with a
    warning where nothing stands on that plane. Raises as ``estimate``."""
    config = config or SupportPlaneConfig()
    found = estimate(frame, config)
    pose = pose_from_plane(found.plane, frame.K, (frame.width, frame.height), config.anchor_m)
    warnings = frame.gate.warnings
    if not found.carries:
        warnings = (*warnings, GateWarning(Code.SUPPORT_PLANE_BARE, "nothing stands on the support plane"))
    return replace(frame, T_base_camera=pose, gate=replace(frame.gate, warnings=warnings))


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


def _decimated_points(frame: Frame, max_points: int) -> _Points:
    step = max(1, int(np.sqrt(frame.depth.size / max_points)))
    depth = frame.depth[step // 2 :: step, step // 2 :: step].astype(np.float64)
    rows, columns = np.nonzero(depth)
    z, u, v = depth[rows, columns], columns * step + step // 2, rows * step + step // 2
    K = frame.K
    xyz = np.stack([(u - K[0, 2]) / K[0, 0] * z, (v - K[1, 2]) / K[1, 1] * z, z], axis=1)
    return _Points(xyz, rows * depth.shape[1] + columns, (depth.shape[0], depth.shape[1]))


def _planes(
    points: NDArray[np.float64], config: SupportPlaneConfig, rng: np.random.Generator
) -> list[NDArray[np.float64]]:
    """Planes by falling inlier count, each refined on its inliers, the camera on their positive side."""
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
        found.append(plane if plane[3] >= 0 else -plane)  # the camera is the origin: its height above the plane is d
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
    plane: NDArray[np.float64], points: _Points, config: SupportPlaneConfig, trust: float
) -> SupportPlane | None:
    """The plane as a support; None where it cannot be one.

    Its confidence is a product: the share of points on it, those among what stands on it above all; how few lie beneath
    it or stand higher than goods; how far its normal points to the camera or up in the picture, not sideways; and
    whether anything stands on it at all.
    """
    tolerance = _tolerance(points.xyz, config)
    height = points.xyz @ plane[:3] + plane[3]
    goods = (height > 3 * tolerance) & (height <= config.goods_height_m)
    among = _among(points, goods)
    floor = height < -config.goods_height_m
    under = np.where(among | ~among.any(), 1.0, _BESIDE) * ((height < -3 * tolerance) & ~floor)
    beneath = float(under.mean()) / config.max_beneath_fraction + float(floor.mean()) / config.max_floor_fraction
    high = float((height > config.goods_height_m).mean()) / config.max_high_fraction
    upright = float(plane[2] ** 2 + min(plane[1], 0.0) ** 2)
    if max(beneath, high) >= 1 or upright < config.min_upright:
        return None
    on = np.abs(height) < tolerance
    share = min(1.0, (4 * float((on & among).mean()) + float(on.mean())))
    carried = float(goods.mean())
    confidence = trust * share * (1 - beneath) * (1 - high) * upright * (0.5 + 0.5 * min(1.0, 10 * carried))
    if trust < 1:
        # A coarse plane is the goods' own surface where they hide what they lie on: the support is beneath all of them.
        plane = plane + np.array([0.0, 0.0, 0.0, max(0.0, -float(np.percentile(height, 3)))])
    elif (on & among).mean() > config.min_inlier_fraction:
        plane = _refined(plane, points.xyz[among], config)
    return SupportPlane(plane, confidence, carried >= config.min_carried_fraction)


def _among(points: _Points, goods: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """bool [N]: points inside the outline of what stands on a plane, with a rim. Lone pixels do not count."""
    image = np.zeros(points.shape, dtype=np.uint8)
    image.ravel()[points.cells[goods]] = 1
    cleaned = cv2.morphologyEx(image, cv2.MORPH_OPEN, np.ones((2, 2), np.uint8)) > 0
    return np.asarray(outline(cleaned, RIM_CELLS).ravel()[points.cells])


def _refined(
    plane: NDArray[np.float64], points: NDArray[np.float64], config: SupportPlaneConfig
) -> NDArray[np.float64]:
    """Fitted again to the points near it: what lies outside the goods (a table under a tote) does not pull at it."""
    for _ in range(3):
        near = _distance(plane, points) < _tolerance(points, config)
        if near.sum() < 50:
            break
        fitted = _fit(points[near])
        plane = fitted if fitted[3] >= 0 else -fitted
    return plane
