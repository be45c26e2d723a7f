"""One atlas texture per parcel, from its kind and variant."""

from __future__ import annotations

import cv2
import numpy as np

from robin_sim.model import ParcelKind
from robin_sim.parcels import ink
from robin_sim.parcels.atlas import Atlas
from robin_sim.parcels.distributions import Variant
from robin_sim.parcels.ink import Colour, Image

_TAPES: tuple[Colour, ...] = ((196, 164, 112), (150, 108, 66), (214, 210, 200), (236, 236, 232), (40, 60, 120))
_INKS: tuple[Colour, ...] = ((36, 34, 36), (36, 34, 36), (30, 60, 130), (150, 30, 36), (20, 96, 60))


def draw_texture(kind: ParcelKind, variant: Variant, atlas: Atlas, rng: np.random.Generator) -> Image:
    """uint8 [h, w, 3] sRGB, the parcel's whole atlas."""
    base = ink.jitter(ink.pick_colour(variant.colours, rng), rng)
    img = np.empty((atlas.height, atlas.width, 3), dtype=np.uint8)
    img[...] = base
    if kind is ParcelKind.CARTON:
        _carton(img, variant, atlas, base, rng)
    elif kind is ParcelKind.TUBE:
        _tube(img, variant, atlas, base, rng)
    elif kind is ParcelKind.POLY_BAG:
        _bag(img, variant, atlas, base, rng)
    else:
        _mailer(img, kind, variant, atlas, base, rng)
    return img


def _palette(variant: Variant, base: Colour, rng: np.random.Generator) -> tuple[Colour, ...]:
    others = [ink.jitter(ink.pick_colour(variant.colours, rng), rng, 18) for _ in range(int(rng.integers(1, 4)))]
    return (base, *others)


def _paper(img: Image, amount: float, rng: np.random.Generator) -> None:
    """Fibre grain, blotches and wear."""
    h, w = img.shape[:2]
    ink.shade(img, amount * (1.6 * ink.grain(h, w, 1.5, rng) + 2.2 * ink.grain(h, w, 36, rng)))


def _contrast_ink(base: Colour, rng: np.random.Generator) -> Colour:
    """A print colour that can be read on the base."""
    if sum(base) < 300:
        return ink.jitter((230, 228, 220), rng, 8)
    return ink.jitter(ink.pick_colour(_INKS, rng), rng, 8)


def _stick_label(face: Image, atlas: Atlas, rng: np.random.Generator) -> None:
    label = ink.shipping_label(atlas.pixels_per_m, rng)
    h, w = face.shape[:2]
    x = int(rng.uniform(0.02, 0.98) * max(w - label.shape[1], 1))
    y = int(rng.uniform(0.02, 0.98) * max(h - label.shape[0], 1))
    ink.paste(face, label, x, y)


def _sparse_print(face: Image, base: Colour, rng: np.random.Generator) -> None:
    """A word, a mark, small print: what most cardboard carries."""
    h, w = face.shape[:2]
    colour = _contrast_ink(base, rng)
    if rng.random() < 0.6:
        ink.word(
            face,
            int(rng.uniform(0, 0.5) * w),
            int(rng.uniform(0.25, 0.95) * h),
            rng.uniform(6, 0.25 * h + 7),
            colour,
            rng,
        )
    if rng.random() < 0.6:
        size = int(rng.uniform(0.1, 0.35) * min(h, w))
        ink.logo(face, int(rng.uniform(0.1, 0.9) * w), int(rng.uniform(0.1, 0.9) * h), size, colour, rng)
    if rng.random() < 0.4:
        ink.text_lines(
            face, int(rng.uniform(0, 0.6) * w), int(rng.uniform(0.1, 0.7) * h), int(0.35 * w), 4, 4, colour, rng
        )


def _carton(img: Image, variant: Variant, atlas: Atlas, base: Colour, rng: np.random.Generator) -> None:
    palette = _palette(variant, base, rng)
    if variant.name == "giftwrap":  # one paper around all faces
        ink.print_all_over(img, palette, rng)
        ink.snowflakes(img, ink.jitter((245, 240, 225), rng, 6), rng)
        _ribbon(img, atlas, rng)
    else:
        _print_faces(img, variant, atlas, palette, rng)
        if variant.name == "foil":
            ink.mirrored_room(img, float(np.exp(rng.uniform(np.log(0.008), np.log(0.035)))) * atlas.pixels_per_m, rng)
        else:
            _seams_and_tape(img, atlas, base, rng)
    _paper(img, 1.0, rng)
    _edge_wear(img, atlas, rng)
    for name in ("top", "bottom", "y+", "x-"):
        if rng.random() < (0.6 if name == "top" else 0.15):
            _stick_label(atlas.view(img, name), atlas, rng)


def _print_faces(
    img: Image, variant: Variant, atlas: Atlas, palette: tuple[Colour, ...], rng: np.random.Generator
) -> None:
    """Full print on every face, or words and marks on most faces, or on one at times."""
    everywhere = variant.name in ("printed", "full_print")
    only = str(rng.choice(list(atlas.rectangles))) if rng.random() < 0.45 else ""
    for name in atlas.rectangles:
        sparse = rng.random() < 0.8 if everywhere else name == only
        if variant.name != "full_print" and not sparse:
            continue
        face = np.ascontiguousarray(atlas.view(img, name))
        if variant.name == "full_print":
            ink.print_all_over(face, palette, rng)
        if sparse:
            _sparse_print(face, palette[0], rng)
        atlas.view(img, name)[...] = face


def _seams_and_tape(img: Image, atlas: Atlas, base: Colour, rng: np.random.Generator) -> None:
    """Flap seam along x on top and bottom; tape over it that runs down both ends; at times a strip across."""
    seam = tuple(int(0.45 * c) for c in base)
    tape_colour, opacity = ink.jitter(ink.pick_colour(_TAPES, rng), rng, 8), float(rng.uniform(0.35, 0.95))
    width, taped = rng.uniform(0.036, 0.072) * atlas.pixels_per_m, rng.random() < 0.85
    for name in ("top", "bottom"):
        face = atlas.view(img, name)
        middle = face.shape[0] // 2
        face[middle : middle + 1] = seam
        if taped:
            ink.tape(face, middle, width, tape_colour, opacity)
    if not taped:
        return
    for name in ("x+", "x-"):
        face = atlas.view(img, name)
        drop = min(face.shape[0] // 2, int(rng.uniform(0.03, 0.09) * atlas.pixels_per_m))
        for part in (face[:drop], face[face.shape[0] - drop :]):
            ink.tape(part, face.shape[1] / 2, width, tape_colour, opacity, along_x=False)
    if rng.random() < 0.15:
        face = atlas.view(img, "top")
        ink.tape(face, rng.uniform(0.2, 0.8) * face.shape[1], width, tape_colour, opacity, along_x=False)


def _ribbon(img: Image, atlas: Atlas, rng: np.random.Generator) -> None:
    colour, width = ink.jitter((225, 195, 90), rng, 14), rng.uniform(0.012, 0.03) * atlas.pixels_per_m
    for name in atlas.rectangles:
        face = atlas.view(img, name)
        ink.tape(face, face.shape[1] / 2, width, colour, 0.95, along_x=False)
        if name in ("top", "bottom"):
            ink.tape(face, face.shape[0] / 2, width, colour, 0.95)


def _edge_wear(img: Image, atlas: Atlas, rng: np.random.Generator) -> None:
    """Edges rubbed lighter or soiled darker, one or two pixels wide, on every face alike."""
    level, width = int(rng.normal(2, 9)), int(rng.integers(1, 3))
    for name in atlas.rectangles:
        face = atlas.view(img, name)
        for strip in (face[:width], face[-width:], face[:, :width], face[:, -width:]):
            strip[...] = np.clip(strip.astype(np.int16) + level, 0, 255).astype(np.uint8)


def _mailer(
    img: Image, kind: ParcelKind, variant: Variant, atlas: Atlas, base: Colour, rng: np.random.Generator
) -> None:
    padded = kind is ParcelKind.PADDED_MAILER
    for name in ("top", "bottom"):
        face = np.ascontiguousarray(atlas.view(img, name))
        h, w = face.shape[:2]
        if variant.name == "holiday_card":
            ink.print_all_over(face, _palette(variant, base, rng), rng)
            ink.snowflakes(face, ink.jitter((245, 240, 225), rng, 6), rng)
        elif variant.name in ("printed", "coloured") and rng.random() < 0.5:
            ink.print_all_over(face, _palette(variant, base, rng), rng)
        if rng.random() < 0.5:
            _sparse_print(face, base, rng)
        line = tuple(int(0.8 * c) for c in base)
        if name == "bottom" or rng.random() < 0.3:  # closing flap
            flap = int(rng.uniform(0.12, 0.3) * w)
            cv2.line(face, (flap, 0), (flap, h), line, 1)
        atlas.view(img, name)[...] = face
    if padded:
        _bubbles(img, atlas, rng)
    if variant.name == "metallic":
        ink.crinkles(img, 60, 34.0, rng)
        ink.shade(img, 14 * ink.grain(img.shape[0], img.shape[1], 20, rng))
    _paper(img, 0.8, rng)
    if padded:
        ink.crinkles(img, int(rng.integers(4, 18)), 9.0, rng)
    if rng.random() < 0.75:
        _stick_label(atlas.view(img, "top"), atlas, rng)
    if rng.random() < 0.2:
        _stick_label(atlas.view(img, "bottom"), atlas, rng)


def _bubbles(img: Image, atlas: Atlas, rng: np.random.Generator) -> None:
    """The 10 mm bubble pattern that shows through a padded mailer's skin."""
    h, w = img.shape[:2]
    pitch = rng.uniform(0.009, 0.013) * atlas.pixels_per_m
    x, y = np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32)[:, None]
    field = np.cos(2 * np.pi * x / pitch) * np.cos(np.pi * 2 / 1.73 * y / pitch)
    ink.shade(img, (rng.uniform(0.0, 5.0) * field).astype(np.float32))


def _bag(img: Image, variant: Variant, atlas: Atlas, base: Colour, rng: np.random.Generator) -> None:
    h, w = img.shape[:2]
    if variant.name == "mesh_sack":
        _weave(img, base, rng)
        return
    if variant.name == "clear":
        _contents(img, rng)
    for name in ("top", "bottom"):
        face = np.ascontiguousarray(atlas.view(img, name))
        fw = face.shape[1]
        if variant.name == "coloured" and rng.random() < 0.4:
            ink.print_all_over(face, _palette(variant, base, rng), rng)
        if rng.random() < 0.35:
            _sparse_print(face, base, rng)
        hem = max(2, int(0.01 * atlas.pixels_per_m))
        for strip in (face[:, :hem], face[:, fw - hem :]):  # welded ends
            strip[...] = (strip * 0.93).astype(np.uint8)
        atlas.view(img, name)[...] = face
    dim = 0.35 + 0.65 * min(1.0, sum(base) / 450)
    ink.shade(img, 5 * dim * ink.grain(h, w, 26, rng))
    ink.crinkles(img, int(rng.integers(50, 130)), float(rng.uniform(14, 34)) * dim, rng)
    for name, chance in (("top", 0.7), ("bottom", 0.2)):
        if rng.random() < chance:
            _stick_label(atlas.view(img, name), atlas, rng)


def _contents(img: Image, rng: np.random.Generator) -> None:
    """What is seen through clear film: folded cloth or goods, washed out."""
    colour = tuple(int(c) for c in rng.integers(60, 210, 3))
    goods = img.copy()
    ink.print_all_over(goods, (ink.jitter(colour, rng), ink.jitter(colour, rng, 25)), rng)  # type: ignore[arg-type]
    img[...] = cv2.addWeighted(img, 0.45, goods, 0.55, 0)


def _weave(img: Image, base: Colour, rng: np.random.Generator) -> None:
    """Open mesh: bright strands over dark gaps, on the diagonal."""
    h, w = img.shape[:2]
    pitch = rng.uniform(4.0, 7.0)
    x, y = np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32)[:, None]
    strand = np.maximum(np.cos(2 * np.pi * (x + y) / pitch), np.cos(2 * np.pi * (x - y) / pitch))
    share = np.clip(0.35 + 0.65 * strand, 0.15, 1)[..., None]
    img[...] = (np.array(base) * share).astype(np.uint8)
    ink.shade(img, 5 * ink.grain(h, w, 20, rng))


def _tube(img: Image, variant: Variant, atlas: Atlas, base: Colour, rng: np.random.Generator) -> None:
    body = np.ascontiguousarray(atlas.view(img, "body"))
    h, w = body.shape[:2]
    if variant.name in ("printed", "holiday_print"):
        ink.print_all_over(body, _palette(variant, base, rng), rng)
        if variant.name == "holiday_print":
            ink.snowflakes(body, ink.jitter((245, 240, 225), rng, 6), rng)
    elif rng.random() < 0.7:  # spiral winding
        pitch, slope = rng.uniform(0.06, 0.12) * atlas.pixels_per_m, rng.uniform(0.5, 1.2)
        dark = tuple(int(0.86 * c) for c in base)
        for start in np.arange(-h * slope, w, pitch):
            cv2.line(body, (round(start), 0), (round(start + h * slope), h), dark, 1, cv2.LINE_AA)
    if rng.random() < 0.4:
        _sparse_print(body, base, rng)
    atlas.view(img, "body")[...] = body
    plug = ink.jitter(((235, 235, 232), base, (40, 40, 44), (200, 60, 50))[int(rng.integers(4))], rng, 6)
    for name in ("x+", "x-"):
        atlas.view(img, name)[...] = plug
    if rng.random() < 0.5:
        for centre in (0.0, float(w)):
            ink.tape(
                atlas.view(img, "body"), centre, 0.05 * atlas.pixels_per_m, ink.pick_colour(_TAPES, rng), 0.7, False
            )
    _paper(img, 0.9, rng)
    if rng.random() < 0.7:
        _stick_label(atlas.view(img, "body"), atlas, rng)
