"""What hangs on the tool, as a look from below shows it: laid on a grid in the lip plane, without the tool itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_grasp.picks.traces import LoadView
from robin_grasp.tool import ToolConfig
from robin_perception.core.frame import Frame

HALF_M, CELL_M = 0.60, 0.005  # of the grid
CELLS = round(2 * HALF_M / CELL_M)
ABOVE_LIPS_M = 0.026  # as far above the lips a face may be drawn up, and measured too high
ABOVE_LIPS_BEFORE_TOOL_M = 0.020  # the same before the tool's plate, which lies a little higher
OVER_LIPS_M = 0.025  # this far below the lips no lip is seen
DEEPEST_M = 0.60  # below the lips nothing hangs that is a parcel
BRIGHT = 30  # mean of the three channels, of 255: more than the noise of an unlit background
BRIGHTER_THAN_TOOL = 100
LEAST_CELLS = 40  # 10 cm²: less is no parcel
NAN = math.nan

Mask = NDArray[np.bool_]
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Silhouette:
    """On the grid in the lip plane (rows y, columns x of the tool frame): load bool [CELLS, CELLS]; height float32
    [CELLS, CELLS], depth below the lips, m, NaN elsewhere. rows: int64 [H, W] grid cell of each pixel of the view that
    shows the load, -1 elsewhere."""

    load: Mask
    height: NDArray[np.float32]
    cells: NDArray[np.int64]


def silhouette(view: LoadView, tool: ToolConfig) -> Silhouette:
    """What hangs on the tool, without the tool itself.

    A lip is where a thin load is, so what is seen within a lip's circle counts only where load lies around it. Film
    and gloss leave holes in the depth; behind a load is nothing that the lamps light, so what is bright is load too.
    """
    depth = _holes_filled(view, tool, np.asarray(cv2.medianBlur(view.frame.depth, 5), dtype=np.float32))
    x, y, z = tool_points(view.frame, depth, np.linalg.inv(view.T_base_tool))
    above_m = np.where(_before_tool(x, y, tool), ABOVE_LIPS_BEFORE_TOOL_M, ABOVE_LIPS_M)
    hangs = (depth > 0) & (z > -above_m) & (z < DEEPEST_M)
    low = np.flatnonzero(hangs & (z <= OVER_LIPS_M))
    hangs.ravel()[low] = ~_in_lips(x.ravel()[low], y.ravel()[low], tool)
    cells = np.full(depth.shape, -1, dtype=np.int64)
    cells[hangs] = grid_cells(x[hangs], y[hangs])
    shown = cells >= 0
    # Ascending in height: what is written last stays, the lowest face of each cell.
    order = np.argsort(z[shown])
    flat = np.full(CELLS * CELLS, np.nan, dtype=np.float32)
    flat[cells[shown][order]] = z[shown][order]
    height = flat.reshape(CELLS, CELLS)
    load = _without_lips(closed(np.isfinite(height)), tool)
    # What is left of the tool is a fringe, one or two cells wide.
    load = _without_specks(cv2.morphologyEx(load.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3))) > 0)
    cells[shown & ~load.ravel()[np.maximum(cells, 0)]] = -1
    return Silhouette(load, np.where(load, height, np.float32(NAN)), cells)


def _holes_filled(view: LoadView, tool: ToolConfig, depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Depth, but that of a face at the lips where no load is measured and the picture is bright all the same: brighter
    than what no lamp reaches, and before the tool brighter than that."""
    T_tool_base = np.linalg.inv(view.T_base_tool)
    T = T_tool_base @ view.frame.T_base_camera
    at_lips = np.full(depth.shape, np.float32(abs(T[2, 3] / T[2, 2])))
    x, y, _ = tool_points(view.frame, at_lips, T_tool_base)
    unmeasured = (depth == 0) | (tool_points(view.frame, depth, T_tool_base)[2] < -ABOVE_LIPS_M)
    red, green, blue = cv2.split(view.frame.rgb)
    bright = red.astype(np.uint16) + green + blue
    least = np.where(_before_tool(x, y, tool), np.uint16(3 * BRIGHTER_THAN_TOOL), np.uint16(3 * BRIGHT))
    return np.where(unmeasured & (bright > least), at_lips, depth)


def _before_tool(x: Floats, y: Floats, tool: ToolConfig) -> Mask:
    """Where the tool's plate lies behind a place in the lip plane."""
    half_x, half_y = tool.plate_half_size_m
    return np.asarray((np.abs(x) < 1.1 * half_x) & (np.abs(y) < 1.1 * half_y))


def _in_lips(x: Floats, y: Floats, tool: ToolConfig) -> Mask:
    """Where a place in the lip plane lies within the circle of a lip."""
    near = np.zeros(x.shape, dtype=bool)
    for cx, cy, _ in tool.cups_m:
        near |= (x - cx) ** 2 + (y - cy) ** 2 < (1.15 * tool.cup_radius_m) ** 2
    return near


def _without_lips(load: Mask, tool: ToolConfig) -> Mask:
    """Holes of the load that lips cut into it are filled: those in it, and those that a closing spans."""
    middle = (np.arange(CELLS) + 0.5) * CELL_M - HALF_M
    x, y = np.meshgrid(middle, middle)
    lips = _in_lips(x, y, tool)
    span = 2 * round(1.15 * tool.cup_radius_m / CELL_M) + 1
    bridged = cv2.morphologyEx(load.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((span, span))) > 0
    return load | (bridged & lips)


def tool_points(
    frame: Frame, depth: NDArray[np.float32], T_tool_base: NDArray[Any]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """x, y and z in the tool frame, m, float32 [H, W] each, of a depth image of the frame; without meaning where there
    is none."""
    T = T_tool_base @ frame.T_base_camera
    rays = (T[:3, :3] @ np.linalg.inv(frame.K)).astype(np.float32)
    u, v = np.arange(frame.width, dtype=np.float32), np.arange(frame.height, dtype=np.float32)[:, None]
    x, y, z = (
        (ray[0] * u + (ray[1] * v + ray[2])) * depth + np.float32(at) for ray, at in zip(rays, T[:3, 3], strict=True)
    )
    return x, y, z


def grid_cells(x: Floats, y: Floats) -> NDArray[np.int64]:
    """Flat index of the grid's cell, -1 beyond the grid."""
    i, j = np.floor((y + HALF_M) / CELL_M), np.floor((x + HALF_M) / CELL_M)
    inside = (i >= 0) & (i < CELLS) & (j >= 0) & (j < CELLS)
    return np.where(inside, i * CELLS + j, -1).astype(np.int64)


def closed(mask: Mask) -> Mask:
    return np.asarray(cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5))) > 0)


def _without_specks(mask: Mask) -> Mask:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    large = stats[:, cv2.CC_STAT_AREA] >= LEAST_CELLS
    large[0] = False
    return np.asarray(large[labels]) if count > 1 else mask
