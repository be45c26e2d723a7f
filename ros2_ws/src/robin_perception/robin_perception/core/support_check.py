"""The surface under the parcels as a frame shows it, against the plane z = belt_z_m where the camera's pose puts it.

A camera that was knocked, or a pose that was typed wrong, still gives sensible masks; every grasp is then off by as
much. What lies between the parcels and belongs to none is mostly belt, shelf or tote floor. The nearly level plane
that holds most of those points, with hardly any beneath it, is the support (RANSAC, Fischler & Bolles 1981, then least
squares). Where parcels hide it nothing is measured: no answer is better than a wrong one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from robin_perception.core.config import StrictConfig
from robin_perception.core.errors import Code
from robin_perception.core.frame import Frame
from robin_perception.core.masks import outline

POSE_FLAGS = {code: code.name.lower() for code in (Code.POSE_DOUBTFUL, Code.POSE_CONTRADICTED)}

Floats = NDArray[np.float64]
_COLUMNS = 70  # the frame is thinned to about so many
_RIM_CELLS = 3  # of the thinned frame, around the outline of all parcels
_HYPOTHESES = 32
_VOTERS = 200
_STEEPEST = math.cos(math.radians(30))  # of what may be a support
_TOLERANCE_M = 0.008  # at 1 m; grows with depth squared, as stereo noise does
_NEAR_M = 0.05  # a plane within this of z = 0 is taken on half of the evidence
_BENEATH_M = 0.25  # farther down lies the hall's floor, which says nothing about the belt
_LEAST_SHARE_OF_FRAME = 0.02
_LEAST_SHARE = 0.3  # of the points between the parcels
_MOST_BENEATH = 0.3  # of the points on the plane
_LONG_LEVER = 14.0  # tolerances that the narrower direction must spread (standard deviation) to measure a tilt
_SHORT_LEVER = 5.0  # to say anything of it; in between, what noise may tilt is taken off
_NOISE_SLOPE = 0.35  # tolerances over the spread


class SupportCheckConfig(StrictConfig):
    """By how much the support that is seen may differ from the plane z = belt_z_m."""

    flag_height_m: float = Field(0.015, gt=0, le=1, description="A frame is flagged beyond this difference of height.")
    flag_tilt_rad: float = Field(math.radians(1.5), gt=0, le=0.5, description="A frame is flagged beyond this tilt.")
    refuse_height_m: float = Field(0.040, gt=0, le=1, description="No grasp beyond this difference of height.")
    refuse_tilt_rad: float = Field(math.radians(4.0), gt=0, le=0.5, description="No grasp beyond this tilt.")

    @model_validator(mode="after")
    def _ordered(self) -> SupportCheckConfig:
        if self.refuse_height_m < self.flag_height_m or self.refuse_tilt_rad < self.flag_tilt_rad:
            raise ValueError("refuse_height_m and refuse_tilt_rad must not be below flag_height_m and flag_tilt_rad")
        return self


@dataclass(frozen=True)
class SupportSeen:
    """height_m: of the surface above z = belt_z_m, in the middle of what is seen of it. tilt_rad: between its normal
    and base_link's z, at least; None where too narrow a patch is seen. share: of the thinned frame, what shows it."""

    height_m: float
    tilt_rad: float | None
    share: float

    def code(self, limits: SupportCheckConfig) -> Code:
        """OK, POSE_DOUBTFUL or POSE_CONTRADICTED."""
        height, tilt = abs(self.height_m), self.tilt_rad or 0.0
        if height > limits.refuse_height_m or tilt > limits.refuse_tilt_rad:
            return Code.POSE_CONTRADICTED
        doubtful = height > limits.flag_height_m or tilt > limits.flag_tilt_rad
        return Code.POSE_DOUBTFUL if doubtful else Code.OK

    def text(self, belt_z_m: float) -> str:
        """One line: where the surface lies."""
        side = "above" if self.height_m >= 0 else "below"
        tilt = "" if self.tilt_rad is None else f", tilted by {math.degrees(self.tilt_rad):.1f} degrees"
        return f"the surface seen lies {abs(self.height_m) * 1e3:.0f} mm {side} z = {belt_z_m:g}{tilt}"


def pose_flags(support: SupportSeen | None, limits: SupportCheckConfig) -> tuple[str, ...]:
    """A scene's flag about its pose, if any."""
    code = Code.OK if support is None else support.code(limits)
    return (POSE_FLAGS[code],) if code in POSE_FLAGS else ()


def measure_support(
    frame: Frame, labels: NDArray[np.uint16], belt_z_m: float = 0.0, area: NDArray[np.uint16] | None = None
) -> SupportSeen | None:
    """The support between the parcels of ``labels`` [H, W], in the middle of the frame where there are none; None
    where too little of it is seen. area: [H, W], not 0 where parcels lie or have lain; None: where they lie."""
    points, cells = _between_parcels(frame, labels, labels if area is None else area)
    least = max(50, int(_LEAST_SHARE_OF_FRAME * cells))
    if len(points) < least:
        return None
    points[:, 2] -= belt_z_m
    tolerance = _TOLERANCE_M * np.maximum(0.5, _distance_squared(points, frame, belt_z_m))
    plane = _most_voted(points, tolerance)
    for _ in range(3):
        on = np.abs(_heights(points, plane)) < tolerance
        if np.count_nonzero(on) < least:
            return None
        plane, centre, spread_m = _fitted(points[on])
    height = _heights(points, plane)
    on = np.abs(height) < tolerance
    count = np.count_nonzero(on)
    beneath = np.count_nonzero((height < -2 * tolerance) & (height > -_BENEATH_M))
    if count < max(least, _LEAST_SHARE * len(points)) or beneath > _MOST_BENEATH * count:
        return None
    lever = spread_m / float(np.median(tolerance[on]))
    return SupportSeen(float(centre[2]), _tilt(plane, lever), float(count / cells))


def _tilt(plane: Floats, lever: float) -> float | None:
    """What the plane is tilted by at least, radians; None where too narrow a patch of it is seen."""
    if lever < _SHORT_LEVER:
        return None
    noise = 0.0 if lever >= _LONG_LEVER else _NOISE_SLOPE / lever
    return max(0.0, math.atan(math.hypot(plane[0], plane[1])) - noise)


def _between_parcels(frame: Frame, labels: NDArray[np.uint16], area: NDArray[np.uint16]) -> tuple[Floats, int]:
    """Points in base_link [N, 3] that belong to no mask, inside the outline of ``area`` with a rim, and the number of
    cells of the thinned frame. What lies outside may be rails, the table under a tote, a floor."""
    step = max(1, round(frame.width / _COLUMNS))
    depth, masked = frame.depth[step // 2 :: step, step // 2 :: step], labels[step // 2 :: step, step // 2 :: step] > 0
    inside = outline(area[step // 2 :: step, step // 2 :: step] > 0, _RIM_CELLS)
    if not inside.any():
        h, w = depth.shape
        inside[h // 4 : h - h // 4, w // 4 : w - w // 4] = True
    v, u = np.nonzero(inside & ~masked & (depth > 0))
    z = depth[v, u].astype(np.float64)
    K, T = frame.K, frame.T_base_camera
    x, y = (u * step + step // 2 - K[0, 2]) / K[0, 0] * z, (v * step + step // 2 - K[1, 2]) / K[1, 1] * z
    return np.stack([x, y, z], axis=1) @ T[:3, :3].T + T[:3, 3], depth.size


def _distance_squared(points: Floats, frame: Frame, belt_z_m: float) -> Floats:
    """Of each point from the camera, m²."""
    camera = frame.T_base_camera[:3, 3] - np.array([0.0, 0.0, belt_z_m])
    return np.asarray(((points - camera) ** 2).sum(axis=1))


def _heights(points: Floats, plane: Floats) -> Floats:
    """Of points [N, 3] above z = a x + b y + c."""
    return np.asarray(points[:, 2] - (points[:, :2] @ plane[:2] + plane[2]))


def _most_voted(points: Floats, tolerance: Floats) -> Floats:
    """(a, b, c) of z = a x + b y + c: of random planes that are not too steep, the one with most points on it and
    fewest beneath it. Beside a narrow belt that may be the hall's floor, so one near z = 0 wins with half its votes."""
    rng = np.random.default_rng(0)
    corners = points[rng.integers(0, len(points), (_HYPOTHESES, 3))]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    level = np.abs(normal[:, 2]) > np.maximum(_STEEPEST * np.linalg.norm(normal, axis=1), 2e-3)
    normal, anchor = normal[level], corners[level].mean(axis=1)
    slope = -normal[:, :2] / normal[:, 2:]
    planes = np.column_stack([slope, anchor[:, 2] - (slope * anchor[:, :2]).sum(axis=1)])
    planes = np.concatenate([np.zeros((1, 3)), planes])
    voters = rng.integers(0, len(points), min(_VOTERS, len(points)))
    height = points[voters, 2] - (planes[:, :2] @ points[voters, :2].T + planes[:, 2:])
    on = (np.abs(height) < tolerance[voters]).sum(axis=1)
    beneath = ((height < -2 * tolerance[voters]) & (height > -_BENEATH_M)).sum(axis=1)
    near = np.abs(points[voters].mean(axis=0)[:2] @ planes[:, :2].T + planes[:, 2]) < _NEAR_M
    return np.asarray(planes[np.argmax(np.where(near, 2, 1) * (on - 2 * beneath))])


def _fitted(points: Floats) -> tuple[Floats, Floats, float]:
    """Least squares z = a x + b y + c, the points' middle, and their spread along the narrower direction, metres."""
    centre = points.mean(axis=0)
    away = points - centre
    (xx, xy, xz), (_, yy, yz) = (away[:, :2].T @ away / len(points)).tolist()
    determinant = max(xx * yy - xy * xy, 1e-15)  # points on one line leave the plane level across it
    slope = np.array([yy * xz - xy * yz, xx * yz - xy * xz]) / determinant
    narrowest = 0.5 * (xx + yy - math.hypot(xx - yy, 2 * xy))
    plane = np.append(slope, centre[2] - slope @ centre[:2])
    return plane, centre, math.sqrt(max(narrowest, 0.0))
