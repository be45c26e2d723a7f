"""Holes in the depth image, and depth in a wrong unit."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from robin_perception.core.errors import Code
from robin_perception.core.gate import distance_ratio
from robin_perception.monitors.cause import Cause, Surroundings, Usual
from robin_perception.monitors.config import MonitorsConfig
from robin_perception.monitors.look import Look
from robin_perception.monitors.optics import MOST_GOODS_DIRTY, clear_places
from robin_perception.monitors.reference import Reference, goods_without_depth

_LEAST_CELLS = 30
_WHOLE = 0.8  # share of a cell's pixels that usually have depth
_PER_DARK_STOP = 0.1  # holes that a failing light explains
_MOST_DARK = 0.12  # ... of those that come and go
_LOOKS = 3  # in a row, in which dirt takes the same depth
_MOST_GOODS_BARE = 0.35  # share of plain, bright goods that have no depth by nature: clear film has hardly a fifth
_MOST_DIRT = 0.45  # share of the depth that dirt may take
_PER_BLUR = 0.05  # ... and that blur does


class DepthHoles(Cause):
    """Share of the depth that is missing where it usually is and no goods lie: a dead projector, sunlight, a cable.

    Clear bags and mesh lose depth themselves and are not looked at. Plain, bright goods count where most of them have
    no depth: a belt with a pattern keeps its depth without a projector. What dark and blur take away is taken off.
    Where there is or may be dirt, only places count that it does not cover. Where it is too dark to see these, holes
    count that come and go, for dirt stays, and those that are more than dirt covers.
    """

    name, code, unit = "depth_holes", Code.DEPTH_HOLES, "share"
    spoiled_by = frozenset({"frozen", "depth_unit", "camera_moved", "colour_depth_apart"})
    default = Usual(0.08, 0.05), 0.3

    def __init__(self, config: MonitorsConfig) -> None:
        self._lost: deque[NDArray[np.float32]] = deque(maxlen=_LOOKS)
        super().__init__(config)

    def reset(self) -> None:
        self._lost.clear()

    def measure(self, look: Look, around: Surroundings) -> float | None:
        reference = around.reference
        if reference is None:
            if np.count_nonzero(look.cell_free) < _LEAST_CELLS:
                return None
            return 1.0 - float(look.has_depth[look.cell_free].mean()) - self._explained(around)
        free = self._on_free_places(look, around, reference)
        dirt_is_told = "dirty_lens" in around.found
        usual = _MOST_GOODS_BARE if dirt_is_told else MOST_GOODS_DIRTY
        on_goods = 0.0 if "dirty_lens" in around.suspects else goods_without_depth(look) - usual
        if free is None:
            return on_goods if on_goods > 0.0 else None
        return max(free, on_goods)

    def _on_free_places(self, look: Look, around: Surroundings, reference: Reference) -> float | None:
        whole = reference.known(look) & (reference.has_depth > _WHOLE)
        lost = np.where(whole, np.maximum(0.0, reference.has_depth - look.has_depth), np.float32(np.nan))
        self._lost.append(lost)
        if "blur" in around.suspects:
            whole &= ~reference.edged(look)  # it takes depth away at outlines
        elif "dirty_lens" in around.suspects or "dirty_lens" not in around.found:  # not measured: there may be some
            whole &= clear_places(look, reference)
            if np.count_nonzero(whole) < _LEAST_CELLS:
                return self._not_dirt(around)
        if np.count_nonzero(whole) < _LEAST_CELLS:
            return None
        return float(lost[whole].mean()) - self._explained(around)

    def _not_dirt(self, around: Surroundings) -> float | None:
        recent = np.stack(self._lost)
        seen = np.isfinite(recent).all(axis=0)
        if len(recent) < _LOOKS or np.count_nonzero(seen) < _LEAST_CELLS:
            return None
        stays, mean = float(recent[:, seen].min(axis=0).mean()), float(recent[:, seen].mean())
        return max(mean - stays - min(_MOST_DARK, self._explained(around)), stays - _MOST_DIRT)

    def _explained(self, around: Surroundings) -> float:
        dark = _PER_DARK_STOP * max(0.0, around.found.get("dark", 0.0))
        return dark + (_PER_BLUR if "blur" in around.suspects else 0.0)

    def text(self, deviation: float) -> str:
        return f"{100 * deviation:.0f} % of the depth is missing where it usually is: look at the infrared projector"


class DepthUnit(Cause):
    """Depth over the distance that the camera's pose says, in doublings: goods change it a little, a unit a lot."""

    name, code, unit = "depth_unit", Code.DEPTH_UNIT_SUSPECT, "doublings"
    spoiled_by = frozenset({"frozen"})
    default = Usual(0.0, 0.1), 1.0

    def measure(self, look: Look, around: Surroundings) -> float | None:
        ratio = distance_ratio(look.frame)
        return None if ratio is None or ratio <= 0 else abs(math.log2(ratio))

    def text(self, deviation: float) -> str:
        return f"depth is off by a factor of {2.0**deviation:.3g}: look at depth_scale, metres per unit"
