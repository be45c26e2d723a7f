"""Piles of parcels at rest: tumbled, flush rows, stacks, a single layer.

Every arrangement starts from poses that do not overlap and then falls and settles under MuJoCo, so what is returned
is in static balance. Parcels that leave the workspace are dropped from the Pile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from robin_grasp.tool import WorkspaceConfig
from robin_perception.core.errors import Code, RobinError
from robin_sim.model import Parcel, ParcelKind, Pile
from robin_sim.physics import PhysicsConfig, UnstableSimulationError, build_world, settle

Poses = list[NDArray[np.float64]]
BOXY = (ParcelKind.CARTON, ParcelKind.FLAT_MAILER, ParcelKind.PADDED_MAILER)
FLUSH_GAP_M = 0.002
FLUSH_HEIGHT_TOLERANCE_M = 0.004
DROP_CLEARANCE_M = 0.004


def random_rotation(rng: np.random.Generator) -> NDArray[np.float64]:
    """Uniform rotation, float64 [3, 3] (normalised Gaussian quaternion)."""
    w, x, y, z = (lambda q: q / np.linalg.norm(q))(rng.normal(size=4))
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def yaw_rotation(yaw: float) -> NDArray[np.float64]:
    """Rotation about z by ``yaw`` radians, float64 [3, 3]."""
    c, s = math.cos(yaw), math.sin(yaw)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def axis_up(axis: int) -> NDArray[np.float64]:
    """Rotation, float64 [3, 3], that turns a parcel's ``axis`` (0 x, 1 y, 2 z) to +z by a cyclic change of axes."""
    return np.roll(np.eye(3), 2 - axis, axis=0)


def _pose(rotation: NDArray[np.float64], position: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    pose = np.eye(4)
    pose[:3, :3] = rotation
    pose[:3, 3] = position
    return pose


def _half_extent(rotation: NDArray[np.float64], parcel: Parcel) -> NDArray[np.float64]:
    """Half sizes of the axis-aligned box around the rotated parcel, float64 [3]."""
    half: NDArray[np.float64] = np.abs(rotation) @ (np.asarray(parcel.size_m) / 2)
    return half


def _resting_z(
    centre: NDArray[np.float64],
    half: NDArray[np.float64],
    placed: list[tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> float:
    """Lowest z at which a box (centre xy, half sizes) clears the floor z = 0 and all ``placed`` boxes."""
    top = 0.0
    for other, other_half in placed:
        if (np.abs(centre[:2] - other[:2]) < half[:2] + other_half[:2]).all():
            top = max(top, float(other[2] + other_half[2]))
    return top + DROP_CLEARANCE_M + float(half[2])


def _drop_over(
    rng: np.random.Generator,
    parcels: Sequence[Parcel],
    workspace: WorkspaceConfig,
    spread: float,
    rotation_of: Callable[[Parcel], NDArray[np.float64]],
    placed: list[tuple[NDArray[np.float64], NDArray[np.float64]]],
    near_placed: float = 0.0,
) -> Poses:
    """Each parcel at the lowest free height over a random spot; ``near_placed``: chance to aim at a parcel below."""
    poses: Poses = []
    for parcel in parcels:
        rotation = rotation_of(parcel)
        half = _half_extent(rotation, parcel)
        room = np.maximum(np.asarray(workspace.size_m) / 2 * spread - np.minimum(half[:2], 0.12), 0.02)
        xy = np.asarray(workspace.centre_m) + rng.uniform(-room, room)
        if placed and rng.random() < near_placed:
            base, base_half = placed[int(rng.integers(len(placed)))]
            xy = base[:2] + rng.uniform(-0.45, 0.45, size=2) * base_half[:2]
        limit = np.maximum(np.asarray(workspace.size_m) / 2 - half[:2] - 0.003, 0.0)
        xy = np.clip(xy, workspace.centre_m - limit, workspace.centre_m + limit)
        centre = np.array([xy[0], xy[1], 0.0])
        centre[2] = _resting_z(centre, half, placed)
        placed.append((centre, half))
        poses.append(_pose(rotation, centre))
    return poses


def _tumbled(
    rng: np.random.Generator, parcels: Sequence[Parcel], workspace: WorkspaceConfig
) -> tuple[list[int], Poses]:
    order = [int(i) for i in rng.permutation(len(parcels))]
    spread = float(rng.uniform(0.6, 0.9))
    poses = _drop_over(
        rng, [parcels[i] for i in order], workspace, spread, lambda _: random_rotation(rng), [], near_placed=0.0
    )
    return order, poses


def _flat_rotation(rng: np.random.Generator, parcel: Parcel, tilt: float) -> NDArray[np.float64]:
    """Lying on a stable face (thinnest axis up more often than not), random yaw, a slight random tilt."""
    axes = np.argsort(parcel.size_m)
    stable = parcel.kind is ParcelKind.CARTON and parcel.size_m[axes[0]] > 0.4 * parcel.size_m[axes[1]]
    axis = int(axes[1]) if stable and rng.random() < 0.3 else int(axes[0])
    lean = np.asarray(rng.normal(0.0, tilt, size=2))
    roll = np.array([[1.0, 0.0, lean[0]], [0.0, 1.0, lean[1]], [-lean[0], -lean[1], 1.0]])
    orthonormal, _ = np.linalg.qr(roll)
    orthonormal *= np.sign(np.diag(orthonormal))
    up = axis_up(axis)
    flip = np.diag([1.0, -1.0, -1.0]) if rng.random() < 0.3 else np.eye(3)
    rotation: NDArray[np.float64] = orthonormal @ yaw_rotation(float(rng.uniform(-math.pi, math.pi))) @ flip @ up
    return rotation


def _stacked(
    rng: np.random.Generator, parcels: Sequence[Parcel], workspace: WorkspaceConfig
) -> tuple[list[int], Poses]:
    """Large footprints first, later parcels aimed at earlier ones: columns and overlapping layers."""
    area = np.array([np.prod(np.sort(p.size_m)[1:]) for p in parcels])
    order = [int(i) for i in np.argsort(-area * rng.uniform(0.6, 1.4, size=len(parcels)))]
    poses = _drop_over(
        rng,
        [parcels[i] for i in order],
        workspace,
        0.75,
        lambda parcel: _flat_rotation(rng, parcel, 0.01),
        [],
        near_placed=0.7,
    )
    return order, poses


def _overlap(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    """Do two convex footprints [4, 2] overlap? Separating-axis test over both rectangles' edges."""
    for first in (a, b):
        for edge in (first[1] - first[0], first[3] - first[0]):
            normal = np.array([-edge[1], edge[0]])
            pa, pb = a @ normal, b @ normal
            if pa.max() < pb.min() or pb.max() < pa.min():
                return False
    return True


def _footprint(centre: NDArray[np.float64], half: NDArray[np.float64], yaw: float) -> NDArray[np.float64]:
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half[:2]
    footprint: NDArray[np.float64] = centre + corners @ yaw_rotation(yaw)[:2, :2].T
    return footprint


def _single_layer(
    rng: np.random.Generator, parcels: Sequence[Parcel], workspace: WorkspaceConfig
) -> tuple[list[int], Poses]:
    """Flat on the belt, none on another; those for which no free spot is found in 60 tries are left out."""
    order: list[int] = []
    poses: Poses = []
    taken: list[NDArray[np.float64]] = []
    size, centre = np.asarray(workspace.size_m) / 2, np.asarray(workspace.centre_m)
    for index in rng.permutation(len(parcels)):
        parcel = parcels[int(index)]
        up = axis_up(int(np.argmin(parcel.size_m)))
        half = _half_extent(up, parcel)
        for _ in range(60):
            yaw = float(rng.uniform(-math.pi, math.pi))
            xy = centre + rng.uniform(-size, size)
            footprint = _footprint(xy, half + 0.004, yaw)
            if (np.abs(footprint - centre) > size).any() or any(_overlap(footprint, other) for other in taken):
                continue
            taken.append(footprint)
            order.append(int(index))
            poses.append(_pose(yaw_rotation(yaw) @ up, (xy[0], xy[1], half[2] + 0.001)))
            break
    return order, poses


def _flush_row(
    rng: np.random.Generator, parcels: Sequence[Parcel], left: list[int], width: float
) -> list[tuple[int, NDArray[np.float64]]]:
    """Take from ``left`` the parcels of one row: same height as the first within a few millimetres where one of its
    axes allows it. Returns (index, rotation that puts it upright); x is along the row."""
    first = left[int(rng.integers(len(left)))]
    size = np.asarray(parcels[first].size_m)
    axis = int(np.argmin(size)) if rng.random() < 0.7 or size.min() < 0.03 else int(np.argsort(size)[1])
    target = float(size[axis])
    row: list[tuple[int, NDArray[np.float64]]] = []
    used = 0.0
    ranked = sorted(left, key=lambda i: (i != first, float(np.min(np.abs(np.asarray(parcels[i].size_m) - target)))))
    for index in ranked:
        size = np.asarray(parcels[index].size_m)
        axis = int(np.argmin(np.abs(size - target)))
        others = np.delete(size, axis)
        unstable = size[axis] > 2.0 * others.min()
        if unstable or (row and abs(size[axis] - target) > FLUSH_HEIGHT_TOLERANCE_M and rng.random() < 0.7):
            continue
        quarter = float(rng.integers(4)) * math.pi / 2
        rotation = yaw_rotation(quarter) @ axis_up(axis)
        length = 2 * float(_half_extent(rotation, parcels[index])[0])
        if row and used + length > width:
            continue
        used += length + FLUSH_GAP_M
        row.append((index, rotation))
    return row


def _flush(rng: np.random.Generator, parcels: Sequence[Parcel], workspace: WorkspaceConfig) -> tuple[list[int], Poses]:
    """Rows of boxes and mailers side by side with gaps of 0 to 2 mm, one yaw for the block.

    What is not box-like or does not fit falls on top and around.
    """
    left = [i for i, p in enumerate(parcels) if p.kind in BOXY]
    rest = [i for i, p in enumerate(parcels) if p.kind not in BOXY]
    tote = workspace.wall_height_m > 0
    yaw = 0.0 if tote else float(rng.uniform(-0.5, 0.5))
    room_x, room_y = np.asarray(workspace.size_m) * (0.97 if tote else 0.8)
    order: list[int] = []
    poses: Poses = []
    placed: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
    y = -room_y / 2
    while left:
        row = _flush_row(rng, parcels, left, room_x)
        depth = max((2 * float(_half_extent(r, parcels[i])[1]) for i, r in row), default=0.0)
        if not row or y + depth > room_y / 2:
            break
        length = sum(2 * float(_half_extent(r, parcels[i])[0]) for i, r in row)
        x = -length / 2 + float(rng.uniform(-0.5, 0.5)) * max(room_x - length - 0.02, 0.0)
        for index, rotation in row:
            half = _half_extent(rotation, parcels[index])
            xy = yaw_rotation(yaw)[:2, :2] @ np.array([x + half[0], y + half[1]])
            centre = np.array([*(xy + np.asarray(workspace.centre_m)), half[2] + 0.0002])
            turned = yaw_rotation(yaw) @ rotation
            order.append(index)
            poses.append(_pose(turned, centre))
            placed.append((centre, _half_extent(turned, parcels[index])))
            left.remove(index)
            x += 2 * float(half[0]) + float(rng.uniform(0.0, FLUSH_GAP_M))
        y += depth + float(rng.uniform(0.0, FLUSH_GAP_M) if rng.random() < 0.7 else rng.uniform(0.01, 0.06))
    rest = [int(i) for i in rng.permutation(np.array(rest + left, dtype=int))]
    poses += _drop_over(
        rng, [parcels[i] for i in rest], workspace, 0.8, lambda parcel: _flat_rotation(rng, parcel, 0.1), placed
    )
    return order + rest, poses


ARRANGEMENTS: dict[str, Callable[..., tuple[list[int], Poses]]] = {
    "tumbled": _tumbled,
    "flush": _flush,
    "stacked": _stacked,
    "single_layer": _single_layer,
}


def make_pile(
    rng: np.random.Generator,
    parcels: Sequence[Parcel],
    workspace: WorkspaceConfig,
    arrangement: str,
    config: PhysicsConfig | None = None,
) -> Pile:
    """Arrange ``parcels``, let them settle, and return those that stayed in the workspace.

    arrangement: "tumbled" | "flush" | "stacked" | "single_layer"; anything else raises RobinError OPTION_INVALID. The
    same generator state gives the same pile. Raises UnstableSimulationError if the solver diverges at half
    the time step too.
    """
    if arrangement not in ARRANGEMENTS:
        raise RobinError(Code.OPTION_INVALID, f"arrangement '{arrangement}': choose from {', '.join(ARRANGEMENTS)}")
    order, poses = ARRANGEMENTS[arrangement](rng, parcels, workspace)
    chosen = tuple(parcels[i] for i in order)
    stacked_poses = np.array(poses).reshape(-1, 4, 4)
    stacked_poses[:, 2, 3] += workspace.belt_z_m
    return settle_pile(
        Pile(chosen, stacked_poses, workspace, arrangement), config, guides=arrangement != "single_layer"
    )


def settle_pile(pile: Pile, config: PhysicsConfig | None = None, guides: bool = False) -> Pile:
    """Let a pile fall to rest from its poses; parcels that leave the workspace are dropped. ``guides``: fall inside a
    chute around the workspace, which is then taken away."""
    if not pile.parcels:
        return pile
    config = config or PhysicsConfig()
    try:
        return _settled(pile, config, guides)
    except UnstableSimulationError:
        return _settled(pile, config.model_copy(update={"timestep_s": config.timestep_s / 2}), guides)


def _settled(pile: Pile, config: PhysicsConfig, guides: bool) -> Pile:
    world = build_world(pile.parcels, pile.poses, pile.workspace, config, guides)
    alive = settle(world, np.ones(len(pile.parcels), dtype=bool))
    kept = tuple(p for p, ok in zip(pile.parcels, alive, strict=True) if ok)
    return Pile(kept, world.poses()[alive], pile.workspace, pile.arrangement, pile.tags)
