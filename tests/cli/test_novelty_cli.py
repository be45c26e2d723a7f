"""``robin novelty`` and ``robin eval novelty``: what they answer, and the line where they cannot."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.novelty_samples import frame_with, scene_of

from robin_cli.main import main
from robin_perception.core.image_folder import save_frame
from robin_perception.engines.testing.tiny_bundle import tiny_bundle
from robin_perception.novelty.watch import NoveltyWatch, WatchConfig, sightings


def test_looks_are_listed_with_their_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    watch = NoveltyWatch(WatchConfig(folder=tmp_path / "goods"))
    for hour in range(3):
        stamp_s = 3600.0 * hour
        frame = frame_with((200, 30, 40), (120, 120, 120), stamp_s=stamp_s)
        watch.count(sightings(frame, scene_of(1, 2.0, stamp_s=stamp_s)), stamp_s)
    assert main(["novelty", "list", str(tmp_path / "goods"), "--json", str(tmp_path / "looks.json")]) == 0
    (look,) = json.loads((tmp_path / "looks.json").read_text())["looks"]
    assert (look["name"], look["count"]) == ("novel-01", 3)
    assert all(Path(picture).is_file() for picture in look["pictures"])
    assert "novel-01" in capsys.readouterr().out


def test_a_folder_without_looks_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["novelty", "list", str(tmp_path)]) == 2
    assert "E101" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["novelty", "calibrate", "--data", "D", "--out", "O"], ["eval", "novelty"]])
def test_a_bundle_without_statistics_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    tiny_bundle(tmp_path / "m")
    given = [str(tmp_path / part) if part in ("D", "O") else part for part in command]
    assert main([*given, "--model", str(tmp_path / "m"), "--engine", "onnxruntime"]) != 0
    assert "E161" in capsys.readouterr().err
    assert not (tmp_path / "O").exists()


def test_frames_that_show_too_little_give_no_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = frame_with((180, 140, 100), (150, 110, 80))
    (tmp_path / "frames").mkdir()
    save_frame(tmp_path / "frames/one", frame)
    out = tmp_path / "limit.json"
    assert main(["novelty", "calibrate", "--data", str(tmp_path / "frames"), "--out", str(out)]) != 0
    assert "E165" in capsys.readouterr().err
    assert not out.exists()


def test_the_shipped_bundle_measures_what_it_sees_well() -> None:
    from robin_cli.options import model_path
    from robin_perception.segmentation.segmenter import load_segmenter

    segmenter = load_segmenter(model_path(None), "onnxruntime")
    assert segmenter.novelty_off is None
    scene = segmenter.segment(frame_with((180, 140, 100), (150, 110, 80)))
    assert scene.timings_ms["novelty"] >= 0
    assert all(np.isnan(one.novelty) or one.novelty >= 0 for one in scene.instances)
