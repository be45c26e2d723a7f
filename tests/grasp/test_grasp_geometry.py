"""Planes, faces, seals and poses against analytic surfaces."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.grasp_scenes import Box, box_scene

from robin_grasp.planner.candidates import Poses, best_rows, group_centres, project_cups, tool_rotations
from robin_grasp.planner.config import PlannerConfig
from robin_grasp.planner.facets import split_faces
from robin_grasp.planner.fit import shipped_fit
from robin_grasp.planner.parcels_seen import observe
from robin_grasp.planner.planner import SuctionPlanner
from robin_grasp.planner.seal import seat
from robin_grasp.planner.surface import make_view
from robin_grasp.tool import CellConfig, ToolConfig
from robin_perception.core.helper_thread import HelperThread

TILTED = Box(0.6, -0.1, 0.25, 0.2, 0.15, slope_x=0.3, slope_y=-0.2, yaw=0.4)


def true_axis(box: Box) -> np.ndarray:
    """Unit normal into the top face."""
    c, s = np.cos(box.yaw), np.sin(box.yaw)
    axis = np.array([box.slope_x * c - box.slope_y * s, box.slope_x * s + box.slope_y * c, -1.0])
    return axis / np.linalg.norm(axis)


def angle_between(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.arccos(np.clip(a @ b, -1.0, 1.0)))


def test_window_fit_on_a_tilted_plane_is_exact() -> None:
    frame, scene = box_scene([TILTED])
    view = make_view(frame, scene, shipped_fit().surface, HelperThread())
    ys, xs = np.nonzero((view.labels == 1) & (view.edge_px > 12))
    planes = view.fit(xs[::50].astype(float), ys[::50].astype(float), np.full(len(xs[::50]), 8.0))
    for axis in view.axes(planes):
        assert angle_between(axis, true_axis(TILTED)) < 1e-3
    assert planes.rms.max() < 1e-4


@pytest.mark.parametrize("noise", [0.0, 0.08])
def test_the_chosen_pose_stands_on_the_tilted_face(noise: float) -> None:
    frame, scene = box_scene([TILTED], noise=noise, rng=np.random.default_rng(1))
    grasp = SuctionPlanner(CellConfig()).plan(frame, scene).best
    assert grasp is not None
    position, axis = grasp.T_base_tool[:3, 3], true_axis(TILTED)
    height = (position - (TILTED.x, TILTED.y, TILTED.top)) @ axis
    assert abs(height) < (0.001 if noise == 0 else 0.006)
    assert angle_between(grasp.T_base_tool[:3, 2], axis) < (0.005 if noise == 0 else 0.06)
    assert np.allclose(grasp.T_base_tool[:3, :3].T @ grasp.T_base_tool[:3, :3], np.eye(3), atol=1e-9)
    assert np.linalg.det(grasp.T_base_tool[:3, :3]) == pytest.approx(1.0)


def test_projection_and_points_are_inverse() -> None:
    frame, scene = box_scene([Box(0.75, 0.0, 0.3, 0.2, 0.1)], 1280, 720)
    view = make_view(frame, scene, shipped_fit().surface, HelperThread())
    assert view.stride == 2
    rng = np.random.default_rng(0)
    u, v, q = rng.uniform(0, 300, 50), rng.uniform(0, 200, 50), rng.uniform(0.7, 2.0, 50)
    u2, v2, z = view.project(view.points(u, v, q))
    assert np.allclose(u, u2) and np.allclose(v, v2) and np.allclose(z, 1 / q)


def test_noise_estimate_follows_the_noise() -> None:
    box = Box(0.75, 0.0, 0.4, 0.4, 0.1)
    levels = []
    for noise in (0.05, 0.10, 0.20):
        frame, scene = box_scene([box], noise=noise, rng=np.random.default_rng(2))
        levels.append(make_view(frame, scene, shipped_fit().surface, HelperThread()).inverse_depth_noise)
    assert levels[0] < levels[1] < levels[2]
    assert levels[2] / levels[1] == pytest.approx(2.0, rel=0.25)


def two_faced() -> tuple[Box, Box]:
    """A block's top and its steep side, seen as one parcel."""
    return Box(0.70, 0.0, 0.16, 0.2, 0.30), Box(0.83, 0.0, 0.10, 0.2, 0.25, slope_x=-1.0)


def test_a_box_seen_from_an_angle_has_two_faces_and_the_tool_stays_on_one() -> None:
    frame, scene = box_scene(list(two_faced()), noise=0.05, rng=np.random.default_rng(3))
    scene.labels[scene.labels == 2] = 1
    from helpers.grasp_scenes import instance

    scene = type(scene)(0.0, "x", scene.labels, (instance(scene.labels, 1, two_faced()[0]),), scene.boundary)
    view = make_view(frame, scene, shipped_fit().surface, HelperThread())
    _, facets = split_faces(view, scene, shipped_fit())
    assert len(facets.instance) == 2
    tilts = sorted(np.arccos(-view.plane_axes(facets.plane)[:, 2]))
    assert tilts[0] < 0.05
    assert tilts[1] == pytest.approx(np.pi / 4, abs=0.08)
    grasp = SuctionPlanner(CellConfig()).plan(frame, scene).best
    assert grasp is not None
    assert grasp.terms["tool_tilt_rad"] < 0.06
    assert grasp.T_base_tool[2, 3] == pytest.approx(0.30, abs=0.008)


def test_a_flat_box_is_one_face() -> None:
    frame, scene = box_scene([TILTED], noise=0.08)
    view = make_view(frame, scene, shipped_fit().surface, HelperThread())
    _, facets = split_faces(view, scene, shipped_fit())
    assert len(facets.instance) == 1


def seal_at(box: Box, x: float, y: float, lift_m: float = 0.0, tilt_rad: float = 0.0, cup: int = 0) -> float:
    """P(seal) of one cup whose centre is at (x, y) over the box's top."""
    frame, scene = box_scene([box], noise=0.0)
    config, tool = PlannerConfig(), ToolConfig()
    view = make_view(frame, scene, config.fit.surface, HelperThread())
    faces, facets = split_faces(view, scene, config.fit)
    parcels, _ = observe(view, faces, facets, scene, config, 0.0)
    axis = np.array([[np.sin(tilt_rad), 0.0, -np.cos(tilt_rad)]])
    rotation = tool_rotations(axis, np.array([[1.0, 0.0, 0.0]]), np.zeros(1))
    position = np.array([[x, y, box.top + lift_m]]) - tool.cups_m[cup] @ rotation[0].T
    poses = Poses(np.zeros(1, np.int64), np.zeros(1, np.int64), position, rotation)
    footprints = project_cups(faces, parcels, poses, tool)
    _, seals = seat(faces, poses, parcels, footprints, tool, config, np.ones(tool.cup_count))
    return float(seals.probability[0, cup])


def test_seal_in_the_middle_at_the_edge_and_beyond() -> None:
    box = Box(0.75, 0.0, 0.24, 0.20, 0.1)
    middle, near = seal_at(box, 0.75, 0.0), seal_at(box, 0.75 + 0.12 - 0.017, 0.0)
    over, off = seal_at(box, 0.75 + 0.12 - 0.005, 0.0), seal_at(box, 0.75 + 0.14, 0.0)
    assert middle > 0.95
    assert middle > near > over
    assert over < 0.1
    assert off == 0.0


def test_seal_falls_with_the_tools_tilt() -> None:
    box = Box(0.75, 0.0, 0.24, 0.20, 0.1)
    assert seal_at(box, 0.75, 0.0, tilt_rad=0.1) > 0.95
    assert seal_at(box, 0.75, 0.0, tilt_rad=0.5) < 0.05


def test_group_centres_hold_rows_columns_and_single_cups() -> None:
    centres = group_centres(ToolConfig())
    found = {(round(float(x), 3), round(float(y), 3)) for x, y in centres}
    assert centres[0].tolist() == [0.0, 0.0]
    assert {(0.0, 0.03), (0.0, -0.03), (0.072, 0.03), (0.048, 0.0)} <= found
    assert len(found) == 21


def test_best_rows_keeps_the_highest_of_each_group() -> None:
    group = np.array([1, 0, 1, 1, 0])
    value = np.array([0.5, 0.1, 0.9, 0.5, 0.7])
    assert best_rows(group, value, 2).tolist() == [0, 1, 2, 4]
    assert best_rows(np.zeros(0, np.int64), np.zeros(0), 2).tolist() == []
