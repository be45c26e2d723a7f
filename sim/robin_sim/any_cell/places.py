"""Where the goods stand: tables with floor, walls and clutter behind, totes, belts, pallets, shelves.

Every place is built about the middle (0, 0, 0) of what the goods stand on, and is seen from +x: what is behind lies
towards -x. ``Place.keep_m`` is the support's box, for sensors that are cropped to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from robin_grasp.tool import WorkspaceConfig
from robin_sim import surfaces
from robin_sim.any_cell.config import AnyCellConfig
from robin_sim.any_cell.things import colour, draw_thing, print_of_any_colour
from robin_sim.backgrounds import Background, Surface, box, draw_background, floor_quad, quad
from robin_sim.model import Material, Mesh
from robin_sim.piles import yaw_rotation

Floats = NDArray[np.float64]
_ROOM_M = 4.0


@dataclass(frozen=True)
class Place:
    """surfaces: meshes about the goods' middle. keep_m: (low, high) corners of the support with what stands on it.
    back_m: for a shelf, how far behind the middle its back wall stands. covered: it has a top."""

    surfaces: tuple[Surface, ...]
    kind: str
    keep_m: tuple[Floats, Floats]
    back_m: float | None = None
    covered: bool = False

    def background(self, middle_m: Floats) -> Background:
        """Its surfaces about the goods' middle in base_link, float64 [3]."""
        shift = middle_m.astype(np.float32)
        parts = (replace(p, mesh=Mesh(p.mesh.vertices + shift, p.mesh.triangles, p.mesh.uv)) for p in self.surfaces)
        return Background(tuple(parts), self.kind)


def draw_place(rng: np.random.Generator, config: AnyCellConfig, kind: str, extent_m: Floats) -> Place:
    """A place of the named kind for goods of that extent, float64 [3]."""
    place = _PLACES[kind](rng, config, extent_m)
    if rng.random() < config.reflecting_share:
        place = replace(place, surfaces=_polished(rng, place.surfaces))
    return place


def any_background(rng: np.random.Generator, workspace: WorkspaceConfig) -> Background:
    """What may stand around a cell's own workspace: its tote polished or not, or a table, belt or pallet in a room."""
    if workspace.container == "tote":
        around = draw_background(rng, workspace)
        return replace(around, surfaces=_polished(rng, around.surfaces)) if rng.random() < 0.5 else around
    kind = str(rng.choice(["belt", "pallet", "table"], p=[0.3, 0.2, 0.5]))
    place = draw_place(rng, AnyCellConfig(), kind, np.array([*workspace.size_m, 0.3]))
    return place.background(np.array([*workspace.centre_m, workspace.belt_z_m]))


def _texture(rng: np.random.Generator, height: int = 256, width: int = 384) -> surfaces.Texture:
    """A surface of a room: plain, wooden, woven, perforated, concrete, metal or printed."""
    makers: tuple[Callable[[], surfaces.Texture], ...] = (
        lambda: surfaces.painted(rng, height, width),
        lambda: _plain(rng, height, width),
        lambda: surfaces.wood(rng, height, width),
        lambda: _carpet(rng, height, width),
        lambda: _perforated(rng, height, width),
        lambda: surfaces.concrete(rng, height, width),
        lambda: surfaces.brushed_metal(rng, height, width),
        lambda: print_of_any_colour(rng, height, width),
    )
    return makers[int(rng.choice(len(makers), p=[0.2, 0.2, 0.18, 0.12, 0.06, 0.1, 0.06, 0.08]))]()


def _plain(rng: np.random.Generator, height: int, width: int) -> surfaces.Texture:
    """A wall or a laminate: nearly one colour, a slow gradient."""
    shade = 1 + 0.04 * surfaces.noise(rng, height, width, 2, 2)[..., None]
    return np.clip(np.array(colour(rng)) * shade, 0, 255).astype(np.uint8)


def _carpet(rng: np.random.Generator, height: int, width: int) -> surfaces.Texture:
    """Pile or cloth: strong grain, at times a weave."""
    field = rng.uniform(0.05, 0.2) * surfaces.noise(rng, height, width, height / 2, width / 2)
    field += 0.05 * surfaces.noise(rng, height, width, 6, 9)
    if rng.random() < 0.5:
        turn = 2 * math.pi / rng.uniform(4, 16)
        field += 0.08 * (np.cos(turn * np.arange(height))[:, None] + np.cos(turn * np.arange(width)))
    return np.clip(np.array(colour(rng)) * (1 + field[..., None]), 0, 255).astype(np.uint8)


def _perforated(rng: np.random.Generator, height: int, width: int) -> surfaces.Texture:
    """Holes or slots in rows, as in a basket's floor."""
    pitch, share = int(rng.integers(10, 40)), rng.uniform(0.3, 0.7)
    slot = int(pitch * rng.choice([1, 1, 3]))
    y, x = np.mgrid[0:height, 0:width]
    hole = (y % pitch < share * pitch) & (x % slot < slot - (1 - share) * pitch)
    ground, below = np.array(colour(rng)), np.array(colour(rng)) * 0.4
    return np.where(hole[..., None], below, ground).astype(np.uint8)


def _material(rng: np.random.Generator, texture: surfaces.Texture | None = None) -> Material:
    texture = _texture(rng) if texture is None else texture
    return Material(texture, float(rng.uniform(0.25, 0.95)), float(rng.uniform(0.02, 0.7)))


def _polished(rng: np.random.Generator, parts: tuple[Surface, ...]) -> tuple[Surface, ...]:
    """One to three of the largest surfaces mirror what stands before them."""
    area = [float(np.prod(np.sort(np.ptp(part.mesh.vertices, axis=0))[1:])) for part in parts]
    order = np.argsort(area)[::-1][:8]
    chosen = set(rng.permutation(order)[: int(rng.integers(1, 4))].tolist())
    # What the goods stand on is the first surface.
    if rng.random() < 0.6:
        chosen.add(0)
    return tuple(
        replace(part, material=replace(part.material, mirror=float(rng.uniform(0.06, 0.5)), roughness=0.2))
        if i in chosen
        else part
        for i, part in enumerate(parts)
    )


def _upright(x: float, y0: float, y1: float, z0: float, z1: float) -> Mesh:
    """A wall at ``x`` that faces +x."""
    return quad(np.array([[x, y0, z0], [x, y1, z0], [x, y1, z1], [x, y0, z1]]))


def _turned(parts: list[Surface], yaw: float) -> list[Surface]:
    R = yaw_rotation(yaw).astype(np.float32)
    return [replace(p, mesh=Mesh(p.mesh.vertices @ R.T, p.mesh.triangles, p.mesh.uv)) for p in parts]


def _room(rng: np.random.Generator, config: AnyCellConfig, edge_m: float, floor_m: float) -> list[Surface]:
    """Floor ``floor_m`` below, walls behind an edge at x = -edge_m and at times beside it, pictures and furniture."""
    z = -floor_m
    parts = [Surface(floor_quad(-_ROOM_M, _ROOM_M, -_ROOM_M, _ROOM_M, z), _material(rng))]
    wall = -edge_m - float(np.exp(rng.uniform(np.log(0.02), np.log(2.0))))
    walls: list[Surface] = []
    if rng.random() < 0.75:
        walls.append(Surface(_upright(wall, -_ROOM_M, _ROOM_M, z, z + 3.0), _material(rng)))
        for _ in range(int(rng.integers(0, 5)) if rng.random() < 0.5 else 0):  # windows, pictures, doors, sockets
            y, up = rng.uniform(-1.5, 1.5), rng.uniform(0.0, 1.5)
            w, h = rng.uniform(0.08, 1.0, 2)
            walls.append(Surface(_upright(wall + 0.01, y, y + w, z + up, z + up + h), _material(rng)))
    if walls and rng.random() < 0.5:
        low = (wall, -_ROOM_M, z)
        skirting = box(low, (wall + 0.02, _ROOM_M, z + rng.uniform(0.05, 0.2)))
        walls.append(Surface(skirting, _material(rng)))
    parts += _turned(walls, float(rng.normal(0, 0.35)))
    if rng.random() < 0.3:  # a wall beside
        side = float(rng.choice([-1.0, 1.0]))
        beside = Surface(_upright(-edge_m - rng.uniform(0.0, 1.0), -_ROOM_M, _ROOM_M, z, z + 3.0), _material(rng))
        parts += _turned([beside], side * math.pi / 2)
    if rng.random() < config.clutter_share:
        parts += _furniture(rng, edge_m, z)
    return parts


def _furniture(rng: np.random.Generator, edge_m: float, z: float) -> list[Surface]:
    """Boxes, legs and things on the floor behind and beside the support."""
    parts = []
    for _ in range(int(rng.integers(1, 9))):
        size = np.exp(rng.uniform(np.log(0.04), np.log(0.7), 3))
        at = edge_m + size[:2].max() + rng.uniform(0.02, 1.2)
        bearing = rng.uniform(0.35, 1.65) * math.pi
        x, y = at * math.cos(bearing), at * math.sin(bearing)
        if rng.random() < 0.3:
            thing = draw_thing(rng)
            points = thing.mesh.vertices * np.float32(rng.uniform(1, 3))
            points = points + np.array([x, y, z - points[:, 2].min()], dtype=np.float32)
            parts.append(Surface(Mesh(points, thing.mesh.triangles, thing.mesh.uv), thing.material))
            continue
        w, d, h = size
        body = box((x - w / 2, y - d / 2, z), (x + w / 2, y + d / 2, z + h))
        parts.append(Surface(body, _material(rng)))
    return parts


def _table(rng: np.random.Generator, config: AnyCellConfig, extent_m: Floats) -> Place:
    half = 0.5 * extent_m[:2] + np.exp(rng.uniform(np.log(0.04), np.log(0.9), 2))
    shift = rng.uniform(-0.3, 0.3, 2) * half
    low, high = shift - half, shift + half
    low, high = np.minimum(low, -0.5 * extent_m[:2] - 0.02), np.maximum(high, 0.5 * extent_m[:2] + 0.02)
    thick = rng.uniform(0.015, 0.06)
    top = Surface(box((low[0], low[1], -thick), (high[0], high[1], 0.0)), _material(rng))
    parts = _turned([top], float(rng.choice([0.0, rng.normal(0, 0.3)])))
    parts += _room(rng, config, float(-low[0]), rng.uniform(0.3, 1.0))
    return _placed(parts, "table", low, high, extent_m)


def _placed(parts: list[Surface], kind: str, low: Floats, high: Floats, extent_m: Floats) -> Place:
    keep = np.array([*low, -0.03]), np.array([*high, extent_m[2] + 0.05])
    return Place(tuple(parts), kind, keep)


def _belt(rng: np.random.Generator, config: AnyCellConfig, extent_m: Floats) -> Place:
    """A belt that runs across or along the picture, rails, the hall's floor."""
    half = 0.5 * float(extent_m[:2].max()) + rng.uniform(0.0, 0.3)
    makers = (surfaces.rubber_belt, surfaces.modular_belt, surfaces.brushed_metal)
    material = _material(rng, makers[int(rng.choice(3, p=[0.6, 0.25, 0.15]))](rng, 384, 640))
    parts = [Surface(box((-_ROOM_M, -half, -0.1), (_ROOM_M, half, 0.0)), material)]
    if rng.random() < 0.7:
        width, height = rng.uniform(0.02, 0.08), rng.uniform(-0.005, 0.12)
        rail = _material(rng, surfaces.brushed_metal(rng, 32, 256))
        for side in (-half - width, half):
            parts.append(Surface(box((-_ROOM_M, side, -0.12), (_ROOM_M, side + width, height)), rail))
    low, high = np.array([-_ROOM_M, -half]), np.array([_ROOM_M, half])
    parts = _turned(parts, float(rng.uniform(-math.pi, math.pi)))
    return _placed([*parts, *_room(rng, config, half + 0.1, rng.uniform(0.3, 1.0))], "belt", low, high, extent_m)


def _pallet(rng: np.random.Generator, config: AnyCellConfig, extent_m: Floats) -> Place:
    """Boards with gaps on bearers, on a floor."""
    half = 0.5 * extent_m[:2] * rng.uniform(1.0, 1.3) + 0.01
    thick, count = rng.uniform(0.01, 0.025), int(rng.integers(4, 10))
    board = 2 * half[1] / count
    wood = _material(rng, surfaces.wood(rng, 96, 512))
    parts = []
    for i in range(count):
        y = -half[1] + i * board
        parts.append(Surface(box((-half[0], y, -thick), (half[0], y + board * rng.uniform(0.6, 0.97), 0.0)), wood))
    tall = rng.uniform(0.06, 0.13)
    for x in (-half[0], -0.05, half[0] - 0.1):
        parts.append(Surface(box((x, -half[1], -tall), (x + 0.1, half[1], -thick)), wood))
    place = _placed([*parts, *_room(rng, config, float(half[0]), float(tall))], "pallet", -half, half, extent_m)
    return place


def _tote(rng: np.random.Generator, config: AnyCellConfig, extent_m: Floats) -> Place:
    """A tote, crate or carton tray with upright or flared walls, on a table or floor."""
    half = 0.5 * extent_m[:2] * rng.uniform(1.0, 1.5) + rng.uniform(0.003, 0.03)
    height = float(np.clip(extent_m[2] * rng.uniform(0.3, 1.8), 0.03, 0.6))
    flare = height * float(rng.choice([0.0, rng.uniform(0.0, 0.35)]))
    skin = surfaces.moulded_plastic(rng, 256, 384, bool(rng.random() < 0.5)) if rng.random() < 0.6 else _texture(rng)
    material = _material(rng, skin)
    floor = _material(rng, _texture(rng)) if rng.random() < 0.3 else material
    parts = [Surface(floor_quad(-half[0], half[0], -half[1], half[1], 0.0), floor)]
    wall = rng.uniform(0.003, 0.012)
    for inner, outer in ((half, half + flare), (half + wall, half + flare + wall)):
        parts += [Surface(mesh, material) for mesh in _funnel(inner, outer, height)]
    rim = wall + rng.uniform(0.0, 0.03)
    parts += [Surface(mesh, material) for mesh in _frame(half + flare, rim, height)]
    low, high = -half - flare - rim, half + flare + rim
    below = rng.uniform(0.002, 0.02)
    if rng.random() < 0.6:
        under = _turned(
            [Surface(floor_quad(-1.5, 1.5, -1.5, 1.5, -below), _material(rng))], float(rng.uniform(-1.0, 1.0))
        )
        parts += under
        below = rng.uniform(0.3, 0.9)
    parts += _room(rng, config, float(high[0]) + 0.05, below)
    if rng.random() < 0.3:  # its neighbour, empty
        beside = float(2 * (half[1] + flare + rim) + rng.uniform(0.0, 0.05)) * float(rng.choice([-1.0, 1.0]))
        parts += [_shifted(part, beside) for part in parts[: 1 + 8 + 4]]
    return _placed(parts, "tote", low, high, np.maximum(extent_m, [0, 0, height]))


def _shifted(part: Surface, along_y_m: float) -> Surface:
    points = part.mesh.vertices + np.array([0, along_y_m, 0], dtype=np.float32)
    return replace(part, mesh=Mesh(points, part.mesh.triangles, part.mesh.uv))


def _funnel(bottom: Floats, top: Floats, height: float) -> list[Mesh]:
    """Four walls from a rectangle of half sizes ``bottom`` at z = 0 to one of ``top`` at ``height``."""
    signs = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
    meshes = []
    for (ax, ay), (bx, by) in zip(signs, signs[1:] + signs[:1], strict=True):
        corners = [(ax * bottom[0], ay * bottom[1], 0.0), (bx * bottom[0], by * bottom[1], 0.0)]
        corners += [(bx * top[0], by * top[1], height), (ax * top[0], ay * top[1], height)]
        meshes.append(quad(np.array(corners)))
    return meshes


def _frame(half: Floats, width: float, z: float) -> list[Mesh]:
    """A flat rim of ``width`` around a rectangle."""
    (x, y), w = half, width
    strips = ((-x - w, x + w, y, y + w), (-x - w, x + w, -y - w, -y), (x, x + w, -y, y), (-x - w, -x, -y, y))
    return [floor_quad(*strip, z) for strip in strips]


def _shelf(rng: np.random.Generator, config: AnyCellConfig, extent_m: Floats) -> Place:
    """A shelf's bin, open towards +x: floor, sides, back, often a top, a front lip, other bins around."""
    front, back = extent_m[0] * rng.uniform(0.5, 0.7) + 0.01, extent_m[0] * rng.uniform(0.5, 0.9) + 0.01
    half = extent_m[1] * rng.uniform(0.5, 0.8) + 0.01
    height = extent_m[2] * rng.uniform(1.05, 2.0) + 0.02
    thick = rng.uniform(0.004, 0.02)
    wall, floor = _material(rng), _material(rng)
    out = half + thick
    parts = [
        Surface(box((-back, -out, -thick), (front, out, 0.0)), floor),
        Surface(
            box((-back - thick, -out, -thick), (-back, out, height)), wall if rng.random() < 0.5 else _material(rng)
        ),
    ]
    for side in (-out, half):
        parts.append(Surface(box((-back, side, -thick), (front, side + thick, height)), wall))
    covered = bool(rng.random() < 0.7)
    if covered:
        parts.append(Surface(box((-back, -out, height), (front, out, height + thick)), wall))
    if rng.random() < 0.6:
        lip = box((front, -out, -rng.uniform(0.02, 0.08)), (front + thick, out, rng.uniform(0.0, 0.03)))
        parts.append(Surface(lip, _material(rng, surfaces.brushed_metal(rng, 32, 256))))
    for side in (-1.0, 1.0):  # the neighbouring bins
        if rng.random() < 0.6:
            far = side * (out + 2 * half)
            y0, y1 = sorted((side * out, far))
            parts.append(Surface(box((-back, y0, -thick), (front, y1, 0.0)), floor))
            parts.append(Surface(box((-back - thick, y0, -thick), (-back, y1, height)), wall))
    parts += _room(rng, config, float(back) + 0.3, rng.uniform(0.1, 1.0))
    keep = np.array([-back - 0.02, -out, -0.03]), np.array([front + 0.03, out, height])
    return Place(tuple(parts), "shelf", keep, float(back), covered)


_PLACES: dict[str, Callable[[np.random.Generator, AnyCellConfig, Floats], Place]] = {
    "belt": _belt,
    "pallet": _pallet,
    "shelf": _shelf,
    "table": _table,
    "tote": _tote,
}
