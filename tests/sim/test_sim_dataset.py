"""Data sets: same bytes from one or two workers, resumable, strict about what they find on disk."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from robin_perception.core.errors import Code, RobinError
from robin_perception.core.image_folder import IGNORE_LABEL, load_frame, load_labels, scene_folders
from robin_sim import scene_files
from robin_sim.dataset import load_dataset_config, make_dataset
from robin_sim.scenario import CountRange, load_scenario
from robin_sim.training_scenes import DatasetConfig, draw_pile, neighbours, pile_rng, thinned

TINY = DatasetConfig(
    image_sizes=((128, 96, 1.0),), views_per_pile=2, parcels_max=6, arrangements={"single_layer": 1.0}, sparse_share=0.0
)
ONE_VIEW = TINY.model_copy(update={"views_per_pile": 1})
FILES = ("color.png", "depth.png", "camera.json", "labels.png", "film.png", "scene.json")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_scenes_are_whole_consistent_and_read_back(tmp_path: Path) -> None:
    progress: list[tuple[int, int]] = []
    summary = make_dataset(tmp_path / "d", 3, 7, 1, TINY, lambda done, total: progress.append((done, total)))
    assert summary.made == 3 and progress[0] == (0, 3) and progress[-1] == (3, 3)
    assert load_dataset_config(tmp_path / "d") == (7, TINY)
    folders = scene_folders(tmp_path / "d")
    assert [f.name for f in folders] == ["000000", "000001", "000002"]
    for folder in folders:
        assert sorted(p.name for p in folder.iterdir()) == sorted(FILES)
        frame, labels = load_frame(folder).validated(), load_labels(folder)
        info = json.loads((folder / "scene.json").read_text())
        assert labels.shape == frame.depth.shape == (96, 128)
        ids = {int(i) for i in np.unique(labels)} - {0, IGNORE_LABEL}
        assert ids == {instance["id"] for instance in info["instances"]}
        assert all(instance["visible_fraction"] >= 0.1 for instance in info["instances"])
        assert {"seed", "arrangement", "strata", "container", "background", "index"} <= info.keys()


def test_scenes_of_a_scenarios_cell_are_seen_by_its_camera(tmp_path: Path) -> None:
    few = load_scenario("new_cell").config.model_copy(
        update={"belt_parcels": CountRange(least=3, most=4), "arrangements": {"single_layer": 1.0}}
    )
    config = DatasetConfig(scenario=few)
    make_dataset(tmp_path, 2, 7, 1, config)
    assert load_dataset_config(tmp_path) == (7, config)
    first, second = (load_frame(folder) for folder in scene_folders(tmp_path))
    assert np.array_equal(first.T_base_camera, second.T_base_camera) and first.rgb.shape == (480, 640, 3)
    assert all(load_labels(folder).any() for folder in scene_folders(tmp_path))
    before = contents(tmp_path / "000001")
    shutil.rmtree(tmp_path / "000001")
    assert make_dataset(tmp_path, 2, 7, 1, config).made == 1
    assert contents(tmp_path / "000001") == before, "a scene follows from seed and number alone"


@pytest.mark.slow
def test_two_workers_make_the_same_bytes_as_one_and_resume(tmp_path: Path) -> None:
    make_dataset(tmp_path / "one", 4, 3, 1, TINY)
    make_dataset(tmp_path / "two", 1, 3, 1, TINY)
    (tmp_path / "two" / ".000002.tmp").mkdir()
    summary = make_dataset(tmp_path / "two", 4, 3, 2, TINY)
    assert summary.made == 3
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert make_dataset(tmp_path / "two", 4, 3, 2, TINY).made == 0


def test_another_seed_is_refused(tmp_path: Path) -> None:
    make_dataset(tmp_path, 1, 3, 1, TINY)
    with pytest.raises(RobinError) as caught:
        make_dataset(tmp_path, 1, 4, 1, TINY)
    assert caught.value.code == Code.OPTION_INVALID and "dataset.json" in caught.value.text


@pytest.mark.parametrize(("scenes", "seed", "workers"), [(0, 1, 1), (1, -1, 1), (1, 1, 0)])
def test_bad_numbers_are_refused(tmp_path: Path, scenes: int, seed: int, workers: int) -> None:
    with pytest.raises(RobinError) as caught:
        make_dataset(tmp_path, scenes, seed, workers, TINY)
    assert caught.value.code == Code.OPTION_INVALID


def test_unwritable_folder_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RobinError) as caught:
        make_dataset(tmp_path / "file" / "out", 1, 1, 1, TINY)
    assert caught.value.code == Code.OPTION_INVALID and "file" in caught.value.text


def test_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = scene_files.save_frame

    def full(folder: Path, *args: object) -> None:
        write(folder, *args)  # type: ignore[arg-type]
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(scene_files, "save_frame", full)
    with pytest.raises(RobinError) as caught:
        make_dataset(tmp_path, 1, 1, 1, TINY)
    assert caught.value.code == Code.DISK_FULL
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dataset.json"]


def test_damaged_dataset_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(RobinError) as caught:
        make_dataset(tmp_path, 1, 1, 1, TINY)
    assert "dataset.json" in caught.value.text


def test_neighbours_tell_flush_from_stepped() -> None:
    labels = np.zeros((60, 512), dtype=np.uint16)
    labels[:, 100:200], labels[:, 201:300], labels[:, 300:400], labels[:, 450:] = 1, 2, 3, 4
    heights = np.zeros(labels.shape, dtype=np.float32)
    heights[labels == 1], heights[labels == 2], heights[labels == 3] = 0.200, 0.205, 0.150
    assert neighbours(labels, heights) == {1: {2: True}, 2: {1: True, 3: False}, 3: {2: False}}


def test_only_free_parcels_are_taken_off_a_pile() -> None:
    config = TINY.model_copy(update={"arrangements": {"stacked": 1.0}, "parcels_min": 6})
    pile = draw_pile(pile_rng(2, 0), config)
    fewer = thinned(pile, np.random.default_rng(0), 0.4)
    assert 0 < len(fewer.parcels) < len(pile.parcels) or len(pile.parcels) < 3
    kept = {id(p) for p in fewer.parcels}
    gone_tops = [pose[2, 3] for p, pose in zip(pile.parcels, pile.poses, strict=True) if id(p) not in kept]
    assert not gone_tops or max(gone_tops) >= np.median(pile.poses[:, 2, 3])


def test_an_interruption_while_a_scene_is_written_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(folder: Path, *_: object) -> None:
        folder.mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr("robin_sim.scene_files.save_frame", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_dataset(tmp_path / "set", 1, seed=1, workers=1)
    assert [entry.name for entry in (tmp_path / "set").iterdir()] == ["dataset.json"]


def garbled(path: Path) -> None:
    """One byte in the middle turned round: the size and the ends stay as they were."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


HARM: dict[str, Callable[[Path], object]] = {
    "an empty picture": lambda scene: (scene / "depth.png").write_bytes(b""),
    "an empty text": lambda scene: (scene / "scene.json").write_bytes(b""),
    "a text cut short": lambda scene: (scene / "camera.json").write_text('{"fx": '),
    "a picture cut short": lambda scene: os.truncate(scene / "labels.png", 60),
    "a picture with a wrong byte": lambda scene: garbled(scene / "color.png"),
    "a picture of zeros": lambda scene: (scene / "color.png").write_bytes(bytes(5000)),
    "a file that is missing": lambda scene: (scene / "labels.png").unlink(),
    "a pipe": lambda scene: ((scene / "depth.png").unlink(), os.mkfifo(scene / "depth.png")),
    "a folder without files": lambda scene: (shutil.rmtree(scene), scene.mkdir()),
}


def test_scenes_that_are_not_whole_are_made_again(tmp_path: Path) -> None:
    make_dataset(tmp_path, len(HARM) + 1, 5, 1, ONE_VIEW)
    before = contents(tmp_path)
    for index, harm in enumerate(HARM.values()):
        harm(tmp_path / f"{index:06d}")
    assert make_dataset(tmp_path, len(HARM) + 1, 5, 1, ONE_VIEW).made == len(HARM)
    assert contents(tmp_path) == before


def test_a_scene_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: set[str] = set()
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.add(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        real(descriptor)

    def rename(self: Path, target: Path) -> Path:
        assert set(FILES) | {self.name} <= synced
        return Path(os.rename(self, target) or target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", rename)
    make_dataset(tmp_path / "set", 1, 5, 1, ONE_VIEW)
    assert (tmp_path / "set/000000").is_dir() and "set" in synced


def test_scenes_of_another_maker_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "000000").mkdir()
    (tmp_path / "000000" / "color.png").write_bytes(b"mine")
    with pytest.raises(RobinError) as caught:
        make_dataset(tmp_path, 1, 5, 1, ONE_VIEW)
    assert caught.value.code == Code.OPTION_INVALID and "000000" in caught.value.text
    assert contents(tmp_path) == {"000000/color.png": b"mine"}
