"""`robin bench`: the one table of budgets, engines side by side, stages that add up, and two results compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from helpers.cli_helpers import Robin, pickable_folder

from robin_cli.bench import budgets as bench_budgets
from robin_cli.bench import engine as bench_engine
from robin_cli.bench import pipeline as bench_pipeline
from robin_cli.bench.budgets import BUDGETS_FILE, Budget, budget, budgets
from robin_cli.bench.compare import compare_results
from robin_cli.bench.engine import EngineBench, engine_figures, measure_engines, measure_memory
from robin_cli.bench.figures import Figure, figure_rows
from robin_cli.bench.pause import PausingEngine
from robin_cli.bench.pipeline import PipelineBench, measure_pipeline, pipeline_figures
from robin_perception.bags.frames import as_from_camera
from robin_perception.core.config import parse_config
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.image_folder import load_frame
from robin_perception.engines import EngineConfig
from robin_perception.engines.ort.engine import OnnxRuntimeEngine
from robin_perception.engines.testing.tiny_bundle import tiny_bundle
from robin_perception.segmentation.segmenter import Segmenter


def quiet(done: int, total: int, latest: str = "") -> None:
    del done, total, latest


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBIN_ENGINE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def robin(capsys: pytest.CaptureFixture[str]) -> Robin:
    return Robin(capsys)


@pytest.fixture
def frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Frame]:
    """Frames that need no rendering, in place of the simulated ones."""
    made = [load_frame(pickable_folder(tmp_path / f"frame{number}")) for number in range(2)]
    for module in (bench_engine, bench_pipeline):
        monkeypatch.setattr(module, "simulated_frames", lambda bench: made)
    return made


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_bundle(tmp_path / "tiny").directory


def engine_bench(model: Path, **changes: Any) -> EngineBench:
    settings: dict[str, Any] = {
        "engines": ("onnxruntime",),
        "frames": 2,
        "repeats": 3,
        "threads": 1,
        "spin": False,
        "swaps": 0,
        "calls": 0,
        "seed": 7,
        "model": model,
    }
    return EngineBench(**{**settings, **changes})


# ---------------------------------------------------------------------------------------------------- budgets


def test_every_budget_that_the_code_asks_for_is_in_the_table_and_none_is_idle() -> None:
    folder = Path(bench_budgets.__file__).parent
    code = "".join(path.read_text() for path in [*folder.rglob("*.py"), folder.parent / "commands" / "bench.py"])
    for part, table in budgets().model_dump().items():
        for figure in table:
            key = f"{part}.{figure}"
            known = (f'"{key}"', f'"{part}.' + "{'gpu_' if on_gpu else ''}" + figure.removeprefix("gpu_") + '"')
            assert any(text in code for text in known), f"{key}: no bench reads it"
    asked = {text.split('"')[0] for text in code.split('budget("')[1:]}
    assert asked and all(isinstance(budget(key), Budget) for key in asked)
    with pytest.raises(RobinError, match=r"no budget 'engine\.fame'") as caught:
        budget("engine.fame")
    assert caught.value.code == Code.CONFIG_UNKNOWN_KEY


def test_a_budget_has_one_limit_and_nan_keeps_none() -> None:
    assert Budget(at_most=5).met_by(5) and not Budget(at_most=5).met_by(5.01)
    assert Budget(at_least=1.3).met_by(1.3) and not Budget(at_least=1.3).met_by(1.29)
    assert not Budget(at_most=5).met_by(float("nan")) and not Budget(at_least=5).met_by(float("nan"))
    for wrong in ({}, {"at_most": 1, "at_least": 0}, {"at_most": 1, "unit": "ms"}):
        with pytest.raises(RobinError):
            parse_config(Budget, wrong, "budgets.yaml")


def test_the_table_names_units_in_its_keys() -> None:
    table = yaml.safe_load(BUDGETS_FILE.read_text())
    units = ("_ms", "_s", "_mb", "_hz", "_percent", "_ratio", "_lost", "_unaccounted", "_uncounted", "_torn")
    plain = {"missing", "duplicated", "unexplained", "share_of_raw", "slowest_share"}  # counts and shares
    assert all(key.endswith(units) or key in plain for part in table.values() for key in part)


def test_a_figure_below_its_least_is_over_its_budget() -> None:
    slow = Figure("int8", "speed", 1.1, "", Budget(at_least=1.3))
    assert figure_rows([slow])[0][2:5] == ("1.1", "≥ 1.3", "OVER")
    assert slow.to_json() == {
        "part": "int8",
        "name": "speed",
        "value": 1.1,
        "unit": "",
        "note": "",
        "at_least": 1.3,
        "within": False,
    }


# ------------------------------------------------------------------------------------------------------ engine


def test_engines_are_timed_stage_by_stage_and_heads_swapped_without_a_lost_frame(
    model: Path, frames: list[Frame]
) -> None:
    result = measure_engines(engine_bench(model, swaps=4), quiet)
    found = result["engines"]["onnxruntime"]
    assert found["run_ms"]["n"] == 6 and set(found["stages_ms"]) == {"copy_in", "network"}
    assert sum(s["min"] for s in found["stages_ms"].values()) <= found["run_ms"]["max"]
    assert found["engine_details"]["provider"] == "CPUExecutionProvider"
    swap = found["head_swap"]
    assert swap["swaps"] == 4 and swap["frames"] > 4 and swap["lost"] == 0
    assert len(result["input_sha256"]) == 64 and set(result["bundle_sha256"]) == {"network.onnx", "head.safetensors"}
    assert {"cpu", "cores", "instructions", "versions"} <= set(result["machine"])
    names = {(figure.name, figure.within is None) for figure in engine_figures(result)}
    assert {("head swap, worst", False), ("frames lost in swaps", False), ("run, p50", True)} <= names


def test_a_frame_that_no_whole_head_computed_counts_as_lost(model: Path, frames: list[Frame]) -> None:
    from robin_perception.engines import EngineConfig
    from robin_perception.engines.golden import golden_frames
    from robin_perception.engines.ort.engine import OnnxRuntimeEngine
    from robin_perception.model.bundle import load_bundle

    class Torn(OnnxRuntimeEngine):
        """Every third frame comes back damaged, as half a head would give it."""

        frames = -2  # the first two tell the bench what each head computes

        def run(self, *arguments: Any, **named: Any) -> dict[str, np.ndarray]:
            found = super().run(*arguments, **named)
            Torn.frames += "head" not in named
            if Torn.frames > 0 and "head" not in named and Torn.frames % 3 == 0:
                found["detection"] = found["detection"] * np.float32(0.5)
            return found

    bundle = load_bundle(model)
    engine = Torn(bundle, EngineConfig(intra_threads=1))
    swap = bench_engine.measure_swaps(engine, golden_frames(bundle), 6, quiet)
    assert swap["lost"] > 0


@pytest.mark.parametrize("name", ["onnxruntime", "onnxruntime-int8"])
def test_memory_does_not_grow_over_thousands_of_calls(name: str, model: Path) -> None:
    growth = measure_memory(name, engine_bench(model, calls=4000), quiet)
    assert growth["calls"] == 4000 and growth["samples"] > 100
    # A leak of one output set a call (2 kB) would be 8 MB; the allocator's own noise is far below that.
    assert growth["last_mb"] - growth["first_mb"] < 4.0


def test_an_engine_that_is_not_here_ends_the_bench_in_one_line(model: Path, robin: Robin, frames: list[Frame]) -> None:
    done = robin("bench", "engine", "--engines", "onnxruntime,onnxruntime-int8", "--model", model)
    assert done.status == 1 and "E207" in done.error_line and "robin engine build" in done.error_line


def test_bench_engine_writes_figures_beside_budgets(
    model: Path, robin: Robin, frames: list[Frame], tmp_path: Path
) -> None:
    target = tmp_path / "engine.json"
    done = robin("bench", "engine", "--repeats", 2, "--swaps", 2, "--model", model, "--json", target)
    assert done.status == 0 and "head swap, worst" in done.out
    values = json.loads(target.read_text())
    assert values["compared_with"] == "onnxruntime" and values["engines"]["onnxruntime"]["head_swap"]["lost"] == 0
    judged = {figure["name"]: figure for figure in values["figures"] if figure["within"] is not None}
    assert judged["head swap, worst"]["at_most"] == budget("engine.head_swap_worst_ms").limit


# ---------------------------------------------------------------------------------------------------- pipeline


def test_stages_add_up_to_the_whole(frames: list[Frame], tmp_path: Path) -> None:
    from helpers.perception_graphs import colour_bundle

    bundle = colour_bundle(tmp_path / "colours", 20)
    bench = PipelineBench(2, 3, 640, 480, 1, "geometric", 7, bundle.directory, "auto")
    result = measure_pipeline(bench, quiet)
    stages, whole = result["stages_ms"], result["frame_to_plan_ms"]
    assert {"prepare", "copy_in", "network", "check", "decode", "plan"} <= set(stages)
    assert sum(stage["mean"] for stage in stages.values()) == pytest.approx(whole["mean"], rel=0.1, abs=0.5)
    for name in ("network_ms", "frame_to_instances_ms", "frame_to_plan_ms"):
        assert {"p50", "p95", "p99", "sd", "n"} <= set(result[name])
    assert result["engine"] == "onnxruntime" and "onnxruntime-int8" in result["engines_rejected"]
    assert result["memory"]["last_mb"] >= result["memory"]["before_mb"] * 0.5
    judged = {f.name for f in pipeline_figures(result) if f.within is not None}
    assert judged == {"frame to instances, p50", "frame to plan, p50", "around the network / network"}


@pytest.mark.parametrize("raw", [False, True], ids=["images", "bytes"])
def test_a_pause_in_place_of_a_gpu_leaves_the_answers_and_the_hosts_own_part(
    frames: list[Frame], tmp_path: Path, raw: bool
) -> None:
    from helpers.perception_graphs import colour_bundle

    bundle = colour_bundle(tmp_path / "colours", 20)
    seen = [as_from_camera(frame) if raw else frame for frame in frames]
    plain = Segmenter(bundle, OnnxRuntimeEngine(bundle, EngineConfig()))
    engine = PausingEngine(bundle, EngineConfig(), 20.0)
    paused = Segmenter(bundle, engine)
    for _ in range(2):  # computed, then remembered
        for frame in seen:
            found, right = paused.segment(frame), plain.segment(frame)
            assert len(found.instances) == len(right.instances) == 12
            assert np.mean(found.labels != right.labels) < (0.002 if raw else 1e-9)
    assert engine.stage_ms["network"] >= 20.0 and set(engine.stage_ms) == {"copy_in", "network", "copy_out"}
    frames[:] = seen
    result = measure_pipeline(PipelineBench(2, 3, 640, 480, 1, "geometric", 7, bundle.directory, "auto", 20.0), quiet)
    assert result["engine"] == "pause" and result["engine_details"]["pause_ms"] == "20"
    assert result["stages_ms"]["network"]["min"] >= 20.0
    judged = {f.name for f in pipeline_figures(result) if f.within is not None}
    on_cpu = {"frame to instances, p50", "frame to plan, p50", "around the network / network"}
    assert judged == {"bare network, p50", *on_cpu}


def test_a_supervised_engine_has_the_budgets_of_its_own() -> None:
    from robin_perception.supervision import needs_driver

    assert not needs_driver("supervised:onnxruntime") and needs_driver("supervised:tensorrt")


def test_on_a_gpu_the_budgets_of_a_gpu_count() -> None:
    flat = {"p50": 5.0, "p95": 5.0, "p99": 5.0, "sd": 0.0, "n": 1}
    result = {
        "engine": "tensorrt",
        "network_ms": flat,
        "frame_to_instances_ms": {**flat, "p50": 7.0},
        "frame_to_plan_ms": flat,
        "around_network_ms": flat,
        "around_network_ratio": flat,
        "stages_ms": {},
        "memory": {"last_mb": 1.0},
    }
    over = {figure.name for figure in pipeline_figures(result) if figure.within is False}
    assert {"bare network, p50", "frame to instances, p50"} <= over


# ----------------------------------------------------------------------------------------------------- compare


def result_of(p50: float, **changes: Any) -> dict[str, Any]:
    spread = {"p50": p50, "p95": 1.2 * p50, "sd": 1.0, "n": 100}
    return {"network_ms": spread, "machine": {"cpu": "A", "cores": 2}, "input_sha256": "1", **changes}


def test_a_change_beyond_the_noise_is_told_and_one_within_is_not() -> None:
    (more,) = compare_results(result_of(20.0), result_of(22.0))["figures"]
    assert (more["what"], more["verdict"], round(more["ratio"], 3)) == ("network_ms", "more", 1.1)
    assert compare_results(result_of(20.0), result_of(15.0))["figures"][0]["verdict"] == "less"
    assert compare_results(result_of(20.0), result_of(20.3))["figures"][0]["verdict"] == "same"
    few = {"p50": 22.0, "p95": 40.0, "sd": 10.0, "n": 4}
    assert compare_results(result_of(20.0), result_of(20.0, network_ms=few))["figures"][0]["verdict"] == "same"


def test_what_two_results_do_not_share_is_said() -> None:
    other = result_of(20.0, input_sha256="2", machine={"cpu": "B", "cores": 2}, decode_ms=result_of(1.0)["network_ms"])
    compared = compare_results(result_of(20.0), other)
    assert compared["missing"] == ["decode_ms"]
    assert {line.split(":")[0] for line in compared["differences"]} == {"machine.cpu", "input_sha256"}


def test_compare_on_the_command_line(robin: Robin, tmp_path: Path) -> None:
    for name, p50 in (("a", 20.0), ("b", 30.0)):
        (tmp_path / f"{name}.json").write_text(json.dumps(result_of(p50)))
    done = robin("bench", "compare", tmp_path / "a.json", tmp_path / "b.json", "--json", tmp_path / "c.json")
    assert done.status == 0 and "1.500" in done.out
    assert json.loads((tmp_path / "c.json").read_text())["figures"][0]["verdict"] == "more"


@pytest.mark.parametrize(
    ("content", "code"), [(None, "E101"), ("{", "E102"), ('{"picks": 3}', "E102"), ('{"machine": {}}', "E102")]
)
def test_what_is_no_result_is_refused(robin: Robin, tmp_path: Path, content: str | None, code: str) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(result_of(1.0)))
    if content is not None:
        bad.write_text(content)
    done = robin("bench", "compare", good, bad)
    assert done.status == 2 and code in done.error_line
