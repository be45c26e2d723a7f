"""Scenes of any cell: whole and repeatable, goods that do not run into each other, depth that is missing where it
should, planes that are told wrong, things beside parcels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from robin_grasp.tool import WorkspaceConfig
from robin_perception.core.config import parse_config
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.image_folder import IGNORE_LABEL, load_frame, load_labels, scene_folders
from robin_perception.core.scene import OTHER
from robin_sim.any_cell import scenes
from robin_sim.any_cell.config import DEPTH_CAMERAS, PLACES, AnyCellConfig
from robin_sim.any_cell.depth import measure
from robin_sim.any_cell.layouts import Goods, draw_layout, scaled
from robin_sim.any_cell.scenes import AnyScene, draw_any_scene, draw_goods_of_group
from robin_sim.any_cell.things import draw_thing
from robin_sim.backgrounds import Background, Surface, box, floor_quad
from robin_sim.cameras import CameraView, intrinsics, look_at
from robin_sim.dataset import make_dataset
from robin_sim.model import Material, Pile
from robin_sim.render import nominal_lighting, render
from robin_sim.training_scenes import DatasetConfig

SIZE = (128, 96)
NOTHING_MISSING = {
    "beyond_range_share": 0.0,
    "cropped_share": 0.0,
    "border_share": 0.0,
    "patches_share": 0.0,
    "plane_error_share": 0.0,
    "plane_elsewhere_share": 0.0,
    "depth_cameras": {"clean": 1.0},
}


def drawn(seed: int, **changes: object) -> tuple[AnyScene, Goods]:
    config = AnyCellConfig.model_validate({**NOTHING_MISSING, **changes})
    rng = np.random.default_rng(seed)
    kind, goods = draw_goods_of_group(rng, config)
    return draw_any_scene(rng, config, kind, goods, SIZE), goods


def heights_told(scene: AnyScene) -> NDArray[np.float32]:
    """Above the plane that the frame tells."""
    camera, pose = scene.camera, scene.frame.T_base_camera
    return CameraView(camera.width, camera.height, camera.K, pose).heights(scene.view.depth)


def test_a_data_set_of_any_cell_is_whole_and_follows_from_its_seed(tmp_path: Path) -> None:
    config = DatasetConfig(any_cell=AnyCellConfig(), image_sizes=((*SIZE, 1.0),), views_per_pile=2)
    make_dataset(tmp_path / "one", 4, 11, 1, config)
    make_dataset(tmp_path / "two", 4, 11, 1, config)
    assert json.loads((tmp_path / "one/dataset.json").read_text())["classes"][-1] == OTHER
    for folder, again in zip(scene_folders(tmp_path / "one"), scene_folders(tmp_path / "two"), strict=True):
        labels, info = load_labels(folder), json.loads((folder / "scene.json").read_text())
        load_frame(folder).validated()
        assert {int(i) for i in np.unique(labels)} - {0, IGNORE_LABEL} == {i["id"] for i in info["instances"]}
        assert {i["kind"] for i in info["instances"]} <= set(config.class_names)
        assert info["depth_camera"] in DEPTH_CAMERAS and info["background"] in PLACES
        assert all((folder / name).read_bytes() == (again / name).read_bytes() for name in ("color.png", "depth.png"))


@pytest.mark.parametrize("place", PLACES)
def test_every_place_shows_its_goods(place: str) -> None:
    seen = [drawn(seed, places={place: 1.0})[0] for seed in range(4)]
    assert sum(bool(scene.view.labels.any()) for scene in seen) >= 3
    assert all((scene.view.depth[scene.view.labels > 0] > 0.05).all() for scene in seen)


@pytest.mark.parametrize("layout", ["grid", "standing"])
def test_laid_goods_do_not_run_into_each_other(layout: str) -> None:
    for seed in range(6):
        goods = draw_layout(np.random.default_rng(seed), AnyCellConfig(things_share=0.5), layout, boxed=False)
        low, high = goods.boxes_m
        assert low[:, 2].min() > -1e-6, "nothing lies below what carries it"
        if layout == "grid":  # turned by whole quarters, so that their boxes tell
            inside = np.minimum(high[:, None], high) - np.maximum(low[:, None], low)
            apart = (inside < 0.004).any(axis=2)
            assert (apart | np.eye(len(low), dtype=bool)).all()


def test_scaled_goods_keep_their_places_and_sizes_within_the_range() -> None:
    config = AnyCellConfig()
    goods = draw_layout(np.random.default_rng(3), config, "grid", boxed=False)
    twice = scaled(goods, 2.0)
    assert np.allclose(twice.extent_m, 2 * goods.extent_m)
    assert twice.parcels[0].material is goods.parcels[0].material, "copies of a design stay copies"
    for seed in range(8):
        scene, _ = drawn(seed, goods_m=(0.05, 0.2))
        longest = np.median([max(parcel.size_m) for parcel in scene.pile.parcels])
        assert longest < 0.2001


def test_a_frame_that_no_door_takes_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    measured, empty = [], [True, True, False]

    def blind_at_first(*args: Any) -> NDArray[np.float32]:
        measured.append(measure(*args))
        return measured[-1] * np.float32(0.0 if empty[len(measured) - 1] else 1.0)

    monkeypatch.setattr(scenes, "measure", blind_at_first)
    scene, _ = drawn(1)
    assert len(measured) == 3 and (scene.frame.depth > 0).any()


def test_depth_that_is_cropped_keeps_the_goods_and_loses_the_room() -> None:
    whole, cropped = (drawn(5, places={"table": 1.0}, cropped_share=share)[0] for share in (0.0, 1.0))
    goods = cropped.view.labels > 0
    assert (cropped.frame.depth > 0).mean() < 0.9 * (whole.frame.depth > 0).mean()
    assert (cropped.frame.depth[goods] > 0).mean() > 0.7


def test_patches_without_depth_leave_the_goods_alone() -> None:
    lost = 0.0
    for seed in range(4):
        whole, patched = (drawn(seed, patches_share=share, places={"table": 1.0})[0] for share in (0.0, 1.0))
        goods = whole.view.labels > 0
        assert (patched.frame.depth[goods] > 0).sum() > 0.9 * (whole.frame.depth[goods] > 0).sum()
        lost += float((whole.frame.depth > 0).mean() - (patched.frame.depth > 0).mean())
    assert lost > 0.1


def test_the_plane_is_told_as_it_is_unless_it_is_told_wrong() -> None:
    right, _ = drawn(9, places={"table": 1.0})
    assert np.array_equal(right.frame.T_base_camera, right.camera.T_base_camera)
    wrong, _ = drawn(9, places={"table": 1.0}, layouts={"grid": 1.0}, plane_elsewhere_share=1.0)
    tops = wrong.pile.poses[:, 2, 3].max()
    lowered = wrong.camera.T_base_camera[2, 3] - wrong.frame.T_base_camera[2, 3]
    assert 0.3 * tops < lowered < 2.1 * tops
    tilted, _ = drawn(9, places={"table": 1.0}, plane_error_share=1.0, plane_error_rad=0.1)
    difference = np.abs(heights_told(tilted) - tilted.camera.heights(tilted.view.depth))
    assert difference.max() > 0.005
    shelf, _ = drawn(4, places={"shelf": 1.0}, plane_elsewhere_share=1.0)
    up = shelf.frame.T_base_camera[2, :3] @ shelf.camera.T_base_camera[:3, :3].T
    assert np.allclose(up, [1.0, 0.0, 0.0], atol=1e-6), "the back wall of a shelf faces +x"


def test_things_are_of_their_class_and_closed_meshes() -> None:
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(60):
        thing = draw_thing(rng)
        seen.add(thing.variant)
        assert thing.kind_name == OTHER and thing.mass_kg > 0
        assert np.allclose(np.ptp(thing.mesh.vertices, axis=0), thing.size_m, atol=1e-6)
        assert thing.mesh.triangles.max() < len(thing.mesh.vertices) and np.isfinite(thing.mesh.uv).all()
    assert len(seen) == 8


def test_clear_and_black_bags_are_never_drawn() -> None:
    variants = set()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        goods = draw_layout(rng, AnyCellConfig(frosted_share=1.0, things_share=0.0), "pile", boxed=False)
        variants |= {(p.kind_name, p.variant) for p in goods.parcels}
        assert all(p.material.transmission <= 0.4 for p in goods.parcels)
    assert {("poly_bag", "clear"), ("poly_bag", "black")}.isdisjoint(variants) and len(variants) > 5


def test_a_polished_floor_shows_what_stands_on_it_and_keeps_its_own_depth() -> None:
    red = Material(np.full((4, 4, 3), (230, 20, 20), dtype=np.uint8), 0.9, 0.0)
    centre = WorkspaceConfig().centre_m[0]
    wall = Surface(box((centre - 0.32, -0.4, 0.0), (centre - 0.3, 0.4, 0.4)), red)
    camera = CameraView(*SIZE, intrinsics(*SIZE, 0.8), look_at(np.array([centre, 0, 0]), 1.0, 1.0, 0.0, np.pi / 2))
    views = []
    for mirror in (0.0, 0.6):
        grey = Material(np.full((4, 4, 3), 120, dtype=np.uint8), 0.5, 0.0, mirror=mirror)
        floor = Surface(floor_quad(centre - 1, centre + 1, -1, 1, 0.0), grey)
        pile = Pile((), np.zeros((0, 4, 4)), WorkspaceConfig())
        views.append(render(pile, camera, nominal_lighting(), Background((floor, wall), "test")))
    dull, polished = (view.rgb[56:64, 54:74].astype(float).mean(axis=(0, 1)) for view in views)
    assert polished[0] - polished[1] > dull[0] - dull[1] + 15, "the red wall stands in the floor"
    assert np.array_equal(views[0].depth, views[1].depth)


@pytest.mark.parametrize("kind", DEPTH_CAMERAS)
def test_every_depth_camera_is_right_to_a_few_millimetres_on_a_matt_floor(kind: str) -> None:
    grey = Material(np.full((4, 4, 3), 150, dtype=np.uint8), 0.95, 0.0)
    floor = Surface(floor_quad(-1, 3, -2, 2, 0.0), grey)
    camera = CameraView(*SIZE, intrinsics(*SIZE, 0.9), look_at(np.array([0.75, 0, 0]), 0.8, 0.1, 0.0, 0.0))
    pile = Pile((), np.zeros((0, 4, 4)), WorkspaceConfig())
    view = render(pile, camera, nominal_lighting(), Background((floor,), "test"))
    for seed in range(3):
        depth = measure(view, camera, np.random.default_rng(seed), kind, 0.8)
        valid = depth > 0
        error = np.abs(depth - view.depth)[valid]
        assert valid.mean() > 0.7 and np.median(error) < {"clean": 0.0006}.get(kind, 0.008)


def test_unknown_names_and_falling_ranges_are_refused() -> None:
    for values in ({"places": {"moon": 1.0}}, {"goods_m": [0.5, 0.1]}, {"layouts": {"grid": 0.0}}):
        with pytest.raises(RobinError) as caught:
            parse_config(DatasetConfig, {"any_cell": values}, "scenes.yaml")
        assert caught.value.code in (Code.CONFIG_OUT_OF_RANGE, Code.CONFIG_UNREADABLE)
