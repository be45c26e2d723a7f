"""What of the TensorRT engine needs no GPU: memory plans, keys, findings, the cache's part; and, where they are
installed, that the names it calls are those of the real libraries."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from robin_perception.core.errors import Code, RobinError
from robin_perception.engines import EngineConfig, make_engine
from robin_perception.engines.cache import EngineCache, key_digest
from robin_perception.engines.tensorrt import cache as tensorrt_cache
from robin_perception.engines.tensorrt import probe as tensorrt_probe
from robin_perception.engines.tensorrt.bindings import BuildLog, heard, made
from robin_perception.engines.tensorrt.buffers import (
    ALIGNMENT_BYTES,
    check_tensors,
    graph_specs,
    lay_out,
    plan_buffers,
)
from robin_perception.engines.tensorrt.builder import BuiltPlan
from robin_perception.engines.tensorrt.cache import cached_plan
from robin_perception.engines.tensorrt.cuda import CudaThread, cuda_error
from robin_perception.engines.tensorrt.key import LOG_FILE, PLAN_FILE, Gpu, engine_key
from robin_perception.model.bundle import (
    FEATURE_OUTPUTS,
    FRAME_INPUTS,
    INSTANCE_OUTPUTS,
    Bundle,
    TensorSpec,
    load_bundle,
)

ROOT = Path(__file__).resolve().parents[2]
ENGINES = ROOT / "ros2_ws/src/robin_perception/robin_perception/engines/tensorrt"
ORIN = Gpu("Orin", "00" * 16, "8.7", 8 << 30, "12.6")


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle(ROOT / "models" / "base")


def test_a_block_is_packed_in_order_and_aligned() -> None:
    specs = [TensorSpec(name="a", shape=(3,), dtype="uint8"), TensorSpec(name="b", shape=(2, 100), dtype="float32")]
    block = lay_out([*specs, TensorSpec(name="c", shape=())])
    assert [slot.offset for slot in block.slots.values()] == [0, ALIGNMENT_BYTES, ALIGNMENT_BYTES + 1024]
    assert [slot.nbytes for slot in block.slots.values()] == [3, 800, 4]
    assert block.nbytes == ALIGNMENT_BYTES + 1024 + ALIGNMENT_BYTES


def test_every_tensor_of_the_bundle_has_its_place(bundle: Bundle) -> None:
    frame, head, outputs = graph_specs(bundle)
    plan = plan_buffers(frame, head, outputs)
    assert tuple(plan.frame.slots) == FRAME_INPUTS
    assert {name: slot.spec.shape for name, slot in plan.head.slots.items()} == {
        name: value.shape for name, value in bundle.head.items()
    }
    assert tuple(plan.results.slots) == INSTANCE_OUTPUTS and tuple(plan.features.slots) == FEATURE_OUTPUTS
    assert plan.frame.slots["rgb"].spec.dtype == "uint8" and plan.frame.slots["rgb"].nbytes == 384 * 512 * 3
    both_heads = 2 * sum(value.nbytes for value in bundle.head.values())
    assert both_heads < plan.device_bytes < 16 << 20
    # intrinsics and belt_plane follow the images, so that a camera's frame uploads these two and nothing else
    slots = plan.frame.slots
    assert (
        slots["intrinsics"].offset > slots["depth"].offset and slots["belt_plane"].offset > slots["intrinsics"].offset
    )


@pytest.mark.parametrize("spoil", ["shape", "missing", "extra"])
def test_a_compiled_engine_with_other_tensors_is_refused(bundle: Bundle, spoil: str) -> None:
    _, head, _ = graph_specs(bundle)
    found = dict(head)
    check_tensors(found, head, "engine.plan")
    spec = found.pop("head.classes.bias")
    if spoil == "shape":
        found["head.classes.bias"] = spec.model_copy(update={"shape": (6,)})
    elif spoil == "extra":
        found |= {"head.classes.bias": spec, "more": spec}
    with pytest.raises(RobinError, match=r"engine\.plan: tensor '(head\.classes\.bias|more)'") as caught:
        check_tensors(found, head, "engine.plan")
    assert caught.value.code == Code.ENGINE_BUILD_FAILED


def test_the_key_changes_with_everything_an_engine_depends_on(bundle: Bundle) -> None:
    key = engine_key(bundle, ORIN, "10.3.0", "float16")
    manifest = bundle.manifest
    wider = manifest.model_copy(update={"input_width": 640})
    retrained = manifest.model_copy(update={"files": {**manifest.files, "network.onnx": "0" * 64}})
    spec = manifest.head[0]
    reshaped = manifest.model_copy(
        update={"head": (spec.model_copy(update={"shape": (9, *spec.shape[1:])}), *manifest.head[1:])}
    )
    others = [
        engine_key(bundle, ORIN, "10.3.0", "float32"),
        engine_key(bundle, ORIN, "10.7.0", "float16"),
        engine_key(bundle, replace(ORIN, uuid="01" * 16), "10.3.0", "float16"),
        engine_key(bundle, replace(ORIN, name="Thor"), "10.3.0", "float16"),
        engine_key(bundle, replace(ORIN, compute="11.0"), "10.3.0", "float16"),
        engine_key(bundle, replace(ORIN, driver="13.0"), "10.3.0", "float16"),
        *(
            engine_key(Bundle(bundle.directory, other, bundle.head), ORIN, "10.3.0", "float16")
            for other in (wider, retrained, reshaped)
        ),
    ]
    assert len({key_digest(k) for k in (key, *others)}) == len(others) + 1


def test_another_head_of_the_same_shape_needs_no_other_engine(bundle: Bundle) -> None:
    other = Bundle(bundle.directory, bundle.manifest, {name: value + 1 for name, value in bundle.head.items()})
    assert engine_key(other, ORIN, "10.3.0", "float16") == engine_key(bundle, ORIN, "10.3.0", "float16")


# What the machine has


def spec_of(*present: str) -> Callable[[str], object]:
    return lambda name: object() if name in present else None


def test_no_gpu_is_one_line_with_a_remedy(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_probe, "_DEVICES", ("/nonexistent/nvidia",))
    reason = tensorrt_probe.unavailable_reason(bundle)
    assert reason is not None and "no NVIDIA GPU" in reason and "install the GPU's driver" in reason
    with pytest.raises(RobinError, match="no NVIDIA GPU") as caught:
        make_engine("tensorrt", bundle)
    assert caught.value.code == Code.ENGINE_UNAVAILABLE and "\n" not in caught.value.text


@pytest.mark.parametrize(
    ("present", "version", "words"),
    [
        ((), "", "not installed"),
        (("tensorrt_lean",), "", "tensorrt_lean only, which can run engines but not build them"),
        (("tensorrt", "pycuda"), "8.6.1", r"8\.6\.1 is too old, 10\.3 or newer is needed"),
        (("tensorrt",), "10.3.0", "pycuda: not installed"),
        (("tensorrt_rtx", "pycuda"), "1.4.0", r"TensorRT: for RTX 1\.4\.0 is too old, 1\.7 or newer is needed"),
        (("tensorrt_rtx",), "1.7.1.116", "pycuda: not installed"),
        (("tensorrt", "tensorrt_rtx"), "10.3.0", "pycuda: not installed"),  # TensorRT comes before the one for RTX
    ],
)
def test_what_is_missing_or_too_old_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, present: tuple[str, ...], version: str, words: str
) -> None:
    monkeypatch.setattr(tensorrt_probe, "_DEVICES", (str(tmp_path),))
    monkeypatch.setattr(tensorrt_probe, "DRIVER_LIBRARY", "libc.so.6")  # any library that is there
    monkeypatch.setattr(tensorrt_probe, "find_spec", spec_of(*present))
    monkeypatch.setattr(tensorrt_probe, "tensorrt_version", lambda package: version)
    reason = tensorrt_probe.unavailable_reason()
    assert reason is not None
    assert re.search(words, reason) and "pip install" in reason


def test_a_driver_without_its_library_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tensorrt_probe, "_DEVICES", (str(tmp_path),))
    monkeypatch.setattr(tensorrt_probe, "DRIVER_LIBRARY", "libcuda-is-not-here.so.1")
    reason = tensorrt_probe.unavailable_reason()
    assert reason is not None and "CUDA driver library" in reason and "--gpus all" in reason


def test_an_engine_that_was_never_built_is_not_built_unseen(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tensorrt_probe, "findings", lambda: [])
    monkeypatch.setenv("ROBIN_ENGINE_CACHE", str(tmp_path))
    reason = tensorrt_probe.unavailable_reason(bundle)
    assert reason is not None and f"robin engine build {bundle.directory}" in reason
    EngineCache().store({**engine_key(bundle, ORIN, "10.0.0", "float16")}, {PLAN_FILE: b"of an older version"})
    assert tensorrt_probe.unavailable_reason(bundle) is None  # wanted once: it is built anew


def test_importing_the_engine_imports_neither_tensorrt_nor_pycuda() -> None:
    """In an interpreter of its own: other tests load the real ones."""
    modules = sorted(f"robin_perception.engines.tensorrt.{path.stem}" for path in ENGINES.glob("[a-z]*.py"))
    told = "print(*sorted({'tensorrt', 'tensorrt_rtx', 'tensorrt_lean', 'pycuda'} & set(sys.modules)))"
    code = "\n".join(("import sys", *(f"import {name}" for name in modules), told))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert len(modules) > 10 and done.stdout.strip() == ""


def test_a_cuda_that_cannot_start_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycuda", None)
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    with pytest.raises(RobinError, match="CUDA cannot be used") as caught:
        CudaThread()
    assert caught.value.code == Code.ENGINE_UNAVAILABLE


def test_memory_errors_have_a_code_of_their_own() -> None:
    memory = type("MemoryError", (Exception,), {})("cuMemAlloc failed: out of memory")
    assert cuda_error(memory).code == Code.ENGINE_OUT_OF_MEMORY
    assert cuda_error(RuntimeError("cuLaunchKernel failed: illegal address\nmore")).code == Code.ENGINE_FAILED
    assert "\n" not in cuda_error(RuntimeError("one\ntwo")).text


# The plan and the cache

KEY = {"kind": "tensorrt", "gpu_uuid": "aa" * 16, "tensorrt": "10.3.0"}


def plan_of(data: bytes, timing: bytes = b"") -> BuiltPlan:
    return BuiltPlan(data, "INFO: built\n", timing, 12.0)


def test_a_plan_is_built_once_with_its_log_beside_it_and_the_timings_help_the_next(tmp_path: Path) -> None:
    cache, seen = EngineCache(tmp_path / "engines"), []

    def build(timing: bytes) -> BuiltPlan:
        seen.append(timing)
        return plan_of(b"plan", b"timings")

    first = cached_plan(cache, KEY, build)
    assert first.path is not None and first.built_s == 12.0
    assert (first.path / LOG_FILE).read_text() == "INFO: built\n"
    again = cached_plan(cache, KEY, build)
    assert again.plan == b"plan" and again.built_s == 0 and seen == [b""]
    cached_plan(cache, {**KEY, "precision": "float32"}, build)
    cached_plan(cache, {**KEY, "tensorrt": "11.0"}, build)
    assert seen == [b"", b"timings", b""]  # another version times anew
    assert cached_plan(cache, KEY, build, rebuild=True).built_s == 12.0 and len(seen) == 4


def test_a_disk_that_fills_up_costs_the_cache_not_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(self: EngineCache, key: Any, files: Any) -> Path:
        raise RobinError(Code.DISK_FULL, "no space")

    monkeypatch.setattr(EngineCache, "_store", full)
    with caplog.at_level("WARNING"):
        plan = cached_plan(EngineCache(tmp_path), KEY, lambda timing: plan_of(b"plan"))
    assert plan.plan == b"plan" and plan.path is None
    assert "the engine is used, but not kept" in caplog.text


def test_a_disk_that_is_full_is_told_before_minutes_of_building(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt_cache, "_LEAST_FREE_BYTES", 1 << 62)
    with pytest.raises(RobinError, match="nothing was built") as caught:
        cached_plan(EngineCache(tmp_path), KEY, lambda timing: pytest.fail("built"))
    assert caught.value.code == Code.DISK_FULL


def test_the_last_error_of_the_build_is_one_line() -> None:
    log = BuildLog(errors=["first", "Error Code 4:\n  no implementation"])
    assert log.failure("none") == "Error Code 4: no implementation"
    assert BuildLog().failure("none") == "none"
    assert log.problem("network.onnx", "none", Code.ENGINE_FAILED).code == Code.ENGINE_FAILED
    log = BuildLog(errors=["Error Code 2: OutOfMemory (Requested size was 5 bytes.)", "no plan"])
    assert log.problem("network.onnx", "none", Code.ENGINE_BUILD_FAILED).code == Code.ENGINE_OUT_OF_MEMORY


# The real libraries, where they are installed

TENSORRT_MODULES = ("builder", "bindings", "runtime")
RTX_MODULES = (*TENSORRT_MODULES, "rtx")
RECEIVERS = {
    "trt": "",
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "cache": "ITimingCache",
    "engine": "ICudaEngine",
    "_engine": "ICudaEngine",
    "_runtime": "Runtime",
    "context": "IExecutionContext",
    "_context": "IExecutionContext",
    "_trt": "",
}


def names_used(modules: tuple[str, ...], receivers: dict[str, str]) -> set[tuple[str, ...]]:
    """(class, attribute, ...) of what these modules ask of variables and members with the receivers' names."""
    used: set[tuple[str, ...]] = set()
    for module in modules:
        for node in ast.walk(ast.parse((ENGINES / f"{module}.py").read_text())):
            chain: list[str] = []
            inner: ast.AST = node
            while isinstance(inner, ast.Attribute):
                chain.insert(0, inner.attr)
                inner = inner.value
            root = inner.id if isinstance(inner, ast.Name) else ""
            if root == "self" and len(chain) > 1:
                root, chain = chain[0], chain[1:]
            if root in receivers and chain:
                used.add((receivers[root], *chain))
    return used


def missing(library: ModuleType, used: set[tuple[str, ...]]) -> list[str]:
    lost = []
    for owner, *chain in sorted(used):
        place: Any = getattr(library, owner, None) if owner else library
        if place is None:
            continue  # a runtime-only library has no builder
        for name in chain:
            place = getattr(place, name, None)
            if place is None:
                lost.append(".".join((owner or library.__name__, *chain)))
                break
    return lost


def calls_made(modules: tuple[str, ...], receivers: dict[str, str]) -> set[tuple[str, str, int]]:
    """(class, method, arguments) of what these modules call, with arguments by place alone."""
    made: set[tuple[str, str, int]] = set()
    for module in modules:
        for node in ast.walk(ast.parse((ENGINES / f"{module}.py").read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.keywords:
                continue
            owner = node.func.value
            name = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
            if receivers.get(name):
                made.add((receivers[name], node.func.attr, len(node.args)))
    return made


def arities(method: Callable[..., Any]) -> set[int]:
    """How many arguments a method of the bindings takes, self left out, as its docstring's signatures say."""
    counts: set[int] = set()
    for inside in re.findall(rf"\b{method.__name__}\(self: [\w.]+(.*?)\) -> ", method.__doc__ or ""):
        given = re.findall(r", (\w+): [^=]*?( = .*?)?(?=, \w+: |$)", inside)
        least = sum(1 for _, default in given if not default)
        counts.update(range(least, len(given) + 1))
    return counts


def test_the_reader_of_names_finds_what_the_engine_uses() -> None:
    used = names_used(TENSORRT_MODULES, RECEIVERS)
    assert ("IExecutionContext", "execute_async_v3") in used and ("Builder", "build_serialized_network") in used
    assert ("", "NetworkDefinitionCreationFlag", "STRONGLY_TYPED") in used and ("", "BuilderFlag", "TF32") in used
    calls = calls_made(TENSORRT_MODULES, RECEIVERS)
    assert ("IExecutionContext", "set_tensor_address", 2) in calls and ("Builder", "create_network", 1) in calls
    assert not {"FP16", "INT8"} & {name for chain in used for name in chain}  # weak typing is gone in TensorRT 11


@pytest.mark.parametrize("library", ["tensorrt", "tensorrt_bindings", "tensorrt_lean", "tensorrt_rtx"])
def test_names_and_arguments_are_those_of_the_real_tensorrt(library: str) -> None:
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed here")
    real = pytest.importorskip(library, reason=f"{library} does not load here", exc_type=ImportError)
    modules = RTX_MODULES if library == "tensorrt_rtx" else TENSORRT_MODULES
    used = names_used(modules, RECEIVERS)
    if not hasattr(real, "Builder"):  # the runtime alone
        builder_only = {"OnnxParser", "NetworkDefinitionCreationFlag", "Builder"}
        used = {chain for chain in used if not builder_only & set(chain)}
    assert missing(real, used) == []
    assert missing(real, {("IExecutionContext", "execute_async_v4")}) == ["IExecutionContext.execute_async_v4"]
    wrong = {
        (owner, name, count): arities(getattr(getattr(real, owner), name))
        for owner, name, count in calls_made(modules, RECEIVERS)
        if hasattr(real, owner) and count not in arities(getattr(getattr(real, owner), name))
    }
    assert wrong == {}
    assert {"FLOAT", "HALF", "UINT8", "INT32", "INT64", "BOOL"} <= set(dir(real.DataType))


def test_a_real_runtime_that_finds_no_cuda_is_refused_before_it_can_end_the_process() -> None:
    """It logs an error and returns a runtime; the first thing that is asked of that one is the last."""
    if find_spec("tensorrt_lean") is None or any(Path(path).exists() for path in tensorrt_probe._DEVICES):
        pytest.skip("tensorrt_lean is not installed here, or there is a GPU")
    real = pytest.importorskip("tensorrt_lean", reason="tensorrt_lean does not load here", exc_type=ImportError)
    with heard(real) as (logger, log), pytest.raises(RobinError, match="driver version is insufficient") as caught:
        made(lambda: real.Runtime(logger), log, "engine.plan", "TensorRT runtime")
    assert caught.value.code == Code.ENGINE_UNAVAILABLE and log.lines[0].startswith("ERROR: ")


def test_names_are_those_of_the_real_pycuda() -> None:
    if find_spec("pycuda") is None:
        pytest.skip("pycuda is not installed here: it is compiled against the CUDA toolkit")
    real = pytest.importorskip("pycuda.driver", reason="pycuda does not load without a driver", exc_type=ImportError)
    used = names_used(("cuda", "engine"), {"driver": "", "_driver": "", "context": "Context"})
    assert ("", "memcpy_htod_async") in used
    assert missing(real, used) == []


def test_the_engine_itself_where_it_can_run(bundle: Bundle) -> None:
    reason = tensorrt_probe.unavailable_reason()
    if reason is not None:
        pytest.skip(f"TensorRT cannot run here: {reason}")
    from robin_perception.engines.tensorrt.engine import TensorRtEngine
    from robin_perception.engines.verify import verify_engine

    engine = TensorRtEngine(bundle, EngineConfig())
    try:
        verdict = verify_engine(engine, bundle)
        assert verdict.passed, verdict.failures
        assert engine.describe()["cuda_graph"] == "yes" and np.isfinite(verdict.report["timing_ms"]["p50"])
    finally:
        engine.close()
