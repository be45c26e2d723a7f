"""Unfinished uploads on the disk: each a file of chunks with their checksums, so that what a crash tore is noticed and
the upload goes on behind the last whole chunk. Nothing is synced: what is lost is sent again."""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from collections.abc import Container, Iterator
from pathlib import Path

from isal.isal_zlib import crc32

from edge_adapt.uplink.protocol import CHUNK_BYTES
from robin_perception.core.disk import make_folder, write_error

_HEAD = struct.Struct("!II")  # bytes, crc32
_SUFFIX = ".part"


def read_partial(path: Path) -> Iterator[bytes]:
    """Its whole chunks, from the first to the one before whatever is torn."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as stream:
        while len(head := stream.read(_HEAD.size)) == _HEAD.size:
            length, crc = _HEAD.unpack(head)
            data = stream.read(length) if 0 < length <= CHUNK_BYTES else b""
            if len(data) != length or not data or crc32(data) != crc:
                return
            yield data


def recover(path: Path, most: int) -> tuple[int, int]:
    """Cut off what is torn. Returns (bytes of the blob, bytes of the file); none of one that has more than ``most``.
    Raises OSError."""
    size = used = 0
    for data in read_partial(path):
        size += len(data)
        used += len(data) + _HEAD.size
    if size > most:
        size = used = 0
    if path.exists():
        os.truncate(path, used)
    return size, used


class Partials:
    """``folder/<robot>/<name>.part``, within a limit. Methods are called by one thread; ``path`` by any."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        """Raises RobinError DISK_FULL, OPTION_INVALID."""
        self._folder, self._limit = folder, limit_bytes
        self._sizes: dict[Path, int] = {}  # the least lately used first
        make_folder(folder)
        found = [(entry.stat(), entry) for entry in folder.glob(f"*/*{_SUFFIX}")]
        for stat, path in sorted(found, key=lambda one: one[0].st_mtime):
            self._sizes[path] = stat.st_size
        self.bytes = sum(self._sizes.values())
        self.removed = 0

    def path(self, robot: str, name: str) -> Path:
        return self._folder / robot / f"{name}{_SUFFIX}"

    def opened(self, path: Path, size: int) -> None:
        """It is in use, and has ``size`` bytes on the disk."""
        self.bytes += size - self._sizes.pop(path, 0)
        self._sizes[path] = size

    def append(self, path: Path, crc: int, data: bytes | memoryview, in_use: Container[Path]) -> bool:
        """False where there is no room, and nothing that may go. Raises RobinError DISK_FULL."""
        size = _HEAD.size + len(data)
        while self.bytes + size > self._limit:
            victim = self._victim(in_use)
            if victim is None:
                return False
            self.remove(victim)
            self.removed += 1
        known = self._sizes.get(path, 0)
        try:
            if not known:
                path.parent.mkdir(exist_ok=True)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                if os.pwritev(handle, [_HEAD.pack(len(data), crc), data], known) != size:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            finally:
                os.close(handle)
        except OSError as exc:
            raise write_error(path, exc) from None
        self.opened(path, known + size)
        return True

    def remove(self, path: Path) -> None:
        if path not in self._sizes:
            return
        self.bytes -= self._sizes.pop(path)
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)

    def _victim(self, in_use: Container[Path]) -> Path | None:
        """The oldest idle one of the robot that has most."""
        held: dict[Path, int] = {}
        for path, size in self._sizes.items():
            if path not in in_use:
                held[path.parent] = held.get(path.parent, 0) + size
        if not held:
            return None
        most = max(held, key=held.__getitem__)
        return next(path for path in self._sizes if path.parent == most and path not in in_use)
