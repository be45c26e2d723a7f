"""From the network's mask grid to frame pixels: interpolation, and the label image that masks make together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_perception.segmentation.view import Box, Letterbox

Window = tuple[int, int, int, int]  # y0, y1, x0, x1, half open
Crop = tuple[NDArray[np.float32], Window]  # logits of a mask, at its window of a grid
Cell = TypeVar("Cell", np.float32, np.uint8)
COARSE_LIMIT = 8.0  # surer logits are not told apart
FINE_LIMIT = 2.0  # refined masks lie between this and its negative
_ZERO = 127.49  # what logit 0 becomes where logits are written as bytes: rounded, the highest that is not inside


@dataclass(frozen=True)
class MaskGrid:
    """The grid that masks stand on: ``stride`` network pixels per cell, whose centre is the middle of its block.

    shift_px: network pixels by which masks stand to the right of and below the truth (measured by the calibration),
    taken back when a grid is brought to frame pixels.
    """

    box: Letterbox
    stride: int = 4
    shift_px: tuple[float, float] = (0.0, 0.0)

    @cached_property
    def picture_cells(self) -> Window:
        """The window of the grid that has picture in it, not padding alone."""
        (w, h), (px, py), s = self.box.scaled_size, self.box.pad, self.stride
        return py // s, -(-(py + h) // s), px // s, -(-(px + w) // s)

    @cached_property
    def rows(self) -> NDArray[np.float32]:
        """float32 [H, cells]: ``rows @ cells @ columns.T`` is the bilinear interpolation of a mask grid at frame
        pixels.
        """
        return self._weights(1, self.box.frame_size[1])

    @cached_property
    def columns(self) -> NDArray[np.float32]:
        """float32 [W, cells], see ``rows``."""
        return self._weights(0, self.box.frame_size[0])

    @cached_property
    def cell_size(self) -> tuple[int, int]:
        """Width, height of the grid that covers just the frame, without padding, about one value per cell."""
        return max(1, round(self.box.scaled_size[0] / self.stride)), max(
            1, round(self.box.scaled_size[1] / self.stride)
        )

    def unpadded(self, cells: NDArray[np.float32]) -> NDArray[np.float32]:
        """Mask grid [h, w] of the network resampled to ``cell_size``, so that it covers the frame and nothing else."""
        (w, h), (px, py) = self.cell_size, self.box.pad
        if px % self.stride == py % self.stride == 0 and (w * self.stride, h * self.stride) == self.box.scaled_size:
            return cells[py // self.stride : py // self.stride + h, px // self.stride : px // self.stride + w]
        frame_x = (np.arange(w) + 0.5) * self.box.frame_size[0] / w - 0.5
        frame_y = (np.arange(h) + 0.5) * self.box.frame_size[1] / h - 0.5
        rows = _interpolation(self._cells(frame_y, 1), cells.shape[0])
        columns = _interpolation(self._cells(frame_x, 0), cells.shape[1])
        return np.asarray(rows @ cells @ columns.T, dtype=np.float32)

    def enlarge(self, cells: NDArray[Cell], window: Window) -> tuple[NDArray[Cell], tuple[slice, slice]]:
        """Bilinear interpolation of cells, those at ``window`` of a mask grid, at the frame pixels that they cover.

        Returns [h, w], float32 or uint8 as the cells are, and where it stands in the frame. Between an outer cell's
        centre and its rim only the sign of the values holds, so that a window needs a margin of one cell.
        """
        y0, y1, x0, x1 = window
        rows, columns = self._pixels(1, y0, y1), self._pixels(0, x0, x1)
        size = (columns.stop - columns.start, rows.stop - rows.start)
        if min(size) == 0:  # the window lies on the padding
            return np.zeros(size[::-1], dtype=cells.dtype), (rows, columns)
        across, down = self._rims
        if (down[y0], down[y1], across[x0], across[x1]) == (rows.start, rows.stop, columns.start, columns.stop):
            return np.asarray(cv2.resize(cells, size, interpolation=cv2.INTER_LINEAR)), (rows, columns)
        fine = (self.rows[rows, y0:y1] @ cells) @ self.columns[columns, x0:x1].T
        return (fine if fine.dtype == cells.dtype else np.rint(fine).astype(cells.dtype)), (rows, columns)

    @cached_property
    def _frame_shift(self) -> tuple[float, float]:
        """``shift_px`` in frame pixels; whole pixels where a cell is at least eight, for the sake of speed."""
        shift = np.array(self.shift_px) / self.box.scale
        whole = self.stride / self.box.scale >= 8
        x, y = np.where(whole, np.rint(shift), shift).tolist()
        return x, y

    @cached_property
    def _rims(self) -> tuple[list[float], list[float]]:
        """Outer rims of all cells in x and y, in frame pixels from the rim of the first."""
        rims = []
        for axis in (0, 1):
            cells = np.arange(self.box.network_size[axis] // self.stride + 1)
            pixels = (cells * self.stride - self.box.pad[axis]) / self.box.scale[axis] - self._frame_shift[axis]
            rims.append(np.round(pixels, 6).tolist())
        return rims[0], rims[1]

    def _pixels(self, axis: int, start: int, stop: int) -> slice:
        """Frame pixels whose centres lie in the cells start..stop; the grid's rim reaches to the frame's."""
        size, last = self.box.frame_size[axis], self.box.network_size[axis] // self.stride
        rims = self._rims[axis]
        low, high = (min(max(math.ceil(rim - 0.5 - 1e-9), 0), size) for rim in (rims[start], rims[stop]))
        return slice(0 if start == 0 else low, size if stop == last else high)

    def _cells(self, frame_coordinates: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        shifted = frame_coordinates + self._frame_shift[axis]
        network = (shifted + 0.5) * self.box.scale[axis] - 0.5 + self.box.pad[axis]
        return (network + 0.5) / self.stride - 0.5

    def _weights(self, axis: int, count: int) -> NDArray[np.float32]:
        cells = self._cells(np.arange(count, dtype=np.float64), axis)
        return _interpolation(cells, self.box.network_size[axis] // self.stride)


@lru_cache(maxsize=32)
def mask_grid(box: Letterbox, stride: int, shift_px: tuple[float, float] = (0.0, 0.0)) -> MaskGrid:
    """The grid of these, kept with its tables."""
    return MaskGrid(box, stride, shift_px)


def paint(
    masks: Sequence[Crop], bonus: NDArray[np.float32], grid: MaskGrid
) -> tuple[NDArray[np.uint16], list[Box], list[int]]:
    """Label image uint16 [H, W] (mask i has label i + 1), tight boxes and areas, in frame pixels.

    Contested pixels go to the highest logit + bonus, which is at
    most 0. This loop touches every pixel of every mask, so it compares bytes, 255 levels of logit, of which a mask
    loses some for its bonus. Masks at the network's own pixels become bytes before they are enlarged.
    """
    width, height = grid.box.frame_size
    labels = np.zeros((height, width), dtype=np.uint8 if len(masks) < 256 else np.uint16)
    best = np.zeros((height, width), dtype=np.uint8)
    limit = FINE_LIMIT if grid.stride == 1 else COARSE_LIMIT
    # At most so much that what a mask claims alone, 128 or more, stays above 0.
    handicaps = np.minimum(np.rint(-(_ZERO / limit) * bonus), 126).tolist()
    painted = []
    for i, ((crop, window), handicap) in enumerate(zip(masks, handicaps, strict=True)):
        if grid.stride == 1:
            level, pixels = grid.enlarge(_levels(crop, limit), window)
        else:
            fine, pixels = grid.enlarge(crop, window)
            level = _levels(np.clip(fine, -limit, limit), limit)
        painted.append(pixels)
        if level.size == 0:
            continue
        cv2.threshold(level, int(_ZERO), 0, cv2.THRESH_TOZERO, dst=level)
        cv2.subtract(level, handicap, dst=level)
        chosen = cv2.compare(level, best[pixels], cv2.CMP_GT)
        cv2.max(level, best[pixels], dst=best[pixels])
        cv2.copyTo(np.full(level.shape, i + 1, dtype=labels.dtype), chosen, labels[pixels])
    extents = [_extent(labels[pixels] == i + 1, pixels) for i, pixels in enumerate(painted)]
    return labels.astype(np.uint16, copy=False), [extent[0] for extent in extents], [extent[1] for extent in extents]


def _levels(logits: NDArray[np.float32], limit: float) -> NDArray[np.uint8]:
    """Logits as bytes: -limit is 0, 128 and more is inside the mask, limit is 255."""
    if not logits.size:
        return np.zeros(logits.shape, dtype=np.uint8)
    return np.asarray(cv2.convertScaleAbs(logits, alpha=_ZERO / limit, beta=_ZERO), dtype=np.uint8)


def _extent(mask: NDArray[np.bool_], window: tuple[slice, slice]) -> tuple[Box, int]:
    """Tight box and area of a mask that stands in ``window`` of the frame."""
    y, x = window[0].start, window[1].start
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8)) if mask.size else (0, 0, 0, 0)
    return (x + left, y + top, x + left + width, y + top + height), int(np.count_nonzero(mask))


def _interpolation(cells: NDArray[np.float64], count: int) -> NDArray[np.float32]:
    """Linear interpolation at ``cells`` as a matrix float32 [len(cells), count]; constant beyond the ends."""
    clamped = np.clip(cells, 0, count - 1)
    low = np.minimum(clamped.astype(np.intp), max(0, count - 2))
    weight = clamped - low
    matrix = np.zeros((len(cells), count), dtype=np.float32)
    index = np.arange(len(cells))
    matrix[index, low] = 1 - weight
    matrix[index, np.minimum(low + 1, count - 1)] += weight.astype(np.float32)
    return matrix
