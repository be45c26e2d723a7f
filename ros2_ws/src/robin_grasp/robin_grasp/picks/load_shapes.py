"""Shapes on the grid in the lip plane that the look at a load is laid on."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_grasp.picks.silhouette import CELL_M, CELLS, LEAST_CELLS, Mask

STEP_M = 0.012  # of depth between two parts of a load
EDGE_COLOUR = 18.0  # of 255, gradient that parts two faces


def cell_points(mask: Mask) -> NDArray[np.float32]:
    ys, xs = np.nonzero(mask)
    return np.stack([xs, ys], axis=1).astype(np.float32)


def sides(mask: Mask) -> tuple[float, float]:
    """Sides of the smallest rectangle around a mask, the longer first, m."""
    if not mask.any():
        return CELL_M, CELL_M
    _, lengths, _ = cv2.minAreaRect(cell_points(mask))
    return CELL_M * (max(lengths) + 1.0), CELL_M * (min(lengths) + 1.0)


def off_plane(height: NDArray[np.float32]) -> NDArray[np.float64]:
    """Distance of every known cell from the main plane: least squares over the nearer half, three times."""
    ys, xs = np.nonzero(np.isfinite(height))
    if len(xs) < LEAST_CELLS:
        return np.zeros(0)
    A = np.stack([CELL_M * xs, CELL_M * ys, np.ones(len(xs))], axis=1)
    z = height[ys, xs].astype(np.float64)
    off = np.zeros(len(z))
    for _ in range(3):
        near = off <= np.median(off)
        off = np.abs(z - A @ np.linalg.lstsq(A[near], z[near], rcond=None)[0])
    return off


def spread(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Largest difference within 3 x 3 cells, of any channel."""
    kernel = np.ones((3, 3))
    apart = cv2.dilate(image, kernel) - cv2.erode(image, kernel)
    return np.asarray(apart if apart.ndim == 2 else apart.max(axis=2), dtype=np.float32)


def second_share(open_area: Mask, area: float) -> float:
    count, _, stats, _ = cv2.connectedComponentsWithStats(open_area.astype(np.uint8), connectivity=4)
    sizes = np.sort(stats[1:count, cv2.CC_STAT_AREA])[::-1]
    return float(sizes[1]) / area if len(sizes) > 1 else 0.0


def cell_colour(cells: NDArray[np.int64], rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean colour of the load in each cell of the grid, smoothed, float32 [CELLS, CELLS, 3]. cells: int64 [H, W], grid
    cell of each pixel, -1 for none. rgb: uint8 [H, W, 3]."""
    shown = cells >= 0
    cells = cells[shown]
    count = np.maximum(np.bincount(cells, minlength=CELLS * CELLS), 1)
    grid = np.zeros((CELLS, CELLS, 3), dtype=np.float32)
    for channel in range(3):
        total = np.bincount(cells, rgb[..., channel][shown].astype(np.float64), CELLS * CELLS)
        grid[..., channel] = (total / count).reshape(CELLS, CELLS)
    return np.asarray(cv2.medianBlur(grid, 5))


def grown(mask: Mask, cells: int) -> Mask:
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * cells + 1, 2 * cells + 1))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), kernel) > 0)
