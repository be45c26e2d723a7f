"""The tool against a tote's walls, for which a dense sampling of what it sweeps is the reference."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from robin_grasp.planner.candidates import Poses
from robin_grasp.planner.clearance import hits_wall
from robin_grasp.tool import CellConfig, tote_workspace

TOTE = CellConfig(workspace=tote_workspace())


def poses_of(position: np.ndarray, rotation: np.ndarray) -> Poses:
    rows = np.zeros(len(position), dtype=np.int64)
    return Poses(rows, rows, position, rotation)


def swept_points(cell: CellConfig) -> np.ndarray:
    """Points of plate, stem and lips on their way in, tool frame [K, 3], 13 mm apart at most."""
    around = np.arange(4) * np.pi / 2
    ring = cell.tool.cup_radius_m * np.column_stack([np.cos(around), np.sin(around), 0 * around])
    lips = (cell.tool.cups_m[:, None] + ring).reshape(-1, 3)
    parts = [lips - (0.0, 0.0, back) for back in np.arange(0.0, cell.motion.approach_m + 0.001, 0.01)]
    for half_x, half_y, bottom, top in cell.tool.boxes_m:
        x = np.linspace(-half_x, half_x, 17)
        y = np.linspace(-half_y, half_y, 11)
        z = -np.arange(bottom, top + cell.motion.approach_m, 0.01)
        parts.append(np.stack(np.meshgrid(x, y, z), axis=-1).reshape(-1, 3))
    return np.concatenate(parts)


def test_a_plate_with_every_corner_in_the_free_meets_the_wall_with_its_edge() -> None:
    """The plate stands across the wall: on the way in one corner is inside and below the rim, the next beyond and above
    it."""
    axes = [[0.931, 0.184, 0.314], [0.335, -0.771, -0.542], [0.143, 0.61, -0.78]]
    rotation = Rotation.from_matrix(axes).as_matrix()[None]
    poses = poses_of(np.array([[0.753, 0.161, 0.144]]), rotation)
    assert hits_wall(poses, TOTE, 0.0).tolist() == [True]
    assert hits_wall(poses, TOTE, 0.0, thorough=False).tolist() == [False]


def test_walls_are_met_where_a_dense_sampling_of_the_sweep_meets_them() -> None:
    rng = np.random.default_rng(3)
    count, workspace = 300, TOTE.workspace
    inner = np.asarray(workspace.size_m) / 2
    position = np.column_stack(
        [rng.uniform(-1, 1, (count, 2)) * inner + workspace.centre_m, rng.uniform(0, 0.3, count)]
    )
    tilt, towards, turn = rng.uniform(0, 0.8, count), rng.uniform(-np.pi, np.pi, count), rng.uniform(0, np.pi, count)
    lean = Rotation.from_rotvec(tilt[:, None] * np.column_stack([np.cos(towards), np.sin(towards), 0 * tilt]))
    down = Rotation.from_euler("x", np.pi) * Rotation.from_euler("z", turn[:, None])
    rotation = (lean * down).as_matrix()
    found = hits_wall(poses_of(position, rotation), TOTE, 0.0)
    rim = workspace.belt_z_m + workspace.wall_height_m
    points = swept_points(TOTE)
    meets, clear = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
    for i in range(count):
        world = position[i] + points @ rotation[i].T
        beyond = (np.abs(world[:, :2] - workspace.centre_m) - inner).max(axis=1)
        meets[i] = ((world[:, 2] < rim) & (beyond > 0)).any()
        clear[i] = not ((world[:, 2] < rim + 0.02) & (beyond > -0.02)).any()
    assert meets.sum() > 50 and clear.sum() > 30
    assert not found[clear].any()
    assert found[meets].all()
