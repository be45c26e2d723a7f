"""``robin adapt teach``: bad input is told in one line, before any scene is rendered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.cli_helpers import Robin
from helpers.training_scenes import write_toy_dataset

from edge_adapt.training.export import random_bundle
from robin_sim import dataset


@pytest.fixture
def robin(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Robin:
    def refuse(*_: object) -> None:
        raise AssertionError("known scenes are rendered for nothing")

    monkeypatch.setattr(dataset, "make_dataset", refuse)
    return Robin(capsys)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_bundle(tmp_path_factory.mktemp("model") / "random", 3).directory


def test_labels_that_are_damaged_are_named(robin: Robin, model: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "labels.json").write_text(json.dumps({"images": 3, "annotations": []}))
    done = robin("adapt", "teach", "--data", data, "--model", model, "--out", tmp_path / "out")
    assert done.status == 2 and done.error_line.startswith("error E721 ANNOTATION_INVALID")
    assert str(data / "labels.json") in done.error_line and "'images'" in done.error_line


def test_one_frame_is_too_little(robin: Robin, model: Path, tmp_path: Path) -> None:
    data = write_toy_dataset(tmp_path / "data", 1, boxes=3)
    done = robin("adapt", "teach", "--data", data, "--model", model, "--out", tmp_path / "out")
    assert done.status == 2 and done.error_line.startswith("error E722 TAUGHT_TOO_LITTLE")


def test_nothing_is_taught_into_a_folder_of_others(robin: Robin, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("mine")
    done = robin("adapt", "teach", "--data", tmp_path, "--model", model, "--out", out)
    assert done.status == 2 and done.error_line.startswith("error E405 ") and "thesis.tex" in done.error_line
    assert [path.name for path in out.iterdir()] == ["thesis.tex"]
