"""ONNX Runtime sessions: the options that fit a small computer, and errors in one line."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import onnxruntime as ort
import psutil

from robin_perception.core.errors import Code, RobinError
from robin_perception.engines.base import EngineConfig
from robin_perception.model.bundle import Bundle, TensorSpec

CPU_PROVIDER = "CPUExecutionProvider"
# Of a larger machine the network takes no more unless told so: what more threads bring has not been measured.
MOST_THREADS = 8
LEAST_VERSION = (1, 18)

_DTYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8", "tensor(int64)": "int64", "tensor(int32)": "int32"}
_ERRORS_ONLY = 3
_FATAL_ONLY = 4
_DEFAULT_SEVERITY = 2  # warnings

Provider = tuple[str, dict[str, Any]]


def usable_cores() -> int:
    """Physical cores this process may run on, at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, psutil.cpu_count(logical=False) or allowed))


def thread_count(config: EngineConfig) -> int:
    """Threads of one inference."""
    return config.intra_threads or min(MOST_THREADS, usable_cores())


def session_options(config: EngineConfig) -> ort.SessionOptions:
    """One inference at a time on all of the threads. Shapes are static, so that the arena and the memory pattern of the
    first run fit every later one. Denormal numbers are left as they are: the option to flush them changes the caller's
    thread for good, and gains nothing here.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = thread_count(config)
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = True
    options.enable_mem_pattern = True
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if config.spin else "0")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def open_session(graph: Path, options: ort.SessionOptions, providers: Sequence[Provider] = ()) -> ort.InferenceSession:
    """A session over ``graph`` on ``providers``, the CPU behind them for what they cannot do.

    Raises RobinError ENGINE_FAILED naming the file when ONNX Runtime refuses the graph, ENGINE_UNAVAILABLE when the
    first provider was asked for and did not start: ONNX Runtime itself would go on, silently, on the CPU.
    """
    wanted = [*providers, (CPU_PROVIDER, {})]
    try:
        with _quiet(bool(providers)):
            # Bytes, since ONNX Runtime does not take every name that a file can have.
            session = ort.InferenceSession(graph.read_bytes(), options, providers=wanted, disable_fallback=1)
    except Exception as exc:  # ONNX Runtime raises a dozen unrelated types
        if providers:
            raise _not_started(providers[0][0], first_line(exc)) from None
        raise RobinError(Code.ENGINE_FAILED, f"{graph}: {first_line(exc)}") from None
    if wanted[0][0] not in session.get_providers():
        raise _not_started(wanted[0][0], "it went to the CPU")
    session.disable_fallback()
    return session


@contextlib.contextmanager
def _quiet(wanted: bool) -> Iterator[None]:
    """A GPU provider that does not start fills the terminal; the reason is told in one line."""
    if not wanted:
        yield
        return
    ort.set_default_logger_severity(_FATAL_ONLY)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            preload = getattr(ort, "preload_dlls", None)  # CUDA and cuDNN from NVIDIA's wheels; since ONNX Runtime 1.21
            if preload is not None:
                preload()
            yield
    finally:
        ort.set_default_logger_severity(_DEFAULT_SEVERITY)


def _not_started(provider: str, reason: str) -> RobinError:
    text = f"ONNX Runtime could not start {provider} ({reason}); {provider_remedy()}"
    return RobinError(Code.ENGINE_UNAVAILABLE, text)


def unavailable_reason(bundle: Bundle, config: EngineConfig) -> str | None:
    """Why ONNX Runtime cannot run here: its version, if anything."""
    del bundle, config
    version = tuple(int(part) for part in ort.__version__.split(".")[:2])
    if version < LEAST_VERSION:
        least = ".".join(str(part) for part in LEAST_VERSION)
        return f"onnxruntime {ort.__version__} is older than {least}; make setup"
    return None


def provider_missing(provider: str) -> str | None:
    """Why ``provider`` cannot be used with this ONNX Runtime; None when it was built with it."""
    if provider in ort.get_available_providers():
        return None
    return f"onnxruntime {ort.__version__} has no {provider}; {provider_remedy()}"


def provider_remedy() -> str:
    version = getattr(ort, "cuda_version", "") or "as its page says"
    return f"pip install 'onnxruntime-gpu[cuda,cudnn]' in place of onnxruntime (CUDA {version})"


def tensor_spec(value: ort.NodeArg) -> TensorSpec:
    """Raises RobinError ENGINE_FAILED for a dynamic shape."""
    if any(not isinstance(n, int) for n in value.shape):
        raise RobinError(Code.ENGINE_FAILED, f"'{value.name}' has the dynamic shape {value.shape}")
    return TensorSpec(name=value.name, shape=tuple(value.shape), dtype=_DTYPES.get(value.type, value.type))


def first_line(exc: Exception) -> str:
    return str(exc).strip().splitlines()[0] if str(exc).strip() else type(exc).__name__
