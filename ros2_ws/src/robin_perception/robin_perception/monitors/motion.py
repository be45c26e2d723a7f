"""How far a camera stands from where it stood at commissioning: what does not move in the cell, now against then.

Colour and height are aligned at once, over the places that were free of goods both times (direct alignment as in Kerl,
Sturm, Cremers, ICRA 2013, with Gauss-Newton and robust weights). Belt edges, rims and walls give what lies along the
picture; level surfaces give height and tilt. What neither shows stays where a weak prior puts it, and its uncertainty
says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_perception.monitors.look import Floats, Look
from robin_perception.monitors.reference import Reference

Vector = NDArray[np.float64]

_GREY_NOISE = 2.0  # display values, of a thinned pixel
_HEIGHT_NOISE_M = 0.004  # of a thinned pixel at 1 m; grows with distance squared
_SHARED = 6.0  # neighbouring pixels err together: so many count as one
_WIDER = 3.0  # errors of heights are shared by so many times more
_SEEN = 30.0  # times the prior's information
_PRIOR_M, _PRIOR_RAD = 0.1, 0.1
_FRAMES_SHARE = 0.25  # of a frame's error variance, that the others have too
_PRIOR = np.diag([_PRIOR_M**-2] * 3 + [_PRIOR_RAD**-2] * 3)
_CONTRADICTS = 25.0  # squared distance in standard deviations, of six numbers: by chance once in 3,000
_LEAST_GRADIENT = 3.0  # display values per thinned pixel
_LEAST_PIXELS = 60
_ROBUST = 2.0  # noises beyond which a residual counts less
_LEVELS = ((8.0, 3), (4.0, 3), (1.5, 2), (0.0, 10))  # blur in thinned pixels, steps at most
_ARRIVED = 2e-4  # metres, radians: a step as short is the last one of its level
_MOST_PIXELS = 800  # of a level
_HIGHEST_STEP_M = 0.05  # of a height that still belongs to the same surface
_LEAST_LIKENESS = 0.5
_NOWHERE = 0.3  # likeness below which none of the marks is where it was; goods without a mask leave more
_ALIKE = 0.9  # two pictures that need no better alignment
_SHADOW = 4.0  # thinned pixels
_EXPLAINED = 0.8  # of what is unlike without motion, that may be left with it
_THE_SAME = 0.985  # and that cannot differ by a motion that matters
_BETTER = 0.03  # an answer from afar must fit better by so much
_FARTHEST = 0.5  # metres, radians
_EVERY = (slice(None, None, 2), slice(None, None, 3))  # of the pixels, whose heights are looked at


@dataclass(frozen=True)
class Motion:
    """twist: float64 [6], the camera's translation (m) and rotation vector (rad) since commissioning, in its own
    optical frame. information: float64 [6, 6], the inverse of its covariance; 0 along what nothing tells, where
    ``twist`` is 0 too. lost: enough of the commissioned places is free, and none of their marks is found anywhere near:
    it moved farther than can be measured."""

    twist: Vector
    information: Vector
    lost: bool = False

    @property
    def turned_rad(self) -> float:
        return float(np.linalg.norm(self.twist[3:]))

    def shift_of(self, points: Vector) -> tuple[Vector, Vector]:
        """What a grasp at points [N, 3] of the camera's frame is off by: float64 [N, 3] in that frame, metres, and its
        covariance [N, 3, 3]."""
        reach = np.zeros((len(points), 3, 6))
        reach[:, [0, 1, 2], [0, 1, 2]] = 1.0
        reach[:, [0, 1, 2], [4, 5, 3]] = points[:, [2, 0, 1]]
        reach[:, [0, 1, 2], [5, 3, 4]] = -points[:, [1, 2, 0]]
        return reach @ self.twist, reach @ self._covariance() @ reach.transpose(0, 2, 1)

    def contradicts(self, other: Motion) -> bool:
        """They differ by more than their errors do (Mahalanobis)."""
        apart = self.twist - other.twist
        both = np.linalg.inv(self.information + _PRIOR) + np.linalg.inv(other.information + _PRIOR)
        return float(apart @ np.linalg.solve(both, apart)) > _CONTRADICTS

    def _covariance(self) -> Vector:
        information, directions = np.linalg.eigh(self.information)
        seen = information > 0.5 / max(_PRIOR_M, _PRIOR_RAD) ** 2
        along = directions[:, seen]
        return np.asarray((along / information[seen]) @ along.T, dtype=np.float64)


def together(motions: Sequence[Motion]) -> Motion:
    """Of several frames that do not contradict each other, at least one: the mean, weighted by their information.
    Part of their errors is the commissioned picture's or the goods' that still lie there, and stays."""
    information = np.sum([motion.information for motion in motions], axis=0)
    told = np.sum([motion.information @ motion.twist for motion in motions], axis=0)
    alike = 1.0 + _FRAMES_SHARE * (len(motions) - 1)
    return Motion(np.linalg.pinv(information, hermitian=True) @ told, information / alike)


class MotionMeter:
    """Made once for a baseline; what does not change from frame to frame is computed then."""

    def __init__(self, reference: Reference, K: Vector, T_base_camera: Vector, step: float) -> None:
        self._K = np.array([[K[0, 0] / step, 0, (K[0, 2] + 0.5) / step - 0.5], [0, K[1, 1] / step, 0], [0, 0, 1.0]])
        self._K[1, 2] = (K[1, 2] + 0.5) / step - 0.5
        self._T = T_base_camera
        known = np.isfinite(reference.grey)
        grey = np.where(known, reference.grey, np.float32(np.nanmean(reference.grey) if known.any() else 0))
        inner = cv2.erode(known.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        self._ground = reference.ground[_EVERY]
        depth = self._depth(np.where(np.isfinite(reference.ground), reference.ground, 0.0))
        self._middle = np.array([0.0, 0.0, float(np.median(depth))])
        self._levels = [
            _Level(_band(grey, known, sigma), inner, depth, self._K, sigma, steps) for sigma, steps in _LEVELS
        ]
        self._level = _level(reference.ground)[_EVERY]
        self._places = tuple(axis[_EVERY] for axis in np.mgrid[0 : depth.shape[0], 0 : depth.shape[1]])

    def _depth(self, height: Floats) -> Floats:
        """Along the optical axis, of pixels whose height above z = 0 is given."""
        v, u = np.mgrid[0 : height.shape[0], 0 : height.shape[1]]
        x, y = (u - self._K[0, 2]) / self._K[0, 0], (v - self._K[1, 2]) / self._K[1, 1]
        rise = self._T[2, 0] * x + self._T[2, 1] * y + self._T[2, 2]
        return np.asarray((height - self._T[2, 3]) / np.where(np.abs(rise) > 0.1, rise, -1.0), dtype=np.float32)

    def measure(self, look: Look) -> Motion | None:
        """None where too little is seen that could tell.

        A camera that did not move needs only the sharpest picture; blurred ones come first where that does not fit, and
        the answer is the one that fits better. Along a belt without marks every answer fits: what explains the picture
        no better than no motion does counts only where it is less than what heights alone tell.
        """
        by_height = self._by_height(look)
        sharpest = self._levels[-1]
        fine = _band(look.grey, look.free, sharpest.sigma)
        places = sharpest.sample(fine, look.free, np.zeros(6))
        if places is None:
            return None
        still = _step(places, by_height, np.zeros(6))
        if still[2] >= _THE_SAME:
            return Motion(still[0], still[1])
        best = self._aligned(look, by_height, [sharpest])
        if best is None or best[2] < _ALIKE:
            other = self._aligned(look, by_height, self._levels)
            if other is not None and (best is None or other[2] > best[2] + _BETTER):
                best = other
        if still[2] >= _LEAST_LIKENESS and (best is None or 1.0 - best[2] > _EXPLAINED * (1.0 - still[2])):
            alone = _well_seen(*by_height)
            return alone if best is None or self._shift_m(best[0]) > self._shift_m(alone.twist) else Motion(*best[:2])
        if best is None or best[2] < _LEAST_LIKENESS:
            return Motion(np.zeros(6), _PRIOR, lost=True) if max(still[2], best[2] if best else 0) < _NOWHERE else None
        return Motion(*best[:2])

    def _shift_m(self, twist: Vector) -> float:
        """Of what lies in the middle of the picture."""
        return float(np.linalg.norm(twist[:3] + np.cross(twist[3:], self._middle)))

    def _aligned(
        self, look: Look, by_height: tuple[Vector, Vector], levels: Sequence[_Level]
    ) -> tuple[Vector, Vector, float] | None:
        """From no motion on: twist, normal matrix, and how alike the pictures are then."""
        twist, normal, likeness = np.zeros(6), by_height[0], 0.0
        for level in levels:
            grey = _band(look.grey, look.free, level.sigma)
            for _ in range(level.steps):
                step, normal, likeness = _step(level.sample(grey, look.free, twist), by_height, twist)
                twist = twist + step
                if not np.isfinite(twist).all() or np.abs(twist).max() > _FARTHEST:
                    return None
                if np.abs(step).max() < _ARRIVED:
                    break
        return twist, normal, likeness

    def _by_height(self, look: Look) -> tuple[Vector, Vector]:
        """Normal matrix [6, 6] and right side [6] of what heights say: a surface that was level then seems to have
        risen or tilted as the camera moved. The weak prior is in it."""
        normal = _PRIOR.copy()
        off = look.height[_EVERY] - self._ground
        on = look.free[_EVERY] & look.valid[_EVERY] & self._level & (np.abs(off) < _HIGHEST_STEP_M)
        if np.count_nonzero(on) < _LEAST_PIXELS:
            return normal, np.zeros(6)
        v, u = (axis[on] for axis in self._places)
        z = look.depth[_EVERY][on].astype(np.float64)
        points = np.stack([(u - self._K[0, 2]) / self._K[0, 0] * z, (v - self._K[1, 2]) / self._K[1, 1] * z, z], axis=1)
        up, wanted = self._T[2, :3], off[on].astype(np.float64)
        rows = -np.hstack([np.broadcast_to(up, points.shape), np.cross(points, up)])
        first = np.linalg.solve(normal + rows.T @ rows / _HEIGHT_NOISE_M**2, rows.T @ wanted / _HEIGHT_NOISE_M**2)
        weight = _weights(rows @ first - wanted, _HEIGHT_NOISE_M) / _WIDER
        return normal + (rows * weight[:, None]).T @ rows, rows.T @ (weight * wanted)


def _well_seen(normal: Vector, right: Vector) -> Motion:
    """The solution along the directions that are seen; nothing moves along those that only the prior holds."""
    information, directions = np.linalg.eigh(normal)
    seen = information > _SEEN * max(_PRIOR_M**-2, _PRIOR_RAD**-2)
    along = directions[:, seen]
    twist = along @ ((along.T @ right) / information[seen])
    return Motion(twist, (along * information[seen]) @ along.T)


def _step(
    found: tuple[Vector, Vector, Vector] | None, by_height: tuple[Vector, Vector], twist: Vector
) -> tuple[Vector, Vector, float]:
    """One Gauss-Newton step of the twist, the normal matrix, and how alike the pictures are (correlation)."""
    normal, right = by_height[0], by_height[1] - by_height[0] @ twist
    if found is None:
        return _solved(normal, right), normal, 0.0
    now, then, rows = found
    spread_now, spread_then = float(now.std()), float(then.std())
    if min(spread_now, spread_then) < 1e-3:
        return _solved(normal, right), normal, 0.0
    likeness = float(np.mean((now - now.mean()) * (then - then.mean()))) / (spread_now * spread_then)
    residual = (now - np.median(now)) * (spread_then / spread_now) - (then - np.median(then))
    weight = _weights(residual, _GREY_NOISE)
    normal = normal + (rows * weight[:, None]).T @ rows
    return _solved(normal, right - rows.T @ (weight * residual)), normal, likeness


def _solved(normal: Vector, right: Vector) -> Vector:
    return np.asarray(np.linalg.solve(normal, right), dtype=np.float64)


def _weights(residual: Vector, least_noise: float) -> Vector:
    """Of residuals, by their own spread: far ones count less (Huber)."""
    size = np.abs(residual)
    noise = max(least_noise, 1.48 * float(np.median(size)))
    return np.asarray(1.0 / np.maximum(1.0, size / (_ROBUST * noise)) / (noise**2 * _SHARED))


class _Level:
    """The commissioned picture at one sharpness: its pixels with a gradient, and how each moves with the camera."""

    def __init__(
        self, grey: Floats, inner: NDArray[np.bool_], depth: Floats, K: Vector, sigma: float, steps: int
    ) -> None:
        self.sigma, self.steps = sigma, steps
        self._K = K
        gx = cv2.Sobel(grey, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)
        gy = cv2.Sobel(grey, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)
        steep = np.hypot(gx, gy)
        on = inner & (depth > 0.1) & (steep > _LEAST_GRADIENT)
        v, u = np.nonzero(on)
        if len(v) > _MOST_PIXELS:
            keep = np.sort(np.argsort(-steep[v, u], kind="stable")[: 2 * _MOST_PIXELS : 2])
            v, u = v[keep], u[keep]
        z = depth[v, u].astype(np.float64)
        x, y = (u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1]
        self._points = np.stack([x * z, y * z, z], axis=1)
        self._grey = grey[v, u].astype(np.float64)
        # How a point's place in the picture follows its motion in the camera's frame, which is minus the camera's.
        fx, fy = K[0, 0], K[1, 1]
        along = np.stack([gx[v, u] * fx / z, gy[v, u] * fy / z, -(gx[v, u] * fx * x + gy[v, u] * fy * y) / z], axis=1)
        self._rows = -np.hstack([along, np.cross(self._points, along)]).astype(np.float64)

    def sample(self, grey: Floats, free: NDArray[np.bool_], twist: Vector) -> tuple[Vector, Vector, Vector] | None:
        """(now [N], then [N], rows [N, 6]) where the points of the commissioned picture lie in this one."""
        R, _ = cv2.Rodrigues(twist[3:])
        moved = (self._points - twist[:3]) @ R
        z = np.maximum(moved[:, 2], 0.05)
        u = (self._K[0, 0] * moved[:, 0] / z + self._K[0, 2]).astype(np.float32)
        v = (self._K[1, 1] * moved[:, 1] / z + self._K[1, 2]).astype(np.float32)
        inside = (u > 0.5) & (v > 0.5) & (u < grey.shape[1] - 1.5) & (v < grey.shape[0] - 1.5)
        inside[inside] &= free[v[inside].round().astype(int), u[inside].round().astype(int)]
        if np.count_nonzero(inside) < _LEAST_PIXELS:
            return None
        now = cv2.remap(grey, u[inside][None], v[inside][None], cv2.INTER_LINEAR)[0].astype(np.float64)
        return now, self._grey[inside], self._rows[inside]


def _band(grey: Floats, known: NDArray[np.bool_], sigma: float) -> Floats:
    """What is finer than shadows and coarser than ``sigma``, of the known pixels alone."""
    return _blurred(grey, known, sigma) - _blurred(grey, known, 2.0 * sigma + _SHADOW)


def _blurred(grey: Floats, known: NDArray[np.bool_], sigma: float) -> Floats:
    if sigma == 0:
        return grey
    weight = cv2.GaussianBlur(known.astype(np.float32), (0, 0), sigma)
    return np.asarray(cv2.GaussianBlur(np.where(known, grey, 0), (0, 0), sigma) / np.maximum(weight, 1e-3))


def _level(height: Floats) -> NDArray[np.bool_]:
    """Pixels on a level surface: no step and hardly a slope around them."""
    filled = np.where(np.isfinite(height), height, np.float32(1e3))
    kernel = np.ones((5, 5), np.uint8)
    return np.asarray(cv2.dilate(filled, kernel) - cv2.erode(filled, kernel) < 0.025)
