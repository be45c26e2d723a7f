"""Blur and a dirty lens: edges that are always there, against how sharp they are usually."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from robin_perception.core.errors import Code
from robin_perception.monitors.cause import Cause, Surroundings, Usual
from robin_perception.monitors.config import MonitorsConfig
from robin_perception.monitors.look import Floats, Look
from robin_perception.monitors.reference import Reference, opaque_cells, smooth_cells

_LEAST_CELLS = 20
_LEAST_ENERGY = 0.05  # grey squared
_DISPLAY_GAMMA = 2.2
_SHARPEST = 0.6  # quantile of the edges by their usual sharpness; the rest is half noise
_EDGE = 100.0  # mean squared grey step of a cell with a strong edge
_LOST = -2.0  # log2 of a cell's contrast energy over the usual one, where dirt covers it
_HOLE = 0.3  # share of a cell's depth that is lost with it
_LOOKS = 3  # in a row that dirt shows in the same place
_WHOLE = 0.8  # share of a cell's pixels that usually have depth
_WHITE = 0.8  # linear light, beyond which an edge is cut off
_OWN = 0.1  # share of commissioning frames in which a place may look like dirt


def _energy_ratio(now: Floats, usual: Floats, look: Look, reference: Reference) -> Floats:
    """log2 of edges' energy over the usual one, as it would be in the usual light; [rows, columns]."""
    known = reference.known(look)
    with np.errstate(invalid="ignore", divide="ignore"):
        light = np.log2(np.maximum(look.light, 1e-4) / np.maximum(reference.light, 1e-4))
        gain = 2.0 / _DISPLAY_GAMMA * np.median(light[known])
        return np.asarray(np.log2(np.maximum(now, _LEAST_ENERGY) / usual) - gain)


class Blur(Cause):
    """Energy of the finest differences at the sharpest edges. Without a baseline: how sharp the sharpest edges are,
    goods included, in themselves: a sharp lens has print and outlines of one or two pixels, whatever lies there."""

    name, code, unit = "blur", Code.PICTURE_BLURRED, "halvings"
    spoiled_by = frozenset({"frozen", "dark", "over_exposed", "camera_moved"})
    default = Usual(1.25, 0.25), 1.3

    def measure(self, look: Look, around: Surroundings) -> float | None:
        reference = around.reference
        if reference is None:
            edges = look.coarse > _EDGE
            if np.count_nonzero(edges) < _LEAST_CELLS:
                return None
            sharpest = float(np.quantile(look.fine[edges] / look.coarse[edges], 0.9))
            return -float(np.log2(max(sharpest, 1e-3)))
        edges = reference.edged(look) & (look.light < _WHITE)
        if np.count_nonzero(edges) < _LEAST_CELLS:
            return None
        edges &= reference.fine >= np.quantile(reference.fine[edges], _SHARPEST)
        return -float(np.median(_energy_ratio(look.fine, reference.fine, look, reference)[edges]))

    def text(self, deviation: float) -> str:
        share = 100 * 2.0**-deviation
        return f"edges of the cell have {share:.0f} % of their usual sharpness: look at focus, mount and vibration"


class DirtyLens(Cause):
    """Share of the picture that dirt covers: edges of the cell that have gone with their depth, and patches that stay
    smooth, bright and without depth in the same pixels whatever goods lie there."""

    name, code, unit = "dirty_lens", Code.LENS_DIRTY, "share"
    spoiled_by = frozenset({"frozen", "dark", "over_exposed", "camera_moved", "blur"})

    def __init__(self, config: MonitorsConfig) -> None:
        self._smooth: deque[NDArray[np.bool_]] = deque(maxlen=_LOOKS)
        super().__init__(config)

    def reset(self) -> None:
        self._smooth.clear()

    def measure(self, look: Look, around: Surroundings) -> float | None:
        reference = around.reference
        if reference is None:
            return None
        self._smooth.append(opaque_cells(look))
        share = self._patches(look, reference) if len(self._smooth) == _LOOKS else 0.0
        edges = reference.edged(look)
        if np.count_nonzero(edges) < _LEAST_CELLS:
            return share
        gone = _energy_ratio(look.coarse, reference.coarse, look, reference)[edges] < _LOST
        without_depth = (reference.has_depth - look.has_depth)[edges] > _HOLE
        return max(share, float((gone & without_depth).mean()))

    def _patches(self, look: Look, reference: Reference) -> float:
        """Share of the picture that stays smooth and without depth, less what holes in depth would make of smooth
        places."""
        stays = np.logical_and.reduce(self._smooth) & (reference.opaque < _OWN)
        whole = reference.known(look) & (reference.has_depth > _WHOLE)
        holes = float((look.has_depth[whole] < _HOLE).mean()) if whole.any() else 0.0
        return max(0.0, float(stays.mean()) - holes * float(smooth_cells(look).mean()))

    def text(self, deviation: float) -> str:
        return f"{100 * deviation:.0f} % of the picture is covered: clean the camera's glass"
