"""The command line and supervised inference: the switch, and the bench that measures it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.cli_helpers import Robin, colours, pickable_folder

from robin_cli.options import engine_called
from robin_perception.core.errors import Code


@pytest.fixture
def robin(capsys: pytest.CaptureFixture[str]) -> Robin:
    return Robin(capsys)


@pytest.mark.parametrize(
    ("engine", "supervised", "called"),
    [
        ("auto", None, "auto"),
        ("auto", False, "auto"),
        ("auto", True, "supervised:auto"),
        ("supervised:onnxruntime", True, "supervised:onnxruntime"),
        ("supervised:onnxruntime", None, "supervised:onnxruntime"),
    ],
)
def test_the_switch_is_a_name_of_an_engine(engine: str, supervised: bool | None, called: str) -> None:
    assert engine_called(engine, supervised) == called


def test_a_plan_is_the_same_with_supervision_and_without(robin: Robin, tmp_path: Path) -> None:
    folder, model = pickable_folder(tmp_path / "a"), colours(tmp_path / "colours")
    plans = {}
    for switch in ("--supervised", "--no-supervised"):
        file = tmp_path / f"{switch}.json"
        options = ("--folder", folder, "--model", model, "--engine", "onnxruntime", "--out", tmp_path / "out")
        assert robin("plan", *options, switch, "--json", file).status == 0
        plans[switch] = json.loads(file.read_text())
    with_it, without = plans["--supervised"], plans["--no-supervised"]
    assert (with_it["engine"], without["engine"]) == ("supervised:onnxruntime", "onnxruntime")
    assert with_it["grasps"] == without["grasps"] and len(with_it["instances"]) == 12


def test_an_unknown_engine_is_one_line_with_supervision_too(robin: Robin, tmp_path: Path) -> None:
    folder, model = pickable_folder(tmp_path / "a"), colours(tmp_path / "colours")
    done = robin("plan", "--folder", folder, "--model", model, "--engine", "tpu", "--supervised")
    assert done.status != 0 and f"E{int(Code.ENGINE_UNKNOWN)}" in done.error_line


@pytest.mark.slow
def test_the_bench_measures_cost_hang_and_memory(robin: Robin, tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    counts = ("--frames", 1, "--repeats", 3, "--hangs", 2, "--deadline-ms", 3000, "--calls", 200, "--threads", 1)
    done = robin("bench", "supervision", "--model", colours(tmp_path / "colours"), *counts, "--json", file)
    assert done.status == 0, done.err
    result = json.loads(file.read_text())
    for name in ("direct_ms", "supervised_ms", "cost_ms", "own_share_ms"):
        assert result[name]["n"] == 3 and result[name]["p50"] <= result[name]["max"]
    hang = result["hang"]
    assert hang["noticed_ms"]["n"] == 2 and hang["noticed_ms"]["min"] >= 3000
    assert hang["plan_after_deadline_ms"]["min"] > hang["instances_after_deadline_ms"]["min"] > 0
    assert result["memory"]["calls"] == 200 and result["memory"]["child"]["first_mb"] > 1
    assert {"machine", "bundle_sha256", "model", "engine"} <= set(result)
    assert "difference" in done.out and "≤ 3 ms" in done.out
