"""CUDA by pycuda: one thread that owns the context, page-locked and device memory, and captured graphs.

Everything that touches the device runs in one thread of its own, which retains the primary context, pushes it once and
frees in the end what it allocated. A context belongs to threads, and pycuda frees memory only in the thread that made
it, while a node calls from whichever of its executor's threads is free. Handing a call over costs some 20 us.

An error such as an illegal access leaves a context that does nothing any more, for this process and for good. It is
looked for after every failure, and from then on all calls say so: only another process gets a working one.

pycuda is imported in that thread, never when this module is.
"""

from __future__ import annotations

import ctypes
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TimeoutOfFuture
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from robin_perception.core.errors import Code, RobinError
from robin_perception.engines.tensorrt.buffers import Block
from robin_perception.engines.tensorrt.key import Gpu
from robin_perception.engines.tensorrt.probe import DRIVER_LIBRARY

_log = logging.getLogger(__name__)
_START_PATIENCE_S = 60.0
_END_PATIENCE_S = 5.0
_CAPTURE_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
_UUID_BYTES = 16
_OUT_OF_MEMORY = 2  # CUDA_ERROR_OUT_OF_MEMORY
# CU_STREAM_NON_BLOCKING: while work is recorded from any other stream, whoever uses the default stream gets an error.
NON_BLOCKING = 1

T = TypeVar("T")


class CudaThread:
    """The thread that owns the device. ``call`` runs work in it and hands its result or exception back.

    lost: why the context does nothing any more; empty = it works. Raises RobinError ENGINE_UNAVAILABLE when there is no
    device.
    """

    def __init__(self, device: int = 0) -> None:
        self._work: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._ready: Future[Gpu] = Future()
        self.closed = False
        self.lost = ""
        self._thread = threading.Thread(target=self._main, args=(device,), name="cuda", daemon=True)
        self._thread.start()
        try:
            self.gpu = self._ready.result(_START_PATIENCE_S)
        except TimeoutOfFuture:
            text = f"the CUDA driver did not start within {_START_PATIENCE_S:g} s"
            raise RobinError(Code.ENGINE_UNAVAILABLE, text) from None

    def call(self, work: Callable[[], T], patience_s: float | None = None) -> T:
        """Run ``work`` in the thread. Errors of CUDA become RobinError (``cuda_error``), ENGINE_CRASHED where the
        context is lost with them, others come through.

        patience_s: give up waiting after it with ENGINE_FAILED; the work itself cannot be broken off.
        """
        if self.lost:
            raise RobinError(Code.ENGINE_CRASHED, self.lost)
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
            self._ready.set_exception(_unusable(exc))
            return
        try:
            gpu = _describe(driver, chosen, device)
        except Exception as exc:
            self._ready.set_exception(_unusable(exc))
        else:
            self._ready.set_result(gpu)
            self._serve(driver)
        _leave(driver, context)

    def _serve(self, driver: Any) -> None:
        while (item := self._work.get()) is not None:
            work, result = item
            try:
                result.set_result(work())
            except BaseException as exc:
                result.set_exception(self._told(driver, exc))
            del item, work, result  # so that nothing of the device is held while waiting

    def _told(self, driver: Any, exc: BaseException) -> BaseException:
        """What the caller gets for ``exc``; after a failure of CUDA or TensorRT the context is tried."""
        error = cuda_error(exc) if isinstance(exc, driver.Error) else exc
        if not isinstance(error, RobinError):
            return error
        try:
            driver.Context.synchronize()
        except driver.Error:
            self.lost = f"the GPU's context is lost, the engine must be started anew in another process: {error.text}"
            return RobinError(Code.ENGINE_CRASHED, self.lost)
        return error


def _leave(driver: Any, context: Any) -> None:
    """Give the context back. pycuda ends the process together with a thread that has a context on its stack, so one
    that cannot be taken off keeps its thread."""
    try:
        driver.Context.pop()
        context.detach()
    except driver.Error as exc:
        _log.warning("the CUDA context is held until the process ends: %s", _line(exc))
        threading.Event().wait()


def _unusable(exc: BaseException) -> RobinError:
    return RobinError(Code.ENGINE_UNAVAILABLE, f"CUDA cannot be used: {_line(exc)}")


def cuda_error(exc: BaseException) -> RobinError:
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
        try:
            self._pinned = driver.pagelocked_empty(max(1, block.nbytes), np.uint8) if staged else None
        except driver.Error:
            self._device.free()  # here and now: a traceback may carry it into a thread that cannot
            raise
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
    """Work that was recorded from a stream once and is launched as one. pycuda has no bindings for it, so that six
    functions of the driver are called directly.

    Raises RobinError ENGINE_FAILED, ENGINE_OUT_OF_MEMORY when the driver cannot record ``work``.
    """

    def __init__(self, stream: Any, work: Callable[[], None]) -> None:
        import pycuda.driver as driver

        self._library = _library()
        self._stream = ctypes.c_void_p(stream.handle)
        graph = ctypes.c_void_p()
        self._ask("cuStreamBeginCapture_v2", self._stream, ctypes.c_int(_CAPTURE_THREAD_LOCAL))
        try:
            work()
        except driver.Error as exc:
            raise cuda_error(exc) from None
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
        """Run it on the stream it was recorded from, asynchronously. Raises RobinError as recording does."""
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
            code = Code.ENGINE_OUT_OF_MEMORY if status == _OUT_OF_MEMORY else Code.ENGINE_FAILED
            raise RobinError(code, f"CUDA: {function} failed with status {status}")


def _describe(driver: Any, device: Any, index: int) -> Gpu:
    major, minor = device.compute_capability()
    version = driver.get_driver_version()
    return Gpu(
        name=device.name(),
        uuid=_uuid(index) or str(device.pci_bus_id()),
        compute=f"{major}.{minor}",
        memory_bytes=int(device.total_memory()),
        driver=f"{version // 1000}.{version % 1000 // 10}",
    )


def _uuid(index: int) -> str:
    """ "" where the driver does not tell."""
    library, handle, uuid = _library(), ctypes.c_int(), (ctypes.c_ubyte * _UUID_BYTES)()
    ask = getattr(library, "cuDeviceGetUuid_v2", None) or library.cuDeviceGetUuid  # the second since CUDA 9.2
    if library.cuDeviceGet(ctypes.byref(handle), index) != 0 or ask(uuid, handle) != 0:
        return ""
    return bytes(uuid).hex()


def _library() -> ctypes.CDLL:
    return ctypes.CDLL(DRIVER_LIBRARY)


def _line(exc: BaseException) -> str:
    text = str(exc).strip()
    return text.splitlines()[0] if text else type(exc).__name__
