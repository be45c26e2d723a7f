"""Looks that no packaging has, to teach a novelty score what unlike means: known goods in random colours, patterns,
creases and gloss. No packaging of the evaluation is among them: no black bag, nothing that is seen through, no open
weave, no gift wrap with its snowflakes and ribbon, no foil and no metallic film."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_sim.model import Material, Parcel, ParcelKind
from robin_sim.parcels import ink
from robin_sim.parcels.ink import Colour, Image

ODD_VARIANT = "odd"
_DARKEST_BAG = 90  # mean level of a bag's colour
_PRINTS = ("rings", "zigzag", "speckle", "bands", "blotches", "confetti", "design")


def odd_looking(parcel: Parcel, rng: np.random.Generator) -> Parcel:
    """The same parcel with a skin of its own."""
    darkest = _DARKEST_BAG if parcel.kind is ParcelKind.POLY_BAG else 0
    return replace(parcel, material=_odd_material(parcel.material, darkest, rng), variant=ODD_VARIANT)


def _odd_material(material: Material, darkest: float, rng: np.random.Generator) -> Material:
    """One to four of: another colour, a pattern, creases, gloss."""
    img = material.albedo.copy()
    changes = {name for name in ("colour", "pattern", "creases", "gloss") if rng.random() < 0.55}
    changes = changes or {str(rng.choice(["pattern", "creases"]))}
    if rng.random() < 0.3:  # wrapped in one sheet: no seam, tape, label or print of its own is left
        img[...] = _colour(darkest, rng)
    elif "colour" in changes:
        img = _recoloured(img, _colour(darkest, rng), rng)
    if "pattern" in changes:
        _pattern(img, darkest, rng)
    if "creases" in changes:
        ink.crinkles(img, int(rng.integers(15, 160)), float(rng.uniform(8, 50)), rng)
        height, width = img.shape[:2]
        ink.shade(img, rng.uniform(0, 18) * ink.grain(height, width, float(rng.uniform(4, 40)), rng))
    if "gloss" not in changes:
        return replace(material, albedo=img)
    roughness, specular = float(rng.uniform(0.05, 0.4)), float(rng.uniform(0.45, 0.95))
    return replace(material, albedo=img, roughness=roughness, specular=specular)


def _colour(darkest: float, rng: np.random.Generator) -> Colour:
    """Any colour whose mean level is above ``darkest``, dark ones as often as light ones."""
    while True:
        r, g, b = (int(c) for c in np.clip(rng.uniform(5, 250) * rng.uniform(0.4, 1.3, 3), 8, 250))
        if r + g + b > 3 * darkest:
            return r, g, b


def _recoloured(img: Image, colour: Colour, rng: np.random.Generator) -> Image:
    """Its drawing in a new colour: the brightest becomes that colour, what was darker becomes as much darker."""
    level = img.astype(np.float32).mean(axis=2) / max(float(np.percentile(img, 95)), 1.0)
    if rng.random() < 0.2:
        level = 1.2 - level
    return np.clip(level[..., None] * np.array(colour, dtype=np.float32), 0, 255).astype(np.uint8)


def _pattern(img: Image, darkest: float, rng: np.random.Generator) -> None:
    """A print of one to three colours over everything."""
    kind, colours = str(rng.choice(_PRINTS)), [_colour(darkest, rng) for _ in range(int(rng.integers(1, 4)))]
    if kind == "design":
        ink.print_all_over(img, (colours[0], *colours), rng)
        return
    h, w = img.shape[:2]
    share = _confetti(h, w, rng) if kind == "confetti" else _share(kind, h, w, rng)
    strength = np.float32(rng.uniform(0.35, 1.0))
    owner = (share * len(colours)).astype(np.int64).clip(0, len(colours) - 1)
    weight = (strength * share)[..., None]
    paint = np.asarray(colours, dtype=np.float32)[owner]
    img[...] = np.clip(img * (1 - weight) + paint * weight, 0, 255).astype(np.uint8)


def _confetti(h: int, w: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Scattered discs and squares, float32 [h, w] in [0, 1]."""
    field = np.zeros((h, w), dtype=np.float32)
    size = rng.uniform(2, 9)
    for _ in range(int(rng.uniform(0.02, 0.25) * h * w / size**2)):
        x, y, r = int(rng.uniform(0, w)), int(rng.uniform(0, h)), max(1, round(size * rng.uniform(0.3, 0.8)))
        if rng.random() < 0.5:
            cv2.circle(field, (x, y), r, float(rng.uniform(0.4, 1)), -1, cv2.LINE_AA)
        else:
            cv2.rectangle(field, (x, y), (x + r, y + r), float(rng.uniform(0.4, 1)), -1)
    return field


def _share(kind: str, h: int, w: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """How much of the print lies on each pixel, float32 [h, w] in [0, 1]."""
    x, y = np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32)[:, None]
    pitch = float(np.exp(rng.uniform(np.log(4), np.log(60))))
    if kind == "rings":
        radius = np.hypot(x % (4 * pitch) - 2 * pitch, y % (4 * pitch) - 2 * pitch)
        field = np.cos(2 * np.pi * radius / pitch)
    elif kind == "zigzag":
        field = np.cos(2 * np.pi * (y + np.abs(x % (2 * pitch) - pitch)) / pitch)
    elif kind == "speckle":
        field = ink.grain(h, w, max(1.5, pitch / 8), rng)
    elif kind == "bands":
        field = np.cos(2 * np.pi * x / pitch) + np.zeros_like(y)
    else:
        field = ink.grain(h, w, pitch, rng)
    hard = float(rng.uniform(0.7, 6))
    return np.asarray(cv2.blur(np.clip(0.5 + 0.5 * hard * field, 0, 1).astype(np.float32), (2, 2)))
