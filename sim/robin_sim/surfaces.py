"""Textures of belts, totes, metal and wood: our own generators. Every function returns sRGB uint8 [h, w, 3]."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Texture = NDArray[np.uint8]
Field = NDArray[np.float32]

RUBBER = (
    (32, 33, 35),
    (52, 53, 54),
    (78, 80, 82),
    (36, 78, 58),
    (30, 92, 70),
    (44, 66, 92),
    (110, 112, 110),
    (168, 168, 160),
)
PLASTIC = (
    (120, 124, 128),
    (70, 74, 80),
    (32, 74, 148),
    (44, 108, 178),
    (158, 34, 36),
    (196, 60, 44),
    (38, 40, 42),
    (206, 178, 52),
    (54, 120, 72),
    (188, 188, 184),
)
WOOD = ((164, 124, 82), (196, 160, 112), (120, 84, 54), (212, 186, 146))


def noise(rng: np.random.Generator, height: int, width: int, cells_y: float, cells_x: float) -> Field:
    """Smooth noise of about unit variance with ``cells`` bumps along each side, float32 [height, width]."""
    grid = rng.standard_normal((max(2, round(cells_y)) + 1, max(2, round(cells_x)) + 1), dtype=np.float32)
    return np.asarray(cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.float32) * 1.4


def _to_texture(base: NDArray[np.float32], shade: Field) -> Texture:
    gain = np.maximum(1.0 + shade, 0.0)
    return cv2.merge([cv2.convertScaleAbs(gain, alpha=float(channel)) for channel in base])


def _tinted(rng: np.random.Generator, palette: tuple[tuple[int, int, int], ...], spread: float) -> NDArray[np.float32]:
    base = np.array(palette[int(rng.integers(len(palette)))], dtype=np.float32)
    return np.clip(base * rng.uniform(1 - spread, 1 + spread) * rng.uniform(0.94, 1.06, 3), 4, 245).astype(np.float32)


def _stain(rng: np.random.Generator, texture: Texture, count: int) -> None:
    """Blots, tape remnants and scratches, drawn in place."""
    h, w = texture.shape[:2]
    for _ in range(count):
        kind = rng.random()
        x, y = int(rng.integers(w)), int(rng.integers(h))
        colour = tuple(int(c) for c in np.clip(texture[y, x] * rng.uniform(0.5, 1.6), 0, 255))
        if kind < 0.45:
            end = (x + int(rng.normal(0, w / 6)), y + int(rng.normal(0, h / 6)))
            cv2.line(texture, (x, y), end, colour, int(rng.integers(1, 3)), cv2.LINE_AA)
        elif kind < 0.85:
            axes = (int(rng.uniform(1, 1 + w / 18)), int(rng.uniform(1, 1 + h / 18)))
            patch = texture.copy()
            cv2.ellipse(patch, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
            cv2.addWeighted(patch, 0.45, texture, 0.55, 0, texture)
        else:
            light = tuple(int(c) for c in rng.uniform(120, 235, 3))
            cv2.rectangle(texture, (x, y), (x + int(rng.integers(6, 40)), y + int(rng.integers(4, 14))), light, -1)


def rubber_belt(rng: np.random.Generator, height: int, width: int) -> Texture:
    """A worn conveyor belt that runs along the texture's x axis: streaks, a mottle, perhaps a seam, a weave or edge
    stripes."""
    base = _tinted(rng, RUBBER, 0.2)
    wear = rng.uniform(0.02, 0.14)
    shade = wear * noise(rng, height, width, rng.uniform(10, 60), 2) + 0.04 * noise(rng, height, width, 8, 12)
    shade += rng.uniform(0.01, 0.05) * noise(rng, height, width, height / 2, width / 2)
    if rng.random() < 0.35:
        period = int(rng.integers(5, 18))
        turn = np.float32(4 * np.pi / period)
        weave = np.cos(turn * np.arange(height, dtype=np.float32))[:, None] + np.cos(
            turn * np.arange(width, dtype=np.float32)
        )
        shade += np.float32(rng.uniform(0.015, 0.05)) * weave
    texture = _to_texture(base, shade)
    if rng.random() < 0.4:
        x = int(rng.integers(width // 8, width * 7 // 8))
        slant = int(rng.uniform(-0.4, 0.4) * height)
        seam = tuple(int(c) for c in np.clip(base * rng.uniform(0.5, 1.5), 0, 255))
        cv2.line(texture, (x, 0), (x + slant, height), seam, int(rng.integers(1, 4)), cv2.LINE_AA)
    if rng.random() < 0.2:
        stripe = max(2, height // int(rng.integers(24, 60)))
        texture[stripe : 2 * stripe] = texture[-2 * stripe : -stripe] = (
            (214, 190, 40) if rng.random() < 0.5 else (220,) * 3
        )
    _stain(rng, texture, int(rng.integers(0, 14)))
    return texture


def modular_belt(rng: np.random.Generator, height: int, width: int) -> Texture:
    """Plastic link belt: rows of links with dark joints and holes."""
    base = _tinted(rng, PLASTIC, 0.15)
    row, column = int(rng.integers(10, 26)), int(rng.integers(14, 60))
    y, x = np.mgrid[0:height, 0:width]
    joint = (x % row < 2) | ((y + column // 2 * ((x // row) % 2)) % column < 2)
    shade = -rng.uniform(0.2, 0.6) * joint.astype(np.float32) + 0.05 * noise(rng, height, width, 6, 10)
    texture = _to_texture(base, shade)
    _stain(rng, texture, int(rng.integers(0, 8)))
    return texture


def brushed_metal(rng: np.random.Generator, height: int, width: int) -> Texture:
    """Steel sheet: fine lines along x, smudges, scratches."""
    base = np.full(3, rng.uniform(95, 185), dtype=np.float32) * rng.uniform(0.97, 1.03, 3).astype(np.float32)
    shade = rng.uniform(0.02, 0.07) * noise(rng, height, width, height / 1.5, 6) + 0.05 * noise(
        rng, height, width, 6, 6
    )
    texture = _to_texture(base, shade)
    _stain(rng, texture, int(rng.integers(0, 12)))
    return texture


def wood(rng: np.random.Generator, height: int, width: int) -> Texture:
    """Boards or plywood with grain along x."""
    base = _tinted(rng, WOOD, 0.12)
    grain = noise(rng, height, width, height / 5, 7) * 0.06 + noise(rng, height, width, height / 24, 4) * 0.07
    texture = _to_texture(base, grain)
    if rng.random() < 0.6:
        board = int(rng.integers(height // 9, height // 4))
        for y in range(int(rng.integers(board)), height, board):
            cv2.line(texture, (0, y), (width, y), tuple(int(c) for c in base * 0.45), 2)
    _stain(rng, texture, int(rng.integers(0, 6)))
    return texture


def painted(rng: np.random.Generator, height: int, width: int) -> Texture:
    """A plain painted, printed or paper-covered table in any colour."""
    base = np.clip(rng.uniform(0.15, 0.95) * 255 * (1 - rng.uniform(0, 0.5) * rng.random(3)), 0, 255).astype(np.float32)
    shade = 0.03 * noise(rng, height, width, 5, 5) + rng.uniform(0, 0.05) * noise(rng, height, width, 40, 40)
    texture = _to_texture(base, shade)
    _stain(rng, texture, int(rng.integers(0, 10)))
    return texture


def concrete(rng: np.random.Generator, height: int, width: int) -> Texture:
    """The hall's floor."""
    base = np.full(3, rng.uniform(60, 170), dtype=np.float32) * rng.uniform(0.9, 1.1, 3).astype(np.float32)
    shade = 0.10 * noise(rng, height, width, 5, 5) + 0.06 * noise(rng, height, width, 30, 30)
    texture = _to_texture(base, shade + 0.05 * noise(rng, height, width, height / 2, width / 2))
    if rng.random() < 0.4:
        y = int(rng.integers(height))
        cv2.line(
            texture, (0, y), (width, int(rng.integers(height))), (220, 190, 40), int(rng.integers(3, 9)), cv2.LINE_AA
        )
    return texture


def moulded_plastic(rng: np.random.Generator, height: int, width: int, ribs: bool) -> Texture:
    """A tote's floor or wall; ``ribs`` paints the shading of a moulded grid."""
    base = _tinted(rng, PLASTIC, 0.12)
    return moulded_plastic_of(rng, base, height, width, ribs)


def moulded_plastic_of(
    rng: np.random.Generator, base: NDArray[np.float32], height: int, width: int, ribs: bool
) -> Texture:
    """As ``moulded_plastic``, in a given sRGB colour [3]."""
    shade = 0.04 * noise(rng, height, width, 6, 6) + 0.02 * noise(rng, height, width, height / 3, width / 3)
    if ribs:
        pitch = int(rng.integers(14, 48))
        y, x = (_rib_profile(n, pitch) for n in (height, width))
        shade += np.float32(rng.uniform(0.05, 0.25)) * (y[:, None] + x[None, :])
    texture = _to_texture(base, shade)
    _stain(rng, texture, int(rng.integers(0, 8)))
    return texture


def _rib_profile(length: int, pitch: int) -> Field:
    """Light on the edge of each rib, shade beside it. float32 [length]."""
    phase = np.arange(length) % pitch
    return (phase < 2).astype(np.float32) - (phase == 2).astype(np.float32)


def tote_colour(rng: np.random.Generator) -> NDArray[np.float32]:
    """sRGB colour of one tote, float32 [3]."""
    return _tinted(rng, PLASTIC, 0.12)
