"""ONNX Runtime: on the CPU the engine of every machine without a GPU; on a GPU by its CUDA provider."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from robin_perception.core.errors import Code, RobinError
from robin_perception.engines.base import HEAD_SETS, Engine, EngineConfig, HeadSet, Tensors
from robin_perception.engines.ort.session import (
    CPU_PROVIDER,
    Provider,
    first_line,
    open_session,
    session_options,
    tensor_spec,
    thread_count,
)
from robin_perception.engines.output_pool import OutputPool
from robin_perception.model.bundle import Bundle, TensorSpec


class OnnxRuntimeEngine(Engine):
    """The bundle's own graph on the CPU.

    Frame tensors are read where they stand, outputs are written into arrays that go round (see OutputPool), and each of
    the two heads is bound once, when it is loaded. Only the outputs asked for are bound, so that the trunk's features,
    which are computed anyway, cost nothing unasked.
    """

    name = "onnxruntime"
    device: ClassVar[str] = "cpu"

    def __init__(self, bundle: Bundle, config: EngineConfig) -> None:
        super().__init__(bundle, config)
        self._session = open_session(self.graph_path(), self.options(), self.providers())
        self._inputs = {i.name: tensor_spec(i) for i in self._session.get_inputs() if i.name not in bundle.head}
        self._outputs = {o.name: tensor_spec(o) for o in self._session.get_outputs()}
        self._pools = {name: OutputPool(spec) for name, spec in self._outputs.items()}
        self._bindings: list[ort.IOBinding] = [self._session.io_binding() for _ in range(HEAD_SETS)]

    def graph_path(self) -> Path:
        """The graph that is run; for engines that were made from a bundle's, their own."""
        return self.bundle.network_path

    def options(self) -> ort.SessionOptions:
        """Options of the session."""
        return session_options(self.config)

    def providers(self) -> tuple[Provider, ...]:
        """Execution providers before the CPU, with their options."""
        return ()

    @property
    def inputs(self) -> dict[str, TensorSpec]:
        return self._inputs

    @property
    def outputs(self) -> dict[str, TensorSpec]:
        return self._outputs

    def describe(self) -> dict[str, str]:
        provider = next(iter(self._session.get_providers()), CPU_PROVIDER)
        return {
            "provider": provider,
            "precision": "float32",
            "threads": str(thread_count(self.config)),
            "version": ort.__version__,
        }

    def _load_head(self, head: HeadSet) -> None:
        binding = self._bindings[head.index]
        binding.clear_binding_inputs()
        try:
            for name, value in head.weights.items():
                binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(value, self.device, 0))
        except Exception as exc:  # ONNX Runtime raises a dozen unrelated types
            raise RobinError(Code.ENGINE_FAILED, f"{self.name}: {first_line(exc)}") from None

    def _run(self, feeds: Tensors, outputs: Sequence[str], head: HeadSet) -> Tensors:
        binding = self._bindings[head.index]
        started = time.perf_counter()
        unknown = [name for name in outputs if name not in self._pools]
        if unknown:
            raise RobinError(Code.ENGINE_FAILED, f"{self.name}: no output '{unknown[0]}'")
        held = {name: np.ascontiguousarray(feeds[name]) for name in self._inputs}
        results = {name: self._buffer(name) for name in outputs}
        try:
            for name, value in held.items():
                binding.bind_cpu_input(name, value)
            binding.clear_binding_outputs()
            for name, array in results.items():
                binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
            bound = time.perf_counter()
            self._session.run_with_iobinding(binding)
        except Exception as exc:  # as above
            raise RobinError(Code.ENGINE_FAILED, f"{self.name}: {first_line(exc)}") from None
        self._stage_ms = {"copy_in": (bound - started) * 1e3, "network": (time.perf_counter() - bound) * 1e3}
        return results

    def _buffer(self, name: str) -> NDArray[Any]:
        return self._pools[name].take() if self.output_buffers is None else self.output_buffers(name)

    def close(self) -> None:
        self._bindings.clear()
        del self._session
