"""Colour and depth that no longer belong together."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_perception.core.errors import Code
from robin_perception.monitors.cause import Cause, Surroundings, Usual
from robin_perception.monitors.config import MonitorsConfig
from robin_perception.monitors.look import Floats, Look

_REACH = 8  # thinned pixels, either way
_STEP_M = 0.03  # of an outline in depth
_LOWEST_M = -0.05  # below that lies the hall's floor, which is noisy
_STRONGEST = 40.0  # grey step beyond which an edge counts no more
_KEPT = 0.7  # of what earlier frames showed
_PROMINENT = 3.5  # standard deviations of the peak above the rest
_BROAD = 2.0  # thinned pixels: what varies more slowly with the shift is no fit of edges
_NOMINAL_WIDTH = 640.0


class ColourDepthApart(Cause):
    """Outlines in depth are shifted over the edges in colour; where they fit best tells how far the two are apart. What
    the goods print beside their outlines averages out over frames. In pixels of a picture 640 columns wide."""

    name, code, unit = "colour_depth_apart", Code.COLOUR_DEPTH_APART, "px"
    spoiled_by = frozenset({"frozen", "depth_unit", "blur"})
    default = Usual(0.8, 0.35), 3.0

    def __init__(self, config: MonitorsConfig) -> None:
        self._fit: Floats | None = None
        super().__init__(config)

    def reset(self) -> None:
        self._fit = None

    def measure(self, look: Look, around: Surroundings) -> float | None:
        fit = _fit_of_shifts(look)
        if self._fit is None or self._fit.shape != fit.shape:
            self._fit = fit
        else:
            self._fit = _KEPT * self._fit + (1.0 - _KEPT) * fit
        peak = _peak(self._fit)
        return None if peak is None else float(np.hypot(*peak)) * look.step * _NOMINAL_WIDTH / look.frame.width

    def text(self, deviation: float) -> str:
        return f"depth lies {deviation:.1f} px beside the colour: align them, look at the camera's calibration"


def _fit_of_shifts(look: Look) -> Floats:
    """Correlation of the edges for each shift, float32 [2 _REACH + 1, 2 _REACH + 1]."""
    across = cv2.Sobel(look.grey, cv2.CV_32F, 1, 0, ksize=1)
    along = cv2.Sobel(look.grey, cv2.CV_32F, 0, 1, ksize=1)
    colour = np.minimum(cv2.magnitude(across, along), np.float32(_STRONGEST))
    h, v = look.height, look.valid
    outline = np.zeros(h.shape, dtype=np.float32)
    outline[:, 1:-1] = _step(h[:, 2:], h[:, :-2]) & v[:, 2:] & v[:, :-2]
    outline[1:-1] = np.maximum(outline[1:-1], _step(h[2:], h[:-2]) & v[2:] & v[:-2])
    inner = np.ascontiguousarray(outline[_REACH:-_REACH, _REACH:-_REACH])
    if not inner.any():
        return np.zeros((2 * _REACH + 1, 2 * _REACH + 1), dtype=np.float32)
    return np.asarray(cv2.matchTemplate(colour, inner, cv2.TM_CCOEFF_NORMED), dtype=np.float32)


def _step(one: Floats, other: Floats) -> NDArray[np.bool_]:
    return np.asarray((np.abs(one - other) > _STEP_M) & (np.maximum(one, other) > _LOWEST_M))


def _peak(fit: Floats) -> tuple[float, float] | None:
    """(right, down) of the best shift, thinned pixels; None where no shift stands out, or it lies at the border."""
    fit = fit - cv2.GaussianBlur(fit, (0, 0), _BROAD)
    row, column = (int(i) for i in np.unravel_index(np.argmax(fit), fit.shape))
    last = fit.shape[0] - 1
    stands_out = fit[row, column] > _PROMINENT * float(fit.std())
    if not stands_out or not (0 < row < last and 0 < column < last):
        return None
    return column + _vertex(fit[row, column - 1 : column + 2]) - _REACH, row + _vertex(
        fit[row - 1 : row + 2, column]
    ) - _REACH


def _vertex(three: Floats) -> float:
    """Of the parabola through three equally spaced values, from the middle one."""
    bend = float(three[0] - 2 * three[1] + three[2])
    return 0.5 * float(three[0] - three[2]) / bend if bend < 0 else 0.0
