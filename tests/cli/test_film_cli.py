"""robin film train puts a film network into a bundle; robin eval film compares it with the truth."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.training_scenes import write_toy_dataset

from edge_adapt.training.export import random_bundle
from robin_cli.main import main
from robin_perception.core.image_folder import load_labels, save_film
from robin_perception.model.bundle import FILM_FILE, load_bundle
from robin_perception.segmentation.segmenter import load_segmenter


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = write_toy_dataset(tmp_path / "data", 2, boxes=4)
    for scene in (folder / "000000", folder / "000001"):
        depth = cv2.imread(str(scene / "depth.png"), cv2.IMREAD_UNCHANGED) * np.float32(0.001)
        save_film(scene, np.where(load_labels(scene) == 1, depth - np.float32(0.03), np.float32(0)))
    return folder


def test_a_film_network_is_trained_into_a_bundle_and_evaluated(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = random_bundle(tmp_path / "m", 2)
    arguments = ["--data", str(data), "--model", str(tmp_path / "m"), "--json", str(tmp_path / "found.json")]
    trained = main(["film", "train", *arguments, "--out", str(tmp_path / "out"), "--steps", "2"])
    assert trained == 0 and FILM_FILE in capsys.readouterr().out
    after = load_bundle(tmp_path / "m")
    assert FILM_FILE in after.manifest.files and after.model_id == before.model_id
    assert load_segmenter(tmp_path / "m", "onnxruntime").film is not None
    assert json.loads((tmp_path / "found.json").read_text())["steps"] == 2
    pictures = tmp_path / "pictures"
    assert main(["eval", "film", *arguments, "--engine", "onnxruntime", "--pictures", str(pictures)]) == 0
    drawn = [cv2.imread(str(path)).shape for path in sorted(pictures.iterdir())]
    assert drawn == [(384, 3 * 512, 3)] * 2
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["scenes"] == 2 and set(found["faces"]) == {"seen", "film"}
    assert "wrongly on" in capsys.readouterr().out


def test_a_data_set_without_film_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random_bundle(tmp_path / "m", 2)
    bare = write_toy_dataset(tmp_path / "bare", 1)
    assert main(["eval", "film", "--data", str(bare), "--model", str(tmp_path / "m")]) != 0
    assert "no scene with a film.png" in capsys.readouterr().err
