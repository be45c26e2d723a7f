"""One frame as the monitors see it: thinned to cells, so that all of them together cost a few milliseconds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_perception.core.frame import Frame

Floats = NDArray[np.float32]
_Pair = tuple[NDArray[Any], NDArray[Any]]

COLUMNS = 40
"""Cells side by side."""
PIXELS_PER_CELL = 4
"""Of the thinned picture, to a side."""
_ROWS_APART = 4  # of a picture 640 columns wide
_NOMINAL_WIDTH = 640
_FAR_PX = 4  # pixels of the frame between those whose difference is an edge's height
_BRIGHTER = 0.8  # quantile
_NOISE_SHARE = 0.1  # of the cells: the flattest ones show noise and nothing else
_WHOLLY = 0.99  # of a cell's pixels
_LINEAR = (np.where((x := np.arange(256) / 255) <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)).astype(np.float32)


@dataclass(frozen=True)
class Look:
    """frame: as it came. grey: float32 [h, w], the thinned picture, display values 0 .. 255. depth: float32 [h, w],
    metres, of a pixel in the middle of each; height: where the believed pose puts it, metres above z = 0; valid: bool.
    free: bool [h, w], belongs to no mask nor to a mask's rim.

    Of cells, float32 [rows, COLUMNS]: light 0 .. 1, linear; fine and coarse: mean squared differences of neighbours and
    of pixels a few apart, noise taken off; has_depth: share of the pixels; cell_free and cell_goods: bool,
    free as a whole and covered by masks as a whole.
    noise: RMS of the picture's noise, display values. brightness: linear light that a fifth of the picture exceeds.
    """

    frame: Frame
    grey: Floats
    depth: Floats
    height: Floats
    valid: NDArray[np.bool_]
    free: NDArray[np.bool_]
    light: Floats
    fine: Floats
    coarse: Floats
    has_depth: Floats
    cell_free: NDArray[np.bool_]
    cell_goods: NDArray[np.bool_]
    noise: float
    brightness: float

    @property
    def step(self) -> float:
        """Pixels of the frame per thinned pixel."""
        return self.frame.width / self.grey.shape[1]


def thinned_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) of the thinned picture: whole cells."""
    columns = COLUMNS * PIXELS_PER_CELL
    return columns, max(1, round(height / width * COLUMNS)) * PIXELS_PER_CELL


def look_at(frame: Frame, labels: NDArray[np.uint16]) -> Look:
    """labels: [H, W], as a scene has them; all 0 where nothing is known of the goods."""
    small = thinned_size(frame.width, frame.height)
    cells = (small[0] // PIXELS_PER_CELL, small[1] // PIXELS_PER_CELL)
    full = cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2GRAY)
    grey = _thinned(full, small)
    columns, rows = _samples(frame.width, small[0]), _samples(frame.height, small[1])
    every = _slices(rows, columns)
    depth, masked = np.ascontiguousarray(frame.depth[every]), labels[every] > 0
    valid = depth > 0
    height = depth * _rise(frame, rows, columns) + np.float32(frame.T_base_camera[2, 3])
    fine, coarse = _edges(full, cells)
    noise = float(np.quantile(fine, _NOISE_SHARE))
    light = _cells(cv2.LUT(grey, _LINEAR), cells)
    free = cv2.dilate(masked.astype(np.uint8), np.ones((5, 5), np.uint8)) == 0
    uncovered = _cells(free, cells)
    return Look(
        frame,
        grey.astype(np.float32),
        depth,
        height.astype(np.float32),
        valid,
        free,
        light,
        np.maximum(fine - noise, 0),
        np.maximum(coarse - noise, 0),
        _cells(valid, cells),
        uncovered > _WHOLLY,
        uncovered == 0,
        float(np.sqrt(noise / 2)),
        float(np.quantile(light, _BRIGHTER)),
    )


def _samples(length: int, count: int) -> NDArray[np.intp]:
    return np.asarray((np.arange(count) + 0.5) * length / count, dtype=np.intp)


def _slices(rows: NDArray[np.intp], columns: NDArray[np.intp]) -> tuple[Any, ...]:
    """What picks these rows and columns: slices where they are evenly spaced, which are several times as quick."""
    steps = np.unique(np.diff(rows)), np.unique(np.diff(columns))
    if len(steps[0]) == len(steps[1]) == 1:
        return slice(rows[0], rows[-1] + 1, int(steps[0][0])), slice(columns[0], columns[-1] + 1, int(steps[1][0]))
    return np.ix_(rows, columns)


def _cells(values: NDArray[np.generic], cells: tuple[int, int]) -> Floats:
    """Means over cells (columns, rows) of an image [h, w]."""
    plain = values.astype(np.float32, copy=False)
    return np.asarray(_shares(plain.shape[0], cells[1]) @ plain @ _shares(plain.shape[1], cells[0]).T)


@cache
def _shares(length: int, count: int) -> Floats:
    """float32 [count, length]: what each of ``length`` pixels adds to the mean of each of ``count`` equal cells."""
    edges = np.arange(count + 1) * length / count
    low, high = edges[:-1, None], edges[1:, None]
    pixel = np.arange(length)[None]
    overlap = np.clip(np.minimum(high, pixel + 1) - np.maximum(low, pixel), 0, 1)
    return np.asarray(overlap * count / length, dtype=np.float32)


def _rise(frame: Frame, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Floats:
    """Metres of base_link's z per metre of depth, of each thinned pixel."""
    K, down = frame.K, frame.T_base_camera[2]
    across = down[0] * (columns - K[0, 2]) / K[0, 0]
    along = down[1] * (rows - K[1, 2]) / K[1, 1] + down[2]
    return np.asarray(across[None, :] + along[:, None], dtype=np.float32)


def _thinned(grey: NDArray[Any], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Means over the pixels of the thinned picture, of ``size``. Where only its width divides evenly, a step that does
    comes first, which is several times as quick."""
    height, width = grey.shape
    if height % size[1] and width % size[0] == 0:
        between = height // max(1, height // size[1] // 2)
        grey = cv2.resize(grey, (size[0], between), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _edges(grey: NDArray[Any], cells: tuple[int, int]) -> tuple[Floats, Floats]:
    """(fine, coarse) of the cells. Every fourth row and pair of rows, of a wide picture fewer: edges are long."""
    every = _ROWS_APART * max(1, grey.shape[1] // _NOMINAL_WIDTH)
    upper, lower, far = (np.ascontiguousarray(grey[k : k - _FAR_PX or None : every]) for k in (0, 1, _FAR_PX))
    fine = _energy((upper[:, 1:], upper[:, :-1]), (lower, upper), cells)
    coarse = _energy((upper[:, _FAR_PX:], upper[:, :-_FAR_PX]), (far, upper), cells)
    return fine, coarse


def _energy(across: _Pair, along: _Pair, cells: tuple[int, int]) -> Floats:
    """Mean squared difference of both pairs in each cell."""
    one, other = cv2.absdiff(*across), cv2.absdiff(*along)
    squares = cv2.multiply(one, one, dtype=cv2.CV_32F)
    cv2.accumulateSquare(np.ascontiguousarray(other[:, : one.shape[1]]), squares)
    return np.asarray(0.5 * _cells(squares, cells))
