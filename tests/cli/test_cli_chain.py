"""The long ways through the command line: from scenes to a calibrated bundle; a short closed loop with its report."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from helpers.cli_helpers import Robin, colours

pytestmark = pytest.mark.slow


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder whose name is no text in any encoding that libraries expect, as an old disk may have it."""
    folder = tmp_path / os.fsdecode(b"set\xe9")
    folder.mkdir()
    return folder


@pytest.fixture
def robin(capsys: pytest.CaptureFixture[str]) -> Robin:
    return Robin(capsys)


@pytest.fixture
def scenes(robin: Robin, place: Path) -> Path:
    config = place / "scenes.yaml"
    config.write_text("parcels_min: 5\nparcels_max: 8\n")
    out = place / "scenes"
    done = robin("dataset", "make", "--scenes", 3, "--out", out, "--workers", 1, "--seed", 5, "--config", config)
    assert done.status == 0, done.err
    return out


def test_from_scenes_to_a_calibrated_bundle(robin: Robin, scenes: Path, place: Path) -> None:
    settings = place / "train.yaml"
    settings.write_text("validation_scenes: 1\nthreads: 1\n")
    training = ("--data", scenes, "--validation", scenes, "--out", place / "run", "--config", settings)
    done = robin("train", *training, "--steps", 2, "--batch", 1, "--json", place / "train.json")
    assert done.status == 0, done.err
    trained = json.loads((place / "train.json").read_text())
    assert trained["steps"] == 2 and trained["finished"]

    bundle = place / "models/tiny"
    done = robin("export", "--checkpoint", trained["checkpoint"], "--out", bundle, "--name", "tiny")
    assert done.status == 0, done.err
    provenance = json.loads((bundle / "manifest.json").read_text())["provenance"]
    assert provenance["scenes"] == 3 and provenance["steps"] == 2
    assert {"poly_bag/black", "poly_bag/clear"} <= set(provenance["excluded"])

    done = robin("calibrate", "--data", scenes, "--model", bundle, "--detection", 0.3)
    assert done.status == 0, done.err
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["calibration"]["fitted_on"].startswith("scenes")
    assert manifest["thresholds"]["detection"] == 0.3

    result = place / "seg.json"
    done = robin("eval", "seg", "--data", scenes, "--model", bundle, "--record", "here", "--json", result)
    assert done.status == 0, done.err
    keys = {"scenes", "ap50", "ap75", "overlap_f", "boundary_f", "merge_rate", "split_rate", "strata"}
    assert keys <= json.loads(result.read_text()).keys()
    assert json.loads((bundle / "manifest.json").read_text())["scores"]["here"]["scenes"] == 3
    assert robin("plan", "--folder", scenes / "000000", "--model", bundle, "--out", place / "plan").status == 0


def test_the_classical_baseline_is_evaluated_the_same_way(robin: Robin, scenes: Path) -> None:
    done = robin("eval", "seg", "--data", scenes, "--method", "classical", "--limit", 2)
    assert done.status == 0, done.err
    assert "ap50" in done.out and "all" in done.out


def test_the_published_rule_is_an_option(robin: Robin, scenes: Path, place: Path) -> None:
    asked = ("eval", "seg", "--data", scenes, "--method", "classical", "--limit", 2)
    found = {}
    for share in (0, 1):
        done = robin(*asked, "--drop-depthless", share, "--json", place / f"rule{share}.json")
        assert done.status == 0, done.err
        found[share] = json.loads((place / f"rule{share}.json").read_text())
        assert found[share]["drop_depthless"] == share
    assert found[1]["predictions"] < found[0]["predictions"]


def test_one_short_closed_loop_with_report_and_trace(robin: Robin, place: Path) -> None:
    out, result = place / "run", place / "result.json"
    run = ("sim", "run", "--scenario", "mixed", "--picks", 2, "--seed", 3, "--masks", "oracle", "--workers", 1)
    done = robin(*run, "--out", out, "--json", result)
    assert done.status == 0, done.err
    figures = json.loads(result.read_text())
    wanted = (
        "scenario seed planner model attempts clean missed dropped multi wrong infeasible picks_per_hour latency_ms"
    )
    assert set(wanted.split()) <= figures.keys()
    assert {"p50", "p95"} <= figures["latency_ms"].keys()
    outcomes = ("clean", "missed", "dropped", "multi", "wrong")
    assert figures["attempts"] == 2 == sum(figures[name] for name in outcomes)
    assert "http" not in (out / "report.html").read_text().split("</head>")[0]  # nothing is fetched
    listed = robin("trace", "--run", out)
    assert listed.status == 0
    assert robin("trace", "00000-000", "--run", out).status == 0


def test_latency_of_the_pick_path(robin: Robin, place: Path) -> None:
    result = place / "pipeline.json"
    common = ("--frames", 1, "--repeats", 2, "--planner", "geometric", "--model", colours(place / "colours"))
    done = robin("bench", "pipeline", *common, "--json", result)
    assert done.status == 0, done.err
    figures = json.loads(result.read_text())
    for name in ("network_ms", "frame_to_instances_ms", "frame_to_plan_ms"):
        assert 0 < figures[name]["p50"] <= figures[name]["p95"] <= figures[name]["p99"]
    assert (figures["width"], figures["height"]) == (1280, 720)
    assert len(figures["input_sha256"]) == 64 and figures["machine"]["cores"] >= 1


SMALL = "{branch: 8, stage4: 8, stage8: 16, stage16: 16, stage32: 16, blocks: 1, pyramid8: 16, pyramid4: 8}"


def test_a_recipe_renders_its_data_and_trains_and_continues(robin: Robin, place: Path) -> None:
    (place / "few.yaml").write_text("parcels_min: 1\nparcels_max: 3\nviews_per_pile: 1\n")
    (place / "any.yaml").write_text("any_cell: {}\nviews_per_pile: 1\n")
    recipe = place / "recipe.yaml"
    recipe.write_text(
        "sets:\n"
        "  any: {config: any.yaml, seed: 1, scenes: 4, share: 0.6}\n"
        "  few: {config: few.yaml, seed: 2, scenes: 2, share: 0.4}\n"
        "validation: {config: any.yaml, seed: 3, scenes: 1}\n"
        "rounds: 2\n"
        f"settings: {{threads: 1, validation_scenes: 1, repack_minutes: 0.0001, network: {SMALL}}}\n"
    )
    training = ("train", "--recipe", recipe, "--out", place / "run", "--workers", 1, "--batch", 1, "--device", "cpu")
    done = robin(*training, "--steps", 2, "--json", place / "train.json")
    assert done.status == 0, done.err
    assert len(list((place / "run/data/any").glob("0*"))) >= 2 and len(list((place / "run/data/few").glob("0*"))) >= 1
    done = robin(*training, "--steps", 3, "--json", place / "train.json")
    assert done.status == 0 and "resumed at step 2" in done.err, done.err
    assert json.loads((place / "train.json").read_text())["steps"] == 3
    done = robin("export", "--checkpoint", place / "run/checkpoint", "--out", place / "tiny", "--name", "tiny")
    assert done.status == 0, done.err
    manifest = json.loads((place / "tiny/manifest.json").read_text())
    assert manifest["classes"][-1] == "other" and "poly_bag/clear" in manifest["provenance"]["excluded"]


def test_a_training_names_its_data_once(robin: Robin, place: Path, scenes: Path) -> None:
    for options in ((), ("--data", scenes), ("--data", scenes, "--validation", scenes, "--recipe", place / "r.yaml")):
        done = robin("train", "--out", place / "run", "--steps", 1, *options)
        assert done.status != 0 and "--recipe" in done.err and not (place / "run").exists()
