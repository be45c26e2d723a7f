"""Marks that parcels carry: grain, text, barcodes, labels, tape, prints. All draw in place on uint8 [h, w, 3] sRGB."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]

_WORDS = (
    "FRAGILE",
    "PRIME",
    "ECO",
    "NORDA",
    "HELIX",
    "24h",
    "kiwi",
    "BOXA",
    "Lumen",
    "THIS SIDE UP",
    "OAK&CO",
    "zebra",
    "MIRO",
)
_FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_SCRIPT_SIMPLEX)


def jitter(colour: Colour, rng: np.random.Generator, amount: float = 10.0) -> Colour:
    """The colour, a little off in brightness and, less so, in hue."""
    value = np.array(colour) + rng.normal(0, amount) + rng.normal(0, amount / 3, 3)
    r, g, b = (int(c) for c in np.clip(value, 4, 252))
    return r, g, b


def pick_colour(colours: tuple[Colour, ...], rng: np.random.Generator) -> Colour:
    return colours[int(rng.integers(len(colours)))]


def grain(h: int, w: int, cell_px: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Smooth noise of unit amplitude and about ``cell_px`` correlation, float32 [h, w]."""
    small = rng.standard_normal((max(2, round(h / cell_px)), max(2, round(w / cell_px))), dtype=np.float32)
    return np.asarray(cv2.resize(small, (w, h), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def shade(img: Image, field: NDArray[np.floating[Any]]) -> None:
    """Add a brightness field, sRGB levels, float [h, w]."""
    levels = np.rint(field).astype(np.int16)
    cv2.add(img, cv2.merge([levels, levels, levels]), dst=img, dtype=cv2.CV_8U)


def paste(img: Image, patch: Image, x: int, y: int) -> None:
    """Put a patch at (x, y), cut at the image's border."""
    h, w = img.shape[:2]
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + patch.shape[1], w), min(y + patch.shape[0], h)
    if x1 > x0 and y1 > y0:
        img[y0:y1, x0:x1] = patch[y0 - y : y1 - y, x0 - x : x1 - x]


def rectangle(img: Image, x: float, y: float, w: float, h: float, colour: Colour, thickness: int = -1) -> None:
    cv2.rectangle(img, (round(x), round(y)), (round(x + w), round(y + h)), colour, thickness)


def barcode(img: Image, x: int, y: int, w: int, h: int, rng: np.random.Generator) -> None:
    """Vertical black bars of one to three pixels."""
    edge = x + 1
    while edge < x + w:
        bar = int(rng.integers(1, 3))
        img[max(y, 0) : y + h, max(edge, 0) : min(edge + bar, x + w)] = 22
        edge += bar + int(rng.integers(1, 4))


def text_lines(
    img: Image, x: int, y: int, w: int, lines: int, pitch: int, colour: Colour, rng: np.random.Generator
) -> None:
    """Lines of small print: at the camera's distance they are dashes, and so they are drawn."""
    thick = max(1, pitch // 3)
    for row in range(lines):
        end = x + int(w * rng.uniform(0.4, 1.0))
        pen = x
        while pen < end:
            dash = int(rng.integers(2, 4 + 2 * thick))
            cv2.line(img, (pen, y + row * pitch), (min(pen + dash, end), y + row * pitch), colour, thick)
            pen += dash + int(rng.integers(2, 4))


def word(img: Image, x: int, y: int, height_px: float, colour: Colour, rng: np.random.Generator) -> None:
    """A word of large print, baseline at (x, y)."""
    text = _WORDS[int(rng.integers(len(_WORDS)))]
    scale = height_px / 22.0
    font = _FONTS[int(rng.integers(len(_FONTS)))]
    cv2.putText(img, text, (x, y), font, scale, colour, max(1, round(scale * 2.2)), cv2.LINE_AA)


def shipping_label(pixels_per_m: float, rng: np.random.Generator) -> Image:
    """A white sticker of 70 to 155 mm with address lines and one or two barcodes, in one of four quarter turns."""
    w, h = sorted(rng.uniform((0.07, 0.06), (0.155, 0.11)) * pixels_per_m, reverse=True)
    w, h = int(max(w, 14)), int(max(h, 10))
    img = np.full((h, w, 3), jitter((244, 243, 238), rng, 4), dtype=np.uint8)
    ink = jitter((30, 30, 34), rng, 8)
    rectangle(img, 0, 0, w - 1, h - 1, ink if rng.random() < 0.5 else (205, 205, 205), 1)
    text_lines(img, w // 12, h // 8, w // 2, 4, max(3, h // 12), ink, rng)
    if rng.random() < 0.6:
        rectangle(img, w * 0.68, h * 0.08, w * 0.22, h * 0.28, ink, -1 if rng.random() < 0.4 else 1)
    barcode(img, w // 12, h // 2, int(w * 0.82), int(h * 0.3), rng)
    text_lines(img, w // 12, int(h * 0.9), int(w * 0.8), 1, 3, ink, rng)
    return np.ascontiguousarray(np.rot90(img, int(rng.integers(4))))


def tape(img: Image, centre_px: float, width_px: float, colour: Colour, opacity: float, along_x: bool = True) -> None:
    """A strip across the whole image, along x or along y."""
    a, b = max(0, round(centre_px - width_px / 2)), max(0, round(centre_px + width_px / 2))
    strip = img[a:b] if along_x else img[:, a:b]
    strip[...] = (strip * (1 - opacity) + np.array(colour) * opacity).astype(np.uint8)


def logo(img: Image, x: int, y: int, size: int, colour: Colour, rng: np.random.Generator) -> None:
    """A mark of ``size`` pixels centred on (x, y): disc, ring, triangle, arrows or bars."""
    style = int(rng.integers(5))
    r = max(2, size // 2)
    if style == 0:
        cv2.circle(img, (x, y), r, colour, -1, cv2.LINE_AA)
    elif style == 1:
        cv2.circle(img, (x, y), r, colour, max(1, r // 3), cv2.LINE_AA)
    elif style == 2:
        cv2.fillConvexPoly(img, np.array([[x - r, y + r], [x + r, y + r], [x, y - r]], np.int32), colour, cv2.LINE_AA)
    elif style == 3:
        for dx in (-r // 2, r // 2):
            cv2.arrowedLine(img, (x + dx, y + r), (x + dx, y - r), colour, max(1, r // 5), cv2.LINE_AA, 0, 0.4)
    else:
        for k in range(3):
            rectangle(img, x - r, y - r + k * r * 0.8, 2 * r * rng.uniform(0.4, 1), r * 0.4, colour)


def crinkles(img: Image, count: int, strength: float, rng: np.random.Generator) -> None:
    """Folds of film finer than the mesh: bright lines with a dark side, of ``strength`` sRGB levels."""
    h, w = img.shape[:2]
    field = np.zeros((h, w), dtype=np.float32)
    start = rng.uniform(0, 1, (count, 2)) * (w, h)
    angle, length = rng.uniform(0, np.pi, count), rng.uniform(0.04, 0.22, count) * w
    level = rng.uniform(0.3, 1.0, count) * strength
    bend = rng.normal(0, 0.12, count)
    for k in range(count):
        knots = np.linspace(0, 1, 3)[:, None] * length[k]
        turn = angle[k] + bend[k] * np.arange(3)[:, None]
        path = start[k] + knots * np.concatenate([np.cos(turn), np.sin(turn)], axis=1)
        points = np.rint(path).astype(np.int32)
        cv2.polylines(field, [points], False, float(level[k]), 1)
        cv2.polylines(field, [points + 1], False, float(-level[k]), 1)
    shade(img, cv2.GaussianBlur(field, (0, 0), 0.8) * 1.6)


def mirrored_room(img: Image, facet_px: float, rng: np.random.Generator) -> None:
    """Crumpled foil, in place: facets of about ``facet_px``, each a small mirror that shows a dark or a light part of
    the room, or a lamp, and shades off to one side."""
    h, w = img.shape[:2]
    count = max(4, int(h * w / facet_px**2))
    seeds = np.full((h, w), 255, np.uint8)
    seeds[rng.integers(0, h, count), rng.integers(0, w, count)] = 0
    _, facet = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    seen = rng.choice([0.45, 0.8, 1.05, 1.7], facet.max() + 1, p=[0.35, 0.3, 0.2, 0.15])
    seen = (seen * rng.uniform(0.8, 1.2, len(seen))).astype(np.float32)[facet]
    slope = rng.normal(0, 0.25 / facet_px, (facet.max() + 1, 2)).astype(np.float32)[facet]
    y, x = np.mgrid[:h, :w].astype(np.float32)
    for axis, place in enumerate((x, y)):
        centre = np.bincount(facet.ravel(), place.ravel()) / np.maximum(np.bincount(facet.ravel()), 1)
        seen += slope[..., axis] * (place - centre.astype(np.float32)[facet])
    seen = cv2.GaussianBlur(seen, (0, 0), 0.7)
    img[...] = np.clip(img * seen[..., None], 0, 255).astype(np.uint8)


# ------------------------------------------------------------------------------------------------------- full prints

Palette = tuple[Colour, ...]


def _stripes(img: Image, palette: Palette, rng: np.random.Generator) -> None:
    h, w = img.shape[:2]
    pitch, slope = rng.uniform(0.06, 0.25) * w, rng.choice([0.0, 0.0, 0.5, 1.0])
    along = (
        np.arange(w)[None, :] + slope * np.arange(h)[:, None]
        if rng.random() < 0.5
        else (np.arange(h)[:, None] + slope * np.arange(w)[None, :])
    )
    index = (along / pitch).astype(np.int64) % len(palette)
    img[...] = np.asarray(palette, dtype=np.uint8)[np.broadcast_to(index, (h, w))]


def _checks(img: Image, palette: Palette, rng: np.random.Generator) -> None:
    h, w = img.shape[:2]
    pitch = max(3.0, rng.uniform(0.06, 0.22) * w)
    rows, columns = (np.arange(h) / pitch).astype(np.int64), (np.arange(w) / pitch).astype(np.int64)
    img[...] = np.asarray(palette, dtype=np.uint8)[(rows[:, None] + columns[None, :]) % len(palette)]


def _panels(img: Image, palette: Palette, rng: np.random.Generator) -> None:
    """Large rectangles, some with a drawn shadow: what looks most like another parcel's edge."""
    h, w = img.shape[:2]
    for _ in range(int(rng.integers(2, 6))):
        x, y = rng.uniform(-0.1, 0.8) * w, rng.uniform(-0.1, 0.8) * h
        pw, ph = rng.uniform(0.2, 0.7) * w, rng.uniform(0.2, 0.7) * h
        if rng.random() < 0.4:
            rectangle(img, x + 2, y + 2, pw, ph, (40, 40, 44))
        rectangle(img, x, y, pw, ph, jitter(pick_colour(palette, rng), rng))


def _dots(img: Image, palette: Palette, rng: np.random.Generator) -> None:
    h, w = img.shape[:2]
    pitch = max(6, int(rng.uniform(0.08, 0.2) * w))
    radius = max(1, int(pitch * rng.uniform(0.15, 0.4)))
    for row, y in enumerate(range(pitch // 2, h, pitch)):
        for x in range(pitch // 2 + (row % 2) * pitch // 2, w, pitch):
            cv2.circle(img, (x, y), radius, palette[(row + x) % len(palette)], -1, cv2.LINE_AA)


def _photo(img: Image, palette: Palette, rng: np.random.Generator) -> None:
    """Blurred shapes on a gradient, as a product photograph."""
    h, w = img.shape[:2]
    low, high = (np.array(pick_colour(palette, rng), dtype=np.float32) for _ in range(2))
    ramp = np.linspace(0, 1, h, dtype=np.float32)[:, None, None]
    img[...] = (low * (1 - ramp) + high * ramp).astype(np.uint8)
    for _ in range(int(rng.integers(3, 8))):
        centre = (int(rng.uniform(0, w)), int(rng.uniform(0, h)))
        axes = (max(2, int(rng.uniform(0.05, 0.3) * w)), max(2, int(rng.uniform(0.05, 0.3) * h)))
        colour = jitter(pick_colour(palette, rng), rng, 25)
        cv2.ellipse(img, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
    img[...] = cv2.GaussianBlur(img, (0, 0), float(rng.uniform(0.6, 3)))


def _words(img: Image, palette: Palette, rng: np.random.Generator) -> None:
    h, w = img.shape[:2]
    pitch = int(rng.uniform(14, 40))
    for y in range(pitch, h + pitch, pitch):
        for x in range(-int(rng.integers(0, 40)), w, pitch * 4):
            word(img, x, y, pitch * 0.55, pick_colour(palette, rng), rng)


_PRINTS: tuple[Callable[[Image, Palette, np.random.Generator], None], ...] = (
    _panels, _photo, _stripes, _checks, _dots, _words,
)  # fmt: skip
_PRINT_SHARES = np.array([0.34, 0.26, 0.14, 0.08, 0.08, 0.10])


def print_all_over(img: Image, palette: Palette, rng: np.random.Generator) -> None:
    """Cover a face with print whose edges are no parcel's edges."""
    _PRINTS[int(rng.choice(len(_PRINTS), p=_PRINT_SHARES))](img, palette, rng)


def snowflakes(img: Image, colour: Colour, rng: np.random.Generator) -> None:
    """Stars of three strokes strewn over the image: holiday print."""
    h, w = img.shape[:2]
    for _ in range(max(4, h * w // 900)):
        x, y, r = int(rng.uniform(0, w)), int(rng.uniform(0, h)), int(rng.integers(3, 10))
        for angle in np.arange(3) * np.pi / 3 + rng.uniform(0, 1):
            dx, dy = round(r * np.cos(angle)), round(r * np.sin(angle))
            cv2.line(img, (x - dx, y - dy), (x + dx, y + dy), colour, 1, cv2.LINE_AA)
