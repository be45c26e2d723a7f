"""The renderer against geometry with known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from robin_grasp.tool import WorkspaceConfig, tote_workspace
from robin_sim.backgrounds import Background, box, draw_background, nominal_background
from robin_sim.cameras import CameraView, draw_camera, intrinsics, look_at, nominal_camera, true_camera
from robin_sim.faults import CameraShift, Faults
from robin_sim.lighting import draw_lighting, nominal_lighting
from robin_sim.model import Material, Parcel, ParcelKind, Pile
from robin_sim.render import render

WORKSPACE = WorkspaceConfig()


def carton(size_m: tuple[float, float, float], transmission: float = 0.0, value: int = 160) -> Parcel:
    """A plain box parcel whose mesh is exactly its size."""
    half = tuple(s / 2 for s in size_m)
    mesh = box((-half[0], -half[1], -half[2]), (half[0], half[1], half[2]))
    material = Material(np.full((8, 8, 3), value, dtype=np.uint8), 0.8, 0.1, transmission)
    kind = ParcelKind.CARTON
    return Parcel(kind, "plain", size_m, 1.0, (0.0, 0.0, 0.0), 0.5, 0.0, 0.0, 0.0, mesh, material, ())


def pile_of(*items: tuple[Parcel, tuple[float, float, float]]) -> Pile:
    poses = np.tile(np.eye(4), (len(items), 1, 1))
    for pose, (_, position) in zip(poses, items, strict=True):
        pose[:3, 3] = position
    return Pile(tuple(parcel for parcel, _ in items), poses, WORKSPACE)


def vertical_camera(height_m: float = 1.0, width: int = 160, height: int = 120) -> CameraView:
    target = np.array([*WORKSPACE.centre_m, 0.0])
    return CameraView(width, height, intrinsics(width, height, 1.0), look_at(target, height_m, 0.0, 0.0, 0.0))


def pixels_of(camera: CameraView, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Project base_link points [N, 3] to pixels [N, 2]."""
    local = (points - camera.T_base_camera[:3, 3]) @ camera.T_base_camera[:3, :3]
    return (local[:, :2] / local[:, 2:]) @ camera.K[:2, :2].T + camera.K[:2, 2]


def test_depth_of_a_tilted_plane_is_exact() -> None:
    target = np.array([*WORKSPACE.centre_m, 0.0])
    camera = CameraView(96, 72, intrinsics(96, 72, 0.9), look_at(target, 1.3, math.radians(35), 0.7, 0.4))
    view = render(pile_of(), camera, nominal_lighting(), nominal_background(WORKSPACE))
    assert np.abs(camera.heights(view.depth)).max() < 2e-5
    plane_normal = camera.T_base_camera[2, :3]
    assert np.allclose(view.normals, plane_normal, atol=1e-5)
    assert view.visible_fraction.shape == (0,)


def test_box_has_its_depth_label_and_normal() -> None:
    camera = vertical_camera()
    view = render(
        pile_of((carton((0.2, 0.1, 0.3)), (0.75, 0.0, 0.15))), camera, nominal_lighting(), nominal_background(WORKSPACE)
    )
    assert view.depth[60, 80] == pytest.approx(0.7, abs=1e-5)
    assert view.depth[5, 5] == pytest.approx(1.0, abs=1e-5)
    corners = np.array([[0.75 + sx * 0.1, sy * 0.05, 0.3] for sx in (-1, 1) for sy in (-1, 1)])
    projected = pixels_of(camera, corners)
    expected_area = np.prod(projected.max(axis=0) - projected.min(axis=0))
    assert (view.labels == 1).sum() == pytest.approx(expected_area, rel=0.06)
    rows, columns = np.nonzero(view.labels == 1)
    assert columns.mean() == pytest.approx(projected[:, 0].mean(), abs=0.6)
    assert rows.mean() == pytest.approx(projected[:, 1].mean(), abs=0.6)
    assert np.allclose(view.normals[60, 80], [0, 0, -1], atol=1e-5)
    assert view.visible_fraction[0] == pytest.approx(1.0)


def test_visible_fraction_counts_what_is_covered() -> None:
    below, above = carton((0.2, 0.2, 0.02)), carton((0.2, 0.2, 0.02))
    view = render(
        pile_of((below, (0.75, 0.0, 0.01)), (above, (0.85, 0.0, 0.031))),
        vertical_camera(),
        nominal_lighting(),
        nominal_background(WORKSPACE),
    )
    assert view.visible_fraction[0] == pytest.approx(0.5, abs=0.05)
    assert view.visible_fraction[1] == pytest.approx(1.0, abs=0.01)


def test_visible_fraction_counts_what_the_border_cuts() -> None:
    camera = vertical_camera()
    edge_x = 0.75 + 79.5 / camera.K[0, 0]
    view = render(
        pile_of((carton((0.1, 0.1, 0.001)), (edge_x, 0.0, 0.0005))),
        camera,
        nominal_lighting(),
        nominal_background(WORKSPACE),
    )
    assert view.visible_fraction[0] == pytest.approx(0.5, abs=0.1)


def test_clear_film_shows_what_lies_behind() -> None:
    film = carton((0.2, 0.2, 0.05), transmission=0.8)
    view = render(
        pile_of((film, (0.75, 0.0, 0.1))), vertical_camera(), nominal_lighting(), nominal_background(WORKSPACE)
    )
    assert view.labels[60, 80] == 1
    assert view.depth[60, 80] == pytest.approx(0.875, abs=1e-5)
    assert view.extras["behind_depth"][60, 80] == pytest.approx(1.0, abs=1e-5)
    assert view.extras["transmission"][60, 80] == pytest.approx(0.8)


def test_light_casts_shadow_beside_the_box_away_from_the_lamp() -> None:
    lighting = nominal_lighting()
    lamp = type(lighting.lights[0])(np.array([-0.25, 0.0, 1.0]), 0.02, np.full(3, 2.0, dtype=np.float32))
    lit = type(lighting)((lamp,), lighting.sky * 0.3, lighting.ground)
    pile = pile_of((carton((0.1, 0.3, 0.2)), (0.75, 0.0, 0.1)))
    view = render(pile, vertical_camera(), lit, nominal_background(WORKSPACE))
    light = view.extras["linear_rgb"].mean(axis=2)
    assert light[60, 110] < 0.6 * light[60, 45]


def test_rendering_is_deterministic() -> None:
    pictures = []
    for _ in range(2):
        rng = np.random.default_rng(4)
        camera = draw_camera(rng, WORKSPACE, 96, 72)
        pile = pile_of((carton((0.2, 0.1, 0.3)), (0.75, 0.0, 0.15)))
        pictures.append(render(pile, camera, draw_lighting(rng), draw_background(rng, WORKSPACE)))
    assert np.array_equal(pictures[0].rgb, pictures[1].rgb)
    assert np.array_equal(pictures[0].depth, pictures[1].depth)


@pytest.mark.parametrize("workspace", [WORKSPACE, tote_workspace()])
def test_nominal_camera_sees_the_whole_workspace(workspace: WorkspaceConfig) -> None:
    half = np.asarray(workspace.size_m) / 2
    corners = np.array([[0.75 + sx * half[0], sy * half[1], 0.0] for sx in (-1, 1) for sy in (-1, 1)])
    for width, height in ((640, 480), (1280, 720), (512, 384)):
        pixels = pixels_of(nominal_camera(width, height, workspace), corners)
        assert (pixels >= 0).all() and (pixels <= [width - 1, height - 1]).all()


@pytest.mark.parametrize("seed", range(6))
def test_backgrounds_leave_the_workspace_free(seed: int) -> None:
    """Nothing of a background rises above the belt or the tote's floor inside the workspace."""
    rng = np.random.default_rng(seed)
    workspace = tote_workspace() if seed % 2 else WORKSPACE
    background: Background = draw_background(rng, workspace)
    target = np.array([*workspace.centre_m, 0.0])
    camera = CameraView(80, 60, intrinsics(80, 60, 1.0), look_at(target, 1.0, 0.0, 0.0, 0.0))
    view = render(Pile((), np.zeros((0, 4, 4)), workspace), camera, draw_lighting(rng), background)
    heights = camera.heights(view.depth)
    u, v = camera.pixel_grid()
    x = 0.75 + (u - camera.K[0, 2]) / camera.K[0, 0] * view.depth
    y = -(v - camera.K[1, 2]) / camera.K[1, 1] * view.depth
    inside = (np.abs(x - 0.75) < workspace.size_m[0] / 2 - 0.02) & (np.abs(y) < workspace.size_m[1] / 2 - 0.02)
    assert inside.any() and np.abs(heights[inside]).max() < 1e-4


def test_camera_shift_moves_the_true_pose_in_the_optical_frame() -> None:
    camera = vertical_camera()
    shift = CameraShift(translation_m=(0.01, 0.0, 0.0), rotation_rad=(0.0, 0.0, 0.1))
    moved = true_camera(camera, Faults(camera_shift=shift))
    assert moved.position_m - camera.position_m == pytest.approx(0.01 * camera.T_base_camera[:3, 0])
    turn = camera.T_base_camera[:3, :3].T @ moved.T_base_camera[:3, :3]
    assert math.atan2(turn[1, 0], turn[0, 0]) == pytest.approx(0.1)
    assert true_camera(camera, Faults()) is camera
