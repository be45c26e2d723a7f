"""Packed data sets, augmentation and targets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.training_scenes import CAMERA_HEIGHT_M, write_toy_dataset, write_toy_scene
from numpy.typing import NDArray

from edge_adapt.training.augment import AugmentConfig, augment, flip, zoom
from edge_adapt.training.data import IGNORE, PackedDataset, TrainingScene, read_scene
from edge_adapt.training.targets import collate, inner_centre, scene_targets
from robin_perception.core.errors import Code, RobinError


def _heights(scene: TrainingScene) -> NDArray[np.float64]:
    """Height above the belt of every pixel, by the textbook."""
    fx, fy, cx, cy = scene.intrinsics.astype(np.float64)
    rows, columns = np.mgrid[: scene.depth.shape[0], : scene.depth.shape[1]]
    points = np.stack([(columns - cx) / fx * scene.depth, (rows - cy) / fy * scene.depth, scene.depth], axis=-1)
    return np.asarray(points @ scene.belt_plane[:3] + scene.belt_plane[3])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_dataset(tmp_path_factory.mktemp("toy") / "data", 3)


def _equal(a: TrainingScene, b: TrainingScene) -> bool:
    return (
        np.array_equal(a.rgb, b.rgb)
        and np.array_equal(a.labels, b.labels)
        and np.allclose(a.depth, b.depth, atol=1e-6)
        and np.allclose(a.film, b.film, atol=1e-6)
        and np.allclose(a.intrinsics, b.intrinsics, rtol=1e-5)
        and np.allclose(a.belt_plane, b.belt_plane, atol=1e-6)
        and [i.id for i in a.instances] == [i.id for i in b.instances]
    )


def test_packed_scenes_are_those_of_the_folders(dataset: Path) -> None:
    packed = PackedDataset(dataset)
    assert list(packed.pack()) == [1, 2, 3]
    assert packed.refresh() == 3
    for position in range(3):
        assert _equal(packed.scene(position), read_scene(dataset / f"{position:06d}"))


def test_a_set_packed_without_film_is_packed_anew(dataset: Path) -> None:
    for _ in PackedDataset(dataset).pack():
        continue
    (dataset / "packed" / "film.bin").unlink()
    packed = PackedDataset(dataset)
    assert len(packed) == 0
    assert list(packed.pack()) == [1, 2, 3] and packed.refresh() == 3


def test_packing_goes_on_after_a_broken_run_and_takes_new_scenes(tmp_path: Path) -> None:
    data = write_toy_dataset(tmp_path / "data", 2)
    list(PackedDataset(data).pack(limit=1))
    with (data / "packed" / "rgb.bin").open("ab") as file:
        file.write(b"half a scene")
    with (data / "packed" / "index.jsonl").open("a") as index:
        index.write('{"name": "0000')
    write_toy_scene(data / "000002", np.random.default_rng(5))
    (data / ".000003.tmp").mkdir()
    packed = PackedDataset(data)
    assert list(packed.pack()) == [1, 2]
    assert packed.refresh() == 3
    assert _equal(packed.scene(2), read_scene(data / "000002"))


def test_other_sizes_are_letterboxed_with_their_intrinsics(tmp_path: Path) -> None:
    write_toy_scene(tmp_path / "scene", np.random.default_rng(1), scale=1.5)
    scene = read_scene(tmp_path / "scene")
    assert scene.rgb.shape == (384, 512, 3)
    on_belt = (scene.labels == 0) & (scene.depth > 0)
    assert np.abs(_heights(scene)[on_belt]).max() < 2e-3
    assert abs(scene.intrinsics[2] - 255.5) < 1e-3


def test_a_damaged_folder_is_named(tmp_path: Path) -> None:
    write_toy_scene(tmp_path / "000000", np.random.default_rng(1))
    (tmp_path / "000000" / "depth.png").write_bytes(b"no image")
    with pytest.raises(RobinError, match=r"depth\.png") as caught:
        read_scene(tmp_path / "000000")
    assert caught.value.code == Code.INPUT_UNREADABLE
    with pytest.raises(RobinError, match="no such dataset"):
        list(PackedDataset(tmp_path / "nowhere").pack())


@pytest.mark.parametrize("axis", [0, 1])
def test_a_flip_mirrors_the_heights(dataset: Path, axis: int) -> None:
    scene = read_scene(dataset / "000000")
    assert np.allclose(_heights(flip(scene, axis)), np.flip(_heights(scene), axis), atol=1e-5)
    assert _equal(flip(flip(scene, axis), axis), scene)


@pytest.mark.parametrize("factor", [0.75, 1.4])
def test_zoom_keeps_heights_and_lowers_the_visible_fraction_of_cut_parcels(dataset: Path, factor: float) -> None:
    scene = read_scene(dataset / "000000")
    zoomed = zoom(scene, factor, (200.0, 150.0))
    belt = (zoomed.labels == 0) & (zoomed.depth > 0)
    assert np.abs(_heights(zoomed)[belt]).max() < 2e-3
    for before, after in zip(scene.instances, zoomed.instances, strict=True):
        assert after.visible_fraction <= before.visible_fraction + 1e-9


def test_augmentation_is_a_function_of_the_generator(dataset: Path) -> None:
    scene = read_scene(dataset / "000001")
    config = AugmentConfig(zoom=1, blur=1, noise=1, depth_holes=1)
    first, second = (augment(scene, config, np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(first.rgb, second.rgb) and np.array_equal(first.depth, second.depth)
    assert not np.array_equal(first.rgb, scene.rgb)


def test_the_centre_of_a_ring_lies_on_it() -> None:
    rows, columns = np.mgrid[:61, :61]
    radius = np.hypot(rows - 30, columns - 30)
    ring = ((radius < 30) & (radius > 15)).astype(np.uint8)
    x, y = inner_centre(ring)
    assert ring[round(y), round(x)]


def test_targets_mark_every_centre_and_leave_ignored_pixels_out(dataset: Path) -> None:
    scene = read_scene(dataset / "000002")
    labels = scene.labels.copy()
    victim = next(i.id for i in scene.instances if np.count_nonzero(labels == i.id) > 2000)
    labels[labels == victim] = IGNORE
    changed = replace(scene, labels=labels)
    targets = scene_targets(changed)
    assert victim not in {parcel.id for parcel in targets.parcels}
    assert (targets.heat == 1).sum() == len(targets.parcels)
    assert (targets.heat < 0).sum() > 10
    for parcel in targets.parcels:
        x, y = parcel.centre_px
        assert targets.labels[int(y // 2), int(x // 2)] == parcel.id
    batch = collate([changed], 4, np.random.default_rng(0))
    assert len(batch.cell) == min(4, len(targets.parcels))
    assert pytest.approx(float(batch.belt_plane[0, 3])) == CAMERA_HEIGHT_M


def test_an_index_that_runs_ahead_of_its_data_is_not_believed(tmp_path: Path) -> None:
    """What a power cut may leave: lines on the disk, and not all of what they speak of."""
    data = write_toy_dataset(tmp_path / "data", 3)
    list(PackedDataset(data).pack())
    with (data / "packed/depth.bin").open("ab") as file:
        file.truncate((data / "packed/depth.bin").stat().st_size - 1)
    packed = PackedDataset(data)
    assert len(packed) == 2 and list(packed.pack()) == [1] and packed.refresh() == 3
    assert all(_equal(packed.scene(i), read_scene(data / f"{i:06d}")) for i in range(3))


def test_two_trainings_never_pack_the_same_scenes_at_once(tmp_path: Path) -> None:
    data = write_toy_dataset(tmp_path / "data", 2)
    first = PackedDataset(data).pack()
    assert next(first) == 1
    with pytest.raises(RobinError) as caught:
        list(PackedDataset(data).pack())
    assert caught.value.code == Code.OPTION_INVALID and "another process" in caught.value.text
    assert list(first) == [2]
    assert list(PackedDataset(data).pack()) == []


def test_a_scene_that_cannot_be_read_keeps_those_before_it(tmp_path: Path) -> None:
    data = write_toy_dataset(tmp_path / "data", 3)
    (data / "000002/color.png").write_bytes(b"no picture")
    with pytest.raises(RobinError):
        list(PackedDataset(data).pack())
    assert len(PackedDataset(data)) == 2
