"""Masks brought to the edges that colour and depth show: a guided filter over each mask, between its coarse grid and
the frame.

The network's masks stand on a stride-4 grid, so their edges wave by a pixel or two. In every small window the filter
fits the mask as an affine function of the image, p = a . I + b (He, Sun and Tang 2013, eq. 19 for several channels);
the fit follows an edge of the image where the mask has one nearby, and is flat where it has none. The coefficients are
computed on the mask grid itself and applied at the network's full size (He and Sun 2015).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robin_perception.core.config import StrictConfig
from robin_perception.segmentation.mask_grid import FINE_LIMIT, Crop, MaskGrid, Window

Image = NDArray[np.float32]
_HOLE = (7, 7)  # missing depth is filled with the mean of a window of this many cells
_COVARIANCES = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))


class RefineConfig(StrictConfig):
    """Off, masks keep the edges of the network's grid."""

    enabled: bool = Field(
        True,
        description="Bring masks to the edges that colour and depth show; off, they keep those of the network's grid.",
    )
    radius_cells: int = Field(1, ge=1, le=10, description="of the windows, in cells of the mask grid")
    epsilon: float = Field(3e-4, gt=0, le=1, description="variance of the guide below which a window counts as flat")
    chroma_weight: float = Field(
        1.5, ge=0, le=20, description="of red minus blue (Cr - Cb), against lightness, both 0..1"
    )
    depth_weight_pm: float = Field(2.0, ge=0, le=50, description="of depth, per metre, against lightness")


@dataclass(frozen=True)
class Guide:
    """The picture of a frame inside the network's image, ready to filter masks with.

    window: of the mask grid, the cells with picture in them. image: lightness, colour and depth there, each [H, W] in
    network pixels. grid [3, h, w]: the same per cell; mean [3, h, w]: of each cell's window; inverse [3, 3, h, w]: of
    that window's covariance.
    """

    window: Window
    image: tuple[Image, Image, Image]
    grid: Image
    mean: Image
    inverse: Image
    kernel: tuple[int, int]


def make_guide(
    rgb: NDArray[np.uint8], depth: NDArray[np.float32], grid: MaskGrid, config: RefineConfig
) -> Guide | None:
    """rgb uint8 [H, W, 3] and depth float32 [H, W] in metres (0: none), as the network gets them; grid: its masks'.
    None where refinement is switched off."""
    if not config.enabled:
        return None
    window = y0, y1, x0, x1 = grid.picture_cells
    size, kernel = (x1 - x0, y1 - y0), (2 * config.radius_cells + 1,) * 2
    there = (slice(grid.stride * y0, grid.stride * y1), slice(grid.stride * x0, grid.stride * x1))
    light, red, blue = cv2.split(cv2.cvtColor(rgb[there], cv2.COLOR_RGB2YCrCb))
    share = config.chroma_weight / 255
    chroma = np.asarray(cv2.addWeighted(red, share, blue, -share, 0.0, dtype=cv2.CV_32F), dtype=np.float32)
    relief = _filled(depth[there], size)
    relief *= np.float32(config.depth_weight_pm)
    image = light * np.float32(1 / 255), chroma, relief
    cells = [cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in image]
    coarse = np.asarray(np.stack(cells), dtype=np.float32)
    mean = _window_means(coarse, kernel)
    return Guide(window, image, coarse, mean, _inverse_covariance(coarse, mean, kernel, config.epsilon), kernel)


def _window_means(planes: Image, kernel: tuple[int, int]) -> Image:
    means = np.empty_like(planes)
    for plane, mean in zip(planes, means, strict=True):
        cv2.blur(plane, kernel, dst=mean)
    return means


def _filled(depth: NDArray[np.float32], size: tuple[int, int]) -> Image:
    """Depth without holes: what is missing takes the mean of what is near, or of all. size: width, height of the mask
    grid."""
    valid = (depth > 0).view(np.uint8)
    if valid.all():
        return np.asarray(cv2.medianBlur(depth, 3))
    near = cv2.blur(cv2.resize(depth, size, interpolation=cv2.INTER_AREA), _HOLE)
    share = cv2.blur(cv2.resize(valid.astype(np.float32), size, interpolation=cv2.INTER_AREA), _HOLE)
    overall = near.sum() / max(float(share.sum()), 1e-3)
    coarse = np.where(share > 1e-3, near / np.maximum(share, np.float32(1e-3)), overall)
    filling = cv2.resize(coarse, depth.shape[::-1], interpolation=cv2.INTER_LINEAR)
    cv2.copyTo(depth, valid, filling)
    return np.asarray(cv2.medianBlur(filling, 3))


def _inverse_covariance(grid: Image, mean: Image, kernel: tuple[int, int], epsilon: float) -> Image:
    """Inverse [3, 3, h, w] of the covariance of each window plus ``epsilon``, by cofactors."""
    first, second = np.array(_COVARIANCES).T
    covariance = _window_means(grid[first] * grid[second], kernel) - mean[first] * mean[second]
    np.maximum(covariance[:3], 0.0, out=covariance[:3])
    covariance[:3] += np.float32(epsilon)
    xx, yy, zz, xy, xz, yz = covariance
    row = (yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy)
    yy_inverse, yz_inverse, zz_inverse = xx * zz - xz * xz, xy * xz - xx * yz, xx * yy - xy * xy
    determinant = np.maximum(xx * row[0] + xy * row[1] + xz * row[2], np.float32(epsilon**3))
    cofactors = np.stack([*row, row[1], yy_inverse, yz_inverse, row[2], yz_inverse, zz_inverse])
    return np.asarray((cofactors / determinant).reshape(3, 3, *determinant.shape))


def refined(guide: Guide, masks: Sequence[Crop], grid: MaskGrid) -> list[Crop]:
    """Masks on the grid by way of the filter: what ``refine`` gives, at windows of the network's pixels. What lies on
    the padding is left out."""
    top, bottom, left, right = guide.window
    columns, rows = (_shift(pixels / grid.stride) for pixels in grid.shift_px)
    found, s = [], grid.stride
    for cells, place in masks:
        y0, y1, x0, x1 = max(place[0], top), min(place[1], bottom), max(place[2], left), min(place[3], right)
        if y0 >= y1 or x0 >= x1:
            found.append((cells[:0, :0], (0, 0, 0, 0)))
            continue
        if grid.shift_px != (0.0, 0.0):
            cells = np.asarray(cv2.sepFilter2D(cells, -1, columns, rows, borderType=cv2.BORDER_REPLICATE))
        cells = cells[y0 - place[0] : y1 - place[0], x0 - place[2] : x1 - place[2]]
        fine = refine(guide, cells, (y0 - top, y1 - top, x0 - left, x1 - left))
        found.append((fine, (s * y0, s * y1, s * x0, s * x1)))
    return found


@lru_cache(maxsize=32)
def _shift(cells: float) -> Image:
    """Filter taps that take a mask back by ``cells``, by linear interpolation."""
    reach = int(np.ceil(abs(cells)))
    return np.maximum(0.0, 1.0 - np.abs(np.arange(-reach, reach + 1) - cells)).astype(np.float32)


def refine(guide: Guide, logits: Image, window: Window) -> Image:
    """Logits [h, w] of a mask at ``window`` of the guide's cells to 4 P - 2, P the filtered probability, at the
    network's pixels there: above 0 inside the mask, steep as logits at its edge."""
    y0, y1, x0, x1 = window
    there = (..., slice(y0, y1), slice(x0, x1))
    p = FINE_LIMIT * np.tanh(0.5 * logits)  # 4 P - 2 of the logits: as steep where they cross 0
    p_mean, mean = cv2.blur(p, guide.kernel), guide.mean[there]
    covariance = _window_means(guide.grid[there] * p, guide.kernel) - mean * p_mean
    slopes = np.add.reduce(guide.inverse[there] * covariance, axis=1)
    offset = p_mean - np.add.reduce(slopes * mean, axis=0)
    stride = guide.image[0].shape[0] // guide.grid.shape[1]
    size = (stride * (x1 - x0), stride * (y1 - y0))
    pixels = (slice(stride * y0, stride * y1), slice(stride * x0, stride * x1))
    fitted, *gains = (
        cv2.resize(cv2.blur(plane, guide.kernel), size, interpolation=cv2.INTER_LINEAR) for plane in (offset, *slopes)
    )
    for gain, plane in zip(gains, guide.image, strict=True):
        gain *= plane[pixels]
        fitted += gain
    return np.asarray(np.clip(fitted, -FINE_LIMIT, FINE_LIMIT, out=fitted))
