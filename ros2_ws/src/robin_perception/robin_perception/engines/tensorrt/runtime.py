"""A compiled plan on the device, with its tensors bound to memory that is allocated once.

Everything here runs in the thread that owns the CUDA context.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from robin_perception.core.errors import Code, RobinError
from robin_perception.engines.tensorrt.bindings import heard, load_tensorrt, made
from robin_perception.engines.tensorrt.buffers import Specs, check_tensors
from robin_perception.engines.tensorrt.cuda import CapturedGraph
from robin_perception.model.bundle import TensorSpec

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
    """A plan that was deserialised. Its weights are on the device once, however often it is ``bound``.

    Raises RobinError ENGINE_FAILED when TensorRT refuses the plan, ENGINE_UNAVAILABLE without a runtime,
    ENGINE_OUT_OF_MEMORY, ENGINE_BUILD_FAILED when its tensors are not ``wanted``.
    """

    def __init__(self, plan: bytes, source: str, wanted: Specs) -> None:
        self.source = source
        self._trt = load_tensorrt()
        self._bound: list[BoundNetwork] = []
        with heard(self._trt) as (logger, log):
            self._runtime = made(lambda: self._trt.Runtime(logger), log, source, "TensorRT runtime")
            self._engine = self._runtime.deserialize_cuda_engine(plan)
            if self._engine is None:
                raise log.problem(source, "TensorRT does not take the engine", Code.ENGINE_FAILED)
        check_tensors(tensors_of(self._engine), wanted, source)

    @property
    def scratch_bytes(self) -> int:
        """Device memory of the network's own tensors, in all of its contexts."""
        return int(self._engine.device_memory_size_v2) * len(self._bound)

    def bind(self, addresses: Mapping[str, int]) -> BoundNetwork:
        """The network with each of its tensors at the device address that it keeps.

        A context of its own, as TensorRT's guide asks for each CUDA graph that is captured from one.
        """
        with heard(self._trt) as (_, log):
            context = self._engine.create_execution_context()
            if context is None:
                raise log.problem(self.source, "no memory for the engine's own tensors", Code.ENGINE_OUT_OF_MEMORY)
            for name, address in addresses.items():
                if not context.set_tensor_address(name, address):
                    raise log.problem(self.source, f"TensorRT takes no address for '{name}'", Code.ENGINE_FAILED)
        bound = BoundNetwork(self._trt, context, self.source)
        self._bound.append(bound)
        return bound

    def close(self) -> None:
        """TensorRT asks for this order."""
        for bound in self._bound:
            bound.close()
        self._engine = None
        self._runtime = None


class BoundNetwork:
    """One execution context; made by ``CompiledNetwork.bind``."""

    def __init__(self, trt: Any, context: Any, source: str) -> None:
        self._trt, self._context, self._source = trt, context, source

    def enqueue(self, stream: Any) -> None:
        """Execute asynchronously on a pycuda stream. Raises RobinError ENGINE_FAILED, ENGINE_OUT_OF_MEMORY."""
        with heard(self._trt) as (_, log):
            if not self._context.execute_async_v3(stream.handle):
                raise log.problem(self._source, "TensorRT could not start the network", Code.ENGINE_FAILED)

    def close(self) -> None:
        self._context = None


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
        """Give the graph and the stream back; the lane is not run afterwards."""
        if self._graph is not None:
            self._graph.free()
        self._graph = self._stream = None


def tensors_of(engine: Any) -> Specs:
    """Name, shape and type of each input and output of a TensorRT engine."""
    found: Specs = {}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        kind = str(engine.get_tensor_dtype(name)).rpartition(".")[2]
        shape = tuple(int(size) for size in engine.get_tensor_shape(name))
        found[name] = TensorSpec(name=name, shape=shape, dtype=_DTYPES.get(kind, kind))
    return found
