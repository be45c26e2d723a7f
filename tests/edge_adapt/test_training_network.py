"""Preprocessing on analytic planes, mask kernels, losses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.training_scenes import write_toy_scene

from edge_adapt.training.data import IGNORE, read_scene
from edge_adapt.training.geometry import Preprocess
from edge_adapt.training.head import KERNEL_SIZE, MASK_FEATURES, expand_kernels, grid_coordinates, mask_planes
from edge_adapt.training.losses import Criterion, LossConfig, edge_map, focal_loss
from edge_adapt.training.network import SMALL_NETWORK, NetworkConfig, SegmentationNetwork, parameter_count
from edge_adapt.training.targets import collate


def _plane_depth(plane: torch.Tensor, intrinsics: torch.Tensor, height_m: float) -> torch.Tensor:
    """Depth image [1,384,512] of the surface at ``height_m`` above the belt plane."""
    v, u = torch.meshgrid(torch.arange(384.0), torch.arange(512.0), indexing="ij")
    rays = torch.stack(((u - intrinsics[2]) / intrinsics[0], (v - intrinsics[3]) / intrinsics[1], torch.ones_like(u)))
    slope = (plane[:3, None, None] * rays).sum(0)
    return ((height_m - plane[3]) / slope)[None]


def test_a_surface_parallel_to_a_tilted_belt_has_its_height_and_an_upright_normal() -> None:
    normal = torch.tensor([0.2, -0.15, -1.0])
    plane = torch.cat((normal / normal.norm(), torch.tensor([1.1])))
    intrinsics = torch.tensor([420.0, 415.0, 250.0, 197.0])
    depth = _plane_depth(plane, intrinsics, 0.1)
    depth[:, 100:140, 200:240] = 0
    geometry = Preprocess().geometry(depth[None], intrinsics[None], plane[None])[0]
    valid = geometry[4] > 0
    assert torch.allclose(geometry[0][valid], torch.tensor(0.5), atol=2e-3)
    assert torch.allclose(geometry[3][geometry[5] > 0], torch.tensor(1.0), atol=5e-3)
    hole = geometry[:, 52:68, 102:118]
    assert torch.equal(hole, torch.zeros_like(hole))


def test_a_slope_has_its_normal_in_the_belt_frame() -> None:
    belt = torch.tensor([0.0, 0.0, -1.0, 1.2])
    tilted = torch.tensor([np.sin(0.3), 0.0, -np.cos(0.3), 1.1], dtype=torch.float32)
    intrinsics = torch.tensor([400.0, 400.0, 255.5, 191.5])
    geometry = Preprocess().geometry(_plane_depth(tilted, intrinsics, 0.0)[None], intrinsics[None], belt[None])[0]
    middle = geometry[1:4, 96, 128]
    assert torch.allclose(middle, torch.tensor([np.sin(0.3), 0.0, np.cos(0.3)], dtype=torch.float32), atol=2e-3)


def test_the_network_is_small() -> None:
    assert parameter_count(SegmentationNetwork(NetworkConfig())) < 5_000_000


def test_expanded_kernels_are_the_form_about_the_peak() -> None:
    torch.manual_seed(3)
    raw = torch.randn(5, KERNEL_SIZE)
    peaks = torch.rand(5, 2) * 2 - 1
    grid = grid_coordinates(4)[:, ::997]
    features, offset = torch.randn(MASK_FEATURES, grid.shape[1]), torch.randn(2, grid.shape[1]) * 0.2
    product = expand_kernels(raw, peaks) @ mask_planes(features, offset, grid)
    dx, dy = grid[0] - peaks[:, 0:1], grid[1] - peaks[:, 1:2]
    a = raw[:, MASK_FEATURES:]
    vote = grid + offset
    centre = peaks + a[:, 6:8]
    distance = (vote[None] - centre[:, :, None]).square().sum(1)
    quadratic = 10 * (a[:, 3:4] * dx * dx + a[:, 4:5] * dx * dy + a[:, 5:6] * dy * dy)
    direct = raw[:, :MASK_FEATURES] @ features + a[:, 0:1] + a[:, 1:2] * dx + a[:, 2:3] * dy + quadratic
    direct = direct - 30 * torch.exp(a[:, 8:9].clamp(-3, 3)) * distance
    assert torch.allclose(product, direct, rtol=1e-3, atol=2e-2)


def test_focal_loss_prefers_the_right_peak_and_skips_ignored_cells() -> None:
    target = torch.zeros(1, 8, 8)
    target[0, 3, 4] = 1
    target[0, 0, 0] = -1
    good = torch.full((1, 8, 8), -6.0)
    good[0, 3, 4] = 6
    loud = good.clone()
    loud[0, 0, 0] = 9
    assert focal_loss(good, target) < 0.01
    assert focal_loss(loud, target) == pytest.approx(float(focal_loss(good, target)))
    assert focal_loss(-good, target) > 1


def test_edges_lie_where_labels_change_and_are_unknown_near_ignore() -> None:
    labels = torch.zeros(1, 192, 256, dtype=torch.uint8)
    labels[:, 40:80, 40:80] = 3
    labels[:, 120:160, 120:160] = IGNORE
    edges, known = edge_map(labels)
    assert edges[0, 0, 20, 20] == 1 and edges[0, 0, 30, 30] == 0 and edges[0, 0, 5, 5] == 0
    assert known[0, 0, 70, 70] == 0 and known[0, 0, 30, 30] == 1


def test_every_loss_term_reaches_the_head_and_the_trunk(tmp_path: Path) -> None:
    write_toy_scene(tmp_path / "scene", np.random.default_rng(2), boxes=6)
    batch = collate([read_scene(tmp_path / "scene")], 10, np.random.default_rng(0))
    torch.manual_seed(0)
    network = SegmentationNetwork(SMALL_NETWORK)
    outputs = network(batch.rgb, batch.depth, batch.intrinsics, batch.belt_plane)
    loss, terms = Criterion(LossConfig())(network.head, outputs, batch)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(sum(terms.values()), rel=1e-4)
    silent = [name for name, p in network.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert silent == []
