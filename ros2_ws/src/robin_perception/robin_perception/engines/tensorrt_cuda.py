"""CUDA by pycuda: one thread that owns the context, page-locked and device memory, and captured graphs.

Everything that touches the device runs in one thread of its own, which retains the primary context, pushes it once and
frees in the end what it allocated. A context belongs to threads, and pycuda frees memory only in the thread that made
it, while a node calls from whichever of its executor's threads is free. Handing a call over costs some 20 us.

pycuda is imported in that thread, never when this module is.
"""

from __future__ import annotations

import ctypes
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TimeoutOfFuture
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from robin_perception.engines.tensorrt_buffers import Block
from robin_perception.engines.tensorrt_key import Gpu
from robin_perception.engines.tensorrt_probe import DRIVER_LIBRARY
from robin_perception.errors import Code, RobinError

_START_PATIENCE_S = 60.0
_END_PATIENCE_S = 5.0
_CAPTURE_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
_UUID_BYTES = 16

T = TypeVar("T")


class CudaThread:
    """The thread that owns the device. ``call`` runs work in it and hands its result or exception back.

    Raises RobinError ENGINE_UNAVAILABLE when there is no device.
    """

    def __init__(self, device: int = 0) -> None:
        self._work: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._ready: Future[Gpu] = Future()
        self.closed = False
        self._thread = threading.Thread(target=self._main, args=(device,), name="cuda", daemon=True)
        self._thread.start()
        try:
            self.gpu = self._ready.result(_START_PATIENCE_S)
        except TimeoutOfFuture:
            text = f"the CUDA driver did not start within {_START_PATIENCE_S:g} s"
            raise RobinError(Code.ENGINE_UNAVAILABLE, text) from None

    def call(self, work: Callable[[], T], patience_s: float | None = None) -> T:
        """Run ``work`` in the thread. Errors of CUDA become RobinError (``cuda_error``), others come through.

        patience_s: give up waiting after it with ENGINE_FAILED; the work itself cannot be broken off.
        """
        if self.closed or not self._thread.is_alive():
            raise RobinError(Code.ENGINE_FAILED, "the CUDA thread has ended")
        result: Future[T] = Future()
        self._work.put((work, result))
        try:
            return result.result(patience_s)
        except TimeoutOfFuture:
            raise RobinError(Code.ENGINE_FAILED, f"the GPU did not answer within {patience_s:g} s") from None

    def close(self) -> None:
        """End the thread and release the context. What it allocated must be freed before, by a last ``call``."""
        self.closed = True
        self._work.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join(_END_PATIENCE_S)

    def _main(self, device: int) -> None:
        try:
            import pycuda.driver as driver

            driver.init()
            chosen = driver.Device(device)
            context = chosen.retain_primary_context()
            context.push()
        except Exception as exc:  # ImportError of a library it was built for, or any of pycuda's own
            self._ready.set_exception(RobinError(Code.ENGINE_UNAVAILABLE, f"CUDA cannot be used: {_line(exc)}"))
            return
        try:
            self._ready.set_result(_describe(driver, chosen, device))
            while (item := self._work.get()) is not None:
                work, result = item
                try:
                    result.set_result(work())
                except driver.Error as exc:
                    result.set_exception(cuda_error(exc))
                except BaseException as exc:
                    result.set_exception(exc)
                del item, work, result  # so that nothing of the device is held while waiting
        finally:
            driver.Context.pop()
            context.detach()


def cuda_error(exc: Exception) -> RobinError:
    """ENGINE_OUT_OF_MEMORY for a lack of device or page-locked memory, ENGINE_FAILED for everything else of pycuda."""
    text = _line(exc)
    if type(exc).__name__ == "MemoryError" or "out of memory" in text.lower():
        return RobinError(Code.ENGINE_OUT_OF_MEMORY, f"the GPU is out of memory: {text}")
    return RobinError(Code.ENGINE_FAILED, f"CUDA: {text}")


class Memory:
    """A block on the device and, where it travels, its twin in page-locked memory. To be made, used and freed in the
    CUDA thread; ``host`` may be read and written in any, while no copy is under way."""

    def __init__(self, block: Block, staged: bool) -> None:
        import pycuda.driver as driver

        self.block = block
        self._driver = driver
        self._device = driver.mem_alloc(max(1, block.nbytes))
        self._pinned = driver.pagelocked_empty(max(1, block.nbytes), np.uint8) if staged else None
        self.host: dict[str, NDArray[Any]] = {}
        if self._pinned is not None:
            for name, slot in block.slots.items():
                raw = self._pinned[slot.offset : slot.offset + slot.nbytes]
                self.host[name] = raw.view(slot.spec.dtype).reshape(slot.spec.shape)

    def address(self, name: str) -> int:
        """Of a tensor on the device."""
        return int(self._device) + self.block.slots[name].offset

    def upload(self, stream: Any, first: str = "") -> None:
        """The whole block, or what follows from tensor ``first`` on, asynchronously."""
        start = self.block.slots[first].offset if first else 0
        assert self._pinned is not None
        self._driver.memcpy_htod_async(int(self._device) + start, self._pinned[start:], stream)

    def download(self, stream: Any) -> None:
        """As ``upload``, the other way."""
        self._driver.memcpy_dtoh_async(self._pinned, self._device, stream)

    def free(self) -> None:
        """Give the memory back; arrays of ``host`` must not be used afterwards."""
        self.host.clear()
        self._device.free()
        if self._pinned is not None:
            self._pinned.base.free()
            self._pinned = None


class CapturedGraph:
    """Work that was recorded from a stream once and is launched as one. pycuda has no bindings for it, so that five
    functions of the driver are called directly.

    Raises RobinError ENGINE_FAILED when the driver cannot record ``work``.
    """

    def __init__(self, stream: Any, work: Callable[[], None]) -> None:
        self._library = _library()
        self._stream = ctypes.c_void_p(stream.handle)
        graph = ctypes.c_void_p()
        self._ask("cuStreamBeginCapture_v2", self._stream, ctypes.c_int(_CAPTURE_THREAD_LOCAL))
        try:
            work()
        finally:
            # Always ended, or the stream stays unusable; the first failure is the one that is told.
            status = self._library.cuStreamEndCapture(self._stream, ctypes.byref(graph))
        self._check("cuStreamEndCapture", status)
        self._executable = ctypes.c_void_p()
        try:
            self._ask("cuGraphInstantiateWithFlags", ctypes.byref(self._executable), graph, ctypes.c_ulonglong(0))
        finally:
            self._library.cuGraphDestroy(graph)

    def launch(self) -> None:
        """Run it on the stream it was recorded from, asynchronously. Raises RobinError ENGINE_FAILED."""
        self._ask("cuGraphLaunch", self._executable, self._stream)

    def free(self) -> None:
        if self._executable:
            self._library.cuGraphExecDestroy(self._executable)
            self._executable = ctypes.c_void_p()

    def _ask(self, function: str, *arguments: Any) -> None:
        self._check(function, getattr(self._library, function)(*arguments))

    @staticmethod
    def _check(function: str, status: int) -> None:
        if status != 0:
            raise RobinError(Code.ENGINE_FAILED, f"CUDA: {function} failed with status {status}")


def _describe(driver: Any, device: Any, index: int) -> Gpu:
    major, minor = device.compute_capability()
    version = driver.get_driver_version()
    return Gpu(
        name=device.name(),
        uuid=_uuid(index) or device.pci_bus_id(),
        compute=f"{major}.{minor}",
        memory_bytes=int(device.total_memory()),
        driver=f"{version // 1000}.{version % 1000 // 10}",
    )


def _uuid(index: int) -> str:
    """ "" where the driver does not tell."""
    library, handle, uuid = _library(), ctypes.c_int(), (ctypes.c_ubyte * _UUID_BYTES)()
    ask = getattr(library, "cuDeviceGetUuid_v2", None) or library.cuDeviceGetUuid
    if library.cuDeviceGet(ctypes.byref(handle), index) != 0 or ask(uuid, handle) != 0:
        return ""
    return bytes(uuid).hex()


def _library() -> ctypes.CDLL:
    return ctypes.CDLL(DRIVER_LIBRARY)


def _line(exc: BaseException) -> str:
    text = str(exc).strip()
    return text.splitlines()[0] if text else type(exc).__name__
