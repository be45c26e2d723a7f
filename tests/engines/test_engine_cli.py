"""``robin engine`` build, verify and list, and the doctor's lines about engines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cli_helpers import Robin

from robin_cli.doctor import engines as machine_engines
from robin_cli.doctor.engines import engine_checks
from robin_perception.engines import registry
from robin_perception.engines.base import EngineConfig, HeadSet, Tensors
from robin_perception.engines.cache import EngineCache
from robin_perception.engines.ort.engine import OnnxRuntimeEngine
from robin_perception.engines.tensorrt import probe as tensorrt_probe
from robin_perception.engines.tensorrt.key import Gpu, engine_key
from robin_perception.engines.verify import other_head, verify_engine
from robin_perception.model.bundle import Bundle, load_bundle

BASE = Path(__file__).resolve().parents[2] / "models" / "base"
GPU = Gpu("Orin", "00" * 16, "8.7", 8 << 30, "12.6")


@pytest.fixture()
def robin(capsys: pytest.CaptureFixture[str]) -> Robin:
    return Robin(capsys)


@pytest.fixture()
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EngineCache:
    monkeypatch.setenv("ROBIN_ENGINE_CACHE", str(tmp_path / "engines"))
    return EngineCache()


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle(BASE)


class WrongEngine(OnnxRuntimeEngine):
    """A real engine with one fault of a compiler or driver."""

    name = "wrong"
    fault = ""

    def __init__(self, bundle: Bundle, config: EngineConfig) -> None:
        super().__init__(bundle, config)
        self._first: dict[int, HeadSet] = {}

    def _load_head(self, head: HeadSet) -> None:
        weights = dict(head.weights)
        if self.fault == "loses biases":
            weights |= {name: np.zeros_like(value) for name, value in weights.items() if name.endswith(".bias")}
        if self.fault == "keeps the first head":
            weights = dict(self.bundle.head)
        super()._load_head(HeadSet(head.index, weights))

    def _run(self, feeds: Tensors, outputs: Sequence[str], head: HeadSet) -> Tensors:
        results = super()._run(feeds, outputs, head)
        if self.fault == "shifts masks" and "mask_logits" in results:
            results["mask_logits"] = np.roll(results["mask_logits"], 2, axis=2)
        if self.fault == "raises scores" and "detection" in results:
            results["detection"] = np.minimum(results["detection"] * np.float32(1.05), np.float32(1))
        return results


@pytest.fixture()
def wrong(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[WrongEngine]]:
    """The faulty engine, under a name of its own for the length of a test."""
    monkeypatch.setitem(
        registry._ENTRIES, "wrong", registry.EngineEntry(WrongEngine, lambda bundle, config: None, on_cpu=True)
    )
    yield WrongEngine
    WrongEngine.fault = ""


def test_an_engine_that_is_right_is_proven_and_the_report_has_it_all(
    robin: Robin, cache: EngineCache, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    done = robin("engine", "verify", BASE, "--engine", "onnxruntime", "--report", report)
    assert done.status == 0 and "proven" in done.out, done.err
    found = json.loads(report.read_text())
    assert found["passed"] is True and found["failures"] == [] and found["engine"] == "onnxruntime"
    assert found["head"]["biases_not_zero"] is True and found["camera"] is None
    assert {"mask_logits", "boundary", "trunk_stride8"} <= set(found["outputs"])
    assert found["outputs"]["mask_logits"]["reference_max"] > 1 and found["parity"]["candidates"] > 20
    assert found["files"]["network.onnx"] and found["machine"]["cpu"] and found["described"]["precision"] == "float32"
    assert {"NVIDIA driver", "TensorRT", "pycuda"} <= set(found["machine"]["gpu_libraries"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("loses biases", "score"),
        ("keeps the first head", "another head"),
        ("shifts masks", "mask_iou"),
        ("raises scores", "score"),
    ],
)
def test_an_engine_that_is_wrong_is_found_out(
    robin: Robin, cache: EngineCache, wrong: type[WrongEngine], tmp_path: Path, fault: str, words: str
) -> None:
    wrong.fault = fault
    report = tmp_path / "report.json"
    done = robin("engine", "verify", BASE, "--engine", "wrong", "--report", report)
    assert done.status == 1
    assert done.error_line.startswith("error E213 ENGINE_DISAGREES: wrong on base-") and words in done.error_line
    found = json.loads(report.read_text())
    assert found["passed"] is False and any(words in failure for failure in found["failures"])


def test_a_head_that_is_not_read_is_told_as_such(bundle: Bundle, wrong: type[WrongEngine]) -> None:
    wrong.fault = "keeps the first head"
    engine = wrong(bundle, EngineConfig())
    verdict = verify_engine(engine, bundle)
    engine.close()
    assert any("the weights are not read" in failure for failure in verdict.failures)
    assert "frames" not in " ".join(failure.split(":")[0] for failure in verdict.failures)


def test_the_other_head_has_no_bias_that_is_zero(bundle: Bundle) -> None:
    head = other_head(bundle)
    assert all(np.all(value) for name, value in head.items() if name.endswith(".bias"))
    assert {name: value.shape for name, value in head.items()} == {n: v.shape for n, v in bundle.head.items()}


@pytest.mark.slow
def test_frames_of_ones_own_are_compared_too(robin: Robin, cache: EngineCache, tmp_path: Path) -> None:
    from helpers.cli_helpers import pickable_folder

    pickable_folder(tmp_path / "scenes" / "one")
    done = robin("engine", "verify", BASE, "--engine", "onnxruntime", "--data", tmp_path / "scenes")
    assert done.status == 0 and "in 6 frames" in done.out
    done = robin("engine", "verify", BASE, "--engine", "onnxruntime", "--data", tmp_path / "nowhere")
    assert done.status == 2 and "nowhere" in done.error_line


def test_what_needs_no_building_is_said(robin: Robin, cache: EngineCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_probe, "_DEVICES", ("/nonexistent",))
    done = robin("engine", "build", BASE, "--engine", "onnxruntime")
    assert done.status == 0 and "nothing needs to be built" in done.out
    done = robin("engine", "build", BASE)
    assert done.status == 0 and "no NVIDIA GPU" in done.out and "--engine onnxruntime-int8" in done.out
    done = robin("engine", "build", BASE, "--engine", "tensorrt")
    assert done.status == 1 and done.error_line.startswith("error E207 ENGINE_UNAVAILABLE: tensorrt: NVIDIA driver")
    done = robin("engine", "build", BASE, "--engine", "tpu")
    assert done.status == 2 and "onnxruntime" in done.error_line
    done = robin("engine", "build", BASE / "nowhere")
    assert done.status == 2 and "nowhere" in done.error_line


def rows(robin: Robin, tmp_path: Path) -> dict[str, dict[str, Any]]:
    file = tmp_path / "list.json"
    done = robin("engine", "list", BASE, "--json", file)
    assert done.status == 0, done.err
    return {entry["key"].get("gpu", entry["kind"]): entry for entry in json.loads(file.read_text())["engines"]}


def test_the_list_says_what_each_engine_is_for_and_why_it_does_not_fit(
    robin: Robin, cache: EngineCache, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt_probe, "_DEVICES", ("/nonexistent",))
    assert rows(robin, tmp_path) == {}
    key = engine_key(bundle, GPU, "10.3.0", "float16")
    path = cache.store(key, {"engine.plan": bytes(3 << 20), "build.log": b"built"})
    cache.note_verification(path, {"passed": True})
    found = rows(robin, tmp_path)["Orin"]
    assert found["for"] == "base" and found["precision"] == "float16" and found["verified"] == "yes"
    assert 3 < found["size_mb"] < 3.1 and found["fits"].startswith("no: NVIDIA driver: no NVIDIA GPU")
    (path / "engine.plan").write_bytes(b"broken")
    assert "engine.plan is damaged" in rows(robin, tmp_path)["Orin"]["fits"]


def test_an_int8_engine_of_another_processor_does_not_fit(
    robin: Robin, cache: EngineCache, bundle: Bundle, tmp_path: Path
) -> None:
    from robin_perception.engines.ort.int8 import cache_key

    cache.store(cache_key(bundle), {"network.int8.onnx": b"graph"})
    cache.store({**cache_key(bundle), "processor": "Cortex-A78AE"}, {"network.int8.onnx": b"graph"})
    file = tmp_path / "list.json"
    assert robin("engine", "list", BASE, "--json", file).status == 0
    fits = sorted(entry["fits"] for entry in json.loads(file.read_text())["engines"])
    assert fits[0].startswith("no: processor was Cortex-A78AE, is ") and fits[1] == "yes"


def test_the_doctor_tells_what_engines_have_and_lack(monkeypatch: pytest.MonkeyPatch, cache: EngineCache) -> None:
    monkeypatch.setattr(tensorrt_probe, "_DEVICES", ("/nonexistent",))
    checks = {check.name: check for check in engine_checks(BASE)}
    assert not checks["NVIDIA driver"].ok and checks["NVIDIA driver"].remedy
    assert not any(check.needed for check in checks.values())
    assert "CPU" in checks["ONNX Runtime"].found
    assert checks["engine auto"].ok and checks["engine auto"].found.startswith("onnxruntime (")
    assert "robin engine build" in checks["engine auto"].remedy


def test_the_doctor_knows_gpu_providers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    check = machine_engines._providers_check("1.20", ["TensorrtExecutionProvider", "CPUExecutionProvider"])
    assert check.found == "1.20; providers Tensorrt, CPU" and not check.remedy
    monkeypatch.setenv("CUDA_ROOT", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not machine_engines._toolkit().ok
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "nvcc").write_text("#!/bin/sh\n")
    assert machine_engines._toolkit().found == str(tmp_path / "bin/nvcc")


def test_a_cache_that_cannot_be_written_is_told_before_the_build(
    robin: Robin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ROBIN_ENGINE_CACHE", str(tmp_path / "file" / "engines"))
    monkeypatch.setattr("robin_sim.dataset.make_dataset", lambda *_: pytest.fail("work was done"))
    done = robin("engine", "build", BASE, "--engine", "onnxruntime-int8", "--scenes", 3, "--labelled", 3)
    assert done.status == 2 and done.error_line.startswith("error E405 ") and "engines" in done.error_line


@pytest.mark.slow
def test_what_a_killed_build_left_is_removed_by_the_next(tmp_path: Path) -> None:
    places = {"TMPDIR": str(tmp_path / "tmp"), "ROBIN_ENGINE_CACHE": str(tmp_path / "engines")}
    (tmp_path / "tmp").mkdir()
    command = [sys.executable, "-m", "robin_cli.main", "engine", "build", str(BASE), "--engine", "onnxruntime-int8"]
    command += ["--scenes", "200", "--labelled", "200", "--workers", "1"]

    def killed_build(besides: set[Path]) -> Path:
        process = subprocess.Popen(command, env={**os.environ, **places}, stderr=subprocess.DEVNULL)
        try:
            ending = time.monotonic() + 120
            while time.monotonic() < ending:
                found = {scene.parents[1] for scene in (tmp_path / "tmp").glob("robin-int8-scenes-*/*/0*")} - besides
                if found:
                    return found.pop()
                time.sleep(0.1)
            raise AssertionError("no scene was made")
        finally:
            process.kill()
            process.wait()

    first = killed_build(set())
    assert first.is_dir()
    second = killed_build({first})
    assert second.is_dir() and not first.exists()
