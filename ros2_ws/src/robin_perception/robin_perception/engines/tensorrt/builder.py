"""From an ONNX graph to a TensorRT plan, one way for TensorRT 10, 11 and for RTX: strongly typed, TF32 off.

All of it runs in the thread that owns the CUDA context, where there is one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from robin_perception.core.errors import Code, RobinError
from robin_perception.engines.tensorrt.bindings import BuildLog, heard, is_rtx, made
from robin_perception.engines.tensorrt.rtx import set_up_rtx

_log = logging.getLogger(__name__)

# phase, step that was done, steps
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class BuildOptions:
    """workspace_bytes: most device memory that an operator may take for itself while it runs. level: 0..5, how long to
    search for quick kernels; 3 is TensorRT's default. compute: of the GPU to build for, such as "8.9"; "" is this
    machine's with TensorRT, every one from 8.0 with TensorRT for RTX, which alone builds for another."""

    workspace_bytes: int = 512 << 20
    level: int = 3
    compute: str = ""


@dataclass(frozen=True)
class BuiltPlan:
    """plan: the engine, for this very GPU and version. log: all that TensorRT said. timing: its timing cache."""

    plan: bytes
    log: str
    timing: bytes
    seconds: float


def make_monitor(trt: Any, report: Progress, cancelled: threading.Event) -> Any:
    """A TensorRT progress monitor. It never raises: an exception in a callback would end the process, so that Ctrl-C
    and a failing ``report`` cancel the build instead."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._steps[phase_name] = num_steps
            self._tell(phase_name, 0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._tell(phase_name, step + 1)
            return not cancelled.is_set()

        def phase_finish(self, phase_name: str) -> None:
            self._tell(phase_name, self._steps.get(phase_name, 0))
            self._steps.pop(phase_name, None)

        def _tell(self, phase: str, step: int) -> None:
            try:
                report(phase, step, self._steps.get(phase, 0))
            except BaseException:
                cancelled.set()

    return Monitor()


def build_plan(
    trt: Any,
    graph: bytes,
    source: str,
    options: BuildOptions,
    timing: bytes = b"",
    report: Progress | None = None,
    cancelled: threading.Event | None = None,
) -> BuiltPlan:
    """Build ``graph`` (serialised ONNX, precision in the graph) with ``trt`` (``load_tensorrt``). timing: the timing
    cache of an earlier build.

    Raises RobinError ENGINE_OPERATOR_UNSUPPORTED naming what the parser refuses, ENGINE_OUT_OF_MEMORY,
    ENGINE_BUILD_FAILED with TensorRT's own last error.
    """
    started, stop = time.monotonic(), cancelled or threading.Event()
    with heard(trt) as (logger, log):
        builder = made(lambda: trt.Builder(logger), log, source, "TensorRT builder")
        # Needed by TensorRT 10, ignored by 11, where every network is strongly typed.
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, logger)  # holds weights that the network refers to
        if not parser.parse(graph):
            raise _refused(parser, log, source)
        config = builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
        config.builder_optimization_level = options.level
        # Single precision is there because half would not do; the ten bits of TF32 would not either.
        config.clear_flag(trt.BuilderFlag.TF32)
        cache = None
        if is_rtx(trt):
            set_up_rtx(trt, config, options.compute, source)
        else:
            cache = _timing_cache(config, timing)
        monitor = make_monitor(trt, report or (lambda phase, step, steps: None), stop)
        config.progress_monitor = monitor  # outlives the build: it is held here
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            if stop.is_set():
                raise RobinError(Code.ENGINE_BUILD_FAILED, f"{source}: the build was broken off")
            raise log.problem(source, "TensorRT gave no reason", Code.ENGINE_BUILD_FAILED)
        timings = b"" if cache is None else bytes(cache.serialize())
        return BuiltPlan(bytes(plan), log.text(), timings, time.monotonic() - started)


def _timing_cache(config: Any, timing: bytes) -> Any:
    """The timing cache that the build reads and fills; a new one where ``timing`` is damaged or another device's."""
    cache = config.create_timing_cache(timing)
    if cache is None or not config.set_timing_cache(cache, False):
        _log.info("timing cache of another GPU or version, or a damaged one, is left aside")
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


def _refused(parser: Any, log: BuildLog, source: str) -> RobinError:
    if parser.num_errors == 0:
        return RobinError(Code.ENGINE_BUILD_FAILED, f"{source}: {log.failure('TensorRT cannot read the graph')}")
    error = parser.get_error(0)
    where = f"{error.node_operator()} '{error.node_name()}'" if error.node_operator() else "the graph"
    text = f"{source}: TensorRT does not take {where}: {' '.join(error.desc().split())}"
    return RobinError(Code.ENGINE_OPERATOR_UNSUPPORTED, text)
