"""Juxtaposition: a labelled parcel is cut out of one picture and laid into another, with its depth and a shadow.

Its top is moved as a horizontal plane at its own height over the support plane, exactly, through both cameras. Each of
its pixels keeps its height over the support plane, and the higher surface hides the lower one. So masks, depth and
colour stay one picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robin_perception.core.config import StrictConfig
from robin_perception.core.frame import Frame
from robin_perception.core.image_folder import IGNORE_LABEL

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


NOISE_M = 0.015
"""Of depth and of the support plane: only what is higher by more than this hides a parcel."""

SPECK_PX = 7
"""Narrower specks of a higher surface are noise, too."""


class JuxtaposeConfig(StrictConfig):
    """How often and how parcels are laid into other pictures."""

    per_frame: float = Field(0.5, ge=0, le=10, description="Juxtaposed pictures for each taught one.")
    most_parcels: int = Field(3, ge=1, le=20, description="Parcels laid into one picture, at most.")
    seed: int = Field(0, ge=0)
    least_px: int = Field(600, ge=1, description="Pixels that a parcel must have to be cut out.")
    least_seen: float = Field(0.35, gt=0, le=1, description="Share of a laid parcel that must be seen.")
    shadow: float = Field(0.45, ge=0, lt=1, description="How dark its shadow is, at most.")
    gain: float = Field(1.3, ge=1, le=3, description="By how much its light may be fitted to the picture's.")


@dataclass(frozen=True)
class Labelled:
    """A frame with its label image, uint16 [H, W], 0 background, 65535 ignored. belt_z_m: height of the support plane
    in base_link."""

    frame: Frame
    labels: NDArray[np.uint16]
    belt_z_m: float = 0.0

    def heights(self) -> Floats:
        """Over the support plane, float32 [H, W] metres; NaN without depth."""
        return heights(self.frame.depth, self.frame, self.belt_z_m)


@dataclass(frozen=True)
class Laid:
    """A parcel that was laid. number: its label. seen: share of it that nothing hides."""

    number: int
    seen: float


def heights(depth: Floats, frame: Frame, belt_z_m: float) -> Floats:
    """Of each pixel over z = belt_z_m, metres; NaN where depth is 0."""
    slope, offset = _rays(frame, belt_z_m)
    return np.where(depth > 0, depth * slope + offset, np.float32(np.nan)).astype(np.float32)


def depths(height: Floats, frame: Frame, belt_z_m: float) -> Floats:
    """The inverse: float32 [H, W] metres along the optical axis, 0 for NaN."""
    slope, offset = _rays(frame, belt_z_m)
    found = (height - offset) / slope
    return np.where(np.isfinite(found) & (found > 0), found, 0).astype(np.float32)


def lay(
    into: Labelled,
    source: Labelled,
    number: int,
    at_m: tuple[float, float],
    turn_rad: float,
    light: tuple[float, float],
    config: JuxtaposeConfig,
) -> tuple[Labelled, Laid] | None:
    """``source``'s parcel ``number`` with its middle at ``at_m`` of base_link, turned about the vertical. light: x and
    y in pixels by which a shadow falls for each metre of height. None where too little of it would be seen."""
    cut = source.labels == number
    own = source.heights()
    top_m = float(np.nanmedian(own[cut])) if np.isfinite(own[cut]).any() else math.nan
    if int(cut.sum()) < config.least_px or not math.isfinite(top_m):
        return None
    move = _homography(source, into, cut, top_m, at_m, turn_rad)
    whole = _warped(cut.astype(np.uint8), move, into, cv2.INTER_NEAREST) > 0
    filled = np.where(np.isfinite(own), own, np.float32(-1))
    height = _warped(filled, move, into, cv2.INTER_NEAREST)
    height = np.where(whole & (height > -1), height, np.float32(np.nan)).astype(np.float32)
    solid = np.where(whole, np.where(np.isfinite(height), height, np.float32(top_m)), np.float32(-np.inf))
    hidden = (whole & (solid <= _surface(into) - NOISE_M)).astype(np.uint8)
    seen = whole & (cv2.morphologyEx(hidden, cv2.MORPH_OPEN, np.ones((SPECK_PX, SPECK_PX), np.uint8)) == 0)
    if not whole.any() or whole.sum() < 0.5 * _expected(cut, move) or seen.sum() < config.least_seen * whole.sum():
        return None
    colour = _warped(_fitted(source.frame.rgb, into.frame.rgb, config.gain), move, into, cv2.INTER_LINEAR)
    shaded = _shaded(into, whole, solid, light, config.shadow)
    rgb = np.where(seen[:, :, None], colour, shaded).astype(np.uint8)
    depth = np.where(seen, depths(height, into.frame, into.belt_z_m), into.frame.depth).astype(np.float32)
    labels = into.labels.copy()
    new = 1 + int(labels[labels < IGNORE_LABEL].max(initial=0))
    labels[seen] = new
    frame = replace(into.frame.with_depth(depth), rgb=rgb)
    return replace(into, frame=frame, labels=labels), Laid(new, float(seen.sum() / whole.sum()))


def juxtaposed(
    into: Labelled, sources: Mapping[Any, Labelled], rng: np.random.Generator, config: JuxtaposeConfig
) -> tuple[Labelled, dict[int, tuple[Any, int]]]:
    """One picture with up to ``most_parcels`` more parcels; whence each new label comes: key and number there."""
    wanted, laid = int(rng.integers(1, config.most_parcels + 1)), {}
    keys = sorted(sources)
    angle, length = rng.uniform(0, 2 * math.pi), rng.uniform(40, 160)
    light = length * math.cos(angle), length * math.sin(angle)
    for _ in range(8 * wanted):
        key = keys[int(rng.integers(len(keys)))]
        source = sources[key]
        numbers = np.unique(source.labels[(source.labels > 0) & (source.labels < IGNORE_LABEL)])
        if not len(numbers):
            continue
        number, turn = int(rng.choice(numbers)), float(rng.uniform(-math.pi, math.pi))
        found = lay(into, source, number, _place(into, rng), turn, light, config)
        if found is not None:
            into, one = found
            laid[one.number] = key, number
            if len(laid) == wanted:
                break
    return into, laid


def _place(into: Labelled, rng: np.random.Generator) -> tuple[float, float]:
    """A spot of the support plane that the middle of the picture shows."""
    height, width = into.labels.shape
    u, v = rng.uniform(0.15, 0.85) * width, rng.uniform(0.15, 0.85) * height
    K, pose = into.frame.K, into.frame.T_base_camera
    ray = pose[:3, :3] @ np.array([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], 1.0])
    along = (into.belt_z_m - pose[2, 3]) / ray[2]
    return float(pose[0, 3] + along * ray[0]), float(pose[1, 3] + along * ray[1])


def _rays(frame: Frame, belt_z_m: float) -> tuple[Floats, float]:
    """Height is depth times the first plus the second: [H, W] and metres."""
    plane, K = frame.belt_plane(belt_z_m), frame.K
    v, u = np.indices(frame.depth.shape, dtype=np.float32)
    slope = plane[0] * (u - K[0, 2]) / K[0, 0] + plane[1] * (v - K[1, 2]) / K[1, 1] + plane[2]
    return slope.astype(np.float32), float(plane[3])


def _homography(
    source: Labelled, into: Labelled, cut: Mask, top_m: float, at_m: tuple[float, float], turn_rad: float
) -> NDArray[np.float64]:
    """Pixels of the source's horizontal plane at ``top_m`` to those of the target's: float64 [3, 3]."""
    here, there = _plane_to_pixels(source, top_m), _plane_to_pixels(into, top_m)
    v, u = np.nonzero(cut)
    middle = np.linalg.inv(here) @ np.array([u.mean(), v.mean(), 1.0])
    x, y = middle[:2] / middle[2]
    c, s = math.cos(turn_rad), math.sin(turn_rad)
    turned = np.array([[c, -s, at_m[0] - c * x + s * y], [s, c, at_m[1] - s * x - c * y], [0, 0, 1]])
    return np.asarray(there @ turned @ np.linalg.inv(here))


def _plane_to_pixels(one: Labelled, height_m: float) -> NDArray[np.float64]:
    """(x, y, 1) of base_link at that height over the support plane to pixels, homogeneous."""
    rotation, origin = one.frame.T_base_camera[:3, :3].T, one.frame.T_base_camera[:3, 3]
    at = rotation @ (np.array([0, 0, one.belt_z_m + height_m]) - origin)
    return np.asarray(one.frame.K @ np.column_stack([rotation[:, 0], rotation[:, 1], at]))


def _warped(image: NDArray[Any], move: NDArray[np.float64], into: Labelled, how: int) -> NDArray[Any]:
    height, width = into.labels.shape
    return np.asarray(cv2.warpPerspective(image, move, (width, height), flags=how))


def _expected(cut: Mask, move: NDArray[np.float64]) -> float:
    """Pixels that the parcel would have if the picture had no edge."""
    v, u = np.nonzero(cut)
    box = np.array([[u.min(), v.min()], [u.max(), v.min()], [u.max(), v.max()], [u.min(), v.max()]], dtype=np.float64)
    moved = cv2.perspectiveTransform(box[None], move)[0]
    share = cut.sum() / max((np.ptp(u) + 1) * (np.ptp(v) + 1), 1)
    return float(share * cv2.contourArea(moved.astype(np.float32)))


def _surface(into: Labelled) -> Floats:
    """Height of what is seen; without depth that of its parcel, else of the support plane."""
    own = into.heights()
    found = np.where(np.isfinite(own), own, np.float32(0)).astype(np.float32)
    blind = ~np.isfinite(own)
    for number in np.unique(into.labels[blind & (into.labels > 0) & (into.labels < IGNORE_LABEL)]):
        mine = into.labels == number
        known = own[mine & ~blind]
        found[mine & blind] = np.median(known) if known.size else 0.0
    return found


def _shaded(
    into: Labelled, whole: Mask, solid: Floats, light: tuple[float, float], strength: float
) -> NDArray[np.float32]:
    """The picture with the parcel's shadow on what lies lower than it, float32 [H, W, 3]."""
    top = float(np.median(solid[whole]))
    drop = max(top, 0.0)
    shift = np.array([[1, 0, light[0] * drop], [0, 1, light[1] * drop]], dtype=np.float64)
    size = into.labels.shape[1], into.labels.shape[0]
    cast = np.maximum(cv2.warpAffine(whole.astype(np.float32), shift, size), whole.astype(np.float32))
    soft = cv2.GaussianBlur(cast, (0, 0), 2.0 + 25.0 * drop)
    lower = np.clip((top - _surface(into)) / max(top, 1e-3), 0, 1)
    return np.asarray(into.frame.rgb * (1 - strength * soft * lower)[:, :, None], dtype=np.float32)


def _fitted(rgb: NDArray[np.uint8], other: NDArray[np.uint8], most: float) -> NDArray[np.uint8]:
    """Its light brought nearer to the other picture's, by what is bright in both."""
    here, there = (max(float(np.percentile(each, 95)), 1.0) for each in (rgb, other))
    gain = min(max(there / here, 1 / most), most)
    return np.clip(rgb.astype(np.float32) * gain, 0, 255).astype(np.uint8)
