"""ONNX Runtime on the CPU: the engine of every machine without a GPU."""

from __future__ import annotations

import os
from collections.abc import Sequence

import onnxruntime as ort
import psutil

from robin_perception.bundle import Bundle, TensorSpec
from robin_perception.engines.base import Engine, EngineConfig, Tensors
from robin_perception.errors import Code, RobinError

_DTYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8", "tensor(int64)": "int64", "tensor(int32)": "int32"}
_ERRORS_ONLY = 3


def usable_cores() -> int:
    """Physical cores this process may run on, at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, psutil.cpu_count(logical=False) or allowed))


class OnnxRuntimeEngine(Engine):
    """Only the outputs asked for are copied out, so the trunk's features, which are computed anyway, cost nothing
    unasked.
    """

    name = "onnxruntime"

    def __init__(self, bundle: Bundle, config: EngineConfig) -> None:
        super().__init__(bundle, config)
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = config.intra_threads or usable_cores()
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if config.spin else "0")
        try:
            self._session = ort.InferenceSession(str(bundle.network_path), options, providers=["CPUExecutionProvider"])
        except Exception as exc:  # ONNX Runtime raises a dozen unrelated types
            raise RobinError(Code.ENGINE_FAILED, f"{bundle.network_path}: {_first_line(exc)}") from None
        self._inputs = {i.name: _spec(i) for i in self._session.get_inputs() if i.name not in bundle.head}
        self._outputs = {o.name: _spec(o) for o in self._session.get_outputs()}

    @property
    def inputs(self) -> dict[str, TensorSpec]:
        return self._inputs

    @property
    def outputs(self) -> dict[str, TensorSpec]:
        return self._outputs

    def _run(self, feeds: Tensors, outputs: Sequence[str]) -> Tensors:
        try:
            values = self._session.run(list(outputs), feeds)
        except Exception as exc:  # as above
            raise RobinError(Code.ENGINE_FAILED, f"{self.name}: {_first_line(exc)}") from None
        return dict(zip(outputs, values, strict=True))

    def close(self) -> None:
        del self._session


def _spec(value: ort.NodeArg) -> TensorSpec:
    if any(not isinstance(n, int) for n in value.shape):
        raise RobinError(Code.ENGINE_FAILED, f"'{value.name}' has the dynamic shape {value.shape}")
    return TensorSpec(name=value.name, shape=tuple(value.shape), dtype=_DTYPES.get(value.type, value.type))


def _first_line(exc: Exception) -> str:
    return str(exc).strip().splitlines()[0] if str(exc).strip() else type(exc).__name__
