"""Blur and a dirty lens: edges that are always there, against how sharp they are usually."""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_perception.core.errors import Code
from robin_perception.monitors.cause import Cause, Surroundings, Usual
from robin_perception.monitors.config import MonitorsConfig
from robin_perception.monitors.look import Look
from robin_perception.monitors.reference import NO_DEPTH, SMOOTH, Reference, goods_without_depth, opaque_cells

_LEAST_CELLS = 20
_LEAST_ENERGY = 0.05  # grey squared
_DISPLAY_GAMMA = 2.2
_SHARPEST = 0.6  # quantile of the edges by their usual sharpness; the rest is half noise
_STRONG = 100.0  # times the noise's variance: what is weaker may be noise of bright places, which no blur takes
_LEAST_STRONG = 40  # cells
_LEAST_BLURRED = 0.65  # quantile of these edges: goods without a mask lie over some, a moved camera leaves some
_EDGE = 100.0  # mean squared grey step of a cell with a strong edge
_LOST = 0.25  # of a cell's contrast energy is left at most where dirt covers it
_FADED = 0.6  # ... where there may be a little
_BESIDE = np.ones((3, 3), np.uint8)  # cells; dirt is out of focus, and wider
_LEAST_CLEAR = 30  # cells
_GONE_BY_CHANCE = 0.015  # share of the edges that lie in a shadow of goods
_STRAY = 1  # cell of a frame, that a rim of goods without a mask takes
_DIMMED = 0.75  # of the light that the rest of the cell has left: dirt scatters light, dark goods without a mask do not
_HOLE = 0.3  # share of a cell's depth that is lost with it
_LOOKS = 3  # in a row that dirt shows in the same place
_WHOLE = 0.8  # share of a cell's pixels that usually have depth
_MOST_ELSEWHERE = 0.1  # share of clear places that stay without depth
MOST_GOODS_DIRTY = 0.5
"""Share of the goods that dirt hides."""
_WHITE = 0.8  # linear light, beyond which an edge is cut off
_OVER_NOISE = 30.0  # times the noise's variance: an edge that is told from it
_VEIL = 1.3  # times as bright as the rest of the cell
_OWN = 0.1  # share of commissioning frames in which a place may look like dirt


def _light_gain(look: Look, reference: Reference) -> float:
    """log2 of what edges' energy is multiplied by in this light, in display values."""
    known = reference.known(look)
    if not known.any():
        return 0.0
    light = np.maximum(look.light[known], 1e-4) / np.maximum(reference.light[known], 1e-4)
    return 2.0 / _DISPLAY_GAMMA * float(np.median(np.log2(light)))


def _contrast_left(look: Look, reference: Reference) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Cells [rows, columns] with an edge that stands out from today's noise, and what is left of each cell's contrast.

    White noise is the same in fine and coarse differences: what is between them is contrast, in poor light too.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        usual = (reference.coarse - reference.fine) * np.float32(2.0 ** _light_gain(look, reference))
        edges = reference.edged(look) & (usual > _OVER_NOISE * look.noise**2)
        return edges, (look.coarse - look.fine) / usual


def _light_left(look: Look, reference: Reference) -> NDArray[np.float32]:
    """Light of the cells [rows, columns] over what is usual there and the change of light explains; NaN where nothing
    is known."""
    known = reference.known(look)
    gain = np.maximum(look.light, 1e-4) / np.maximum(reference.light, 1e-4)
    return np.asarray(gain / np.median(gain[known]) if known.any() else gain * np.nan, dtype=np.float32)


def _veiled(look: Look, reference: Reference) -> NDArray[np.bool_]:
    """Free cells [rows, columns] that show nothing, have no depth, and are brighter than the light explains: dirt over
    a dark floor, which is dark beside bright goods."""
    brighter = _light_left(look, reference) > _VEIL
    return reference.known(look) & (look.coarse < SMOOTH) & (look.has_depth < NO_DEPTH) & brighter


def clear_places(look: Look, reference: Reference) -> NDArray[np.bool_]:
    """Free cells [rows, columns] that no dirt covers, for beside them edges are as sharp as ever: the plain ones, or
    these edges where too few are plain. On what is plain depth needs the projector, edges have it without."""
    edges, left = _contrast_left(look, reference)
    intact = edges & (left > _FADED)
    near, faded = (cv2.dilate(cells.astype(np.uint8), _BESIDE) > 0 for cells in (intact, edges & ~intact))
    plain = near & ~faded & reference.known(look) & ~reference.edged(look)
    return plain if np.count_nonzero(plain) >= _LEAST_CLEAR else intact & ~faded


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
        edges &= reference.has_depth - look.has_depth < _HOLE  # dirt takes depth from what it makes soft
        if np.count_nonzero(edges) < _LEAST_CELLS:
            return None
        strong = edges & (reference.coarse - reference.fine > _STRONG * reference.noise**2)
        if np.count_nonzero(strong) >= _LEAST_STRONG:
            edges = strong
        edges &= reference.fine >= np.quantile(reference.fine[edges], _SHARPEST)
        ratio = np.log2(np.maximum(look.fine[edges], _LEAST_ENERGY) / reference.fine[edges])
        return _light_gain(look, reference) - float(np.quantile(ratio, _LEAST_BLURRED))

    def text(self, deviation: float) -> str:
        share = 100 * 2.0**-deviation
        return f"edges of the cell have {share:.0f} % of their usual sharpness: look at focus, mount and vibration"


class DirtyLens(Cause):
    """Share of the picture that dirt covers: edges of the cell that have gone with their depth, and patches that stay
    smooth, bright and without depth in the same pixels whatever goods lie there. Where the camera may have moved the
    edges say nothing; a patch does, for it moves with the camera."""

    name, code, unit = "dirty_lens", Code.LENS_DIRTY, "share"
    spoiled_by = frozenset({"frozen", "over_exposed", "blur"})

    def __init__(self, config: MonitorsConfig) -> None:
        self._smooth: deque[NDArray[np.bool_]] = deque(maxlen=_LOOKS)
        self._lost: deque[NDArray[np.bool_]] = deque(maxlen=_LOOKS)
        super().__init__(config)

    def reset(self) -> None:
        self._smooth.clear()
        self._lost.clear()
        self._gone: deque[tuple[int, int, float]] = deque(maxlen=_LOOKS)

    def measure(self, look: Look, around: Surroundings) -> float | None:
        reference = around.reference
        if reference is None:
            return None
        self._smooth.append(opaque_cells(look) | _veiled(look, reference))
        edges, left = _contrast_left(look, reference)
        without_depth = reference.has_depth - look.has_depth > _HOLE
        self._lost.append(without_depth)
        whole = reference.known(look) & (reference.has_depth > _WHOLE)
        clear = whole & clear_places(look, reference)
        clear = clear if np.count_nonzero(clear) >= _LEAST_CELLS else whole
        elsewhere = float(without_depth[clear].mean()) if clear.any() else 0.0
        patches = self._patches(look, reference, clear) if len(self._smooth) == _LOOKS else 0.0
        if "camera_moved" in around.suspects:
            return patches or None
        if np.count_nonzero(edges) < _LEAST_CELLS:
            return None if "dark" in around.suspects else patches
        gone = (left[edges] < _LOST) & (_light_left(look, reference)[edges] > _DIMMED)
        by_chance = max(_GONE_BY_CHANCE * float(without_depth[edges].mean()), elsewhere * float(gone.mean()))
        self._gone.append((int(np.count_nonzero(gone & without_depth[edges])), len(gone), by_chance))
        covered, seen, chance = np.sum(self._gone, axis=0)
        return max(patches, float((covered - _STRAY * len(self._gone)) / seen - chance / len(self._gone)))

    def _patches(self, look: Look, reference: Reference, clear: NDArray[np.bool_]) -> float:
        """Share of the picture that stays smooth and without depth; where much of what is ``clear`` stays without it,
        too, or most goods are, it is not dirt that takes it."""
        if clear.any() and np.logical_and.reduce(self._lost)[clear].mean() > _MOST_ELSEWHERE:
            return 0.0
        stays = np.logical_and.reduce(self._smooth) & (reference.opaque < _OWN)
        if goods_without_depth(look) > MOST_GOODS_DIRTY:
            stays &= ~look.cell_goods
        return float(stays.mean())

    def text(self, deviation: float) -> str:
        return f"{100 * deviation:.0f} % of the picture is covered: clean the camera's glass"
