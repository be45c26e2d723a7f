"""``robin station`` and ``robin doctor --station``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.cli_helpers import Robin, colours
from helpers.station_frames import HEALTHY, Spoilt, station_frame

from edge_adapt.models.registry import ModelRegistry
from robin_perception.core.image_folder import save_frame


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colours(tmp_path_factory.mktemp("models") / "colours")


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _folders(tmp_path_factory.mktemp("healthy"), 30, HEALTHY)


@pytest.fixture
def robin(capsys: pytest.CaptureFixture[str]) -> Robin:
    return Robin(capsys)


def _folders(folder: Path, count: int, spoilt: Spoilt) -> Path:
    for i in range(count):
        frame, scene = station_frame(i, spoilt)
        frame.rgb[..., 0] = 10 * scene.labels  # what the bundle of ``colours`` reads
        save_frame(folder / f"{i:03d}", frame)
    return folder


@pytest.fixture(scope="module")
def baseline(healthy: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from robin_cli.main import main

    out = tmp_path_factory.mktemp("baseline") / "cell.baseline"
    assert main(["station", "baseline", "--frames", str(healthy), "--out", str(out), "--model", str(model)]) == 0
    return out


def test_a_baseline_is_taken_and_shown(robin: Robin, baseline: Path, tmp_path: Path) -> None:
    done = robin("station", "show", baseline, "--json", tmp_path / "a.json")
    assert done.status == 0 and "camera_moved" in done.out and "30 frames, 640x480" in done.out
    read = json.loads((tmp_path / "a.json").read_text())
    assert read["camera_id"] == "camera_color_optical_frame" and read["usual"]["dark"]["location"] < 0.1


def test_the_doctor_finds_a_station_as_it_was(robin: Robin, baseline: Path, model: Path, tmp_path: Path) -> None:
    frames = _folders(tmp_path / "frames", 5, HEALTHY)
    done = robin("doctor", "--station", frames, "--baseline", baseline, "--model", model)
    assert done.status == 0 and "ALARM" not in done.out and "adaptation: the factory's model (" in done.out


def test_the_doctor_tells_which_version_runs(
    robin: Robin, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROBIN_MODELS", str(tmp_path / "learned"))
    registry = ModelRegistry(tmp_path / "learned", model)
    registry.activate(registry.add(model, "a test", ""), "a test", "sees clear bags")
    done = robin(
        "doctor", "--station", _folders(tmp_path / "frames", 5, HEALTHY), "--model", model, "--json", tmp_path / "f"
    )
    assert "adaptation: version 1 (" in done.out and "sees clear bags" in done.out
    told = json.loads((tmp_path / "f").read_text())["adaptation"]
    assert (told["version"], told["why"], told["problem"]) == (1, "sees clear bags", None)


def test_the_doctor_tells_a_moved_camera(robin: Robin, baseline: Path, model: Path, tmp_path: Path) -> None:
    frames = _folders(tmp_path / "frames", 5, Spoilt(moved_px=9.0))
    found = tmp_path / "found.json"
    done = robin("doctor", "--station", frames, "--baseline", baseline, "--model", model, "--json", found)
    assert done.status == 1 and "E146 camera_moved, from frame 3 on" in done.out
    assert json.loads(found.read_text())["alarms"]["camera_moved"]["effect"] == "stop"


def test_the_doctor_works_on_defaults_without_a_baseline(robin: Robin, model: Path, tmp_path: Path) -> None:
    done = robin("doctor", "--station", _folders(tmp_path / "frames", 5, Spoilt(blur_px=3.0)), "--model", model)
    assert done.status == 1 and "stated defaults" in done.out and "blur" in done.out


def test_too_few_frames_make_no_baseline(robin: Robin, model: Path, tmp_path: Path) -> None:
    frames = _folders(tmp_path / "frames", 3, HEALTHY)
    done = robin("station", "baseline", "--frames", frames, "--out", tmp_path / "b", "--model", model)
    assert done.status == 2 and "E153 BASELINE_TOO_SHORT" in done.error_line and not (tmp_path / "b").exists()


def test_what_does_not_go_together_is_refused(robin: Robin, baseline: Path, tmp_path: Path) -> None:
    assert "E405" in robin("station", "baseline", "--out", tmp_path / "b").error_line
    assert "E405" in robin("doctor", "--baseline", baseline).error_line
    (tmp_path / "notes").write_text("bread, milk")
    (tmp_path / "damaged").write_bytes(baseline.read_bytes()[:-5])
    done = robin("station", "show", tmp_path / "damaged")
    assert done.status == 2 and "E151 BASELINE_DAMAGED" in done.error_line
    done = robin("station", "baseline", "--scenario", "belt", "--out", tmp_path / "notes")
    assert "E405" in done.error_line and (tmp_path / "notes").read_text() == "bread, milk"
    done = robin("doctor", "--station", tmp_path / "none", "--baseline", tmp_path / "nothing")
    assert "E101" in done.error_line


def test_monitors_are_evaluated_on_no_station_at_all(robin: Robin, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "health.json"
    done = robin("eval", "health", "--piles", 0, "--healthy-frames", 0, "--model", model, "--json", out)
    assert done.status == 0 and "0 false alarms in 0 frames" in done.out
    assert json.loads(out.read_text())["faults"] == {}
