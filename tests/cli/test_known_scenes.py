"""Known scenes of this machine: what is needed first is there first, the rest comes meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from robin_cli.known_scenes import KnownScenes
from robin_perception.core.image_folder import scene_folders


def test_scenes_for_later_are_rendered_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBIN_ENGINE_CACHE", str(tmp_path / "engines"))
    scenes = KnownScenes(None, 1)
    out = scenes(1, 3)
    assert len(scene_folders(out)) == 1, "no more than is needed is waited for"
    ahead = scenes._ahead
    assert ahead is not None
    ahead.join(600)
    assert len(scene_folders(out)) == 3 and ahead.exitcode == 0, "the others were made by the time they are asked for"
    first = [folder.stat().st_mtime_ns for folder in scene_folders(out)]
    assert scenes(3, 3) == out and scenes._ahead is None
    assert [folder.stat().st_mtime_ns for folder in scene_folders(out)] == first, "and are kept"


def test_what_is_made_meanwhile_is_ended_and_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBIN_ENGINE_CACHE", str(tmp_path / "engines"))
    scenes = KnownScenes(None, 1)
    out = scenes(1, 200)
    ahead = scenes._ahead
    assert ahead is not None and ahead.is_alive()
    assert len(scene_folders(scenes(2, 2))) >= 2 and not ahead.is_alive(), "two never write at a time"
    scenes.close()
    assert all((folder / "scene.json").exists() for folder in scene_folders(out)), "none is left half"


def test_a_data_set_of_ones_own_is_taken_as_it_is(tmp_path: Path) -> None:
    assert KnownScenes(tmp_path, 2)(5, 9) == tmp_path and not any(tmp_path.iterdir())
