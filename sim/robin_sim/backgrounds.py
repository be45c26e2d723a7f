"""What stands around the parcels: belt or tote, side rails, floor, machine parts. Meshes in base_link."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robin_grasp.tool import WorkspaceConfig
from robin_sim import surfaces
from robin_sim.model import Material, Mesh
from robin_sim.new_surfaces import NEW_SURFACES

_BELTS: tuple[tuple[str, float, Callable[[np.random.Generator, int, int], surfaces.Texture], float, float], ...] = (
    ("rubber", 0.60, surfaces.rubber_belt, 0.65, 0.25),
    ("modular", 0.12, surfaces.modular_belt, 0.5, 0.35),
    ("metal", 0.10, surfaces.brushed_metal, 0.32, 0.9),
    ("wood", 0.08, surfaces.wood, 0.6, 0.2),
    ("painted", 0.10, surfaces.painted, 0.6, 0.3),
)
_BOX_FACES = np.array(
    [[0, 2, 3, 1], [4, 5, 7, 6], [0, 1, 5, 4], [2, 6, 7, 3], [0, 4, 6, 2], [1, 3, 7, 5]], dtype=np.int32
)
_UNIT_UV = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float32)


@dataclass(frozen=True)
class Surface:
    """A mesh in base_link and what it is made of."""

    mesh: Mesh
    material: Material


@dataclass(frozen=True)
class Background:
    """surfaces: everything that is not a parcel. kind: e.g. "rubber", "tote"."""

    surfaces: tuple[Surface, ...]
    kind: str


def quad(corners_m: NDArray[np.float64]) -> Mesh:
    """One rectangle from four corners [4, 3], counter-clockwise seen from outside; the first corner is uv (0, 0)."""
    triangles = np.array([[0, 1, 2], [0, 2, 3]], dtype=np.int32)
    return Mesh(corners_m.astype(np.float32), triangles, _UNIT_UV[triangles])


def floor_quad(x0: float, x1: float, y0: float, y1: float, z: float, along_y: bool = False) -> Mesh:
    """Horizontal rectangle that faces up; its texture's x axis runs along base x, or along base y."""
    corners = np.array([[x0, y0, z], [x1, y0, z], [x1, y1, z], [x0, y1, z]], dtype=np.float64)
    mesh = quad(corners)
    return Mesh(mesh.vertices, mesh.triangles, np.ascontiguousarray(mesh.uv[..., ::-1])) if along_y else mesh


def box(low_m: tuple[float, float, float], high_m: tuple[float, float, float]) -> Mesh:
    """Axis-aligned box, the whole texture on each face."""
    low, high = np.array(low_m), np.array(high_m)
    bits = (np.arange(8)[:, None] >> np.arange(3)) & 1
    vertices = np.where(bits, high, low).astype(np.float32)
    triangles = np.concatenate([_BOX_FACES[:, [0, 1, 2]], _BOX_FACES[:, [0, 2, 3]]])
    uv = np.concatenate([np.repeat(_UNIT_UV[None, [0, 1, 2]], 6, 0), np.repeat(_UNIT_UV[None, [0, 2, 3]], 6, 0)])
    return Mesh(vertices, triangles, uv)


def nominal_background(workspace: WorkspaceConfig) -> Background:
    """A plain mid-grey belt or tote, for tests and for the noise figures."""
    grey = Material(np.full((8, 8, 3), 110, dtype=np.uint8), roughness=0.9, specular=0.0)
    (cx, cy), z = workspace.centre_m, workspace.belt_z_m
    parts = [Surface(floor_quad(cx - 3, cx + 3, cy - 3, cy + 3, z), grey)]
    if workspace.container == "tote":
        parts += [Surface(mesh, grey) for mesh in _tote_walls(workspace, 0.0)]
    return Background(tuple(parts), "nominal")


def draw_background(rng: np.random.Generator, workspace: WorkspaceConfig) -> Background:
    """A belt or a tote with its surroundings, varied widely."""
    parts = _hall(rng, workspace)
    if workspace.container == "tote":
        parts += _tote(rng, workspace)
        kind = "tote"
    else:
        belt, kind = _belt(rng, workspace)
        parts += belt
    return Background(tuple(parts), kind)


def draw_new_background(rng: np.random.Generator, workspace: WorkspaceConfig) -> Background:
    """A table or a tote's floor, and a hall, of kinds that ``draw_background`` never draws."""
    kinds = sorted(NEW_SURFACES)
    kind, floor = (kinds[int(rng.integers(len(kinds)))] for _ in range(2))
    make = NEW_SURFACES[kind]
    material = Material(make(rng, 448, 768), rng.uniform(0.25, 0.9), rng.uniform(0.1, 0.9))
    (cx, cy), (sx, sy), z = workspace.centre_m, workspace.size_m, workspace.belt_z_m
    parts = _hall(rng, workspace, NEW_SURFACES[floor](rng, 448, 768))
    if workspace.container == "tote":
        parts += [Surface(mesh, material) for mesh in _tote_walls(workspace, rng.uniform(0.0, 0.02))]
        half_x, half_y = sx / 2, sy / 2
    else:
        half_x, half_y = sx / 2 + rng.uniform(0.1, 0.9), sy / 2 + rng.uniform(0.1, 0.5)
    parts.append(Surface(floor_quad(cx - half_x, cx + half_x, cy - half_y, cy + half_y, z), material))
    return Background(tuple(parts), kind)


def _hall(
    rng: np.random.Generator, workspace: WorkspaceConfig, paving: surfaces.Texture | None = None
) -> list[Surface]:
    """Floor and a few machine parts outside the workspace. paving: of the floor, concrete by default."""
    (cx, cy), (sx, sy) = workspace.centre_m, workspace.size_m
    z = workspace.belt_z_m - rng.uniform(0.45, 0.95)
    paving = surfaces.concrete(rng, 256, 256) if paving is None else paving
    floor = Material(paving, roughness=rng.uniform(0.5, 0.9), specular=0.3)
    parts = [Surface(floor_quad(cx - 3, cx + 3, cy - 3, cy + 3, z), floor)]
    for _ in range(int(rng.integers(0, 6))):
        w, d, h = rng.uniform(0.05, 0.4), rng.uniform(0.05, 0.4), rng.uniform(0.1, 0.5)
        side = int(rng.integers(4))
        along = rng.uniform(-0.8, 0.8)
        gap = rng.uniform(0.14, 0.6)
        x, y = ((sx / 2 + gap + w / 2), along) if side < 2 else (along, sy / 2 + gap + d / 2)
        x, y = (x, y) if side % 2 else (-x, -y)
        top = min(z + h + rng.uniform(0, 0.5), workspace.belt_z_m + 0.12)
        mesh = box((cx + x - w / 2, cy + y - d / 2, z), (cx + x + w / 2, cy + y + d / 2, top))
        parts.append(Surface(mesh, Material(surfaces.painted(rng, 64, 64), rng.uniform(0.3, 0.9), 0.4)))
    return parts


def _belt(rng: np.random.Generator, workspace: WorkspaceConfig) -> tuple[list[Surface], str]:
    """The belt runs along base x or y, beyond the picture; rails or plain edges at its sides."""
    index = int(rng.choice(len(_BELTS), p=[row[1] for row in _BELTS]))
    kind, _, make, roughness, specular = _BELTS[index]
    along_y = bool(rng.random() < 0.5)
    (cx, cy), z = workspace.centre_m, workspace.belt_z_m
    across = workspace.size_m[0] if along_y else workspace.size_m[1]
    half = across / 2 + rng.uniform(0.0, 0.12)
    texture = make(rng, 448, 768)
    material = Material(
        texture, float(np.clip(roughness + rng.normal(0, 0.08), 0.2, 1)), specular * rng.uniform(0.5, 1.2)
    )
    parts = []
    for end in (-1.25, 1.25):
        a, b = min(end, 0.0), max(end, 0.0)
        mesh = (
            floor_quad(cx - half, cx + half, cy + a, cy + b, z, along_y=True)
            if along_y
            else floor_quad(cx + a, cx + b, cy - half, cy + half, z)
        )
        parts.append(Surface(mesh, material))
    if rng.random() < 0.75:
        parts += _rails(rng, (cx, cy), z, half, along_y)
    return parts, kind


def _rails(
    rng: np.random.Generator, centre: tuple[float, float], z: float, half: float, along_y: bool
) -> list[Surface]:
    height, width = rng.uniform(0.005, 0.12), rng.uniform(0.02, 0.08)
    texture = surfaces.brushed_metal(rng, 32, 512) if rng.random() < 0.6 else surfaces.painted(rng, 32, 512)
    material = Material(texture, rng.uniform(0.25, 0.7), rng.uniform(0.2, 0.9))
    parts = []
    for side in (-1.0, 1.0):
        a, b = sorted((side * half, side * (half + width)))
        low = (centre[0] + a, centre[1] - 1.3, z - 0.12) if along_y else (centre[0] - 1.3, centre[1] + a, z - 0.12)
        high = (centre[0] + b, centre[1] + 1.3, z + height) if along_y else (centre[0] + 1.3, centre[1] + b, z + height)
        parts.append(Surface(box(low, high), material))
    return parts


def _tote_walls(workspace: WorkspaceConfig, rim_m: float) -> list[Mesh]:
    """Walls around the inner size, with an outward rim of ``rim_m`` along the top edge."""
    (cx, cy), (sx, sy), z = workspace.centre_m, workspace.size_m, workspace.belt_z_m
    t, top = workspace.wall_thickness_m, workspace.belt_z_m + workspace.wall_height_m
    hx, hy = sx / 2, sy / 2
    walls = []
    for side in (-1.0, 1.0):
        x0, x1 = sorted((side * hx, side * (hx + t)))
        y0, y1 = sorted((side * hy, side * (hy + t)))
        walls.append(box((cx + x0, cy - hy - t, z), (cx + x1, cy + hy + t, top)))
        walls.append(box((cx - hx, cy + y0, z), (cx + hx, cy + y1, top)))
        if rim_m > 0:
            x0, x1 = sorted((side * hx, side * (hx + t + rim_m)))
            y0, y1 = sorted((side * hy, side * (hy + t + rim_m)))
            walls.append(box((cx + x0, cy - hy - t - rim_m, top - 0.012), (cx + x1, cy + hy + t + rim_m, top)))
            walls.append(box((cx - hx, cy + y0, top - 0.012), (cx + hx, cy + y1, top)))
    return walls


def _tote(rng: np.random.Generator, workspace: WorkspaceConfig) -> list[Surface]:
    """A moulded tote on a belt or a table."""
    (cx, cy), (sx, sy), z = workspace.centre_m, workspace.size_m, workspace.belt_z_m
    colour = surfaces.tote_colour(rng)
    roughness, specular = rng.uniform(0.3, 0.7), rng.uniform(0.2, 0.7)
    ribs = bool(rng.random() < 0.6)
    floor = Material(surfaces.moulded_plastic_of(rng, colour, 256, 384, ribs), roughness, specular)
    wall = Material(surfaces.moulded_plastic_of(rng, colour, 96, 384, bool(rng.random() < 0.5)), roughness, specular)
    parts = [Surface(floor_quad(cx - sx / 2, cx + sx / 2, cy - sy / 2, cy + sy / 2, z), floor)]
    parts += [Surface(mesh, wall) for mesh in _tote_walls(workspace, rng.uniform(0.0, 0.02))]
    _, _, make, rough, spec = _BELTS[int(rng.choice(len(_BELTS), p=[row[1] for row in _BELTS]))]
    under = Material(make(rng, 384, 384), rough, spec)
    half = rng.uniform(0.35, 1.2)
    parts.append(Surface(floor_quad(cx - 1.3, cx + 1.3, cy - half, cy + half, z - rng.uniform(0.004, 0.03)), under))
    return parts
