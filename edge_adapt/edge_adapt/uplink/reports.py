"""What goes before all pictures: small reports, in an outbox of their own on the disk, and decisions as they stand in
the record."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from edge_adapt.record_file import LONGEST_RECORD, RECORD_FILE
from edge_adapt.store.blobs import blob_name
from edge_adapt.uplink.protocol import CHUNK_BYTES, Kind
from edge_adapt.uplink.session import Blob
from robin_perception.core.bounded import read_plain_bytes
from robin_perception.core.disk import make_folder, write_atomic
from robin_perception.core.errors import Code, RobinError

OUTBOX_FOLDER = "outbox"
POSITION_FILE = "decisions.at"
REPORT_BYTES = 256 * 1024
REPORT_SUFFIX = ".json"
_FILE = re.compile(r"[0-9]{20}-[0-9a-f]{64}\.json")
_BUFFER = bytearray(CHUNK_BYTES)  # one thread sends, and each chunk is copied into its message
_AHEAD = 32  # decisions that are under way at a time


class FileSource:
    """A part of a file."""

    def __init__(self, path: Path, start: int = 0) -> None:
        """Raises RobinError STORE_BLOB_MISSING."""
        self._path, self._start = path, start
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as exc:
            raise RobinError(Code.STORE_BLOB_MISSING, f"{path}: {exc.strerror}") from None

    def read(self, offset: int, length: int) -> memoryview:
        """It holds until the next call. Raises RobinError STORE_BLOB_DAMAGED for a file that has become shorter, or
        cannot be read."""
        part = memoryview(_BUFFER)[:length]
        try:
            count = os.preadv(self._descriptor, [part], self._start + offset)
        except OSError as exc:
            raise RobinError(Code.STORE_BLOB_DAMAGED, f"{self._path}: {exc.strerror}") from None
        if count != length:
            raise RobinError(Code.STORE_BLOB_DAMAGED, f"{self._path}: shorter than it was")
        return part

    def close(self) -> None:
        os.close(self._descriptor)


class Outbox:
    """Reports that wait. Any process puts them in; the uplink takes them out."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        """folder: of the uplink. Raises RobinError DISK_FULL, OPTION_INVALID."""
        self.folder = folder / OUTBOX_FOLDER
        self._limit = limit_bytes
        self.dropped = 0
        make_folder(self.folder)

    def put(self, data: bytes) -> None:
        """A report of at most ``REPORT_BYTES``, as JSON. The oldest go where there is no room. Raises RobinError
        OUTBOX_FULL for a larger one, DISK_FULL."""
        if len(data) > min(REPORT_BYTES, self._limit):
            raise RobinError(Code.OUTBOX_FULL, f"{self.folder}: a report of {len(data):,} bytes is too large")
        sizes = {name: size for name, size in self._waiting()}
        for name in sorted(sizes):
            if sum(sizes.values()) + len(data) <= self._limit:
                break
            self.remove(name)
            sizes.pop(name)
            self.dropped += 1
        write_atomic(self.folder / f"{time.time_ns():020d}-{blob_name(data, REPORT_SUFFIX)}", data)

    def names(self) -> list[str]:
        """Oldest first."""
        return sorted(name for name, _ in self._waiting())

    def blob(self, name: str) -> Blob:
        """Raises RobinError where it is gone."""
        path = self.folder / name
        size = len(read_plain_bytes(path, REPORT_BYTES))
        return Blob(name[21:], size, Kind.METRICS, 0, partial(FileSource, path))

    def remove(self, name: str) -> None:
        with contextlib.suppress(OSError):
            (self.folder / name).unlink(missing_ok=True)

    def _waiting(self) -> Iterator[tuple[str, int]]:
        with contextlib.suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                if _FILE.fullmatch(entry.name):
                    with contextlib.suppress(OSError):
                        yield entry.name, entry.stat().st_size


class DecisionTail:
    """The lines of decisions.jsonl that the fleet does not have, in order. A line that was sent and whose end was not
    noted is offered again, and the fleet has it."""

    def __init__(self, decisions: Path, folder: Path) -> None:
        """decisions: its folder. folder: of the uplink."""
        self._path, self._position_path = decisions / RECORD_FILE, folder / POSITION_FILE
        self._next = self._noted = self._position()
        self._under_way: dict[str, tuple[int, int]] = {}

    def next(self) -> Blob | None:
        if len(self._under_way) >= _AHEAD:
            return None
        while (line := self._line()) is not None:
            start, self._next = self._next, self._next + len(line)
            text = line.rstrip(b"\n")
            name = blob_name(text, REPORT_SUFFIX)
            if text and name not in self._under_way:
                self._under_way[name] = (start, self._next)
                return Blob(name, len(text), Kind.DECISION, 0, partial(FileSource, self._path, start))
        return None

    def done(self, name: str) -> bool:
        """It need not be offered again. False where it is none of these."""
        return self._under_way.pop(name, None) is not None

    def again(self, name: str) -> bool:
        """It and what comes behind it is offered again."""
        place = self._under_way.pop(name, None)
        if place is not None:
            self._next = min(self._next, place[0])
        return place is not None

    def note(self) -> None:
        """Write down how far all is done. Raises RobinError DISK_FULL."""
        done = min((start for start, _ in self._under_way.values()), default=self._next)
        if (done := min(done, self._next)) != self._noted:
            write_atomic(self._position_path, str(done).encode())
            self._noted = done

    def _line(self) -> bytes | None:
        """The next whole one; those that are longer than any record are passed over."""
        try:
            if self._path.stat().st_size < self._next:  # the record began anew
                self._next = 0
            with self._path.open("rb") as stream:
                stream.seek(self._next)
                line = stream.readline(LONGEST_RECORD)
        except OSError:
            return None
        return line if line.endswith(b"\n") else None

    def _position(self) -> int:
        with contextlib.suppress(RobinError, ValueError):
            return max(0, int(read_plain_bytes(self._position_path, 100)))
        return 0
