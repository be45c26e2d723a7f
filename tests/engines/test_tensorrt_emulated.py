"""The TensorRT engine from its first line to its last over an emulated GPU (``emulated_gpu.py``): that its calls are
made in an order that CUDA and TensorRT allow, what it gives back, and what it says when one of them refuses."""

from __future__ import annotations

import gc
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.cli_helpers import Robin
from helpers.emulated_gpu import EmulatedGpu

from robin_cli.doctor.engines import engine_checks
from robin_perception.core.errors import Code, RobinError
from robin_perception.engines import EngineConfig, make_engine
from robin_perception.engines.cache import EngineCache
from robin_perception.engines.golden import golden_frames
from robin_perception.engines.ort.engine import OnnxRuntimeEngine
from robin_perception.engines.registry import select
from robin_perception.engines.tensorrt import bindings as tensorrt_library
from robin_perception.engines.tensorrt.engine import TensorRtEngine, TensorRtSingleEngine
from robin_perception.engines.testing.tiny_bundle import tiny_bundle
from robin_perception.engines.verify import verify_engine
from robin_perception.model.bundle import INSTANCE_OUTPUTS, Bundle, load_bundle

BASE = Path(__file__).resolve().parents[2] / "models" / "base"
CONFIG = EngineConfig(intra_threads=1)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> EmulatedGpu:
    monkeypatch.setenv("ROBIN_ENGINE_CACHE", str(tmp_path / "cache"))
    made = EmulatedGpu()
    made.install(monkeypatch)
    return made


@pytest.fixture
def opened(gpu: EmulatedGpu, bundle: Bundle) -> Iterator[Callable[[], TensorRtEngine]]:
    """Engines that are closed after the test."""
    engines: list[TensorRtEngine] = []

    def start() -> TensorRtEngine:
        engines.append(TensorRtEngine(bundle, CONFIG))
        return engines[-1]

    yield start
    for engine in engines:
        engine.close()


def settled(gpu: EmulatedGpu) -> bool:
    """Whether all was given back; what only Python's collector frees may take a moment."""
    for _ in range(50):
        gc.collect()
        if not gpu.left and not gpu.on_stacks:
            return True
        time.sleep(0.1)
    return False


def proven(bundle: Bundle) -> Path:
    """Build the engine and store a proof of it; its folder in the cache."""
    engine = TensorRtEngine(bundle, CONFIG)
    engine.close()
    assert engine.cached.path is not None
    EngineCache().note_verification(engine.cached.path, {"passed": True})
    return engine.cached.path


@pytest.mark.parametrize("kind", [TensorRtEngine, TensorRtSingleEngine])
def test_it_is_proven_and_gives_everything_back(gpu: EmulatedGpu, bundle: Bundle, kind: type[TensorRtEngine]) -> None:
    engine = kind(bundle, CONFIG)
    verdict = verify_engine(engine, bundle)
    assert verdict.passed, verdict.failures
    assert len(verdict.report["camera"]) == 4 and verdict.report["device_ms"]["recorded"] == 1
    assert engine.describe()["cuda_graph"] == "yes" and gpu.recorded >= 2
    engine.close()
    engine.close()
    del engine
    assert gpu.broken == [] and settled(gpu), (gpu.broken, gpu.left)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [TensorRtEngine, TensorRtSingleEngine])
def test_the_shipped_bundle_is_proven_too(gpu: EmulatedGpu, kind: type[TensorRtEngine]) -> None:
    """A colour that the prelude rounds otherwise than the host moves its scores by more than float32's bound."""
    engine = kind(load_bundle(BASE), CONFIG)
    verdict = verify_engine(engine, engine.bundle)
    assert verdict.passed, verdict.failures
    assert verdict.report["parity"]["candidates"] > 30 and gpu.broken == []
    assert max(found["grey_levels"] for found in verdict.report["camera"].values()) == 1
    assert all(found["parity"]["candidates"] > 5 for found in verdict.report["camera"].values())
    engine.close()


def test_heads_are_swapped_between_frames_of_many_threads(
    gpu: EmulatedGpu, bundle: Bundle, opened: Callable[[], TensorRtEngine]
) -> None:
    engine, frame = opened(), golden_frames(bundle, 1)[0]
    fresh = {name: value * np.float32(2) for name, value in bundle.head.items()}
    cpu = OnnxRuntimeEngine(bundle, CONFIG)
    right = [cpu.run(frame)["detection"], cpu.run(frame, head=cpu.stage_head(fresh))["detection"]]
    wrong: list[float] = []

    def frames() -> None:
        for _ in range(15):
            found = engine.run(frame)["detection"]
            wrong.append(min(float(np.abs(found - one).max()) for one in right))

    threads = [threading.Thread(target=frames) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(6):
        engine.set_head(bundle.head if number % 2 else fresh)
    for thread in threads:
        thread.join()
    assert len(wrong) == 45 and max(wrong) < 0.02  # half precision; the two heads are further apart
    assert float(np.abs(right[0] - right[1]).max()) > 0.05
    assert gpu.broken == [] and gpu.recorded == 2  # nothing is recorded anew
    cpu.close()


def test_where_recording_fails_it_goes_on_without(
    gpu: EmulatedGpu, bundle: Bundle, opened: Callable[[], TensorRtEngine], caplog: pytest.LogCaptureFixture
) -> None:
    gpu.refuse_capture = True
    with caplog.at_level("WARNING"):
        engine = opened()
    assert engine.describe()["cuda_graph"] == "no" and "CUDA graph is not used" in caplog.text
    assert verify_engine(engine, bundle).passed and gpu.broken == []


def test_a_copy_that_cannot_be_recorded_is_no_end_either(
    gpu: EmulatedGpu, bundle: Bundle, opened: Callable[[], TensorRtEngine]
) -> None:
    copy = gpu.driver.memcpy_htod_async

    def refuses(dest: int, src: np.ndarray, stream: object) -> None:
        if gpu.capturing(stream.handle):  # type: ignore[attr-defined]
            raise gpu.driver.LogicError("cuMemcpyHtoDAsync failed: operation not permitted when stream is capturing")
        copy(dest, src, stream)

    gpu.driver.memcpy_htod_async = refuses
    engine = opened()
    assert engine.describe()["cuda_graph"] == "no"
    assert engine.run(golden_frames(bundle, 1)[0]).keys() == set(INSTANCE_OUTPUTS)


def test_a_lack_of_memory_at_any_place_is_told_and_leaves_nothing(gpu: EmulatedGpu, bundle: Bundle) -> None:
    TensorRtEngine(bundle, CONFIG).close()  # what follows comes from the cache
    failures = 0
    for allowed in range(40):
        gpu.allocations_left = allowed
        try:
            engine = TensorRtEngine(bundle, CONFIG)
        except RobinError as exc:
            failures += 1
            assert exc.code == Code.ENGINE_OUT_OF_MEMORY and "\n" not in exc.text
            assert settled(gpu), (allowed, gpu.left)
        else:
            engine.close()
            break
    assert failures == 10 and gpu.broken == []  # five blocks, each on the device and page-locked


def test_a_lost_context_is_a_dead_engine_that_says_so(
    gpu: EmulatedGpu, bundle: Bundle, opened: Callable[[], TensorRtEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, frame = opened(), golden_frames(bundle, 1)[0]
    engine.run(frame)
    gpu.lost = True
    for _ in range(2):
        with pytest.raises(RobinError, match=r"context is lost.*another process") as caught:
            engine.run(frame)
        assert caught.value.code == Code.ENGINE_CRASHED  # its process is of no more use, and supervision ends it
    thread = engine._cuda._thread
    monkeypatch.setattr("robin_perception.engines.tensorrt.cuda._END_PATIENCE_S", 0.2)
    engine.close()
    assert thread.is_alive()  # pycuda would end the process with a thread that has a context on its stack
    with pytest.raises(RobinError):
        engine.run(frame)


def test_an_error_that_leaves_the_context_alone_is_no_end(
    gpu: EmulatedGpu, bundle: Bundle, opened: Callable[[], TensorRtEngine]
) -> None:
    engine, frame = opened(), golden_frames(bundle, 1)[0]
    before = engine.run(frame)
    gpu.driver_calls.cuGraphLaunch, launch = (lambda graph, stream: 2), gpu.driver_calls.cuGraphLaunch
    with pytest.raises(RobinError) as caught:
        engine.run(frame)
    assert caught.value.code == Code.ENGINE_OUT_OF_MEMORY
    gpu.driver_calls.cuGraphLaunch = launch
    assert np.array_equal(engine.run(frame)["detection"], before["detection"])


@pytest.mark.parametrize(
    ("trouble", "code", "words"),
    [
        ("no builder", Code.ENGINE_UNAVAILABLE, "CUDA initialization failure with error: 35"),
        ("no runtime", Code.ENGINE_UNAVAILABLE, "CUDA initialization failure with error: 35"),
        ("no build", Code.ENGINE_BUILD_FAILED, "no implementation for node"),
        ("no engine", Code.ENGINE_FAILED, "Serialization"),
        ("no context", Code.ENGINE_OUT_OF_MEMORY, "OutOfMemory"),
    ],
)
def test_what_tensorrt_refuses_is_its_own_words_and_auto_takes_the_next(
    gpu: EmulatedGpu, bundle: Bundle, trouble: str, code: Code, words: str
) -> None:
    if was_built := trouble not in ("no builder", "no build"):
        proven(bundle)
    gpu.trouble = trouble
    with pytest.raises(RobinError, match=words) as caught:
        TensorRtEngine(bundle, CONFIG)
    assert caught.value.code == code and "\n" not in caught.value.text
    assert settled(gpu) and gpu.broken == [], (gpu.left, gpu.broken)
    engine = make_engine("auto", bundle, CONFIG)
    reason = dict(engine.selection.rejected)["tensorrt"]
    assert engine.name.startswith("onnxruntime") and (words if was_built else "robin engine build") in reason
    engine.close()


def test_a_tensorrt_that_does_not_load_or_is_too_old_is_one_line(
    gpu: EmulatedGpu, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu.tensorrt, "__version__", "8.6.1")
    with pytest.raises(RobinError, match=r"TensorRT 8\.6\.1 is too old") as caught:
        TensorRtEngine(bundle, CONFIG)
    assert caught.value.code == Code.ENGINE_UNAVAILABLE
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(tensorrt_library, "tensorrt_package", lambda: "tensorrt")
    with pytest.raises(RobinError, match="TensorRT cannot be loaded") as caught:
        TensorRtEngine(bundle, CONFIG)
    assert caught.value.code == Code.ENGINE_UNAVAILABLE and "pip install" in caught.value.text
    assert settled(gpu), gpu.left


def test_a_device_that_cannot_be_described_is_told_at_once(gpu: EmulatedGpu, bundle: Bundle) -> None:
    gpu.driver_calls.cuDeviceGet = lambda handle, index: 101
    gpu.driver.Device.pci_bus_id = lambda self: (_ for _ in ()).throw(gpu.driver.LogicError("no bus"))
    with pytest.raises(RobinError, match="CUDA cannot be used: no bus") as caught:
        TensorRtEngine(bundle, CONFIG)
    assert caught.value.code == Code.ENGINE_UNAVAILABLE and settled(gpu)


def test_an_engine_is_built_once_and_a_damaged_timing_cache_costs_nothing(
    gpu: EmulatedGpu, bundle: Bundle, opened: Callable[[], TensorRtEngine]
) -> None:
    seen: list[tuple[str, int, int]] = []
    first = TensorRtEngine(bundle, CONFIG, report=lambda *step: seen.append(step))
    first.close()
    assert first.cached.path is not None and seen[-1] == ("building", 2, 2)
    assert opened().cached.built_s == 0 and gpu.builds == 1
    gpu.trouble = "no timing cache"
    again = TensorRtEngine(bundle, CONFIG, rebuild=True)
    again.close()
    assert gpu.builds == 2 and again.cached.path == first.cached.path
    assert (first.cached.path / "build.log").is_file()


def test_an_engine_whose_proof_failed_is_not_picked_with(
    gpu: EmulatedGpu, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    folder = proven(bundle)
    with caplog.at_level("WARNING"):
        make_engine("tensorrt", bundle, CONFIG).close()
    assert "verify" not in caplog.text
    EngineCache().note_verification(folder, {"passed": False})
    with pytest.raises(RobinError, match=r"its proof failed; robin engine build .* --rebuild") as caught:
        make_engine("tensorrt", bundle, CONFIG)
    assert caught.value.code == Code.ENGINE_DISAGREES and settled(gpu)
    engine = make_engine("auto", bundle, CONFIG)
    assert engine.name.startswith("onnxruntime") and "its proof failed" in engine.selection.line()
    engine.close()


def test_auto_takes_it_only_where_its_proof_on_this_device_is_stored(
    gpu: EmulatedGpu,
    bundle: Bundle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    robin = Robin(capsys)

    def auto() -> tuple[str, str]:
        engine = make_engine("auto", bundle, CONFIG)
        engine.close()
        return engine.name, dict(engine.selection.rejected).get("tensorrt", "")

    command = f"robin engine verify {bundle.directory} --engine tensorrt"
    assert f"robin engine build {bundle.directory}" in auto()[1]
    TensorRtEngine(bundle, CONFIG).close()
    name, reason = auto()
    assert name != "tensorrt" and reason == f"built but not verified on this device; {command}"
    listed = robin("engine", "list", bundle.directory)
    assert listed.status == 0 and "not tensorrt: built but not verified" in listed.out.replace("\n", " ")
    (line,) = (check for check in engine_checks(bundle.directory) if check.name == "engine auto")
    assert "tensorrt: built but not verified on this device" in line.found and command in line.remedy
    with caplog.at_level("WARNING"):  # by name it runs, and says so
        make_engine("tensorrt", bundle, CONFIG).close()
    assert "built but not verified on this device" in caplog.text
    assert robin("engine", "verify", bundle.directory, "--engine", "tensorrt").status == 0
    assert auto() == ("tensorrt", "") and select("auto", bundle, CONFIG).by_auto
    builds, gpu.driver.Device.name = gpu.builds, lambda self: "Another GPU"
    name, reason = auto()
    assert name != "tensorrt" and "gpu was Emulated GPU, is Another GPU; robin engine build" in reason
    assert gpu.builds == builds and settled(gpu)


def test_a_build_that_is_broken_off_leaves_nothing(gpu: EmulatedGpu, bundle: Bundle) -> None:
    def stop(phase: str, step: int, steps: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(RobinError, match="the build was broken off") as caught:
        TensorRtEngine(bundle, CONFIG, report=stop)
    assert caught.value.code == Code.ENGINE_BUILD_FAILED and settled(gpu)
    assert EngineCache().entries() == []


def test_one_command_builds_proves_and_is_in_the_list(
    gpu: EmulatedGpu, bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    robin, report, listed = Robin(capsys), tmp_path / "report.json", tmp_path / "list.json"
    done = robin("engine", "verify", bundle.directory, "--engine", "tensorrt", "--report", report)
    assert done.status == 0 and "proven" in done.out, done.err
    found = json.loads(report.read_text())
    assert found["passed"] and found["described"]["gpu"].startswith("Emulated GPU") and gpu.builds == 5  # four cameras
    assert robin("engine", "list", bundle.directory, "--json", listed).status == 0
    engines = {entry["for"]: entry for entry in json.loads(listed.read_text())["engines"]}
    assert engines["tiny"]["verified"] == "yes" and all(entry["fits"] == "yes" for entry in engines.values())
    assert len(engines) == 5 and gpu.broken == []
