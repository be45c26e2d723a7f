"""What a station's camera sees where no goods lie: a picture made of many frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robin_perception.monitors.look import Floats, Look

_SEEN_SHARE = 0.3  # of the frames in which a cell must have been free to be known
_LEAST_EDGE = 12.0  # mean squared grey step of a cell that has an edge worth looking at
SMOOTH = 25.0
"""... of a cell that shows nothing."""
_BRIGHT = 0.5  # of the picture's middle light: dirt scatters light, black goods do not
_WHITE = 0.85  # linear light: gloss
NO_DEPTH = 0.3
"""Share of a cell's pixels that have depth at most where it has none."""
_LEAST_GOODS = 20  # cells


@dataclass(frozen=True)
class Reference:
    """Medians over the frames in which a place was free of goods; NaN where it was too seldom.

    Of cells, float32 [rows, columns]: light, fine, coarse, has_depth, as ``Look`` has them; opaque: share of all frames
    in which a cell looked as dirt does. Of thinned pixels, float32 [h, w]: grey and ground (metres above z = 0).
    brightness: float32 [1, 1], of whole pictures, goods included: linear light of their brighter part, which a camera's
    automatic exposure goes by; noise: RMS, display values.
    """

    light: Floats
    fine: Floats
    coarse: Floats
    has_depth: Floats
    opaque: Floats
    grey: Floats
    ground: Floats
    brightness: Floats
    noise: Floats

    def known(self, look: Look) -> NDArray[np.bool_]:
        """Cells [rows, columns] that are free now and were seen at commissioning."""
        return np.asarray(look.cell_free & np.isfinite(self.light))

    def edged(self, look: Look) -> NDArray[np.bool_]:
        """... that have an edge."""
        return np.asarray(self.known(look) & (self.coarse > _LEAST_EDGE) & (self.fine > 0))


def smooth_cells(look: Look) -> NDArray[np.bool_]:
    """Cells [rows, columns] that show nothing, and are neither dark nor white."""
    light = look.light
    return np.asarray((look.coarse < SMOOTH) & (light > _BRIGHT * np.median(light)) & (light < _WHITE))


def opaque_cells(look: Look) -> NDArray[np.bool_]:
    """... that have no depth either: what dirt on the glass looks like."""
    return np.asarray(smooth_cells(look) & (look.has_depth < NO_DEPTH))


def goods_without_depth(look: Look) -> float:
    """Share of the plain, bright goods that has none; 0 where too few lie there. Stereo cannot match what is plain
    without a projector. Clear, black and glossy goods have no depth by nature; they are not plain and bright."""
    goods = look.cell_goods & smooth_cells(look)
    if np.count_nonzero(goods) < _LEAST_GOODS:
        return 0.0
    return float((look.has_depth[goods] < NO_DEPTH).mean())


def make_reference(looks: Sequence[Look]) -> Reference:
    """From at least one look, all of one size."""
    cells = np.stack([look.cell_free for look in looks])
    pixels = np.stack([look.free for look in looks])
    measured = np.stack([look.valid for look in looks]) & pixels
    return Reference(
        _median(np.stack([look.light for look in looks]), cells),
        _median(np.stack([look.fine for look in looks]), cells),
        _median(np.stack([look.coarse for look in looks]), cells),
        _median(np.stack([look.has_depth for look in looks]), cells),
        np.mean([opaque_cells(look) for look in looks], axis=0, dtype=np.float32),
        _median(np.stack([look.grey for look in looks]), pixels),
        _median(np.stack([look.height for look in looks]), measured),
        np.full((1, 1), np.median([look.brightness for look in looks]), dtype=np.float32),
        np.full((1, 1), np.median([look.noise for look in looks]), dtype=np.float32),
    )


def _median(values: Floats, counted: NDArray[np.bool_]) -> Floats:
    """Along the first axis, of what is counted; NaN where that is less than ``_SEEN_SHARE``."""
    rest = np.where(counted, values, np.nan)
    enough = counted.mean(axis=0) >= _SEEN_SHARE
    middle = np.nanmedian(np.where(enough[None], rest, 0.0), axis=0)
    return np.where(enough, middle, np.nan).astype(np.float32)
