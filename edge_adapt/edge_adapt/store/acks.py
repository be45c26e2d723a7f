"""What the fleet says of a store's blobs, one line each in a file beside the index.

The uplink is a process of its own and the index has one writer, so the uplink appends here, and the writer folds the
lines into the index. Doing so twice changes nothing. A line that a power cut has torn is no line.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import BinaryIO, NamedTuple

from edge_adapt.store.blobs import Files
from robin_perception.core.disk import write_atomic, write_error

ACK_FILE = "uplink.acks"
_LINE = re.compile(rb"([sgc]) ([0-9a-f]{64}(?:\.[a-z0-9]{1,16})?)")
_READ_BYTES = 1 << 20


class Word(str, Enum):
    """Of the fleet about a blob. CHECKED names a sample's record: all of its blobs were asked for again, and were
    there."""

    STORED = "s"
    GONE = "g"
    CHECKED = "c"


class Ack(NamedTuple):
    word: Word
    name: str


class AckReader:
    """Reads on from where it was; from the start where the file has been replaced. It keeps the file open, so that
    another one is not taken for the same."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / ACK_FILE
        self._stream: BinaryIO | None = None
        self._offset = 0

    def new(self) -> list[Ack]:
        """Whole lines since the last call, at most a megabyte of them. What cannot be read now is read later."""
        with contextlib.suppress(OSError):
            found = self._path.stat()
            if self._stream is None or not os.path.samestat(found, os.fstat(self._stream.fileno())):
                self.close()
                self._stream, self._offset = self._path.open("rb"), 0
            self._stream.seek(self._offset)
            data = self._stream.read(_READ_BYTES)
            whole = data.rfind(b"\n") + 1
            self._offset += whole
            return _parsed(data[:whole])
        return []

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


class AckLog:
    """The uplink's end. Owned by one process, one thread."""

    def __init__(self, folder: Path, files: Files | None = None) -> None:
        """Raises RobinError OPTION_INVALID where what is there cannot be read."""
        self.path = folder / ACK_FILE
        self._files = files or Files()
        self._acks: dict[Ack, None] = {}
        try:
            self._is_new = not self.path.exists()
            data = b"" if self._is_new else self.path.read_bytes()
        except OSError as exc:
            raise write_error(self.path, exc) from None
        self._take(_parsed(data))
        self._torn = bool(data) and not data.endswith(b"\n")

    def __contains__(self, ack: Ack) -> bool:
        return ack in self._acks

    def __len__(self) -> int:
        return len(self._acks)

    def __iter__(self) -> Iterator[Ack]:
        return iter(tuple(self._acks))

    def add(self, acks: Iterable[Ack]) -> None:
        """They are on the disk when this returns. Raises RobinError DISK_FULL, OPTION_INVALID: then they may be, and
        the fleet is asked again."""
        given = list(acks)
        if not given:
            return
        data = b"".join(f"{ack.word.value} {ack.name}\n".encode() for ack in given)
        try:
            self._files.append(self.path, b"\n" + data if self._torn else data)
            self._torn = True
            self._files.sync(self.path)
            if self._is_new:
                self._files.sync_folder(self.path.parent)
            self._torn = self._is_new = False
        except OSError as exc:
            self._torn = True
            raise write_error(self.path, exc) from None
        self._take(given)

    def keep(self, acks: Iterable[Ack]) -> None:
        """Drop all others: the index has them. Raises RobinError DISK_FULL, OPTION_INVALID."""
        kept = dict.fromkeys(acks)
        write_atomic(self.path, b"".join(f"{ack.word.value} {ack.name}\n".encode() for ack in kept))
        self._acks, self._torn, self._is_new = kept, False, False

    def _take(self, acks: Iterable[Ack]) -> None:
        """As the index will have them: of STORED and GONE the newer one holds."""
        for ack in acks:
            if ack.word is not Word.CHECKED:
                other = Word.GONE if ack.word is Word.STORED else Word.STORED
                self._acks.pop(Ack(other, ack.name), None)
            self._acks.pop(ack, None)
            self._acks[ack] = None


def _parsed(data: bytes) -> list[Ack]:
    lines = data[: data.rfind(b"\n") + 1].split(b"\n")
    found = (_LINE.fullmatch(line) for line in lines)
    return [Ack(Word(match[1].decode()), match[2].decode()) for match in found if match is not None]
