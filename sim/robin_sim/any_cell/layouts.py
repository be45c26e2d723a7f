"""How the goods lie: piles that fell, flush grids, single objects that stand. All about the middle of a workspace."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_grasp.tool import WorkspaceConfig, tote_workspace
from robin_sim.any_cell.config import AnyCellConfig
from robin_sim.any_cell.things import draw_thing
from robin_sim.model import Mesh, Parcel, ParcelKind
from robin_sim.parcels import ParcelMix, draw_parcels
from robin_sim.physics import UnstableSimulationError
from robin_sim.piles import axis_up, make_pile, yaw_rotation

Rotation = NDArray[np.float64]
Rectangle = tuple[tuple[float, float], tuple[float, float], float]  # middle, size (metres), degrees
_MOST = 200
_TRIES = 30


@dataclass(frozen=True)
class Goods:
    """Parcels and things with their poses, T_base_parcel float64 [N, 4, 4]; z = 0 is what they stand on, (0, 0) their
    middle. arrangement: of the layout."""

    parcels: tuple[Parcel, ...]
    poses: NDArray[np.float64]
    arrangement: str

    @property
    def boxes_m(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Axis-aligned bounds of each, float64 [N, 3] (low, high)."""
        half = 0.5 * np.array([p.size_m for p in self.parcels]).reshape(-1, 3)
        reach = np.einsum("nij,nj->ni", np.abs(self.poses[:, :3, :3]), half)
        return self.poses[:, :3, 3] - reach, self.poses[:, :3, 3] + reach

    @property
    def extent_m(self) -> NDArray[np.float64]:
        """Size of the box around all, float64 [3]."""
        low, high = self.boxes_m
        return np.asarray(high.max(axis=0) - np.minimum(low.min(axis=0), 0.0))


@dataclass
class _Spot:
    """An object at its place. top_m: height on which another may stand, None where none may."""

    parcel: Parcel
    pose: NDArray[np.float64]
    footprint: Rectangle
    top_m: float | None


def stretched(parcel: Parcel, factors: NDArray[np.float64]) -> Parcel:
    """The same parcel with its axes longer or shorter."""
    mesh = Mesh(parcel.mesh.vertices * factors.astype(np.float32), parcel.mesh.triangles, parcel.mesh.uv)
    x, y, z = (float(v) for v in np.array(parcel.size_m) * factors)
    return replace(parcel, mesh=mesh, size_m=(x, y, z))


def scaled(goods: Goods, factor: float) -> Goods:
    """Everything larger or smaller: what rests goes on resting."""
    poses = goods.poses.copy()
    poses[:, :3, 3] *= factor
    changed: dict[int, Parcel] = {}
    for parcel in goods.parcels:
        if id(parcel) not in changed:
            changed[id(parcel)] = stretched(parcel, np.full(3, factor))
    return Goods(tuple(changed[id(p)] for p in goods.parcels), poses, goods.arrangement)


def frosted(parcel: Parcel, rng: np.random.Generator) -> Parcel:
    """A bag whose film lets some light through."""
    if parcel.kind is not ParcelKind.POLY_BAG:
        return parcel
    return replace(parcel, material=replace(parcel.material, transmission=float(rng.uniform(0.1, 0.4))))


def draw_layout(rng: np.random.Generator, config: AnyCellConfig, layout: str, boxed: bool) -> Goods:
    """One layout of its usual size. boxed: it must fit a tote or a shelf, and not spread over a belt."""
    with_things = rng.random() < config.things_share
    if layout == "grid":
        return _grid(rng, config.mix, with_things)
    if layout == "standing":
        return _standing(rng, config.mix, with_things)
    return _pile(rng, config, with_things, boxed)


def _some_things(rng: np.random.Generator, parcels: Sequence[Parcel]) -> tuple[Parcel, ...]:
    share = rng.uniform(0.1, 0.7)
    return tuple(draw_thing(rng) if rng.random() < share else parcel for parcel in parcels)


def _pile(rng: np.random.Generator, config: AnyCellConfig, with_things: bool, boxed: bool) -> Goods:
    workspace = tote_workspace() if boxed else WorkspaceConfig()
    count = round(math.exp(rng.uniform(math.log(2.5), math.log(30))))
    parcels = draw_parcels(rng, count, config.mix)
    if rng.random() < config.frosted_share:
        parcels = tuple(frosted(parcel, rng) for parcel in parcels)
    if with_things:
        parcels = _some_things(rng, parcels)
    arrangement = str(rng.choice(["tumbled", "stacked", "flush", "single_layer"], p=[0.5, 0.2, 0.15, 0.15]))
    while True:
        try:
            pile = make_pile(rng, parcels, workspace, arrangement)
        except UnstableSimulationError:
            continue
        poses = pile.poses.copy()
        poses[:, :2, 3] -= workspace.centre_m
        return Goods(pile.parcels, poses, arrangement)


def _grid(rng: np.random.Generator, mix: ParcelMix, with_things: bool) -> Goods:
    """Rows, columns and layers of one to three designs side by side, gaps of 0 to 20 mm, some of the top missing."""
    designs = 1 if rng.random() < 0.7 else int(rng.integers(2, 4))
    groups = [_grid_specimens(rng, mix, with_things and rng.random() < 0.4) for _ in range(designs)]
    ups = [axis_up(int(rng.integers(3))) for _ in groups]
    gap = float(rng.choice([rng.uniform(0, 0.001), rng.uniform(0, 0.004), rng.uniform(0.004, 0.02)], p=[0.5, 0.3, 0.2]))
    cells = math.exp(rng.uniform(math.log(4), math.log(110)))
    rows = max(1, round(math.sqrt(cells) * math.exp(rng.uniform(-0.5, 0.5))))
    bricks = rng.random() < 0.25
    left_on_top = float(rng.choice([1.0, rng.uniform(0.3, 0.95)], p=[0.55, 0.45]))
    first = np.abs(ups[0]) @ np.array(groups[0][0].size_m) + gap
    width, y = max(1, round(cells / rows)) * first[0], 0.0
    room = math.sqrt(width * rows * first[1]) / first[2]  # no higher than wide
    layers = max(1, min(int(rng.integers(1, 6)), round(_MOST / cells), int(room)))
    parcels, poses = [], []
    for row in range(rows):
        group, up = groups[row % designs], ups[row % designs]
        pitch = np.abs(up) @ np.array(group[0].size_m) + [gap, gap, 0.0]
        columns = max(1, round(width / pitch[0]))
        shift = rng.uniform(-0.5, 0.5) if bricks else 0.0
        for column, layer in np.ndindex(columns, layers):
            if layer == layers - 1 and rng.random() > left_on_top and (column or row):
                continue
            pose = np.eye(4)
            pose[:3, :3] = yaw_rotation(math.pi * int(rng.integers(2)) + rng.normal(0, 0.004)) @ up
            pose[:3, 3] = ((column - (columns - 1) / 2 + shift) * pitch[0], y + pitch[1] / 2, (layer + 0.5) * pitch[2])
            parcels.append(group[int(rng.integers(len(group)))])
            poses.append(pose)
        y += pitch[1]
    stack = np.array(poses)
    stack[:, 1, 3] -= y / 2
    return Goods(tuple(parcels[:_MOST]), stack[:_MOST], "grid")


def _grid_specimens(rng: np.random.Generator, mix: ParcelMix, thing: bool) -> list[Parcel]:
    """A few specimens of one design."""
    if thing:
        return [draw_thing(rng)]
    kinds = {
        ParcelKind.CARTON: 0.85,
        ParcelKind.PADDED_MAILER: 0.05,
        ParcelKind.FLAT_MAILER: 0.05,
        ParcelKind.TUBE: 0.05,
    }
    twins = mix.model_copy(update={"twin_fraction": 1.0, "kind_weights": kinds, "own_kinds": {}})
    parcels = draw_parcels(rng, 4, twins)
    factors = np.exp(rng.uniform(-0.4, 0.4, 3))
    return [stretched(parcel, factors) for parcel in parcels]


def _standing(rng: np.random.Generator, mix: ParcelMix, with_things: bool) -> Goods:
    """One to fourteen objects, upright or flat, in a loose cluster, some of them on a box."""
    count = round(math.exp(rng.uniform(0.0, math.log(14))))
    own = [_household(rng, p) for p in draw_parcels(rng, count, mix)]
    chosen = _some_things(rng, own) if with_things else tuple(own)
    if with_things and rng.random() < 0.25:
        chosen = tuple(draw_thing(rng) for _ in range(count))
    spread = rng.uniform(0.3, 0.9) * math.sqrt(count) * float(np.median([max(p.size_m) for p in chosen]))
    spots: list[_Spot] = []
    for parcel in chosen:
        for _ in range(_TRIES):
            spot = _draw_spot(rng, parcel, spots, spread)
            if spot is not None:
                spots.append(spot)
                break
    return Goods(tuple(s.parcel for s in spots), np.array([s.pose for s in spots]).reshape(-1, 4, 4), "standing")


def _draw_spot(rng: np.random.Generator, parcel: Parcel, others: list[_Spot], spread_m: float) -> _Spot | None:
    """A random place for one object, or on a box that carries nothing yet; None where it would meet another."""
    yaw, up = float(rng.uniform(-180, 180)), _stance(rng, parcel)
    size = np.abs(up) @ np.array(parcel.size_m)
    at, below = rng.normal(0, spread_m, 2), None
    carriers = [o for o in others if o.top_m is not None and max(size[:2]) < 1.3 * min(o.footprint[1])]
    if carriers and rng.random() < 0.3:
        below = carriers[int(rng.integers(len(carriers)))]
        at = np.array(below.footprint[0])
    base = 0.0 if below is None or below.top_m is None else below.top_m
    footprint = ((float(at[0]), float(at[1])), (float(size[0]), float(size[1])), yaw)
    if below is None and any(_meet(footprint, other.footprint) for other in others):
        return None
    if below is not None:
        below.top_m = None
    pose = np.eye(4)
    pose[:3, :3] = yaw_rotation(math.radians(yaw)) @ up
    pose[:3, 3] = (*at, base + size[2] / 2)
    return _Spot(parcel, pose, footprint, float(base + size[2]) if parcel.kind is ParcelKind.CARTON else None)


def _household(rng: np.random.Generator, parcel: Parcel) -> Parcel:
    """Cartons also as slim as a packet of cereals or a book."""
    if parcel.kind is not ParcelKind.CARTON or rng.random() < 0.3:
        return parcel
    slim = np.array([1.0, 1.0, rng.uniform(0.12, 0.7)])
    return stretched(parcel, slim * np.exp(rng.uniform(-0.35, 0.15, 3)))


def _stance(rng: np.random.Generator, parcel: Parcel) -> Rotation:
    """Which side is down: things upright or lying, cartons on any face, soft ones flat."""
    if parcel.kind is ParcelKind.CARTON:
        return axis_up(int(rng.integers(3)))
    if parcel.own_kind and rng.random() < 0.75:
        return np.eye(3)
    if parcel.own_kind:
        return axis_up(int(rng.integers(2)))
    if parcel.kind is ParcelKind.TUBE and rng.random() < 0.4:
        return axis_up(0)
    return axis_up(int(np.argmin(parcel.size_m)))


def _meet(a: Rectangle, b: Rectangle) -> bool:
    """Whether two rectangles overlap."""
    return bool(cv2.rotatedRectangleIntersection(a, b)[0] != cv2.INTERSECT_NONE)
