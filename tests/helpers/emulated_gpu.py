"""pycuda, TensorRT and six functions of the CUDA driver in host memory, as far as our TensorRT engine uses them.

It computes with ONNX Runtime, and it is strict where the real ones are: work on a stream happens when somebody waits
for it, and not before; a context belongs to threads; nothing is allocated while work is recorded; a graph repeats what
was recorded, with the addresses of then; an execution context runs once before it is recorded, and keeps its addresses
after; addresses are multiples of 256 within memory that lives. What breaks a rule is an entry of ``broken``. It shows
that the calls fit together and are made in an order that those rules allow, not that a GPU computes what it should.
"""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from helpers.emulated_tensorrt import emulated_tensorrt
from robin_perception.engines.tensorrt import cuda as tensorrt_cuda
from robin_perception.engines.tensorrt import probe as tensorrt_probe

Work = Callable[[], None]
_REFUSED_IN_CAPTURE = 900  # CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED


class EmulatedGpu:
    """One device. What a test sets: allocations_left, refuse_capture, lost, and trouble ("no builder", "no runtime",
    "no engine", "no context", "no build", "no timing cache"). What it looks at: broken, left, recorded, builds,
    on_stacks."""

    def __init__(self) -> None:
        self.allocations_left = 1 << 30
        self.refuse_capture = self.lost = False
        self.trouble = ""
        self.broken: list[str] = []
        self.live: dict[str, set[int]] = {"memory": set(), "streams": set(), "graphs": set(), "contexts": set()}
        self.recorded = self.builds = self.on_stacks = 0
        self._memory: dict[int, NDArray[np.uint8]] = {}
        self._numbers = itertools.count(1)
        self._threads = threading.local()
        self._streams: dict[int, list[Work]] = {}
        self._capture: tuple[int, list[Work]] | None = None
        self._graphs: dict[int, list[Work]] = {}
        self.driver, self.tensorrt = _driver(self), emulated_tensorrt(self)
        self.driver_calls = _library(self)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        package = ModuleType("pycuda")
        package.driver = self.driver  # type: ignore[attr-defined]
        for name, module in (("pycuda", package), ("pycuda.driver", self.driver), ("tensorrt", self.tensorrt)):
            monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setattr(tensorrt_cuda, "_library", lambda: self.driver_calls)
        monkeypatch.setattr(tensorrt_probe, "findings", lambda: [])

    # Memory

    def allocate(self, size: int) -> int:
        self.ready("an allocation")
        if self._capture is not None:
            self.broken.append("an allocation while work is recorded")
        if self.allocations_left <= 0:
            raise self.driver.MemoryError("cuMemAlloc failed: out of memory")
        self.allocations_left -= 1
        address = next(self._numbers) << 32
        self._memory[address] = np.full(size, 0xA5, np.uint8)  # whoever reads before writing sees it
        self.live["memory"].add(address)
        return address

    def release(self, address: int) -> None:
        self.live["memory"].discard(address)
        if self._memory.pop(address, None) is None:
            self.broken.append("memory is freed twice")

    def at(self, address: int, size: int) -> NDArray[np.uint8]:
        base = address >> 32 << 32
        block = self._memory.get(base)
        if block is None or address - base + size > len(block):
            self.broken.append("work on memory that is not there")
            return np.zeros(size, np.uint8)
        return block[address - base : address - base + size]

    # Threads and streams

    @property
    def stack(self) -> list[Any]:
        if not hasattr(self._threads, "stack"):
            self._threads.stack = []
        found: list[Any] = self._threads.stack
        return found

    def ready(self, what: str) -> None:
        """Raises what a context that is missing, or lost, does."""
        if not self.stack:
            self.broken.append(f"{what} in a thread without a context")
            raise self.driver.LogicError(f"{what} failed: invalid device context")
        if self.lost:
            raise self.driver.LogicError(f"{what} failed: an illegal memory access was encountered")

    def capturing(self, stream: int) -> bool:
        return self._capture is not None and self._capture[0] == stream

    def enqueue(self, stream: int, work: Work) -> None:
        self.ready("work")
        if self._capture is not None and self._capture[0] == stream:
            self._capture[1].append(work)
        else:
            self._streams[stream].append(work)

    def wait(self, stream: int) -> None:
        self.ready("cuStreamSynchronize")
        pending, self._streams[stream] = self._streams[stream], []
        for work in pending:
            work()

    def open_stream(self) -> int:
        handle = next(self._numbers)
        self._streams[handle] = []
        self.live["streams"].add(handle)
        return handle

    def begin(self, stream: int) -> int:
        if self.refuse_capture:
            return _REFUSED_IN_CAPTURE
        self._capture = (stream, [])
        return 0

    def end(self) -> int:
        """The graph's number."""
        assert self._capture is not None
        number = next(self._numbers)
        self._graphs[number], self._capture = self._capture[1], None
        self.live["graphs"].add(number)
        return number

    def instantiate(self, graph: int) -> int:
        number = next(self._numbers)
        self._graphs[number] = self._graphs[graph]
        self.live["graphs"].add(number)
        self.recorded += 1
        return number

    def launch(self, graph: int, stream: int) -> int:
        self._streams[stream].extend(self._graphs[graph])
        return 700 if self.lost else 0

    def destroy(self, graph: int) -> int:
        self.live["graphs"].discard(graph)
        return 0

    @property
    def left(self) -> dict[str, int]:
        """What was not given back."""
        return {kind: len(things) for kind, things in self.live.items() if things}


def _driver(gpu: EmulatedGpu) -> Any:
    module: Any = ModuleType("pycuda.driver")
    module.Error = type("Error", (Exception,), {})
    for name in ("MemoryError", "LogicError", "LaunchError", "RuntimeError"):
        setattr(module, name, type(name, (module.Error,), {}))

    class Context:
        def push(self) -> None:
            gpu.stack.append(self)
            gpu.on_stacks += 1

        @staticmethod
        def pop() -> None:
            gpu.ready("cuCtxPopCurrent")
            gpu.stack.pop()
            gpu.on_stacks -= 1

        def detach(self) -> None: ...

        @staticmethod
        def synchronize() -> None:
            gpu.ready("cuCtxSynchronize")

    class Device:
        def __init__(self, index: int) -> None:
            assert index == 0

        def name(self) -> str:
            return "Emulated GPU"

        def compute_capability(self) -> tuple[int, int]:
            return 8, 7

        def total_memory(self) -> int:
            return 8 << 30

        def pci_bus_id(self) -> str:
            return "0000:01:00.0"

        def retain_primary_context(self) -> Context:
            return Context()

    class Stream:
        def __init__(self, flags: int = 0) -> None:
            gpu.ready("cuStreamCreate")
            self.handle = gpu.open_stream()

        def synchronize(self) -> None:
            gpu.wait(self.handle)

        def __del__(self) -> None:
            if gpu.stack:  # pycuda leaves it to the context's end elsewhere
                gpu.live["streams"].discard(self.handle)

    class Event:
        def record(self, stream: Stream) -> None:
            gpu.ready("cuEventRecord")

        def time_since(self, earlier: Event) -> float:
            return 1.0

    class Allocation:
        def __init__(self, size: int) -> None:
            self._address = gpu.allocate(size)

        def __int__(self) -> int:
            return self._address

        def free(self) -> None:
            gpu.ready("cuMemFree")
            gpu.release(self._address)

    class Pinned:
        """The allocation that a page-locked array has for its base."""

        def __init__(self, size: int) -> None:
            self._address = gpu.allocate(size)
            self.__array_interface__ = gpu.at(self._address, size).__array_interface__

        def free(self) -> None:
            gpu.ready("cuMemFreeHost")
            gpu.release(self._address)

    def pagelocked_empty(shape: int, dtype: Any) -> NDArray[Any]:
        assert dtype is np.uint8
        return np.asarray(Pinned(shape))

    def memcpy_htod_async(dest: int, src: NDArray[np.uint8], stream: Stream) -> None:
        gpu.enqueue(stream.handle, lambda: gpu.at(int(dest), src.nbytes).__setitem__(slice(None), src))

    def memcpy_dtoh_async(dest: NDArray[np.uint8], src: Any, stream: Stream) -> None:
        gpu.enqueue(stream.handle, lambda: np.copyto(np.asarray(dest), gpu.at(int(src), dest.nbytes)))

    module.init = lambda: None
    module.get_driver_version = lambda: 12060
    module.mem_alloc = Allocation
    for thing in (Context, Device, Stream, Event, pagelocked_empty, memcpy_htod_async, memcpy_dtoh_async):
        setattr(module, thing.__name__, thing)
    return module


def _library(gpu: EmulatedGpu) -> Any:
    """Functions of libcuda, called by ctypes: handles are c_void_p, results go behind a byref."""

    def put(place: Any, number: int) -> int:
        place._obj.value = number
        return 0

    return SimpleNamespace(
        cuDeviceGet=lambda handle, index: put(handle, index),
        cuDeviceGetUuid_v2=lambda uuid, handle: uuid.__setitem__(0, 7) or 0,
        cuStreamBeginCapture_v2=lambda stream, mode: gpu.begin(stream.value),
        cuStreamEndCapture=lambda stream, graph: put(graph, gpu.end()),
        cuGraphInstantiateWithFlags=lambda made, graph, flags: put(made, gpu.instantiate(graph.value)),
        cuGraphLaunch=lambda graph, stream: gpu.launch(graph.value, stream.value),
        cuGraphDestroy=lambda graph: gpu.destroy(graph.value),
        cuGraphExecDestroy=lambda graph: gpu.destroy(graph.value),
    )
