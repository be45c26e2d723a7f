"""From an ONNX graph to a TensorRT plan, the same way with TensorRT 10 and 11: strongly typed, TF32 off.

TensorRT is imported by the caller's wish only. All of it runs in the thread that owns the CUDA context.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from robin_perception.errors import Code, RobinError

_log = logging.getLogger(__name__)

# phase, step that was done, steps
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class BuildOptions:
    """workspace_bytes: most device memory that an operator may take for itself while it runs. level: 0..5, how long to
    search for quick kernels; 3 is TensorRT's default."""

    workspace_bytes: int = 512 << 20
    level: int = 3


@dataclass(frozen=True)
class BuiltPlan:
    """plan: the engine, for this very GPU and version. log: all that TensorRT said. timing: its timing cache."""

    plan: bytes
    log: str
    timing: bytes
    seconds: float


@dataclass
class BuildLog:
    """Lines of TensorRT's logger, from several threads."""

    lines: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def text(self) -> str:
        return "\n".join(self.lines) + "\n"

    def failure(self, otherwise: str) -> str:
        """The last error in one line."""
        return " ".join(self.errors[-1].split()) if self.errors else otherwise


def make_logger(trt: Any, log: BuildLog) -> Any:
    """A TensorRT logger that collects lines and hands warnings on to Python's logging."""

    class Collector(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity == trt.ILogger.VERBOSE:
                return
            log.lines.append(f"{str(severity).rpartition('.')[2]}: {message}")
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                log.errors.append(message)
            elif severity == trt.ILogger.WARNING:
                _log.info("TensorRT: %s", message)

    return Collector()


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
    graph: bytes,
    source: str,
    options: BuildOptions,
    timing: bytes = b"",
    report: Progress | None = None,
    cancelled: threading.Event | None = None,
) -> BuiltPlan:
    """Build ``graph`` (serialised ONNX, precision in the graph). timing: the timing cache of an earlier build.

    Raises RobinError ENGINE_OPERATOR_UNSUPPORTED naming what the parser refuses, ENGINE_OUT_OF_MEMORY,
    ENGINE_BUILD_FAILED with TensorRT's own last error.
    """
    import tensorrt as trt

    started = time.monotonic()
    log, stop = BuildLog(), cancelled or threading.Event()
    logger = make_logger(trt, log)
    builder = trt.Builder(logger)
    # Needed by TensorRT 10, ignored by 11, where every network is strongly typed.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph):
        raise _refused(parser, log, source)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    config.builder_optimization_level = options.level
    # Single precision is there because half would not do; the ten bits of TF32 would not either.
    config.clear_flag(trt.BuilderFlag.TF32)
    cache = config.create_timing_cache(timing)
    if not config.set_timing_cache(cache, False):
        _log.info("timing cache of another GPU or version is left aside")
        config.set_timing_cache(config.create_timing_cache(b""), False)
    monitor = make_monitor(trt, report or (lambda phase, step, steps: None), stop)
    config.progress_monitor = monitor  # outlives the build: it is held here
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise _failed(log, source, stop)
    fresh = config.get_timing_cache()
    return BuiltPlan(
        bytes(plan), log.text(), bytes(fresh.serialize()) if fresh is not None else b"", time.monotonic() - started
    )


def _refused(parser: Any, log: BuildLog, source: str) -> RobinError:
    if parser.num_errors == 0:
        return RobinError(Code.ENGINE_BUILD_FAILED, f"{source}: {log.failure('TensorRT cannot read the graph')}")
    error = parser.get_error(0)
    where = f"{error.node_operator()} '{error.node_name()}'" if error.node_operator() else "the graph"
    text = f"{source}: TensorRT does not take {where}: {' '.join(error.desc().split())}"
    return RobinError(Code.ENGINE_OPERATOR_UNSUPPORTED, text)


def _failed(log: BuildLog, source: str, stop: threading.Event) -> RobinError:
    if stop.is_set():
        return RobinError(Code.ENGINE_BUILD_FAILED, f"{source}: the build was broken off")
    text = log.failure("TensorRT gave no reason")
    memory = any(word in line.lower() for line in log.errors for word in ("out of memory", "outofmemory"))
    return RobinError(Code.ENGINE_OUT_OF_MEMORY if memory else Code.ENGINE_BUILD_FAILED, f"{source}: {text}")
