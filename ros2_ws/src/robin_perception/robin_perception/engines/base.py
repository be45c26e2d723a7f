"""What every engine does: run the graph of a bundle on one frame, with a head that can be swapped between two
frames.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robin_perception.bundle import FRAME_INPUTS, INSTANCE_OUTPUTS, Bundle, TensorSpec, check_head
from robin_perception.config import StrictConfig
from robin_perception.errors import Code, RobinError

Tensors = dict[str, NDArray[Any]]


class EngineConfig(StrictConfig):
    """Settings that every engine understands.

    intra_threads: threads of one inference; 0 = the physical cores this process may use.
    spin: busy-wait between operators (lower latency, but it takes time from other processes).
    """

    intra_threads: int = Field(0, ge=0, le=256)
    spin: bool = True


class Engine(ABC):
    """Runs one bundle's graph. ``run`` and ``set_head`` may be called from different threads: a frame sees one whole
    head.

    inputs: the frame's tensors (the head's are fed by the engine). outputs: all that ``run`` can be asked for.
    """

    name: ClassVar[str]

    def __init__(self, bundle: Bundle, config: EngineConfig) -> None:
        self.bundle = bundle
        self.config = config
        self._lock = threading.Lock()
        self._head: dict[str, NDArray[np.float32]] = dict(bundle.head)

    @property
    @abstractmethod
    def inputs(self) -> dict[str, TensorSpec]: ...

    @property
    @abstractmethod
    def outputs(self) -> dict[str, TensorSpec]: ...

    @abstractmethod
    def _run(self, feeds: Tensors, outputs: Sequence[str]) -> Tensors:
        """Execute; raise RobinError ENGINE_FAILED on any failure of the back end."""

    @property
    def head(self) -> dict[str, NDArray[np.float32]]:
        """The head in use."""
        with self._lock:
            return dict(self._head)

    def set_head(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        """Use ``weights`` from the next frame on.

        Raises RobinError MODEL_TENSOR_MISSING, and then keeps the old head.
        """
        check_head(self.bundle.manifest, weights, "head")
        fresh = {key: np.ascontiguousarray(value) for key, value in weights.items()}
        with self._lock:
            self._head = fresh

    def run(self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None) -> Tensors:
        """Run one frame. ``outputs`` defaults to the instance tensors, without the trunk's features.

        Raises RobinError ENGINE_FAILED when the back end fails or answers with NaN or a wrong shape.
        """
        wanted = tuple(INSTANCE_OUTPUTS if outputs is None else outputs)
        self._check_inputs(inputs)
        with self._lock:
            head = self._head
        results = self._run({**inputs, **head}, wanted)
        self._check_outputs(results, wanted)
        return results

    @abstractmethod
    def close(self) -> None:
        """Release the back end; the engine is not used afterwards."""

    def _check_inputs(self, inputs: Mapping[str, NDArray[Any]]) -> None:
        for name in FRAME_INPUTS:
            spec, value = self.inputs[name], inputs.get(name)
            if value is None or value.shape != spec.shape or value.dtype != spec.dtype:
                got = "missing" if value is None else f"{value.dtype} {list(value.shape)}"
                need = f"{spec.dtype} {list(spec.shape)}"
                raise RobinError(Code.ENGINE_FAILED, f"{self.name}: input '{name}' is {got}, needs {need}")

    def _check_outputs(self, results: Tensors, wanted: Sequence[str]) -> None:
        for name in wanted:
            spec, value = self.outputs.get(name), results.get(name)
            if spec is None or value is None:
                raise RobinError(Code.ENGINE_FAILED, f"{self.name}: no output '{name}'")
            if value.shape != spec.shape:
                got, need = list(value.shape), list(spec.shape)
                raise RobinError(Code.ENGINE_FAILED, f"{self.name}: output '{name}' has shape {got}, needs {need}")
            if not np.isfinite(value).all():
                raise RobinError(Code.ENGINE_FAILED, f"{self.name}: output '{name}' holds NaN or infinity")
