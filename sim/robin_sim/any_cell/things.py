"""Things that are no parcels: bowls, cups, cans, bottles, balls, toys, tools. Their class in labels is ``other``."""

from __future__ import annotations

import colorsys
import itertools
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from robin_perception.core.scene import OTHER
from robin_sim import surfaces
from robin_sim.backgrounds import box
from robin_sim.model import CollisionGeom, Material, Mesh, Parcel, ParcelKind
from robin_sim.parcels import ink

_SIDES = 40
_CLEAR_SHARE = 0.12  # of vessels
Profile = list[tuple[float, float]]


def draw_thing(rng: np.random.Generator) -> Parcel:
    """One thing of 5 to 35 cm, upright in its own frame, with a skin of any colour or print."""
    names = sorted(_SHAPES)
    name = names[int(rng.integers(len(names)))]
    size = float(np.exp(rng.uniform(np.log(0.05), np.log(0.28))))
    mesh = _centred(_SHAPES[name](rng, size))
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    x, y, z = (float(v) for v in high - low)
    vessel = name in ("bowl", "cup", "bottle")
    return Parcel(
        kind=ParcelKind.TUBE,  # round: it lies in no flush row
        variant=name,
        size_m=(x, y, z),
        mass_kg=float(np.clip(400 * x * y * z, 0.03, 3.0)),
        com_offset_m=(0.0, 0.0, 0.0),
        friction=0.45,
        porosity=0.0,
        surface_roughness_m=1e-4,
        compliance_m=3e-4,
        mesh=mesh,
        material=_skin(rng, vessel),
        collision=(CollisionGeom("box", (x / 2, y / 2, z / 2)),),
        own_kind=OTHER,
    )


def colour(rng: np.random.Generator) -> tuple[int, int, int]:
    """Any colour: white, grey and black as often as coloured ones."""
    saturation = rng.uniform(0.25, 0.95) if rng.random() < 0.6 else rng.uniform(0.0, 0.12)
    r, g, b = colorsys.hsv_to_rgb(rng.random(), saturation, rng.uniform(0.08, 0.97))
    return round(255 * r), round(255 * g), round(255 * b)


def print_of_any_colour(rng: np.random.Generator, height: int, width: int) -> surfaces.Texture:
    """Panels, stripes, words, dots or a blurred photograph over a ground, sRGB uint8 [h, w, 3]."""
    texture = np.empty((height, width, 3), dtype=np.uint8)
    texture[...] = colour(rng)
    ink.print_all_over(texture, tuple(colour(rng) for _ in range(int(rng.integers(2, 5)))), rng)
    return texture


def _skin(rng: np.random.Generator, vessel: bool) -> Material:
    if rng.random() < 0.4:
        texture = print_of_any_colour(rng, 96, 192)
    else:
        shade = 1 + rng.uniform(0, 0.08) * surfaces.noise(rng, 64, 96, 6, 9)[..., None]
        texture = np.clip(np.array(colour(rng)) * shade, 0, 255).astype(np.uint8)
    clear = float(rng.uniform(0.5, 0.9)) if vessel and rng.random() < _CLEAR_SHARE else 0.0
    return Material(texture, float(rng.uniform(0.1, 0.95)), float(rng.uniform(0.02, 0.9)), clear)


def lathe(profile: Profile, sides: int = _SIDES) -> Mesh:
    """A body of revolution about z from (radius, z) pairs, metres, in the order in which its skin is met from below
    outside to the top and, for a vessel, down inside."""
    r, z = (np.array(values) for values in zip(*profile, strict=True))
    angle = np.linspace(0, 2 * math.pi, sides + 1)
    rows = len(r)
    xyz = np.stack(
        [r[:, None] * np.cos(angle), r[:, None] * np.sin(angle), np.broadcast_to(z[:, None], (rows, sides + 1))],
        axis=-1,
    )
    along = np.linspace(1, 0, rows)
    uv = np.stack(np.meshgrid(angle / (2 * math.pi), along), axis=-1)
    index = np.arange(rows * (sides + 1)).reshape(rows, sides + 1)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    triangles = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    points, corner_uv = xyz.reshape(-1, 3), uv.reshape(-1, 2)
    # One vertex where the seam closes, so that shading is smooth across it.
    merged = np.where(
        np.arange(rows * (sides + 1)) % (sides + 1) == sides, index[:, :1].repeat(sides + 1, 1).ravel(), index.ravel()
    )
    return Mesh(points.astype(np.float32), merged[triangles].astype(np.int32), corner_uv[triangles].astype(np.float32))


def joined(*meshes: Mesh) -> Mesh:
    """Several meshes as one."""
    starts = np.cumsum([0, *[len(mesh.vertices) for mesh in meshes[:-1]]])
    triangles = [mesh.triangles + start for mesh, start in zip(meshes, starts, strict=True)]
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate(triangles).astype(np.int32),
        np.concatenate([mesh.uv for mesh in meshes]),
    )


def moved(mesh: Mesh, rotation: NDArray[np.float64], shift_m: tuple[float, float, float]) -> Mesh:
    points = mesh.vertices @ rotation.T.astype(np.float32) + np.array(shift_m, dtype=np.float32)
    return Mesh(points.astype(np.float32), mesh.triangles, mesh.uv)


def _centred(mesh: Mesh) -> Mesh:
    middle = (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2
    return Mesh(mesh.vertices - middle, mesh.triangles, mesh.uv)


def _bowl(rng: np.random.Generator, size: float) -> Mesh:
    """Bowls and plates: a curved wall of 2 to 6 mm, open above."""
    radius, height, wall = 0.55 * size, size * rng.uniform(0.12, 0.6), rng.uniform(0.002, 0.006)
    foot, bend = rng.uniform(0.3, 0.7) * radius, rng.uniform(0.35, 1.0)
    t = np.linspace(0, 1, 9)
    r, z = foot + (radius - foot) * t**bend, height * t ** rng.uniform(1.0, 2.2)
    outer = list(zip(r.tolist(), z.tolist(), strict=True))
    inner = [(max(0.2 * a, a - wall), min(b + wall, height)) for a, b in outer[::-1]]
    return lathe([(0.0, 0.0), *outer, *inner, (0.0, wall)])


def _cup(rng: np.random.Generator, size: float) -> Mesh:
    """Cups, mugs with a handle, buckets, pots: a straight wall, open above."""
    height = 0.7 * size
    top, wall = height * rng.uniform(0.3, 0.7), rng.uniform(0.001, 0.005)
    bottom = top * rng.uniform(0.6, 1.05)
    body = lathe(
        [(0, 0), (bottom, 0), (top, height), (top - wall, height), (max(bottom - wall, 0.3 * bottom), wall), (0, wall)]
    )
    if rng.random() < 0.5:
        return body
    arc = np.linspace(-0.5 * math.pi, 0.5 * math.pi, 7)
    reach, grip = height * rng.uniform(0.2, 0.4), height * rng.uniform(0.03, 0.07)
    middle = 0.5 * (top + bottom)
    bars = []
    for first, second in itertools.pairwise(arc):
        at = [(middle + 0.9 * reach * math.cos(a), height * (0.5 + 0.32 * math.sin(a))) for a in (first, second)]
        low, high = np.min(at, axis=0) - grip / 2, np.max(at, axis=0) + grip / 2
        bars.append(box((float(low[0]), -grip / 2, float(low[1])), (float(high[0]), grip / 2, float(high[1]))))
    return joined(body, *bars)


def _can(rng: np.random.Generator, size: float) -> Mesh:
    """Cans, jars, rolls and lids: closed, with a rim."""
    radius, height, rim = size * rng.uniform(0.2, 0.45), size * rng.uniform(0.15, 1.0), rng.uniform(0.001, 0.004)
    return lathe(
        [
            (0, 0),
            (radius, 0),
            (radius, height),
            (radius - rim, height),
            (radius - 1.5 * rim, height - rim),
            (0, height - rim),
        ]
    )


def _bottle(rng: np.random.Generator, size: float) -> Mesh:
    radius, height = size * rng.uniform(0.13, 0.25), size * rng.uniform(0.7, 1.15)
    neck, shoulder, slope = radius * rng.uniform(0.25, 0.6), rng.uniform(0.5, 0.85), rng.uniform(0.05, 0.2)
    waist = radius * rng.uniform(0.75, 1.0)
    return lathe(
        [
            (0, 0), (0.9 * radius, 0), (radius, 0.03 * height), (waist, 0.4 * shoulder * height),
            (radius, shoulder * height), (neck, (shoulder + slope) * height * 0.95), (neck, 0.93 * height),
            (1.15 * neck, 0.93 * height), (1.15 * neck, height), (0, height),
        ]
    )  # fmt: skip


def _ball(rng: np.random.Generator, size: float) -> Mesh:
    """Balls, fruit, eggs, discs."""
    turn = np.linspace(-0.5 * math.pi, 0.5 * math.pi, 13)
    radius, flat = 0.4 * size, rng.uniform(0.35, 1.3)
    return lathe([(float(radius * math.cos(a)), float(flat * radius * math.sin(a))) for a in turn])


def _toy(rng: np.random.Generator, size: float) -> Mesh:
    """One to three convex lumps joined: toys, stones, packs of odd shape."""
    lumps = []
    for _ in range(int(rng.integers(1, 4))):
        points = rng.normal(size=(int(rng.integers(8, 40)), 3)) * rng.uniform(0.35, 1.0, 3)
        points *= 0.5 * size * rng.uniform(0.4, 1.0) / np.abs(points).max()
        hull = ConvexHull(points + rng.uniform(-0.25, 0.25, 3) * size)
        corners = hull.simplices.astype(np.int32)
        outward = np.einsum(
            "ij,ij->i",
            np.cross(
                hull.points[corners[:, 1]] - hull.points[corners[:, 0]],
                hull.points[corners[:, 2]] - hull.points[corners[:, 0]],
            ),
            hull.equations[:, :3],
        )
        corners[outward < 0] = corners[outward < 0][:, ::-1]
        uv = 0.5 + 0.5 * hull.points[corners][..., :2] / size
        lumps.append(Mesh(hull.points.astype(np.float32), corners, uv.astype(np.float32)))
    return joined(*lumps)


def _tool(rng: np.random.Generator, size: float) -> Mesh:
    """A handle with a head: hammers, brushes, screwdrivers, spoons, lying along x."""
    length, grip = 1.2 * size, size * rng.uniform(0.04, 0.12)
    t = np.linspace(0, 1, 8)
    swell = grip * (0.7 + 0.5 * np.sin(rng.uniform(1, 5) * t + rng.uniform(0, 3)) ** 2)
    handle = lathe([(0, 0), *zip(swell.tolist(), (length * t).tolist(), strict=True), (0, length)], 20)
    lying = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
    half = np.array([rng.uniform(0.05, 0.2), rng.uniform(0.08, 0.35), rng.uniform(0.03, 0.1)]) * size
    low, high = (length - half[0], -half[1], -half[2]), (length + half[0], half[1], half[2])
    return joined(moved(handle, lying, (0.0, 0.0, 0.0)), box(low, high))


def _blocks(rng: np.random.Generator, size: float) -> Mesh:
    """Two or three boxes joined at right angles: brackets, stands, machines."""
    parts = []
    for _ in range(int(rng.integers(2, 4))):
        half, middle = rng.uniform(0.08, 0.4, 3) * size, rng.uniform(-0.15, 0.15, 3) * size
        low, high = middle - half, middle + half
        parts.append(box((low[0], low[1], low[2]), (high[0], high[1], high[2])))
    return joined(*parts)


_SHAPES: dict[str, Callable[[np.random.Generator, float], Mesh]] = {
    "ball": _ball,
    "blocks": _blocks,
    "bottle": _bottle,
    "bowl": _bowl,
    "can": _can,
    "cup": _cup,
    "tool": _tool,
    "toy": _toy,
}
