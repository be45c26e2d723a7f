"""Masks brought to the edges that colour and depth show: a guided filter over each mask, between its coarse grid and
the frame.

The network's masks stand on a stride-4 grid, so their edges wave by a pixel or two. In every small window the filter
fits the mask's probability as an affine function of the image, p = a . I + b (He, Sun and Tang 2013, eq. 19 for several
channels); the fit follows an edge of the image where the mask has one nearby, and is flat where it has none. The
coefficients are computed at half the network's size and applied at the full one (He and Sun 2015).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robin_perception.config import StrictConfig
from robin_perception.letterbox import Letterbox, Window, letterbox

Image = NDArray[np.float32]
_HALF = 2  # network pixels per pixel of the coefficients
_HOLE_PX = 15  # missing depth is filled with the mean of a window of this size, coefficient pixels
_MOST_LOGIT = 8.0
_CLIP = 0.01  # a filtered probability stays this far from 0 and 1


class RefineConfig(StrictConfig):
    """Off, masks keep the edges of the network's grid."""

    enabled: bool = True
    radius_px: int = Field(3, ge=1, le=20, description="of the windows, in pixels of half the network's image")
    epsilon: float = Field(3e-4, gt=0, le=1, description="variance of the guide below which a window counts as flat")
    chroma_weight: float = Field(1.5, ge=0, le=20, description="of a* + b*, against lightness, both 0..1")
    depth_weight_pm: float = Field(2.0, ge=0, le=50, description="of depth, per metre, against lightness")


@dataclass(frozen=True)
class Guide:
    """A frame at the network's size, ready to filter masks with: image, three planes [H, W] (lightness, colour, depth);
    at half the size the same three planes [h, w], their window means, and the inverses of their window covariances, six
    planes xx xy xz yy yz zz."""

    image: tuple[Image, Image, Image]
    half: tuple[Image, Image, Image]
    mean: tuple[Image, Image, Image]
    inverse: tuple[Image, ...]
    kernel: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, network pixels."""
        return self.image[0].shape[0], self.image[0].shape[1]


def make_guide(rgb: NDArray[np.uint8], depth: NDArray[np.float32], config: RefineConfig) -> Guide:
    """rgb uint8 [H, W, 3] and depth float32 [H, W] in metres (0: none), as the network gets them; H and W multiples of
    four."""
    light, red_green, blue_yellow = cv2.split(cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB))
    share = config.chroma_weight / 255
    chroma = cv2.addWeighted(red_green, share, blue_yellow, share, 0.0, dtype=cv2.CV_32F)
    relief = _filled(depth)
    image = light * np.float32(1 / 255), chroma, relief * np.float32(config.depth_weight_pm)
    size = (rgb.shape[1] // _HALF, rgb.shape[0] // _HALF)
    half = _planes(cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in image)
    kernel = (2 * config.radius_px + 1,) * 2
    mean = _planes(cv2.blur(plane, kernel) for plane in half)
    return Guide(_planes(image), half, mean, _inverse_covariance(half, mean, kernel, config.epsilon), kernel)


def _planes(planes: Iterable[Any]) -> tuple[Image, Image, Image]:
    x, y, z = planes
    return x, y, z


def _filled(depth: NDArray[np.float32]) -> Image:
    """Depth without holes, at full size: what is missing takes the mean of what is near, or of all."""
    valid = (depth > 0).view(np.uint8)
    if valid.all():
        return np.asarray(cv2.medianBlur(depth, 3))
    size = (depth.shape[1] // _HALF, depth.shape[0] // _HALF)
    window = (_HOLE_PX, _HOLE_PX)
    near = cv2.blur(cv2.resize(depth, size, interpolation=cv2.INTER_AREA), window)
    share = cv2.blur(cv2.resize(valid.astype(np.float32), size, interpolation=cv2.INTER_AREA), window)
    overall = float(depth.sum()) / max(int(np.count_nonzero(valid)), 1)
    coarse = np.where(share > 1e-3, near / np.maximum(share, np.float32(1e-3)), np.float32(overall))
    filling = cv2.resize(coarse, depth.shape[::-1], interpolation=cv2.INTER_LINEAR)
    cv2.copyTo(depth, valid, filling)
    return np.asarray(cv2.medianBlur(filling, 3))


def _inverse_covariance(
    half: tuple[Image, Image, Image], mean: tuple[Image, Image, Image], kernel: tuple[int, int], epsilon: float
) -> tuple[Image, ...]:
    """Inverse of the 3x3 covariance of each window plus ``epsilon``, by cofactors."""
    xx, xy, xz, yy, yz, zz = (
        cv2.blur(half[i] * half[j], kernel) - mean[i] * mean[j]
        for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
    )
    for variance in (xx, yy, zz):
        np.maximum(variance, 0.0, out=variance)
        variance += np.float32(epsilon)
    first = (yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy)
    cofactors = (*first, xx * zz - xz * xz, xy * xz - xx * yz, xx * yy - xy * xy)
    scale = 1.0 / np.maximum(xx * first[0] + xy * first[1] + xz * first[2], np.float32(epsilon**3))
    return tuple(cofactor * scale for cofactor in cofactors)


def refined(guide: Guide, cells: Image, window: Window, box: Letterbox) -> tuple[Image, tuple[slice, slice]]:
    """``box.enlarge`` by way of the filter: cells at ``window`` of a mask grid to logits at frame pixels, and where
    these stand."""
    height, width = guide.size
    small = letterbox(width // _HALF, height // _HALF, width, height, box.stride, box.mask_shift_px)
    coarse, (rows, columns) = small.enlarge(cells, window)
    y0, y1, x0, x1 = even = (*_even(rows), *_even(columns))
    if y1 <= y0 or x1 <= x0:
        return np.zeros((0, 0), dtype=np.float32), (slice(0, 0), slice(0, 0))
    logits = refine(guide, coarse[y0 - rows.start : y1 - rows.start, x0 - columns.start : x1 - columns.start], even)
    return letterbox(*box.frame_size, width, height, 1).enlarge(
        logits, (_HALF * y0, _HALF * y1, _HALF * x0, _HALF * x1)
    )


def _even(pixels: slice) -> tuple[int, int]:
    """The largest range inside ``pixels`` that begins and ends at even numbers: rims of network pixels that are rims of
    frame pixels too at the usual image sizes."""
    return -(-pixels.start // 2) * 2, pixels.stop // 2 * 2


def refine(guide: Guide, logits: Image, window: Window) -> Image:
    """Logits float32 [2 (y1 - y0), 2 (x1 - x0)] at the network's pixels of a mask whose logits at half its size, at
    (y0, y1, x0, x1), are given."""
    y0, y1, x0, x1 = window
    here = (slice(y0, y1), slice(x0, x1))
    there = (slice(_HALF * y0, _HALF * y1), slice(_HALF * x0, _HALF * x1))
    p = 1.0 / (1.0 + np.exp(-np.clip(logits, -_MOST_LOGIT, _MOST_LOGIT)))
    p_mean = cv2.blur(p, guide.kernel)
    mx, my, mz = (plane[here] for plane in guide.mean)
    xx, xy, xz, yy, yz, zz = (plane[here] for plane in guide.inverse)
    cx, cy, cz = (
        cv2.blur(plane[here] * p, guide.kernel) - mean * p_mean
        for plane, mean in zip(guide.half, (mx, my, mz), strict=True)
    )
    a = xx * cx + xy * cy + xz * cz, xy * cx + yy * cy + yz * cz, xz * cx + yz * cy + zz * cz
    b = p_mean - a[0] * mx - a[1] * my - a[2] * mz
    size = (_HALF * (x1 - x0), _HALF * (y1 - y0))
    slopes = [cv2.resize(cv2.blur(plane, guide.kernel), size, interpolation=cv2.INTER_LINEAR) for plane in a]
    fitted: Image = np.asarray(cv2.resize(cv2.blur(b, guide.kernel), size, interpolation=cv2.INTER_LINEAR))
    for slope, plane in zip(slopes, guide.image, strict=True):
        fitted += slope * plane[there]
    np.clip(fitted, _CLIP, 1.0 - _CLIP, out=fitted)
    fitted /= 1.0 - fitted
    return np.asarray(np.log(fitted, out=fitted))
