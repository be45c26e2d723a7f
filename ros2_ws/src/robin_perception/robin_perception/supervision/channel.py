"""Between the node's process and the engine's: one block of shared memory for tensors, a socket for short JSON lines.

The block has no name (memfd), so there is nothing to leak: it goes when both processes have gone, however they ended.
Nothing is pickled.
"""

from __future__ import annotations

import json
import mmap
import os
import socket
import tempfile
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robin_perception.model.bundle import TensorSpec

_ALIGNMENT = 4096  # pages, so that no two tensors share one
_LONGEST_LINE = 1 << 20

Message = dict[str, Any]


class ChannelClosed(Exception):
    """The other process has ended, or closed its end."""


class ChannelLate(Exception):
    """Nothing came before the deadline."""


class ChannelGarbage(Exception):
    """What came is no message."""


class TensorBlock:
    """Named tensors in memory that two processes share. views: arrays right in it; both sides give the same specs."""

    def __init__(self, specs: Iterable[TensorSpec], descriptor: int | None = None) -> None:
        """Make a block, or map the one behind ``descriptor`` that another process made."""
        places: list[tuple[TensorSpec, int]] = []
        size = 0
        for spec in specs:
            places.append((spec, size))
            nbytes = int(np.prod(spec.shape, dtype=np.int64)) * np.dtype(spec.dtype).itemsize
            size += -(-max(nbytes, 1) // _ALIGNMENT) * _ALIGNMENT
        self.descriptor = _anonymous_file(size) if descriptor is None else descriptor
        self._memory = mmap.mmap(self.descriptor, size)
        self.views: dict[str, NDArray[Any]] = {
            spec.name: np.ndarray(spec.shape, spec.dtype, self._memory, offset) for spec, offset in places
        }

    def close_descriptor(self) -> None:
        """The memory stays mapped; it is given back when the last view has gone."""
        os.close(self.descriptor)


class Channel:
    """JSON lines over a stream socket, one at a time in each direction. Not thread-safe."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._pending = b""

    def send(self, message: Message) -> None:
        """Raises ChannelClosed."""
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError as exc:
            raise ChannelClosed(str(exc)) from None

    def receive(self, timeout_s: float | None = None) -> Message:
        """The next message. Raises ChannelLate after ``timeout_s``, ChannelClosed, ChannelGarbage."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while b"\n" not in self._pending:
            if len(self._pending) > _LONGEST_LINE:
                raise ChannelGarbage("a line without end")
            self._pending += self._some(end)
        line, _, self._pending = self._pending.partition(b"\n")
        try:
            message = json.loads(line)
        except ValueError:
            raise ChannelGarbage(f"no JSON: {line[:60]!r}") from None
        if not isinstance(message, dict):
            raise ChannelGarbage(f"no message: {line[:60]!r}")
        return message

    def close(self) -> None:
        self._socket.close()

    def _some(self, end: float | None) -> bytes:
        left = None if end is None else end - time.monotonic()
        if left is not None and left <= 0:
            raise ChannelLate
        try:
            self._socket.settimeout(left)
            data = self._socket.recv(65536)
        except TimeoutError:
            raise ChannelLate from None
        except OSError as exc:
            raise ChannelClosed(str(exc)) from None
        if not data:
            raise ChannelClosed("end of stream")
        return data


def _anonymous_file(size: int) -> int:
    """Descriptor of memory without a name; not inherited unless it is handed over."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("robin_engine", os.MFD_CLOEXEC)
    else:  # no Linux
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor
