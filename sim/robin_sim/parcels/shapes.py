"""Meshes of parcels, finer than their collision shapes. Closed, triangles counter-clockwise from outside.

Every generator returns the mesh with uv into the parcel's atlas, and the collision geoms fitted to that mesh.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from robin_sim.model import CollisionGeom, Mesh
from robin_sim.parcels.atlas import Atlas

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Shape:
    """A parcel's true mesh and the simpler geoms that the physics moves, both in the parcel's frame, metres."""

    mesh: Mesh
    collision: tuple[CollisionGeom, ...]


@lru_cache(maxsize=512)
def _grid_topology(m: int, n: int, flip: bool) -> NDArray[np.int64]:
    """Triangles [2(m-1)(n-1), 3] over a raveled m x n grid.

    Diagonals run from the grid's corners to its middle, so that no triangle of a sheet lies on the border alone.
    """
    index = np.arange(m * n).reshape(m, n)
    quads = np.stack([index[i : m - 1 + i, j : n - 1 + j] for i, j in ((0, 0), (1, 0), (1, 1), (0, 1))], axis=-1)
    i, j = np.meshgrid(np.arange(m - 1) * 2 < m - 1, np.arange(n - 1) * 2 < n - 1, indexing="ij")
    falling = quads[i == j][:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3)
    rising = quads[i != j][:, [[0, 1, 3], [1, 2, 3]]].reshape(-1, 3)
    triangles = np.concatenate([falling, rising])
    return np.ascontiguousarray(triangles[:, ::-1]) if flip else triangles


def _quads_to_triangles(ids: NDArray[np.int64], uv: Floats, flip: bool) -> tuple[NDArray[np.int64], Floats]:
    """Grid of vertex ids [m, n] with uv [m, n, 2] -> triangles [2(m-1)(n-1), 3] and their corner uv."""
    topology = _grid_topology(*ids.shape, flip)
    return ids.ravel()[topology], uv.reshape(-1, 2)[topology]


def _mesh(vertices: Floats, parts: list[tuple[NDArray[np.int64], Floats]]) -> Mesh:
    return Mesh(
        vertices=np.ascontiguousarray(vertices, dtype=np.float32),
        triangles=np.ascontiguousarray(np.concatenate([p[0] for p in parts]), dtype=np.int32),
        uv=np.clip(np.concatenate([p[1] for p in parts]), 0.0, 1.0).astype(np.float32),
    )


# ---------------------------------------------------------------------------------------------------------- cartons

_SEAM_HALF_M = 0.004
_FACES = {(2, 1): "top", (2, -1): "bottom", (0, 1): "x+", (0, -1): "x-", (1, 1): "y+", (1, -1): "y-"}


def _carton_knots(length: float) -> Floats:
    """Grid lines along one edge, metres about 0: some 2 cm apart, a narrow pair in the middle for a flap seam."""
    half_cells = int(np.clip(round(length / 0.044), 4, 8))
    right = np.concatenate([[0.0], np.linspace(_SEAM_HALF_M, length / 2, half_cells)])
    return np.concatenate([-right[:0:-1], right])


def _carton_displacement(points: Floats, size: Floats, rng: np.random.Generator) -> Floats:
    """Offsets [V, 3] of box-surface points: bulging faces, sagging flap seam, dents, crushed corners, skew."""
    half = size / 2
    unit = points / half
    offset = np.zeros_like(points)
    for axis in range(3):
        b, c = (axis + 1) % 3, (axis + 2) % 3
        span = min(size[b], size[c])
        dome = (1 - unit[:, b] ** 2) * (1 - unit[:, c] ** 2)
        for sign in (1.0, -1.0):
            on_face = np.abs(unit[:, axis] - sign) < 1e-9
            bulge = np.clip(rng.normal(0.009, 0.014), -0.02, 0.035) * span
            wave = (
                rng.normal(0, 0.0012)
                * min(1.0, span / 0.18)
                * np.sin(np.pi * unit[:, b] * rng.integers(1, 3) + rng.uniform(0, 6.28))
            )
            offset[:, axis] += on_face * sign * dome * (min(bulge, 0.007) + wave)
            if axis == 2:
                seam = on_face & (np.abs(points[:, 1]) < 1e-9)
                offset[:, 2] -= seam * sign * rng.uniform(0.0, 0.0009)
    for _ in range(rng.poisson(0.7)):
        offset += _dent(points, half, rng)
    if rng.random() < 0.3:
        corner = half * rng.choice([-1.0, 1.0], 3)
        near = np.exp(-np.sum((points - corner) ** 2, axis=1) / (2 * rng.uniform(0.012, 0.03) ** 2))
        offset -= near[:, None] * np.sign(corner) * rng.uniform(0.002, 0.007)
    return offset


def _dent(points: Floats, half: Floats, rng: np.random.Generator) -> Floats:
    """One dent pressed into a random face: a Gaussian hollow of 15 to 45 mm radius and 1.5 to 6 mm depth."""
    axis, sign = int(rng.integers(3)), float(rng.choice([-1.0, 1.0]))
    centre = rng.uniform(-0.9, 0.9, 3) * half
    centre[axis] = sign * half[axis]
    radius = rng.uniform(0.015, 0.045)
    hollow = np.exp(-np.sum((points - centre) ** 2, axis=1) / (2 * radius**2))
    out = np.zeros_like(points)
    out[:, axis] = -sign * hollow * min(rng.uniform(0.0015, 0.006), 0.15 * radius)
    return out


def carton(size_m: tuple[float, float, float], atlas: Atlas, rng: np.random.Generator) -> Shape:
    """A box whose six faces are grids, with sharp edges and slightly uneven faces."""
    size = np.asarray(size_m, dtype=np.float64)
    knots = [_carton_knots(s) for s in size]
    counts = np.array([len(k) for k in knots])
    keys, parts_uv, shapes = [], [], []
    for (axis, sign), name in _FACES.items():
        b, c = (axis + 1) % 3, (axis + 2) % 3
        grid = np.meshgrid(np.arange(counts[b]), np.arange(counts[c]), indexing="ij")
        lattice = np.empty((*grid[0].shape, 3), dtype=np.int64)
        lattice[..., axis] = counts[axis] - 1 if sign > 0 else 0
        lattice[..., b], lattice[..., c] = grid
        keys.append((lattice[..., 0] * counts[1] + lattice[..., 1]) * counts[2] + lattice[..., 2])
        point = [knots[k][lattice[..., k]] / size[k] + 0.5 for k in range(3)]
        parts_uv.append(atlas.to_uv(name, *_face_uv(axis, sign, point)))
        shapes.append((lattice.shape[:2], sign < 0))
    flat = np.concatenate([k.ravel() for k in keys])
    unique, inverse = np.unique(flat, return_inverse=True)
    ijk = np.stack([unique // (counts[1] * counts[2]), unique // counts[2] % counts[1], unique % counts[2]], axis=1)
    points = np.stack([knots[k][ijk[:, k]] for k in range(3)], axis=1)
    vertices = points + _carton_displacement(points, size, rng)
    parts, start = [], 0
    for (shape, flip), uv in zip(shapes, parts_uv, strict=True):
        ids = inverse[start : start + shape[0] * shape[1]].reshape(shape)
        start += shape[0] * shape[1]
        parts.append(_quads_to_triangles(ids, uv, flip))
    return Shape(_mesh(vertices, parts), (_fitted_box(points, vertices, size / 2),))


def _face_uv(axis: int, sign: int, p: list[Floats]) -> tuple[Floats, Floats]:
    """Image coordinates (right, down) in [0, 1] of face points p in [0, 1]^3, as seen from outside with z up."""
    if axis == 2:
        return (p[0], 1 - p[1]) if sign > 0 else (p[0], p[1])
    if axis == 0:
        return (p[1] if sign > 0 else 1 - p[1]), 1 - p[2]
    return (1 - p[0] if sign > 0 else p[0]), 1 - p[2]


def _fitted_box(points: Floats, vertices: Floats, half: Floats) -> CollisionGeom:
    """The box whose faces are the mean of the displaced faces, so that mesh and collision agree on average."""
    low, high = np.empty(3), np.empty(3)
    for axis in range(3):
        high[axis] = vertices[np.abs(points[:, axis] - half[axis]) < 1e-9, axis].mean()
        low[axis] = vertices[np.abs(points[:, axis] + half[axis]) < 1e-9, axis].mean()
    return _box(low, high)


def _box(low: Floats, high: Floats) -> CollisionGeom:
    size, position = (high - low) / 2, (high + low) / 2
    return CollisionGeom(
        "box",
        (float(size[0]), float(size[1]), float(size[2])),
        (float(position[0]), float(position[1]), float(position[2])),
    )


# ------------------------------------------------------------------------------------------------- mailers and bags


@dataclass(frozen=True)
class PillowProfile:
    """How a sheet-made parcel rises from its hem. Metres; exponents are those of (1 - |u|^p)^q.

    plateau: p, larger is flatter on top. shoulder: q. hem_share: share of each half edge that is flat seam.
    pull_in: how far the edges' middles are drawn inwards, as a share of the half edge. bow: bend of the whole sheet.
    crease: depth of sharp crinkle ridges; crease_count of them. lump: amplitude of soft contents showing through.
    bottom_share: how much of the height hangs below the hem plane. lean: how unevenly the filling lies. hem_wave: how
    far the seam's edge curls up and down.
    """

    plateau: float
    shoulder: float
    hem_share: float
    pull_in: float
    bow_m: float
    crease_m: float
    crease_count: int
    lump_m: float
    bottom_share: float
    lean: float = 0.0
    hem_wave_m: float = 0.0


_PILLOW_CELLS = 28


def _pillow_knots() -> Floats:
    """[-1, 1], denser towards both ends where a pillow's shoulder is."""
    t = np.linspace(-1, 1, _PILLOW_CELLS + 1)
    return np.sign(t) * (1 - (1 - np.abs(t)) ** 1.5)


def _wave(t: Floats, rng: np.random.Generator) -> Floats:
    """Phase of a wave of a random half to one and a half periods along t."""
    return t * rng.uniform(1.6, 5.0) + rng.uniform(0, 6.28)


def _lumps(u: Floats, v: Floats, rng: np.random.Generator) -> Floats:
    """Smooth bumps of about unit amplitude: a few Gaussians of mixed sign."""
    centres, radii = rng.uniform(-0.7, 0.7, (5, 2)), rng.uniform(0.2, 0.5, 5)
    signs = rng.normal(0, 0.6, 5)
    d2 = (u[..., None] - centres[:, 0]) ** 2 + (v[..., None] - centres[:, 1]) ** 2
    return np.sum(signs * np.exp(-d2 / (2 * radii**2)), axis=-1)


def _creases(x: Floats, y: Floats, half: tuple[float, float], count: int, rng: np.random.Generator) -> Floats:
    """Sharp folds of about unit amplitude: short straight ridges and valleys with an exponential cross-section."""
    if count == 0:
        return np.zeros_like(x)
    angle = rng.uniform(0, np.pi, count)
    cx, cy = rng.uniform(-half[0], half[0], count), rng.uniform(-half[1], half[1], count)
    length, width = rng.uniform(0.03, 0.12, count), rng.uniform(0.006, 0.014, count)
    height = rng.choice([-0.7, 1.0], count) * rng.uniform(0.3, 1.0, count)
    dx, dy = x[..., None] - cx, y[..., None] - cy
    across = np.abs(-dx * np.sin(angle) + dy * np.cos(angle))
    along = dx * np.cos(angle) + dy * np.sin(angle)
    return np.sum(height * np.exp(-across / width - (along / length) ** 2), axis=-1)


def _rise(u: Floats, v: Floats, profile: PillowProfile) -> Floats:
    """0 at the hem, 1 on the plateau."""
    free = 1 - profile.hem_share
    a, b = np.clip(np.abs(u) / free, 0, 1), np.clip(np.abs(v) / free, 0, 1)
    rise: Floats = ((1 - a**profile.plateau) * (1 - b**profile.plateau)) ** profile.shoulder
    return rise


def pillow(size_m: tuple[float, float, float], profile: PillowProfile, atlas: Atlas, rng: np.random.Generator) -> Shape:
    """Two sheets joined at the hem, filled: flat mailers, padded mailers, bags."""
    hx, hy, height = size_m[0] / 2, size_m[1] / 2, size_m[2]
    knots = _pillow_knots()
    u, v = np.meshgrid(knots, knots, indexing="ij")
    rise = _rise(u, v, profile) * (1 + profile.lean * (rng.uniform(-1, 1) * u + rng.uniform(-1, 1) * v))
    x = u * hx * (1 - profile.pull_in * rng.uniform(0.3, 1.0) * (1 - v**2) * (1 + 0.5 * np.sin(_wave(v, rng))))
    y = v * hy * (1 - profile.pull_in * rng.uniform(0.3, 1.0) * (1 - u**2) * (1 + 0.5 * np.sin(_wave(u, rng))))
    inner = (1 - u**6) * (1 - v**6)
    bow_axis = u if rng.random() < 0.7 else v
    bow = profile.bow_m * rng.uniform(-1, 1) * (bow_axis**2 - 0.33) + profile.bow_m * rng.uniform(-0.4, 0.4) * u * v
    hem = np.maximum(np.abs(u), np.abs(v)) ** 8
    bow = bow + profile.hem_wave_m * hem * np.sin(_wave(u, rng)) * np.cos(_wave(v, rng))
    sheets = []
    for sign, share in ((1.0, 1 - profile.bottom_share), (-1.0, profile.bottom_share)):
        lump = profile.lump_m * _lumps(u, v, rng) * rise
        crease = profile.crease_m * _creases(x, y, (hx, hy), profile.crease_count, rng) * inner
        if sign < 0:  # what lies on the belt is pressed flat
            lump, crease = 0.3 * lump, 0.3 * crease
        sheets.append(np.maximum(height * share * rise + lump + crease, 0.0004 * inner))
    # The declared height is what the mesh has: scale the two sheets together.
    scale = height / max(float((sheets[0]).max() + sheets[1].max()), 1e-6)
    top, bottom = sheets[0] * scale, -sheets[1] * scale
    middle = (top.max() + bottom.min()) / 2
    return _two_sheets(x, y, top + bow - middle, bottom + bow - middle, atlas)


def _two_sheets(x: Floats, y: Floats, top: Floats, bottom: Floats, atlas: Atlas) -> Shape:
    """Close two height fields over one outline; they share the border's vertices."""
    m, n = x.shape
    ids_top = np.arange(m * n).reshape(m, n)
    border = np.zeros((m, n), dtype=bool)
    border[[0, -1], :] = border[:, [0, -1]] = True
    ids_bottom = ids_top.copy()
    ids_bottom[~border] = m * n + np.arange(int((~border).sum()))
    seam = np.where(border, (top + bottom) / 2, top)
    vertices = np.concatenate(
        [
            np.stack([x, y, seam], axis=-1).reshape(-1, 3),
            np.stack([x[~border], y[~border], bottom[~border]], axis=-1),
        ]
    )
    half = np.array([np.abs(x).max(), np.abs(y).max()])
    right, down = x / (2 * half[0]) + 0.5, 0.5 - y / (2 * half[1])
    parts = [
        _quads_to_triangles(ids_top, atlas.to_uv("top", right, down), flip=False),
        _quads_to_triangles(ids_bottom, atlas.to_uv("bottom", right, 1 - down), flip=True),
    ]
    return Shape(_mesh(vertices, parts), _terraces(x, y, top, bottom))


_TERRACE_SHARES = (0.93, 0.78, 0.58)
_MIN_HALF_THICKNESS_M = 0.0015


def _terraces(x: Floats, y: Floats, top: Floats, bottom: Floats) -> tuple[CollisionGeom, ...]:
    """Nested boxes that approximate a pillow; each has the mean height of the ring between it and the next one in."""
    hx, hy = float(np.abs(x).max()), float(np.abs(y).max())
    radius = np.maximum(np.abs(x) / hx, np.abs(y) / hy)
    geoms = []
    for i, outer in enumerate(_TERRACE_SHARES):
        inner = _TERRACE_SHARES[i + 1] if i + 1 < len(_TERRACE_SHARES) else 0.0
        ring = (radius <= outer) & (radius >= inner)
        high, low = float(top[ring].mean()), float(bottom[ring].mean())
        thin = max(0.0, _MIN_HALF_THICKNESS_M - (high - low) / 2)
        geoms.append(
            _box(np.array([-outer * hx, -outer * hy, low - thin]), np.array([outer * hx, outer * hy, high + thin]))
        )
    return tuple(geoms)


# ------------------------------------------------------------------------------------------------------------ tubes

_TUBE_SIDES = 48


def tube(size_m: tuple[float, float, float], atlas: Atlas, rng: np.random.Generator) -> Shape:
    """A cardboard tube along x, slightly oval and dented, with end plugs set in by 1 to 4 mm."""
    length, radius = size_m[0], size_m[1] / 2
    stations = np.linspace(-length / 2, length / 2, 13)
    angle = np.linspace(0, 2 * np.pi, _TUBE_SIDES, endpoint=False)
    x, a = np.meshgrid(stations, angle, indexing="ij")
    r = radius * (1 - rng.uniform(0, 0.015) * (1 + np.cos(2 * (a - rng.uniform(0, 3.14)))) / 2)
    for _ in range(rng.poisson(0.5)):
        turn = np.angle(np.exp(1j * (a - rng.uniform(0, 6.28))))
        along = (x - rng.uniform(-0.45, 0.45) * length) / rng.uniform(0.02, 0.05)
        r = r - rng.uniform(0.001, 0.004) * np.exp(-((turn / 0.5) ** 2) - along**2)
    body = np.stack([x, r * np.cos(a), r * np.sin(a)], axis=-1)
    ids = np.arange(body[..., 0].size).reshape(len(stations), _TUBE_SIDES)
    wrapped = np.concatenate([ids, ids[:, :1]], axis=1)
    turns = np.linspace(0, 1, _TUBE_SIDES + 1)
    right, down = np.meshgrid(stations / length + 0.5, turns, indexing="ij")
    parts = [_quads_to_triangles(wrapped, atlas.to_uv("body", right, down), flip=True)]
    vertices = [body.reshape(-1, 3)]
    recess = rng.uniform(0.001, 0.004)
    for end, name in ((-1, "x+"), (0, "x-")):
        sign = 1.0 if end == -1 else -1.0
        plug, corner_uv = _plug(wrapped[end], body[end], sign, recess, sum(len(v) for v in vertices))
        triangles, points = plug
        vertices.append(points)
        parts.append((triangles, atlas.to_uv(name, corner_uv[..., 0], corner_uv[..., 1])))
    geom = CollisionGeom(
        "cylinder", (float(r.mean()), length / 2, 0.0), (0.0, 0.0, 0.0), (math.sqrt(0.5), 0.0, math.sqrt(0.5), 0.0)
    )
    return Shape(_mesh(np.concatenate(vertices), parts), (geom,))


def _plug(
    rim_ids: NDArray[np.int64], rim: Floats, sign: float, recess: float, first: int
) -> tuple[tuple[NDArray[np.int64], Floats], Floats]:
    """End plug inside a rim: a lip, a step inwards and a disc. Returns ((triangles, new points), corner uv)."""
    lip, step = rim.copy(), rim.copy()
    lip[:, 1:] *= 0.95
    step[:, 1:] *= 0.93
    step[:, 0] -= sign * recess
    centre = np.array([[rim[0, 0] - sign * recess, 0.0, 0.0]])
    points = np.concatenate([lip, step, centre])
    n = len(rim)
    loops = [rim_ids, *(first + k * n + np.append(np.arange(n), 0) for k in range(2))]
    triangles = []
    for outer, inner in itertools.pairwise(loops):
        quad = np.stack([outer[:-1], outer[1:], inner[1:], inner[:-1]], axis=1)
        triangles += [quad[:, [0, 1, 2]], quad[:, [0, 2, 3]]]
    hub = np.full(n, first + 2 * n)
    triangles.append(np.stack([loops[2][:-1], loops[2][1:], hub], axis=1))
    faces = np.concatenate(triangles)
    if sign < 0:
        faces = faces[:, ::-1]
    everything = np.zeros((first + len(points), 3))
    everything[rim_ids[:-1]] = rim
    everything[first:] = points
    scale = 2.0 * np.abs(rim[:, 1:]).max()
    yz = everything[faces][..., 1:] / scale
    corner_uv = np.stack([0.5 + sign * yz[..., 0], 0.5 - yz[..., 1]], axis=-1)
    return (faces, points), corner_uv
