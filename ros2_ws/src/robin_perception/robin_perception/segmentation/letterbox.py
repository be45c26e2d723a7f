"""Frame pixels to network pixels and back: scale to fit, centre, pad. Exact both ways, in pixel-centre coordinates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Window = tuple[int, int, int, int]  # y0, y1, x0, x1, half open
Cell = TypeVar("Cell", np.float32, np.uint8)


@dataclass(frozen=True)
class Letterbox:
    """How a frame of ``frame_size`` stands in an image of ``network_size`` (both width, height in pixels).

    Pixel centres are at integer coordinates, so x_network = (x + 0.5) * scale_x - 0.5 + pad_x. The two scales differ
    only by the rounding of the scaled size to whole pixels. stride: network pixels per mask cell; a cell's centre is
    the middle of its stride x stride block. mask_shift_px: network pixels by which the network's masks stand to the
    right of and below the truth (measured by the calibration), taken back when a grid is brought to frame pixels.
    """

    frame_size: tuple[int, int]
    network_size: tuple[int, int] = (512, 384)
    stride: int = 4
    mask_shift_px: tuple[float, float] = (0.0, 0.0)

    def shifted(self, mask_shift_px: tuple[float, float]) -> Letterbox:
        """The same letterbox for masks that are off by ``mask_shift_px``."""
        if mask_shift_px == self.mask_shift_px:
            return self
        return letterbox(*self.frame_size, *self.network_size, self.stride, mask_shift_px)

    @cached_property
    def scaled_size(self) -> tuple[int, int]:
        """Width, height of the frame's picture inside the network's image."""
        (w, h), (nw, nh) = self.frame_size, self.network_size
        scale = min(nw / w, nh / h)
        return min(nw, max(1, round(w * scale))), min(nh, max(1, round(h * scale)))

    @cached_property
    def scale(self) -> NDArray[np.float64]:
        """float64 [2], network pixels per frame pixel in x and y."""
        return np.array(self.scaled_size, dtype=np.float64) / np.array(self.frame_size, dtype=np.float64)

    @cached_property
    def pad(self) -> tuple[int, int]:
        """Left and top padding, network pixels."""
        return (self.network_size[0] - self.scaled_size[0]) // 2, (self.network_size[1] - self.scaled_size[1]) // 2

    @cached_property
    def picture_cells(self) -> Window:
        """The window of the mask grid that has picture in it, not padding alone."""
        (w, h), (px, py), s = self.scaled_size, self.pad, self.stride
        return py // s, -(-(py + h) // s), px // s, -(-(px + w) // s)

    def to_network(self, xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points [..., 2] from frame to network pixels."""
        return (xy + 0.5) * self.scale - 0.5 + np.array(self.pad)

    def to_frame(self, xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points [..., 2] from network to frame pixels; inverse of ``to_network``."""
        return (xy - np.array(self.pad) + 0.5) / self.scale - 0.5

    def rgb(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8 [H,W,3] to network size: averaged down, bilinear up, black padding."""
        return self._place(self._resized(image))

    def depth(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [H,W] to network size by the nearest pixel (depths are never mixed), padding 0 = invalid."""
        return self._place(image if self.scaled_size == self.frame_size else image.ravel().take(self._nearest))

    @cached_property
    def _nearest(self) -> NDArray[np.intp]:
        """Flat index [h, w] of the frame pixel that is nearest to each pixel of the scaled picture."""
        (nw, nh), (w, h) = self.scaled_size, self.frame_size
        columns = ((np.arange(nw) + 0.5) / self.scale[0]).astype(np.intp).clip(0, w - 1)
        rows = ((np.arange(nh) + 0.5) / self.scale[1]).astype(np.intp).clip(0, h - 1)
        return np.asarray(rows[:, None] * w + columns)

    def intrinsics(self, K: NDArray[np.float64]) -> NDArray[np.float32]:
        """fx fy cx cy in network pixels, float32 [4]."""
        centre = self.to_network(np.array([K[0, 2], K[1, 2]]))
        return np.array([K[0, 0] * self.scale[0], K[1, 1] * self.scale[1], centre[0], centre[1]], dtype=np.float32)

    @cached_property
    def rows(self) -> NDArray[np.float32]:
        """float32 [H, cells]: ``rows @ cells @ columns.T`` is the bilinear interpolation of a mask grid at frame
        pixels.
        """
        return self._weights(1, self.frame_size[1])

    @cached_property
    def columns(self) -> NDArray[np.float32]:
        """float32 [W, cells], see ``rows``."""
        return self._weights(0, self.frame_size[0])

    @cached_property
    def cell_size(self) -> tuple[int, int]:
        """Width, height of the grid that covers just the frame, without padding, about one value per cell."""
        return max(1, round(self.scaled_size[0] / self.stride)), max(1, round(self.scaled_size[1] / self.stride))

    def unpadded(self, cells: NDArray[np.float32]) -> NDArray[np.float32]:
        """Mask grid [h, w] of the network resampled to ``cell_size``, so that it covers the frame and nothing else."""
        (w, h), (px, py) = self.cell_size, self.pad
        exact = (px % self.stride, py % self.stride) == (0, 0) and (
            w * self.stride,
            h * self.stride,
        ) == self.scaled_size
        if exact:
            return cells[py // self.stride : py // self.stride + h, px // self.stride : px // self.stride + w]
        frame_x = (np.arange(w) + 0.5) * self.frame_size[0] / w - 0.5
        frame_y = (np.arange(h) + 0.5) * self.frame_size[1] / h - 0.5
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
        if self._rims(1, y0, y1) == (rows.start, rows.stop) and self._rims(0, x0, x1) == (columns.start, columns.stop):
            return np.asarray(cv2.resize(cells, size, interpolation=cv2.INTER_LINEAR)), (rows, columns)
        if self._pixels_per_cell is not None:
            return self._resized_cells(cells, y0, x0, rows, columns), (rows, columns)
        fine = (self.rows[rows, y0:y1] @ cells) @ self.columns[columns, x0:x1].T
        return (fine if fine.dtype == cells.dtype else np.rint(fine).astype(cells.dtype)), (rows, columns)

    def _resized_cells(self, cells: NDArray[Cell], y0: int, x0: int, rows: slice, columns: slice) -> NDArray[Cell]:
        """``enlarge`` by a plain resize, cut to the frame and, beyond the grid's outer rim, continued as it ends."""
        assert self._pixels_per_cell is not None
        wide, high = self._pixels_per_cell
        fine = cv2.resize(cells, (cells.shape[1] * wide, cells.shape[0] * high), interpolation=cv2.INTER_LINEAR)
        # Frame pixel at which the window's first one would stand; shifts are whole pixels here.
        top = (y0 - self.pad[1] // self.stride) * high - round(self._frame_shift[1])
        left = (x0 - self.pad[0] // self.stride) * wide - round(self._frame_shift[0])
        beyond = (
            max(0, top - rows.start),
            max(0, rows.stop - top - fine.shape[0]),
            max(0, left - columns.start),
            max(0, columns.stop - left - fine.shape[1]),
        )
        if any(beyond):
            fine = cv2.copyMakeBorder(fine, *beyond, cv2.BORDER_REPLICATE)
            top, left = top - beyond[0], left - beyond[2]
        return np.asarray(fine[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left])

    @cached_property
    def _pixels_per_cell(self) -> tuple[int, int] | None:
        """Whole frame pixels per cell in x and y where rims of cells fall on rims of pixels, so that a plain resize of
        a crop is the same interpolation; None elsewhere."""
        sizes = list(zip(self.scaled_size, self.frame_size, self.pad, self._frame_shift, strict=True))
        if any(f * self.stride % s or p % self.stride or shift != round(shift) for s, f, p, shift in sizes):
            return None
        return sizes[0][1] * self.stride // sizes[0][0], sizes[1][1] * self.stride // sizes[1][0]

    @cached_property
    def _frame_shift(self) -> tuple[float, float]:
        """``mask_shift_px`` in frame pixels; whole pixels where a cell is at least eight, for the sake of speed."""
        shift = np.array(self.mask_shift_px) / self.scale
        whole = self.stride / self.scale >= 8
        x, y = np.where(whole, np.rint(shift), shift).tolist()
        return x, y

    def _rims(self, axis: int, start: int, stop: int) -> tuple[float, float]:
        """Where the outer rims of the cells start..stop lie, in frame pixels from the rim of the first."""
        rims = self._all_rims[axis]
        return rims[start], rims[stop]

    @cached_property
    def _all_rims(self) -> tuple[list[float], list[float]]:
        """See ``_rims``: of all cells in x and y."""
        rims = []
        for axis in (0, 1):
            cells = np.arange(self.network_size[axis] // self.stride + 1)
            pixels = (cells * self.stride - self.pad[axis]) / self.scale[axis] - self._frame_shift[axis]
            rims.append(np.round(pixels, 6).tolist())
        return rims[0], rims[1]

    def _pixels(self, axis: int, start: int, stop: int) -> slice:
        """Frame pixels whose centres lie in the cells start..stop; the grid's rim reaches to the frame's."""
        size, last = self.frame_size[axis], self.network_size[axis] // self.stride
        low, high = (min(max(math.ceil(rim - 0.5 - 1e-9), 0), size) for rim in self._rims(axis, start, stop))
        return slice(0 if start == 0 else low, size if stop == last else high)

    def _cells(self, frame_coordinates: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        shifted = frame_coordinates + self._frame_shift[axis]
        network = (shifted + 0.5) * self.scale[axis] - 0.5 + self.pad[axis]
        return (network + 0.5) / self.stride - 0.5

    def _weights(self, axis: int, count: int) -> NDArray[np.float32]:
        cells = self._cells(np.arange(count, dtype=np.float64), axis)
        return _interpolation(cells, self.network_size[axis] // self.stride)

    def _resized(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Down by a whole number first, as an area average, and bilinear for the rest: an area average of broken steps
        takes seven times as long and segments no better."""
        if self.scaled_size == self.frame_size:
            return image
        whole = min(f // s for f, s in zip(self.frame_size, self.scaled_size, strict=True))
        if whole >= 2:
            size = (self.frame_size[0] // whole, self.frame_size[1] // whole)
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
        return np.asarray(cv2.resize(image, self.scaled_size, interpolation=cv2.INTER_LINEAR))

    def _place(self, image: NDArray[Any]) -> NDArray[Any]:
        if self.scaled_size == self.network_size:
            return np.ascontiguousarray(image)
        (w, h), (px, py) = self.scaled_size, self.pad
        canvas = np.zeros((self.network_size[1], self.network_size[0], *image.shape[2:]), dtype=image.dtype)
        canvas[py : py + h, px : px + w] = image
        return canvas


@lru_cache(maxsize=32)
def letterbox(
    width: int,
    height: int,
    network_width: int,
    network_height: int,
    stride: int,
    mask_shift_px: tuple[float, float] = (0.0, 0.0),
) -> Letterbox:
    """The letterbox of these sizes, kept with its interpolation tables."""
    return Letterbox((width, height), (network_width, network_height), stride, mask_shift_px)


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
