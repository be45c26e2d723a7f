"""What a look at the load from above adds to the one from below: what the load hides from below, and what lies on it.
Both are laid on the same grid in the lip plane.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_grasp.picks.load_shapes import grown, off_plane
from robin_grasp.picks.silhouette import (
    CELLS,
    DEEPEST_M,
    Mask,
    Silhouette,
    closed,
    grid_cells,
    tool_points,
    without_specks,
)
from robin_grasp.picks.traces import LoadView
from robin_grasp.tool import ToolConfig

RIDES_M = 0.030  # above the lips, where no face is that a cup holds
RIDES_OFF_M = 0.025  # off the top's main plane: a load that hangs askew reaches above the lips too
HIGHEST_M = 0.40  # above the lips lies no parcel
TOOL_MARGIN_M = 0.018  # about the tool, where pixels mix it with what is behind
SLACK_CELLS = 4  # between outlines of two cameras


@dataclass(frozen=True)
class Top:
    """On the grid in the lip plane: shown bool [CELLS, CELLS], where the load's top is seen; height float32 [CELLS,
    CELLS], of the highest face there above the lips, m, NaN elsewhere."""

    shown: Mask
    height: NDArray[np.float32]


def top_of_load(view: LoadView, tool: ToolConfig) -> Top:
    """What lies at the tool, seen from above, without the tool itself."""
    depth = np.asarray(cv2.medianBlur(view.frame.depth, 5), dtype=np.float32)
    x, y, z = tool_points(view.frame, depth, np.linalg.inv(view.T_base_tool))
    lies = (depth > 0) & (z < DEEPEST_M) & (z > -HIGHEST_M)
    x, y, up = x[lies], y[lies], -z[lies]
    of_load = np.ones(len(up), dtype=bool)
    for half_x, half_y, _, top in tool.boxes_m:
        inside = (np.abs(x) < half_x + TOOL_MARGIN_M) & (np.abs(y) < half_y + TOOL_MARGIN_M)
        of_load &= ~(inside & (up > 0.5 * TOOL_MARGIN_M) & (up < top + TOOL_MARGIN_M))
    cells, up = grid_cells(x[of_load], y[of_load]), up[of_load]
    cells, up = cells[cells >= 0], up[cells >= 0]
    order = np.argsort(up)  # what is written last stays, the highest face of each cell
    flat = np.full(CELLS * CELLS, np.nan, dtype=np.float32)
    flat[cells[order]] = up[order]
    height = flat.reshape(CELLS, CELLS)
    shown = cv2.morphologyEx(closed(np.isfinite(height)).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3))) > 0
    shown = without_specks(shown)
    return Top(shown, np.where(shown, height, np.float32(np.nan)))


def with_hidden(below: Silhouette, top: Top) -> Silhouette:
    """The load with what is seen from above only; its depth below the lips is not known there. What reaches above the
    lips is left out: the look from below leaves it out too, hidden or not."""
    shown = top.shown & ~(top.height > RIDES_M)
    hidden = without_specks(shown & ~grown(below.load, SLACK_CELLS))
    if not hidden.any():
        return below
    return replace(below, load=below.load | (shown & grown(hidden, SLACK_CELLS + 1)))


def riding(top: Top) -> Mask:
    """Where something lies on the load, bool [CELLS, CELLS]: above the lips, and off the plane of what cups hold."""
    off = np.zeros(top.height.shape, dtype=bool)
    off_m = off_plane(top.height)
    if len(off_m):
        off[np.isfinite(top.height)] = off_m > RIDES_OFF_M
    return without_specks(off & (top.height > RIDES_M))
