"""Output arrays that go round: a buffer is used again only when nobody holds an array of it, or a view of one."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robin_perception.model.bundle import TensorSpec

_MOST_SPARE = 3
_ALIGNMENT = 64


class _Lease:
    """What a handed-out array is based on: numpy keeps it alive as long as the array or any view of it lives."""

    def __init__(self, buffer: NDArray[Any]) -> None:
        self.__array_interface__ = buffer.__array_interface__
        self.buffer = buffer


class OutputPool:
    """Arrays of one output. Fresh pages cost more than a copy, so buffers are kept and go round; what a caller still
    holds is never written again. ``take`` is called by one thread at a time, arrays may be dropped by any."""

    def __init__(self, spec: TensorSpec) -> None:
        self._spec = spec
        self._spare: list[NDArray[Any]] = []

    def take(self) -> NDArray[Any]:
        """An array of the output's shape and type with undefined content."""
        buffer = self._spare.pop() if self._spare else _aligned(self._spec)
        lease = _Lease(buffer)
        weakref.finalize(lease, self._back, buffer).atexit = False
        return np.asarray(lease)

    def _back(self, buffer: NDArray[Any]) -> None:
        if len(self._spare) < _MOST_SPARE:
            self._spare.append(buffer)


def _aligned(spec: TensorSpec) -> NDArray[Any]:
    """On a cache line's border; every page is written once, so that no frame pays for its first touch."""
    kind = np.dtype(spec.dtype)
    size = int(np.prod(spec.shape, dtype=np.int64)) * kind.itemsize
    raw = np.empty(size + _ALIGNMENT, dtype=np.uint8)
    raw.fill(0)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + size].view(kind).reshape(spec.shape)
