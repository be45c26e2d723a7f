"""Where each face of a parcel lies in its one texture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Atlas:
    """Rectangles (x, y, width, height), pixels, per face name, in a texture of ``width`` x ``height`` pixels."""

    width: int
    height: int
    pixels_per_m: float
    rectangles: dict[str, tuple[int, int, int, int]]

    def to_uv(self, face: str, right: NDArray[np.float64], down: NDArray[np.float64]) -> NDArray[np.float64]:
        """uv [..., 2] of face coordinates in [0, 1]; half a pixel is kept clear so that faces do not bleed."""
        x, y, w, h = self.rectangles[face]
        u = (x + 0.5 + np.clip(right, 0, 1) * (w - 1)) / self.width
        v = (y + 0.5 + np.clip(down, 0, 1) * (h - 1)) / self.height
        return np.stack([u, v], axis=-1)

    def view(self, texture: NDArray[np.uint8], face: str) -> NDArray[np.uint8]:
        """The face's part of the texture, writable."""
        x, y, w, h = self.rectangles[face]
        return texture[y : y + h, x : x + w]


_MAX_WIDTH_PX = 416
_MAX_PIXELS_PER_M = 700.0


def _pack(rows: list[list[tuple[str, float, float]]]) -> Atlas:
    """Rows of (name, width, height) in metres, packed left to right, top to bottom."""
    scale = min(_MAX_PIXELS_PER_M, _MAX_WIDTH_PX / max(sum(w for _, w, _ in row) for row in rows))
    rectangles, y, width = {}, 0, 0
    for row in rows:
        x, row_height = 0, 0
        for name, w_m, h_m in row:
            w, h = max(4, round(w_m * scale)), max(4, round(h_m * scale))
            rectangles[name] = (x, y, w, h)
            x, row_height = x + w, max(row_height, h)
        width, y = max(width, x), y + row_height
    return Atlas(width, y, scale, rectangles)


def carton_atlas(size_m: tuple[float, float, float]) -> Atlas:
    x, y, z = size_m
    return _pack([[("top", x, y), ("bottom", x, y), ("x+", y, z)], [("y+", x, z), ("y-", x, z), ("x-", y, z)]])


def sheet_atlas(size_m: tuple[float, float, float]) -> Atlas:
    x, y, _ = size_m
    return _pack([[("top", x, y), ("bottom", x, y)]])


def tube_atlas(size_m: tuple[float, float, float]) -> Atlas:
    length, diameter, _ = size_m
    around = np.pi * diameter
    return _pack([[("body", length, around)], [("x+", diameter, diameter), ("x-", diameter, diameter)]])
