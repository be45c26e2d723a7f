"""What NVIDIA's own parser and compiler say of a bundle's graphs, on a machine without a GPU.

TensorRT for RTX is the one TensorRT whose builder needs no GPU. It has NVIDIA's ONNX parser and strong typing, and a
compiler of its own, so what it takes is no proof of what TensorRT 10 or 11 takes. What it builds here is thrown away.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from robin_perception.engines.prelude import camera_graph
from robin_perception.engines.tensorrt.bindings import load_tensorrt
from robin_perception.engines.tensorrt.builder import BuildOptions, build_plan
from robin_perception.engines.tensorrt.graph import Precision, tensorrt_graph
from robin_perception.engines.tensorrt.operators import refuse_unsupported
from robin_perception.engines.tensorrt.probe import RTX
from robin_perception.engines.tensorrt.rtx import COMPUTE
from robin_perception.engines.verify import CAMERA_SIZES
from robin_perception.model.bundle import Bundle
from robin_perception.model.onnx_graph import parse

PRECISIONS: tuple[Precision, ...] = ("float16", "float32")

Progress = Callable[[str, int, int], None]  # graph, graphs that are done, graphs


@dataclass(frozen=True)
class CompiledGraph:
    """A graph that was compiled for ``compute``, a compute capability. weight_bytes, scratch_bytes: what it will hold
    on the device for weights, and between its layers, as the compiler tells, None where it does not."""

    graph: str
    compute: str
    seconds: float
    plan_bytes: int
    weight_bytes: int | None
    scratch_bytes: int | None


def compile_graphs(
    bundle: Bundle,
    computes: Sequence[str] = COMPUTE,
    cameras: Sequence[tuple[int, int]] = CAMERA_SIZES,
    progress: Progress = lambda graph, done, total: None,
) -> list[CompiledGraph]:
    """Parse and compile the network in both precisions and the camera's prelude for frames of ``cameras`` (width,
    height), each for each of ``computes``, and compare them with the table of TensorRT 10.

    Raises RobinError ENGINE_UNAVAILABLE without TensorRT for RTX, ENGINE_OPERATOR_UNSUPPORTED naming the node,
    ENGINE_BUILD_FAILED, MODEL_*.
    """
    trt = load_tensorrt(RTX)
    graphs = list(_graphs(bundle, cameras))
    total = len(graphs) * len(computes)
    compiled: list[CompiledGraph] = []
    stop = threading.Event()
    # In a thread of its own: Ctrl-C would be raised in TensorRT's callbacks here, where it is lost.
    with ThreadPoolExecutor(1, "compile") as compiler:
        try:
            for name, graph in graphs:
                refuse_unsupported(parse(graph, name), name)
                for compute in computes:
                    progress(f"{name}, {compute}", len(compiled), total)
                    source, options = f"{name}, compute capability {compute}", BuildOptions(compute=compute)
                    plan = compiler.submit(build_plan, trt, graph, source, options, cancelled=stop).result()
                    weights, scratch = (_told(plan.log, what) for what in ("Weights", "Activation"))
                    compiled.append(CompiledGraph(name, compute, plan.seconds, len(plan.plan), weights, scratch))
        finally:
            stop.set()
    progress("", total, total)
    return compiled


def _graphs(bundle: Bundle, cameras: Sequence[tuple[int, int]]) -> Iterator[tuple[str, bytes]]:
    network = bundle.network_path.read_bytes()
    for precision in PRECISIONS:
        yield f"{bundle.manifest.name} {precision}", tensorrt_graph(network, precision, str(bundle.network_path))
    size = (bundle.manifest.input_width, bundle.manifest.input_height)
    for width, height in cameras:
        yield f"camera {width}x{height}", camera_graph((width, height), size)


def _told(log: str, what: str) -> int | None:
    found = re.search(rf"Total {what} Memory: (\d+) bytes", log)
    return int(found[1]) if found else None
