"""Colour and depth that no longer belong together."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, rfft2

from robin_perception.core.errors import Code
from robin_perception.monitors.cause import Cause, Surroundings, Usual
from robin_perception.monitors.config import MonitorsConfig
from robin_perception.monitors.look import Floats, Look

_REACH = 8  # thinned pixels, either way
_LEAST_DEPTH = 0.8  # share of the pixels: with less, outlines are those of the holes
_LOW_M, _HIGH_M = 0.01, 0.05  # steps of height between which an outline begins to count, and counts in full
_LOWEST_M = -0.05  # below that lies the hall's floor, which is noisy
_HIGHEST_M = 100.0  # what is higher is no height
_HOLE_PX = 3  # thinned pixels: a hole as wide lies beside what throws it, and is as low as its surroundings
_WHITENED = 0.8  # of the spectrum's amplitude that is taken off; 1 is phase correlation
_FAINTEST = 1e-3  # of the strongest frequency: below that there is noise only
_MARGIN = 0.25  # power of the window that takes the picture's borders off
_KEPT = 0.7  # of what earlier frames showed
_PROMINENT = 5.0  # standard deviations of the peak above the rest
_NEAR, _MOST_ELSEWHERE = 2, 0.55  # thinned pixels from the peak; share of it that another shift may reach
_BROAD = 2.0  # thinned pixels: what varies more slowly with the shift is no fit of edges
_NOMINAL_WIDTH = 640.0


class ColourDepthApart(Cause):
    """Outlines in depth are shifted over the edges in colour; where they fit best tells how far the two are apart. What
    the goods print beside their outlines averages out over frames. In pixels of a picture 640 columns wide."""

    name, code, unit = "colour_depth_apart", Code.COLOUR_DEPTH_APART, "px"
    spoiled_by = frozenset({"frozen", "depth_unit"})
    default = Usual(0.8, 0.35), 3.0

    def __init__(self, config: MonitorsConfig) -> None:
        self._fit: Floats | None = None
        super().__init__(config)

    def reset(self) -> None:
        self._fit = None

    def measure(self, look: Look, around: Surroundings) -> float | None:
        if np.count_nonzero(look.valid) < _LEAST_DEPTH * look.valid.size:
            return None
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
    """How well outlines fit edges at each shift, float32 [2 _REACH + 1, 2 _REACH + 1].

    A correlation of which most of the spectrum's amplitude is taken off (C. H. Knapp and G. C. Carter, IEEE Trans. ASSP
    24, 1976): else the long lines of a belt or a tote fit themselves at every shift along them.
    """
    height = _without_holes(look)
    rows, columns = look.grey.shape
    window = np.outer(np.hanning(rows) ** _MARGIN, np.hanning(columns) ** _MARGIN).astype(np.float32)
    rgb = np.asarray(cv2.resize(look.frame.rgb, (columns, rows), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    spectrum = np.zeros((rows, columns // 2 + 1), dtype=np.complex64)
    for right, down in ((1, 0), (0, 1)):
        edges, outline = _edges(rgb, right, down), _outline(height, right, down)
        colour, depth = (rfft2((part - part.mean()) * window) for part in (edges, outline))
        spectrum += colour * np.conj(depth)
    strength = np.abs(spectrum)
    most = float(strength.max())
    if most == 0 or min(rows, columns) <= 2 * _REACH:
        return np.zeros((2 * _REACH + 1, 2 * _REACH + 1), dtype=np.float32)
    fit = np.fft.fftshift(irfft2(spectrum / (strength + _FAINTEST * most) ** _WHITENED, s=look.grey.shape))
    middle = np.s_[rows // 2 - _REACH : rows // 2 + _REACH + 1, columns // 2 - _REACH : columns // 2 + _REACH + 1]
    return np.asarray(fit[middle] / max(float(fit.std()), 1e-12), dtype=np.float32)


def _edges(rgb: NDArray[np.uint8], right: int, down: int) -> Floats:
    """The step of the colour that changes most, float32 [h, w]: goods and cell may be equally bright."""
    edges = np.zeros(rgb.shape[:2], dtype=np.float32)
    steps = cv2.absdiff(rgb[2 * down :, 2 * right :], rgb[: -2 * down or None, : -2 * right or None])
    red, green, blue = cv2.split(steps)
    edges[down : -down or None, right : -right or None] = cv2.max(cv2.max(red, green), blue)
    return edges


def _without_holes(look: Look) -> Floats:
    """Heights [h, w]; a narrow hole is as low as what surrounds it, a wide one NaN. Stereo loses what lies behind an
    edge, seen from one of its cameras."""
    high = np.where(look.valid, look.height, np.float32(np.inf))
    low = cv2.erode(high, np.ones((_HOLE_PX, _HOLE_PX), np.uint8))
    return np.where(look.valid, look.height, np.where(low < _HIGHEST_M, low, np.float32(np.nan)))


def _outline(height: Floats, right: int, down: int) -> Floats:
    """How much of an outline each pixel is, 0 .. 1, float32 [h, w]."""
    outline = np.zeros(height.shape, dtype=np.float32)
    one, other = height[2 * down :, 2 * right :], height[: -2 * down or None, : -2 * right or None]
    step = (np.abs(one - other) - _LOW_M) / (_HIGH_M - _LOW_M)
    told = np.isfinite(step) & (np.fmax(one, other) > _LOWEST_M)
    outline[down : -down or None, right : -right or None] = np.where(told, np.clip(step, 0, 1), 0)
    return outline


def _peak(fit: Floats) -> tuple[float, float] | None:
    """(right, down) of the best shift, thinned pixels; None where it does not stand out, from the rest or from the best
    one elsewhere, or lies at the border."""
    fit = fit - cv2.GaussianBlur(fit, (0, 0), _BROAD)
    row, column = (int(i) for i in np.unravel_index(np.argmax(fit), fit.shape))
    best, last = float(fit[row, column]), fit.shape[0] - 1
    elsewhere = fit.copy()
    elsewhere[max(0, row - _NEAR) : row + _NEAR + 1, max(0, column - _NEAR) : column + _NEAR + 1] = -np.inf
    stands_out = best > _PROMINENT * float(fit.std()) and float(elsewhere.max()) < _MOST_ELSEWHERE * best
    if not stands_out or not (0 < row < last and 0 < column < last):
        return None
    return column + _vertex(fit[row, column - 1 : column + 2]) - _REACH, row + _vertex(
        fit[row - 1 : row + 2, column]
    ) - _REACH


def _vertex(three: Floats) -> float:
    """Of the parabola through three equally spaced values, from the middle one."""
    bend = float(three[0] - 2 * three[1] + three[2])
    return 0.5 * float(three[0] - three[2]) / bend if bend < 0 else 0.0
