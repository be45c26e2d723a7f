"""TensorRT in host memory, for ``emulated_gpu.py``: plans are graphs, and ONNX Runtime computes them."""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper

if TYPE_CHECKING:
    from helpers.emulated_gpu import EmulatedGpu

_PLAN = b"emulated plan\n"


def emulated_tensorrt(gpu: EmulatedGpu) -> Any:
    """A plan is the graph itself behind a mark."""
    trt: Any = ModuleType("tensorrt")
    trt.__version__, trt.__spec__ = "10.9.0", ModuleSpec("tensorrt", None)

    class ILogger:
        INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

        def log(self, severity: int, message: str) -> None: ...

    class IProgressMonitor: ...

    def refuse(logger: Any, trouble: str, message: str) -> bool:
        if gpu.trouble == trouble:
            logger.log(ILogger.ERROR, message)
        return gpu.trouble == trouble

    class Builder:
        def __init__(self, logger: Any) -> None:
            if refuse(logger, "no builder", "CUDA initialization failure with error: 35"):
                raise TypeError("pybind11::init(): factory function returned nullptr")
            self._logger = logger

        def create_network(self, flags: int) -> Any:
            assert flags == 1 << trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
            return SimpleNamespace(graph=b"")

        def create_builder_config(self) -> Any:
            return Config()

        def build_serialized_network(self, network: Any, config: Any) -> bytes | None:
            gpu.ready("a build")
            gpu.builds += 1
            monitor = config.progress_monitor
            monitor.phase_start("building", None, 2)
            for step in range(2):
                if not monitor.step_complete("building", step):
                    return None
            monitor.phase_finish("building")
            if refuse(self._logger, "no build", "Error Code 10: no implementation for node"):
                return None
            return _PLAN + bytes(network.graph)

    class Config:
        progress_monitor: Any = None
        builder_optimization_level = 3

        def set_memory_pool_limit(self, pool: int, size: int) -> None: ...

        def clear_flag(self, flag: str) -> None:
            assert flag == "TF32"

        def create_timing_cache(self, data: bytes) -> Any:
            return None if data and gpu.trouble == "no timing cache" else SimpleNamespace(serialize=lambda: b"timings")

        def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
            if cache is None:
                raise TypeError("set_timing_cache(): incompatible function arguments")
            return not ignore_mismatch

    class OnnxParser:
        num_errors = 0

        def __init__(self, network: Any, logger: Any) -> None:
            self._network = network

        def parse(self, data: bytes) -> bool:
            onnx.checker.check_model(onnx.load_model_from_string(data))
            self._network.graph = data
            return True

    class Runtime:
        def __init__(self, logger: Any) -> None:
            refuse(logger, "no runtime", "CUDA initialization failure with error: 35")  # and is made all the same
            self._logger = logger

        def __del__(self) -> None:
            if gpu.trouble == "no runtime":
                gpu.broken.append("a runtime without CUDA is freed, which ends the process")

        def deserialize_cuda_engine(self, plan: bytes) -> Any:
            gpu.ready("a runtime")
            if gpu.trouble == "no runtime":
                gpu.broken.append("a runtime without CUDA is used, which ends the process")
            if refuse(self._logger, "no engine", "Error Code 1: Serialization") or not plan.startswith(_PLAN):
                return None
            return CudaEngine(self._logger, plan[len(_PLAN) :])

    class CudaEngine:
        device_memory_size_v2 = 1 << 20

        def __init__(self, logger: Any, data: bytes) -> None:
            self._logger = logger
            graph = onnx.load_model_from_string(data).graph
            weights = {tensor.name for tensor in graph.initializer}
            self.wanted = [value.name for value in graph.output]
            self.tensors = {v.name: v for v in (*graph.input, *graph.output) if v.name not in weights}
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            self.session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

        @property
        def num_io_tensors(self) -> int:
            return len(self.tensors)

        def get_tensor_name(self, index: int) -> str:
            return list(self.tensors)[index]

        def get_tensor_dtype(self, name: str) -> str:
            return "DataType." + {"float32": "FLOAT", "uint8": "UINT8"}[self.spec(name)[1].name]

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return self.spec(name)[0]

        def spec(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
            kind = self.tensors[name].type.tensor_type
            shape = tuple(dim.dim_value for dim in kind.shape.dim)
            return shape, np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem_type))

        def create_execution_context(self) -> Any:
            gpu.ready("a context of the network")
            if refuse(self._logger, "no context", "Error Code 2: OutOfMemory (requested size was 1 bytes)"):
                return None
            return ExecutionContext(self)

    class ExecutionContext:
        def __init__(self, engine: CudaEngine) -> None:
            self._engine, self._addresses = engine, dict[str, int]()
            self._ran = self._recorded = False
            gpu.live["contexts"].add(id(self))

        def __del__(self) -> None:
            gpu.live["contexts"].discard(id(self))

        def set_tensor_address(self, name: str, address: int) -> bool:
            if self._recorded and self._addresses.get(name) != address:
                gpu.broken.append("an address is changed after it was recorded")
            if address % 256:
                gpu.broken.append(f"'{name}' is not aligned")
            self._addresses[name] = address
            return name in self._engine.tensors

        def execute_async_v3(self, stream: int) -> bool:
            if set(self._addresses) != set(self._engine.tensors):
                gpu.broken.append("the network is started without all of its addresses")
                return False
            if gpu.capturing(stream):
                self._recorded = True
                if not self._ran:
                    gpu.broken.append("a context is recorded before it ran once")
            self._ran = True
            addresses, engine = dict(self._addresses), self._engine
            gpu.enqueue(stream, lambda: compute(engine, addresses))
            return True

    def compute(engine: CudaEngine, addresses: dict[str, int]) -> None:
        def place(name: str) -> NDArray[Any]:
            shape, dtype = engine.spec(name)
            size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            return gpu.at(addresses[name], size).view(dtype).reshape(shape)

        feeds = {name: place(name) for name in engine.tensors if name not in engine.wanted}
        for name, value in zip(engine.wanted, engine.session.run(engine.wanted, feeds), strict=True):
            np.copyto(place(name), value)

    trt.NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    trt.MemoryPoolType = SimpleNamespace(WORKSPACE=0)
    trt.BuilderFlag = SimpleNamespace(TF32="TF32")
    for thing in (ILogger, IProgressMonitor, Builder, OnnxParser, Runtime):
        setattr(trt, thing.__name__, thing)
    return trt
