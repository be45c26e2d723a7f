"""A compiled plan on the device, with its tensors bound to memory that is allocated once.

Everything here runs in the thread that owns the CUDA context.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from robin_perception.bundle import TensorSpec
from robin_perception.engines.tensorrt_buffers import Specs, check_tensors
from robin_perception.engines.tensorrt_builder import BuildLog, make_logger
from robin_perception.engines.tensorrt_cuda import CapturedGraph
from robin_perception.errors import Code, RobinError

_log = logging.getLogger(__name__)
_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "UINT8": "uint8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}


class CompiledNetwork:
    """A plan that was deserialised, and the one context that executes it.

    Raises RobinError ENGINE_FAILED when TensorRT refuses the plan, ENGINE_OUT_OF_MEMORY, ENGINE_BUILD_FAILED when its
    tensors are not ``wanted``.
    """

    def __init__(self, plan: bytes, source: str, wanted: Specs) -> None:
        import tensorrt as trt

        self.source = source
        self._log = BuildLog()
        self._logger = make_logger(trt, self._log)
        self._runtime = trt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise self._failed("TensorRT does not take the engine")
        check_tensors(_tensors(self._engine), wanted, source)
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise self._failed("no memory for the engine's own tensors", Code.ENGINE_OUT_OF_MEMORY)
        self.scratch_bytes = int(self._engine.device_memory_size_v2)

    def bind(self, addresses: Mapping[str, int]) -> None:
        """Where each tensor lies on the device; asked for all before ``enqueue``."""
        for name, address in addresses.items():
            if not self._context.set_tensor_address(name, address):
                raise self._failed(f"TensorRT does not take an address for '{name}'")

    def enqueue(self, stream: Any) -> None:
        """Execute asynchronously on a pycuda stream."""
        if not self._context.execute_async_v3(stream.handle):
            raise self._failed("TensorRT could not start the network")

    def close(self) -> None:
        """TensorRT asks for this order."""
        self._context = None
        self._engine = None
        self._runtime = None

    def _failed(self, otherwise: str, code: Code = Code.ENGINE_FAILED) -> RobinError:
        text = self._log.failure(otherwise)
        memory = "out of memory" in text.lower() or "outofmemory" in text.lower()
        return RobinError(Code.ENGINE_OUT_OF_MEMORY if memory else code, f"{self.source}: {text}")


class Lane:
    """Work on a stream that repeats frame by frame with the same addresses: recorded as a CUDA graph after it ran once
    plainly, which saves the launch of each kernel. Where recording fails, it goes on plainly and says so once."""

    def __init__(self, stream: Any, work: Callable[[], None], record: bool = True) -> None:
        self._stream = stream
        self._work = work
        self._record = record
        self._ran = False
        self._graph: CapturedGraph | None = None

    @property
    def recorded(self) -> bool:
        return self._graph is not None

    def run(self) -> None:
        """Enqueue the work; the caller waits for the stream."""
        if self._graph is None and self._ran and self._record:
            try:
                self._graph = CapturedGraph(self._stream, self._work)
            except RobinError as exc:
                self._record = False
                _log.warning("CUDA graph is not used: %s", exc.text)
        if self._graph is not None:
            self._graph.launch()
        else:
            self._work()
            self._ran = True

    def free(self) -> None:
        if self._graph is not None:
            self._graph.free()
            self._graph = None


def _tensors(engine: Any) -> Specs:
    found: Specs = {}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        kind = str(engine.get_tensor_dtype(name)).rpartition(".")[2]
        shape = tuple(int(size) for size in engine.get_tensor_shape(name))
        found[name] = TensorSpec(name=name, shape=shape, dtype=_DTYPES.get(kind, kind))
    return found
