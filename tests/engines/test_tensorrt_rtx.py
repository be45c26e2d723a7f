"""The builder with NVIDIA's own parser and compiler: TensorRT for RTX asks for no GPU to build. Skipped where it is not
installed. What runs on a device is not looked at here."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers.cli_helpers import Robin
from helpers.perception_graphs import graph_of
from onnx import TensorProto, helper, numpy_helper

from robin_perception.core.errors import Code, RobinError
from robin_perception.engines.cache import EngineCache
from robin_perception.engines.tensorrt import bindings as tensorrt_library
from robin_perception.engines.tensorrt import check as tensorrt_check
from robin_perception.engines.tensorrt import runtime as tensorrt_runtime
from robin_perception.engines.tensorrt.bindings import heard, is_rtx, load_tensorrt, release
from robin_perception.engines.tensorrt.buffers import check_tensors, graph_specs
from robin_perception.engines.tensorrt.builder import BuildOptions, build_plan
from robin_perception.engines.tensorrt.cache import bundle_plan
from robin_perception.engines.tensorrt.check import PRECISIONS, compile_graphs
from robin_perception.engines.tensorrt.graph import Precision, tensorrt_graph
from robin_perception.engines.tensorrt.key import LOG_FILE, PLAN_FILE, Gpu
from robin_perception.engines.tensorrt.probe import RTX, driver_findings
from robin_perception.engines.tensorrt.rtx import COMPUTE
from robin_perception.engines.tensorrt.runtime import CompiledNetwork, tensors_of
from robin_perception.model.bundle import FRAME_INPUTS, Bundle, load_bundle

pytestmark = pytest.mark.skipif(find_spec(RTX) is None, reason="TensorRT for RTX is not installed here")
BASE = Path(__file__).resolve().parents[2] / "models" / "base"
SMALL = BuildOptions(compute="8.9")


@pytest.fixture(scope="module")
def trt() -> Any:
    return load_tensorrt(RTX)


@pytest.fixture
def robin(capsys: pytest.CaptureFixture[str]) -> Robin:
    return Robin(capsys)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle(BASE)


@pytest.fixture(scope="module")
def half(bundle: Bundle) -> bytes:
    return tensorrt_graph(bundle.network_path.read_bytes(), "float16", "base")


@pytest.mark.slow
def test_the_shipped_bundle_is_taken_for_every_gpu_in_half_precision(bundle: Bundle) -> None:
    steps: list[tuple[int, int]] = []
    found = compile_graphs(
        bundle, cameras=[(1280, 720)], progress=lambda graph, done, total: steps.append((done, total))
    )
    assert {(graph.graph, graph.compute) for graph in found} == {
        (name, compute)
        for name in (f"{bundle.manifest.name} float16", f"{bundle.manifest.name} float32", "camera 1280x720")
        for compute in COMPUTE
    }
    assert steps == [(done, 12) for done in range(13)]
    halves, singles = found[0], found[len(COMPUTE)]
    weights = sum(
        numpy_helper.to_array(tensor).nbytes
        for tensor in onnx.load(bundle.network_path).graph.initializer
        if tensor.data_type == TensorProto.FLOAT
    )
    assert halves.weight_bytes is not None and singles.weight_bytes is not None
    assert singles.weight_bytes > weights  # the device has them all,
    assert 0.5 * weights < halves.weight_bytes < 0.65 * singles.weight_bytes  # and the trunk's in half the room
    assert all(graph.plan_bytes > (graph.weight_bytes or 0) and graph.scratch_bytes is not None for graph in found)


class EngineOfNetwork:
    """What an engine is asked for about its tensors, answered by a network that was parsed: the same real types."""

    def __init__(self, network: Any) -> None:
        tensors = [network.get_input(i) for i in range(network.num_inputs)]
        tensors += [network.get_output(i) for i in range(network.num_outputs)]
        self._tensors = {tensor.name: tensor for tensor in tensors}
        self.num_io_tensors = len(tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_dtype(self, name: str) -> Any:
        return self._tensors[name].dtype

    def get_tensor_shape(self, name: str) -> Any:
        return self._tensors[name].shape


@pytest.mark.parametrize("precision", PRECISIONS)
def test_parsed_it_has_the_bundles_tensors_the_heads_weights_as_inputs(
    trt: Any, bundle: Bundle, precision: Precision
) -> None:
    graph = tensorrt_graph(bundle.network_path.read_bytes(), precision, "base")
    with heard(trt) as (logger, log):
        network = trt.Builder(logger).create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, logger)
        assert parser.parse(graph), log.errors
        found = tensors_of(EngineOfNetwork(network))
        inputs = {network.get_input(i).name for i in range(network.num_inputs)}
    frame, head, outputs = graph_specs(bundle)
    check_tensors(found, {**frame, **head, **outputs}, "base")
    assert inputs == {*FRAME_INPUTS, *bundle.head}
    assert found["rgb"].dtype == "uint8" and found["depth"].dtype == "float32"


def test_the_graph_as_exported_is_refused_by_the_node_that_tensorrt_does_not_take(trt: Any, bundle: Bundle) -> None:
    with pytest.raises(RobinError, match=r"base: TensorRT does not take Unsqueeze .*UInt8") as caught:
        build_plan(trt, bundle.network_path.read_bytes(), "base", SMALL)
    assert caught.value.code == Code.ENGINE_OPERATOR_UNSUPPORTED and "\n" not in caught.value.text


def small(node: onnx.NodeProto) -> bytes:
    """``node`` between x and y, with the types of what it gives where they are known: the parser asks for them."""
    graph = graph_of([node], {"k": np.array([4000], dtype=np.int64)}, [1, 1, 1, 5000])
    return bytes(onnx.shape_inference.infer_shapes(graph).SerializeToString())


@pytest.mark.parametrize(
    ("node", "code"),
    [
        (helper.make_node("MaxPool", ["x"], ["y", "i"], kernel_shape=[1, 1]), Code.ENGINE_OPERATOR_UNSUPPORTED),
        (helper.make_node("Unheard", ["x"], ["y"], name="odd"), Code.ENGINE_OPERATOR_UNSUPPORTED),
        (helper.make_node("TopK", ["x", "k"], ["y", "i"], axis=-1), Code.ENGINE_BUILD_FAILED),
    ],
)
def test_what_it_does_not_take_is_one_line(trt: Any, node: onnx.NodeProto, code: Code) -> None:
    with pytest.raises(RobinError, match="small") as caught:
        build_plan(trt, small(node), "small.onnx", SMALL)
    assert caught.value.code == code and "\n" not in caught.value.text
    if code is Code.ENGINE_OPERATOR_UNSUPPORTED:
        assert node.op_type in caught.value.text


def test_bytes_that_are_no_graph_are_one_line(trt: Any) -> None:
    with pytest.raises(RobinError, match="cut") as caught:
        build_plan(trt, b"\x08\x08cut off", "cut.onnx", SMALL)
    assert caught.value.code in (Code.ENGINE_BUILD_FAILED, Code.ENGINE_OPERATOR_UNSUPPORTED)
    assert "\n" not in caught.value.text


def test_a_gpu_that_it_does_not_build_for_is_told(trt: Any, half: bytes) -> None:
    with pytest.raises(RobinError, match=r"not build for compute capability 9\.0; for 7\.5, 8\.0, .*12\.0") as caught:
        build_plan(trt, half, "base", BuildOptions(compute="9.0"))
    assert caught.value.code == Code.ENGINE_BUILD_FAILED
    with pytest.raises(RobinError, match="Turing"):  # and one that lacks what the network needs, by the compiler
        build_plan(trt, half, "base", BuildOptions(compute="7.5"))


def test_progress_is_told_and_a_build_can_be_broken_off(trt: Any, half: bytes) -> None:
    told: list[tuple[str, int, int]] = []
    plan = build_plan(trt, half, "base", SMALL, report=lambda *step: told.append(step))
    assert len({phase for phase, _, _ in told}) > 5 and all(done <= total for _, done, total in told)
    assert plan.plan and plan.timing == b"" and "INFO: " in plan.log and "ERROR" not in plan.log
    stop = threading.Event()

    def third(*step: object) -> None:
        if len(told) == 3:
            stop.set()
        told.append(("", 0, 0))

    told.clear()
    with pytest.raises(RobinError, match="base: the build was broken off"):
        build_plan(trt, half, "base", SMALL, report=third, cancelled=stop)
    count = len(told)
    assert count < 60  # not at the end of it

    def breaks(*step: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(RobinError, match="broken off"):  # an exception in a callback would end the process
        build_plan(trt, half, "base", SMALL, report=breaks)


def test_a_build_goes_through_the_cache_under_the_librarys_name(
    trt: Any, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robin_perception.engines.tensorrt.cache.load_tensorrt", lambda: trt)
    cache, gpu = EngineCache(tmp_path), Gpu("RTX 4000", "00" * 16, "8.9", 20 << 30, "13.0")
    first = bundle_plan(cache, bundle, gpu, "float16")
    assert first.path is not None and first.built_s > 0 and (first.path / PLAN_FILE).read_bytes() == first.plan
    assert "Engine generation completed" in (first.path / LOG_FILE).read_text()
    again = bundle_plan(cache, bundle, gpu, "float16")
    assert again.plan == first.plan and again.built_s == 0
    assert [entry.key["tensorrt"] for entry in cache.entries()] == [f"RTX {trt.__version__}"]
    assert not list(tmp_path.glob(".timing*"))


def test_the_command_checks_and_tells(robin: Robin, tmp_path: Path) -> None:
    file = tmp_path / "check.json"
    done = robin("engine", "check", str(BASE), "--compute", "8.6", "--camera", "640x480", "--json", str(file))
    assert done.status == 0, done.err
    assert "It takes every graph" in done.out and "camera 640x480" in done.out
    found = json.loads(file.read_text())
    assert found["tensorrt"].startswith("RTX 1.") and len(found["graphs"]) == 3
    refused = robin("engine", "check", str(BASE), "--camera", "wide")
    assert refused.status == 2 and "E405" in refused.error_line and "--camera needs WxH" in refused.error_line
    unknown = robin("engine", "check", str(BASE), "--compute", "eight")
    assert unknown.status == 1 and "compute capability eight" in unknown.error_line


def test_without_the_library_the_command_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> None:
    def gone(package: str) -> Any:
        raise ImportError(f"No module named '{package}'")

    monkeypatch.setattr(tensorrt_library.importlib, "import_module", gone)
    with pytest.raises(RobinError, match=r"TensorRT for RTX cannot be loaded: .*; pip install .*rtx-cu13") as caught:
        compile_graphs(bundle)
    assert caught.value.code == Code.ENGINE_UNAVAILABLE


def test_a_node_that_a_robots_tensorrt_would_refuse_is_told_before(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT for RTX takes Hardmax; the table of TensorRT 10, which robots have, is asked first."""
    graph = small(helper.make_node("Hardmax", ["x"], ["y"]))
    monkeypatch.setattr(tensorrt_check, "_graphs", lambda *_: [("small", graph)])
    with pytest.raises(RobinError, match="small: TensorRT does not take Hardmax") as caught:
        compile_graphs(bundle)
    assert caught.value.code == Code.ENGINE_OPERATOR_UNSUPPORTED


def test_an_engine_that_finds_no_cuda_is_one_line(trt: Any, half: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    if all(finding.ok for finding in driver_findings()):
        pytest.skip("there is a GPU")
    monkeypatch.setattr(tensorrt_runtime, "load_tensorrt", lambda: trt)
    with pytest.raises(RobinError, match=r"engine\.plan: .*CUDA driver version is insufficient") as caught:
        CompiledNetwork(build_plan(trt, half, "base", SMALL).plan, "engine.plan", {})
    assert caught.value.code in (Code.ENGINE_FAILED, Code.ENGINE_UNAVAILABLE) and "\n" not in caught.value.text


def test_ctrl_c_ends_a_check_at_once() -> None:
    """It comes while TensorRT compiles, whose callbacks would swallow it."""
    code = f"""
import os, signal, threading
from pathlib import Path
from robin_perception.model.bundle import load_bundle
from robin_perception.engines.tensorrt.check import compile_graphs

def begun(graph, done, total):
    if done == 0:
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()

try:
    compile_graphs(load_bundle(Path({str(BASE)!r})), ["8.9"] * 100, progress=begun)
except KeyboardInterrupt:
    print("stopped")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "stopped\n" and "Exception caught" not in done.stdout + done.stderr


def test_which_library_it_is(trt: Any) -> None:
    assert is_rtx(trt) and release(trt) == f"RTX {trt.__version__}"
