"""Textures of supports that base training never draws: tiles, stripes, terrazzo, printed mats. Every function returns
sRGB uint8 [h, w, 3], and draws its sizes as pixels of a texture of 768 columns on 1.25 m."""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_sim.surfaces import Texture, noise

PX_PER_M = 768 / 1.25
_CARTON = np.array((182, 140, 96), dtype=np.float64)


def tiles(rng: np.random.Generator, height: int, width: int) -> Texture:
    """Square tiles of 6 to 15 cm in two strong colours, with light joints."""
    side = round(rng.uniform(0.06, 0.15) * PX_PER_M)
    y, x = (np.arange(size) + int(rng.integers(side)) for size in (height, width))
    odd = ((y[:, None] // side + x[None, :] // side) % 2).astype(bool)
    first, second = _pair(rng)
    texture = np.where(odd[..., None], first, second).astype(np.uint8)
    joint = (y[:, None] % side < 2) | (x[None, :] % side < 2)
    texture[joint] = rng.integers(150, 230)
    return _worn(rng, texture)


def stripes(rng: np.random.Generator, height: int, width: int) -> Texture:
    """Slanted bands of 3 to 10 cm in three strong colours."""
    angle, band = rng.uniform(-np.pi, np.pi), rng.uniform(0.03, 0.10) * PX_PER_M
    y, x = np.mgrid[0:height, 0:width]
    number = np.floor((x * np.cos(angle) + y * np.sin(angle)) / band).astype(np.intp) % 3
    colours = np.array([*_pair(rng), _strong(rng)], dtype=np.uint8)
    return _worn(rng, colours[number])


def terrazzo(rng: np.random.Generator, height: int, width: int) -> Texture:
    """Chips of 1 to 5 cm in many colours, in a plain ground."""
    texture = np.full((height, width, 3), _strong(rng), dtype=np.uint8)
    for _ in range(int(rng.integers(350, 700))):
        corners = rng.normal(0, rng.uniform(0.005, 0.025) * PX_PER_M, (6, 2)) + rng.uniform(0, (width, height))
        hull = cv2.convexHull(corners.astype(np.int32))
        cv2.fillConvexPoly(texture, hull, _strong(rng).tolist(), cv2.LINE_AA)
    return _worn(rng, texture)


def printed_mat(rng: np.random.Generator, height: int, width: int) -> Texture:
    """Framed fields of the size of parcels, half of them in a carton's colour with a white label: a picture of goods,
    flat on the support."""
    ground, frame = _pair(rng)
    texture = np.full((height, width, 3), ground, dtype=np.uint8)
    for _ in range(int(rng.integers(25, 45))):
        centre, size = rng.uniform(0, (width, height)), rng.uniform(0.06, 0.24, 2) * PX_PER_M
        turn, carton = float(rng.choice((0, 0, 90, rng.uniform(0, 90)))), rng.random() < 0.5
        colour = (rng.uniform(0.7, 1.1) * _CARTON).clip(0, 255) if carton else _strong(rng)
        field = _field(centre, size, turn)
        cv2.fillConvexPoly(texture, field, colour.tolist(), cv2.LINE_AA)
        if carton:
            cv2.fillConvexPoly(
                texture, _field(centre, size * rng.uniform(0.2, 0.5), turn), (235, 235, 230), cv2.LINE_AA
            )
        cv2.polylines(texture, [field], True, frame.tolist(), int(rng.integers(1, 5)), cv2.LINE_AA)
    return _worn(rng, texture)


NEW_SURFACES: dict[str, Callable[[np.random.Generator, int, int], Texture]] = {
    "tiles": tiles,
    "stripes": stripes,
    "terrazzo": terrazzo,
    "printed_mat": printed_mat,
}


def _field(centre: NDArray[np.float64], size: NDArray[np.float64], turn_deg: float) -> NDArray[np.int32]:
    """Corners of a rectangle, pixels, int32 [4, 2]."""
    return np.asarray(cv2.boxPoints((centre.tolist(), size.tolist(), turn_deg)), dtype=np.int32)


def _strong(rng: np.random.Generator) -> NDArray[np.uint8]:
    """A colour of some saturation, sRGB uint8 [3]."""
    rgb = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.25, 0.9), rng.uniform(0.25, 0.95))
    return np.array([round(255 * channel) for channel in rgb], dtype=np.uint8)


def _pair(rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Two colours, one dark and one bright."""
    return (_strong(rng) * np.float32(0.5)).astype(np.uint8), 255 - (255 - _strong(rng)) // 2


def _worn(rng: np.random.Generator, texture: Texture) -> Texture:
    shade = 1 + rng.uniform(0.02, 0.08) * noise(rng, texture.shape[0], texture.shape[1], 8, 12)
    return np.clip(texture * shade[..., None], 4, 250).astype(np.uint8)
