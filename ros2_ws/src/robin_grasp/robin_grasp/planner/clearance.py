"""The tool against the rest of the world: neighbours in the depth image, tote walls, reach."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_grasp.planner.candidates import Poses
from robin_grasp.planner.config import PlannerConfig
from robin_grasp.planner.rows import Rows
from robin_grasp.planner.surface import Floats, Ints, View
from robin_grasp.tool import CellConfig, ToolConfig, WorkspaceConfig

OVERLOOK_M = 0.03  # tall neighbours appear beside the footprint seen from an angle: sample this far around it
HARD_PUSH_M = 0.020  # an idle cup pushed further than this beyond its bellows hits with its rigid part


@dataclass(frozen=True)
class Clearance(Rows):
    """Over N poses. hits: bool, plate or stem or an idle cup's rigid part meets a surface. push_m: how far neighbours
    press idle cups beyond their bellows. wall, outside, unreachable: bool. headroom_m: free height below the
    plate."""

    hits: NDArray[np.bool_]
    push_m: Floats
    headroom_m: Floats
    wall: NDArray[np.bool_]
    outside: NDArray[np.bool_]
    unreachable: NDArray[np.bool_]


def check_clearance(view: View, poses: Poses, face: Ints, cell: CellConfig, config: PlannerConfig) -> Clearance:
    """Check every pose at contact, pressed in by ``MotionConfig.press_m``. face [N]: label in ``view`` of the face that
    each stands on, which is no obstacle: what rises from a face is noise of its depth."""
    share, push, headroom = _against_surface(view, poses, face, cell, config)
    return Clearance(
        hits=(share > config.fit.clearance.hit_share) | (push > HARD_PUSH_M),
        push_m=push,
        headroom_m=headroom,
        wall=hits_wall(poses, cell, config.clearance.wall_margin_m),
        outside=_outside(poses.position, cell.workspace),
        unreachable=_unreachable(poses.position, cell.workspace),
    )


def _against_surface(
    view: View, poses: Poses, face: Ints, cell: CellConfig, config: PlannerConfig
) -> tuple[Floats, Floats, Floats]:
    """Share of surface samples inside the sweep of plate and body, push of idle cups, and headroom.

    Surface points are those that the camera sees where lattices in cross-sections of the tool project, from the lips
    to the top of the body at the start of the approach, taken back into the tool frame.
    """
    tool, fit = cell.tool, config.fit.clearance
    top = tool.plate_offset_m + tool.body_height_m + cell.motion.approach_m
    kernel = np.ones((fit.thicken_px, fit.thicken_px), dtype=np.uint8)
    # The median takes single flying pixels, which would grow as well.
    nearest = np.asarray(cv2.dilate(cv2.medianBlur(view.inverse_depth, 3), kernel), dtype=np.float32)
    seen = []
    for lattice in _samples(tool, fit.sample_spacing_m, cell.motion.approach_m, top):
        points = _surface_seen(view, nearest, poses, face, lattice)
        if cell.workspace.wall_height_m > 0:
            off_the_walls = _off_the_walls(points, poses, cell.workspace, fit.wall_noise_m)
            points = replace(points, valid=points.valid & off_the_walls)
        seen.append(points)
    early = cell.motion.press_m + config.clearance.margin_m
    share = np.zeros(poses.count)
    for points in seen:
        inside = np.zeros_like(points.valid)
        for half_x, half_y, bottom, upper in tool.boxes_m:
            # What a part sweeps: from its place at contact up to its place at the start of the approach.
            swept = (points.above > bottom - early) & (points.above < upper + cell.motion.approach_m)
            inside |= swept & _over(points, half_x, half_y, config.clearance.margin_m)
        share = np.maximum(share, np.count_nonzero(inside, axis=1) / inside.shape[1])
    at_lips, at_plate = seen[:2]
    push = np.maximum(_push(at_lips, cell), _push(at_plate, cell))
    over_plate = _over(at_lips, *tool.plate_half_size_m, config.clearance.margin_m)
    highest = np.partition(np.where(over_plate, at_lips.above, -1.0), -2, axis=1)[:, -2]
    return share, push, np.clip(tool.plate_offset_m - highest, -0.5, 0.5)


def _push(points: _Points, cell: CellConfig) -> Floats:
    """How far what lies under a cup presses it beyond its bellows, or stands in its way in, metres [N]."""
    beyond = points.above - (cell.tool.bellows_travel_m - cell.motion.press_m)
    cups = cell.tool.cups_m.astype(np.float32)
    half_x, half_y = np.abs(cups[:, :2]).max(axis=0).tolist()
    high = np.flatnonzero(_over(points, half_x, half_y, cell.tool.cup_radius_m) & (beyond > 0))
    x, y = points.x.take(high)[:, None] - cups[:, 0], points.y.take(high)[:, None] - cups[:, 1]
    under_cup = high[(x * x + y * y < cell.tool.cup_radius_m**2).any(axis=1)]
    pressed = np.zeros_like(beyond)
    pressed.ravel()[under_cup] = beyond.take(under_cup)
    # The second highest of the samples: one flying pixel is no obstacle.
    return np.partition(pressed, -2, axis=1)[:, -2]


def _off_the_walls(points: _Points, poses: Poses, workspace: WorkspaceConfig, noise_m: float) -> NDArray[np.bool_]:
    """bool [N, S]: points in the tool frame that are not the tote's walls, whose place is known better than seen."""
    rotation = poses.rotation.astype(np.float32)[..., None]
    inside = np.ones_like(points.valid)
    for axis in range(2):
        offset = (poses.position[:, axis] - workspace.centre_m[axis]).astype(np.float32)[:, None]
        along_x, along_y, along_z = (rotation[:, axis, k] for k in range(3))
        horizontal = points.x * along_x + points.y * along_y - points.above * along_z + offset
        inside &= np.abs(horizontal) < np.float32(workspace.size_m[axis] / 2 - noise_m)
    return inside


@dataclass(frozen=True)
class _Points:
    """Surface points in the frames of N tools, each array [N, S]: x, y, and height above the lip plane (-z), metres.
    valid: seen, and not on the face that the tool stands on."""

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    above: NDArray[np.float32]
    valid: NDArray[np.bool_]


def _surface_seen(view: View, nearest: NDArray[np.float32], poses: Poses, face: Ints, lattice: Floats) -> _Points:
    """What the camera sees behind lattice points [S, 3] of the tool frame. nearest: inverse depth of the highest
    surface around each working pixel."""
    # Tool to camera in one step: single precision is exact to micrometres at these distances.
    rotation = (view.R.T @ poses.rotation).astype(np.float32)
    offset = ((poses.position - view.t) @ view.R).astype(np.float32)[:, None, :]
    camera = (rotation.reshape(-1, 3) @ lattice.T.astype(np.float32)).reshape(poses.count, 3, len(lattice))
    camera += offset.transpose(0, 2, 1)
    z = np.maximum(camera[:, 2], np.float32(1e-3))
    u = np.rint(np.float32(view.fx) * camera[:, 0] / z + np.float32(view.cx))
    v = np.rint(np.float32(view.fy) * camera[:, 1] / z + np.float32(view.cy))
    flat, inside = view.pixel(u, v)
    q = nearest.take(flat)
    seen = inside & (q > 0) & (view.labels.take(flat) != face[:, None])
    depth = 1.0 / np.where(seen, q, np.float32(1.0))
    x = (u - np.float32(view.cx)) * np.float32(1.0 / view.fx) * depth - offset[..., 0]
    y = (v - np.float32(view.cy)) * np.float32(1.0 / view.fy) * depth - offset[..., 1]
    z = depth - offset[..., 2]
    tool_x, tool_y, tool_z = (
        x * rotation[:, 0, k, None] + y * rotation[:, 1, k, None] + z * rotation[:, 2, k, None] for k in range(3)
    )
    return _Points(tool_x, tool_y, -tool_z, seen)


def _over(points: _Points, half_x: float, half_y: float, margin_m: float) -> NDArray[np.bool_]:
    return points.valid & (np.abs(points.x) <= half_x + margin_m) & (np.abs(points.y) <= half_y + margin_m)


@lru_cache(maxsize=8)
def _samples(tool: ToolConfig, spacing_m: float, approach_m: float, top_m: float) -> tuple[Floats, ...]:
    """Points of four cross-sections, tool frame: at the lips, above them where the plate comes in, at its stem, and at
    the top at the start of the approach. The plate's rim is sampled twice as densely: what is tall crosses it."""
    plate, stem = 0.5 * approach_m, 0.45 * top_m
    return (
        _lattice(tool, spacing_m, 0.0),
        np.concatenate([_lattice(tool, spacing_m, -plate), _rim(tool, 0.5 * spacing_m, -plate)]),
        np.concatenate([_lattice(tool, 2 * spacing_m, -stem), _rim(tool, 0.5 * spacing_m, -stem)]),
        _lattice(tool, 0.03, -top_m),
    )


def _rim(tool: ToolConfig, spacing_m: float, z_m: float) -> Floats:
    """Points along the plate's outline, its corners among them: [K, 3]."""
    half_x, half_y = tool.plate_half_size_m
    x = np.linspace(-half_x, half_x, max(2, round(2 * half_x / spacing_m) + 1))
    y = np.linspace(-half_y, half_y, max(2, round(2 * half_y / spacing_m) + 1))[1:-1]
    sides = [(x, np.full(x.size, side)) for side in (-half_y, half_y)]
    sides += [(np.full(y.size, side), y) for side in (-half_x, half_x)]
    return np.concatenate([np.stack([a, b, np.full(a.size, z_m)], axis=1) for a, b in sides])


def _lattice(tool: ToolConfig, spacing_m: float, z_m: float) -> Floats:
    half_x, half_y = tool.plate_half_size_m
    x = np.linspace(-half_x - OVERLOOK_M, half_x + OVERLOOK_M, max(3, round(2 * (half_x + OVERLOOK_M) / spacing_m)))
    y = np.linspace(-half_y - OVERLOOK_M, half_y + OVERLOOK_M, max(3, round(2 * (half_y + OVERLOOK_M) / spacing_m)))
    grid_x, grid_y = np.meshgrid(x, y)
    return np.stack([grid_x.ravel(), grid_y.ravel(), np.full(grid_x.size, z_m)], axis=1)


def hits_wall(poses: Poses, cell: CellConfig, margin_m: float, thorough: bool = True) -> NDArray[np.bool_]:
    """Whether lips, plate or stem meet a wall on the straight way in: bool [N].

    What each part sweeps is convex. It meets a wall where one of its corners is below the tote's rim and beyond the
    wall's inner face, or where one of its edges passes that face below the rim. Not ``thorough``: judged by the corners
    at contact only, to sort out most poses early.
    """
    workspace = cell.workspace
    if workspace.wall_height_m <= 0:
        return np.zeros(poses.count, dtype=bool)
    corners, edges = _outline(cell.tool, cell.motion.approach_m if thorough else 0.0)
    world = poses.position[:, None, :] + corners @ poses.rotation.transpose(0, 2, 1)
    height = world[..., 2] - (workspace.belt_z_m + workspace.wall_height_m + margin_m)
    beyond = np.abs(world[..., :2] - np.asarray(workspace.centre_m)) - (np.asarray(workspace.size_m) / 2 - margin_m)
    over = (beyond > 0).any(axis=2)
    hits = np.asarray((over & (height < 0)).any(axis=1))
    if thorough:
        straddles = np.flatnonzero(over.any(axis=1) & ~hits)
        hits[straddles] = _edges_below_rim(world[straddles], height[straddles], edges, workspace, margin_m)
    return hits


def _edges_below_rim(
    world: Floats, height: Floats, edges: Ints, workspace: WorkspaceConfig, margin_m: float
) -> NDArray[np.bool_]:
    """bool [N]: does one of ``edges`` [E, 2] between the corners ``world`` [N, K, 3], ``height`` [N, K] above the rim,
    pass the inner face of a wall below it?"""
    from_z, to_z = height[:, edges[:, 0]], height[:, edges[:, 1]]
    hits = np.zeros(len(world), dtype=bool)
    for axis, side in ((0, -1), (0, 1), (1, -1), (1, 1)):
        beyond = side * (world[..., axis] - workspace.centre_m[axis]) - (workspace.size_m[axis] / 2 - margin_m)
        start, end = beyond[:, edges[:, 0]], beyond[:, edges[:, 1]]
        passes = (start < 0) != (end < 0)
        share = start / np.where(passes, start - end, 1.0)
        hits |= (passes & (from_z + share * (to_z - from_z) < 0)).any(axis=1)
    return hits


@lru_cache(maxsize=8)
def _outline(tool: ToolConfig, approach_m: float) -> tuple[Floats, Ints]:
    """Corners of plate and stem and, with a way in, points of the lips, at contact and at the start of the approach:
    [K, 3] in the tool frame. And the edges of what they sweep between the two, pairs of rows [E, 2]."""
    corners = [
        (sx * half_x, sy * half_y, -height)
        for half_x, half_y, bottom, top in tool.boxes_m
        for height in (bottom, top)
        for sx in (-1, 1)
        for sy in (-1, 1)
    ]
    # Corners of a box are numbered in binary, so those one bit apart share an edge.
    box = [(i, i | bit) for i in range(8) for bit in (1, 2, 4) if not i & bit]
    edges = [(8 * part + i, 8 * part + j) for part in range(len(tool.boxes_m)) for i, j in box]
    local = np.array(corners)
    if approach_m > 0:
        r = tool.cup_radius_m
        lips = [(x + dx, y + dy, 0.0) for x, y, _ in tool.cups_m for dx, dy in ((r, 0), (-r, 0), (0, r), (0, -r))]
        back = np.array([0.0, 0.0, approach_m])
        local = np.concatenate([local, lips])
        n = len(local)
        edges += [(n + i, n + j) for i, j in edges] + [(i, n + i) for i in range(n)]
        local = np.concatenate([local, local - back])
    return local, np.array(edges)


def _outside(position: Floats, workspace: WorkspaceConfig) -> NDArray[np.bool_]:
    beyond = np.abs(position[:, :2] - np.asarray(workspace.centre_m)) > np.asarray(workspace.size_m) / 2 + 0.05
    return np.asarray(beyond.any(axis=1) | (position[:, 2] < workspace.belt_z_m - 0.02))


def _unreachable(position: Floats, workspace: WorkspaceConfig) -> NDArray[np.bool_]:
    distance = np.hypot(position[:, 0], position[:, 1])
    return np.asarray((distance < workspace.reach_min_m) | (distance > workspace.reach_max_m))
