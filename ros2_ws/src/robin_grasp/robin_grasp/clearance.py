"""The tool against the rest of the world: neighbours in the depth image, tote walls, reach."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robin_grasp.candidates import Poses
from robin_grasp.planner_config import ClearanceConfig
from robin_grasp.surface import Floats, Ints, View
from robin_grasp.tool import CellConfig, ToolConfig, WorkspaceConfig

OVERLOOK_M = 0.03  # tall neighbours appear beside the footprint seen from an angle: sample this far around it
HARD_PUSH_M = 0.020  # an idle cup pushed further than this beyond its bellows hits with its rigid part


@dataclass(frozen=True)
class Clearance:
    """Over N poses. hits: bool, plate or body or an idle cup's rigid part meets a surface. push_m: how far neighbours press
    idle cups beyond their bellows. wall, outside, unreachable: bool. headroom_m: free height below the plate."""

    hits: NDArray[np.bool_]
    push_m: Floats
    headroom_m: Floats
    wall: NDArray[np.bool_]
    outside: NDArray[np.bool_]
    unreachable: NDArray[np.bool_]

    def take(self, rows: Ints) -> Clearance:
        return Clearance(
            self.hits[rows],
            self.push_m[rows],
            self.headroom_m[rows],
            self.wall[rows],
            self.outside[rows],
            self.unreachable[rows],
        )


def check_clearance(view: View, poses: Poses, cell: CellConfig, config: ClearanceConfig) -> Clearance:
    """Check every pose at contact, pressed in by ``MotionConfig.press_m``."""
    share, push, headroom = _against_surface(view, poses, cell, config)
    return Clearance(
        hits=(share > config.hit_share) | (push > HARD_PUSH_M),
        push_m=push,
        headroom_m=headroom,
        wall=hits_wall(poses, cell.tool, cell.workspace, config.wall_margin_m),
        outside=_outside(poses.position, cell.workspace),
        unreachable=_unreachable(poses.position, cell.workspace),
    )


def _against_surface(
    view: View, poses: Poses, cell: CellConfig, config: ClearanceConfig
) -> tuple[Floats, Floats, Floats]:
    """Share of surface samples inside the plate's sweep, push of idle cups, and headroom. Surface points are those that the
    camera sees where a lattice in the lip plane projects, taken back into the tool frame."""
    tool = cell.tool
    lattice = _lattice(tool, config.sample_spacing_m)
    world = poses.position[:, None, :] + np.einsum("nij,sj->nsi", poses.rotation, lattice)
    u, v, _ = view.project(world)
    flat, inside = view.pixel(u, v)
    q = np.where(inside, view.inverse_depth.ravel()[flat], 0.0).astype(np.float64)
    seen = q > 0
    surface = view.points(np.rint(u), np.rint(v), np.where(seen, q, 1.0))
    local = np.einsum("nsi,nij->nsj", surface - poses.position[:, None, :], poses.rotation)
    x, y, above = np.abs(local[..., 0]), np.abs(local[..., 1]), -local[..., 2]
    half_x, half_y = tool.plate_half_size_m
    under = seen & (x <= half_x + config.margin_m) & (y <= half_y + config.margin_m)
    room = tool.plate_offset_m - cell.motion.press_m - config.margin_m
    share = (under & (above > room)).sum(axis=1) / np.maximum(under.sum(axis=1), 1)
    near_cup = np.zeros_like(seen)
    for cup_x, cup_y, _ in tool.cups_m:
        near_cup |= (local[..., 0] - cup_x) ** 2 + (local[..., 1] - cup_y) ** 2 < tool.cup_radius_m**2
    beyond = np.where(seen & near_cup, above - (tool.bellows_travel_m - cell.motion.press_m), 0.0)
    # The second highest of the samples: one flying pixel is no obstacle.
    push = np.maximum(np.partition(beyond, -2, axis=1)[:, -2], 0.0)
    highest = np.partition(np.where(under, above, -1.0), -2, axis=1)[:, -2]
    return share, push, np.clip(tool.plate_offset_m - highest, -0.5, 0.5)


def _lattice(tool: ToolConfig, spacing_m: float) -> Floats:
    half_x, half_y = tool.plate_half_size_m
    x = np.linspace(-half_x - OVERLOOK_M, half_x + OVERLOOK_M, max(3, round(2 * (half_x + OVERLOOK_M) / spacing_m)))
    y = np.linspace(-half_y - OVERLOOK_M, half_y + OVERLOOK_M, max(3, round(2 * (half_y + OVERLOOK_M) / spacing_m)))
    grid_x, grid_y = np.meshgrid(x, y)
    return np.stack([grid_x.ravel(), grid_y.ravel(), np.zeros(grid_x.size)], axis=1)


def hits_wall(poses: Poses, tool: ToolConfig, workspace: WorkspaceConfig, margin_m: float) -> NDArray[np.bool_]:
    """Corners of plate and body, and the lips, that are below the tote's rim must lie between its walls: bool [N]."""
    if workspace.wall_height_m <= 0:
        return np.zeros(poses.count, dtype=bool)
    half_x, half_y = tool.plate_half_size_m
    levels = (-tool.plate_offset_m, -tool.plate_offset_m - tool.body_height_m)
    corners = [(sx * half_x, sy * half_y, z) for sx in (-1, 1) for sy in (-1, 1) for z in levels]
    r = tool.cup_radius_m
    lips = [(x + dx, y + dy, 0.0) for x, y, _ in tool.cups_m for dx, dy in ((r, 0), (-r, 0), (0, r), (0, -r))]
    local = np.array(corners + lips)
    world = poses.position[:, None, :] + np.einsum("nij,kj->nki", poses.rotation, local)
    below_rim = world[..., 2] < workspace.belt_z_m + workspace.wall_height_m
    inner = np.asarray(workspace.size_m) / 2 - margin_m
    beyond = (np.abs(world[..., :2] - np.asarray(workspace.centre_m)) > inner).any(axis=2)
    return np.asarray((below_rim & beyond).any(axis=1))


def _outside(position: Floats, workspace: WorkspaceConfig) -> NDArray[np.bool_]:
    beyond = np.abs(position[:, :2] - np.asarray(workspace.centre_m)) > np.asarray(workspace.size_m) / 2 + 0.05
    return np.asarray(beyond.any(axis=1) | (position[:, 2] < workspace.belt_z_m - 0.02))


def _unreachable(position: Floats, workspace: WorkspaceConfig) -> NDArray[np.bool_]:
    distance = np.hypot(position[:, 0], position[:, 1])
    return np.asarray((distance < workspace.reach_min_m) | (distance > workspace.reach_max_m))
