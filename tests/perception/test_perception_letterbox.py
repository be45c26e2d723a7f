"""Letterbox: frame pixels to network pixels and back, images, depths, intrinsics and mask grids."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robin_perception.core.frame import Frame
from robin_perception.segmentation.mask_grid import MaskGrid
from robin_perception.segmentation.view import Letterbox, NearConfig, View

SIZES = st.tuples(st.integers(64, 2000), st.integers(48, 1600))


@given(size=SIZES, x=st.floats(-0.5, 1.0), y=st.floats(-0.5, 1.0))
def test_points_come_back(size: tuple[int, int], x: float, y: float) -> None:
    box = Letterbox(size)
    point = np.array([x * size[0], y * size[1]])
    assert np.allclose(box.to_frame(box.to_network(point)), point, atol=1e-6)


@given(size=SIZES)
def test_picture_fits_and_touches_two_sides(size: tuple[int, int]) -> None:
    box = Letterbox(size)
    (w, h), (nw, nh) = box.scaled_size, box.network_size
    assert w <= nw and h <= nh and (w == nw or h == nh)
    first, last = box.to_network(np.array([[-0.5, -0.5], [size[0] - 0.5, size[1] - 0.5]]))
    assert np.allclose(first, np.array(box.pad) - 0.5) and np.allclose(last, np.array(box.pad) + np.array([w, h]) - 0.5)


@given(size=SIZES, x=st.floats(-0.4, 0.4), y=st.floats(-0.3, 0.3), z=st.floats(0.3, 3.0))
def test_scaled_intrinsics_project_to_the_same_place(size: tuple[int, int], x: float, y: float, z: float) -> None:
    box = Letterbox(size)
    K = np.array([[0.9 * size[0], 0, 0.48 * size[0]], [0, 0.9 * size[0], 0.53 * size[1]], [0, 0, 1]])
    pixel = (K @ (x, y, z))[:2] / z
    fx, fy, cx, cy = box.intrinsics(K)
    assert np.allclose(box.to_network(pixel), (fx * x / z + cx, fy * y / z + cy), atol=1e-2)


@settings(max_examples=25, deadline=None)
@given(
    size=st.tuples(st.integers(100, 1300), st.integers(80, 1000)) | st.just((1280, 720)),
    tilt=st.floats(-1, 1),
    at=st.floats(0.3, 0.7),
    shift=st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
)
def test_a_straight_edge_on_the_grid_is_straight_and_in_place_in_the_frame(
    size: tuple[int, int], tilt: float, at: float, shift: tuple[float, float]
) -> None:
    """Logits that are linear in frame coordinates come back as the same linear function, at every frame size, also from
    a network whose masks are shifted."""
    box = Letterbox(size)
    grid = MaskGrid(box, 4, shift)
    rows, columns = np.mgrid[:96, :128]
    cells = np.stack([columns, rows], axis=-1) * 4 + 1.5
    place = box.to_frame(cells - np.array(shift))
    logits = (place[..., 0] - at * size[0] + tilt * (place[..., 1] - at * size[1])).astype(np.float32)
    y, x = np.mgrid[: size[1], : size[0]]
    wanted = x - at * size[0] + tilt * (y - at * size[1])
    fine, (ys, xs) = grid.enlarge(logits, (0, 96, 0, 128))
    assert fine.shape == (size[1], size[0]) and (ys.start, xs.start) == (0, 0)
    margin = int(np.ceil(3 / box.scale.min())) + 1  # half a cell at the rim is extrapolated
    inner = (slice(margin, -margin), slice(margin, -margin))
    rounded = (1 + abs(tilt)) / 2 if (4 / box.scale >= 8).any() else 0.0  # large frames take whole pixels of shift
    assert np.allclose(fine[inner], wanted[inner], atol=0.02 + 1e-4 * max(size) + rounded)


@settings(max_examples=25, deadline=None)
@given(
    size=st.sampled_from([(512, 384), (640, 480), (1280, 720), (848, 480), (1920, 1080), (320, 240), (333, 417)]),
    seed=st.integers(0, 2**31),
)
def test_a_window_of_cells_gives_the_same_mask_as_the_whole_grid(size: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    grid = MaskGrid(Letterbox(size), 4, (0.5, -0.4) if seed % 2 else (0.0, 0.0))
    cells = np.full((96, 128), -3.0, dtype=np.float32)
    y0, x0 = int(rng.integers(0, 70)), int(rng.integers(0, 100))
    y1, x1 = y0 + int(rng.integers(2, 26)), x0 + int(rng.integers(2, 28))
    cells[y0:y1, x0:x1] = rng.normal(2, 2, (y1 - y0, x1 - x0))
    window = max(y0 - 1, 0), min(y1 + 1, 96), max(x0 - 1, 0), min(x1 + 1, 128)
    whole = (grid.rows @ cells @ grid.columns.T) > 1e-4
    fine, pixels = grid.enlarge(cells[window[0] : window[1], window[2] : window[3]], window)
    placed = np.zeros_like(whole)
    placed[pixels] = fine > 1e-4
    # Two ways to interpolate differ in the last bits only, so that at most a few pixels at the threshold may differ.
    assert np.count_nonzero(placed != whole) <= 2


@pytest.mark.parametrize(
    ("size", "cells"),
    [((1280, 720), (12, 84, 0, 128)), ((848, 480), (11, 85, 0, 128)), ((640, 480), (0, 96, 0, 128))],
)
def test_cells_with_picture_in_them(size: tuple[int, int], cells: tuple[int, int, int, int]) -> None:
    assert MaskGrid(Letterbox(size)).picture_cells == cells


def test_depth_is_never_mixed_and_padding_is_invalid() -> None:
    rng = np.random.default_rng(0)
    depth = rng.choice(np.array([0.0, 0.7, 1.9], dtype=np.float32), (720, 1280))
    small = Letterbox((1280, 720)).depth(depth)
    assert small.shape == (384, 512) and small.dtype == np.float32
    assert set(np.unique(small)) <= {np.float32(0), np.float32(0.7), np.float32(1.9)}
    assert (small[:48] == 0).all() and (small[-48:] == 0).all()


@pytest.mark.parametrize("size", [(1280, 720), (640, 480), (200, 150), (512, 384), (300, 900)])
def test_colour_has_network_size_and_keeps_its_mean(size: tuple[int, int]) -> None:
    rgb = np.random.default_rng(1).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    box = Letterbox(size)
    out = box.rgb(rgb)
    assert out.shape == (384, 512, 3) and out.dtype == np.uint8
    (w, h), (px, py) = box.scaled_size, box.pad
    assert abs(float(out[py : py + h, px : px + w].mean()) - float(rgb.mean())) < 1.5


@pytest.mark.parametrize("size", [(1280, 720), (848, 480), (640, 480)])
def test_boundary_grid_covers_the_frame_without_padding(size: tuple[int, int]) -> None:
    box = Letterbox(size)
    columns = np.mgrid[:96, :128][1]
    cells = ((columns * 4 + 1.5 - box.pad[0] + 0.5) / box.scale[0] - 0.5).astype(np.float32)  # frame x of each cell
    cut = MaskGrid(box).unpadded(cells)
    w, h = MaskGrid(box).cell_size
    assert cut.shape == (h, w)
    centres = (np.arange(w) + 0.5) * size[0] / w - 0.5
    assert np.allclose(cut[h // 2, 1:-1], centres[1:-1], atol=0.05)


def frame_from(distance_m: float, holes: float = 0.0) -> Frame:
    rng = np.random.default_rng(0)
    depth = (distance_m * rng.uniform(0.95, 1.05, (480, 640))).astype(np.float32)
    depth[rng.random(depth.shape) < holes] = 0
    pose = np.diag([1.0, -1.0, -1.0, 1.0])
    pose[2, 3] = distance_m
    K = np.array([[600.0, 0, 320], [0, 600.0, 240], [0, 0, 1]])
    return Frame(np.zeros((480, 640, 3), np.uint8), depth, K, pose)


@pytest.mark.parametrize(("distance_m", "scale"), [(0.45, 2.0), (0.3, 3.0), (0.7, 1.0), (1.2, 1.0), (2.4, 1.0)])
def test_only_what_is_nearer_than_training_is_shown_larger(distance_m: float, scale: float) -> None:
    assert NearConfig().scale(frame_from(distance_m, holes=0.4)) == pytest.approx(scale, rel=0.01)
    assert NearConfig(below_m=0.0).scale(frame_from(distance_m)) == 1.0
    assert NearConfig().scale(frame_from(distance_m, holes=1.0)) == 1.0


def test_a_view_of_another_scale_is_that_of_a_scene_as_much_larger() -> None:
    """Lengths grow, pixels and intrinsics stay; the picture that masks are refined with keeps the camera's metres."""
    frame = frame_from(0.5)
    larger = Frame(frame.rgb, frame.depth * np.float32(2.5), frame.K, frame.T_base_camera @ np.diag([1, 1, 1, 1.0]))
    larger.T_base_camera[2, 3] *= 2.5
    shown, wanted = View.of(frame, (512, 384), 0.0, 2.5), View.of(larger, (512, 384), 0.0)
    for name, value in wanted.inputs.items():
        np.testing.assert_allclose(shown.inputs[name], value, rtol=1e-6)
    np.testing.assert_array_equal(shown.images["depth"], View.of(frame, (512, 384), 0.0).images["depth"])
    assert all(part.scale == 2.5 for part in shown.corners(0.6))
