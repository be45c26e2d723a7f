"""Decision records on disk: ``decisions.jsonl`` (one record per line) and, per pick, a folder of images beside it."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, overload

from pydantic import ValidationError

from edge_adapt.decision import Decision
from edge_adapt.record_file import LONGEST_RECORD, RECORD_FILE
from robin_perception.core.bounded import parse_json, require_plain_file
from robin_perception.core.config import first_fault
from robin_perception.core.disk import make_folder, sync_folder, write_atomic, write_error
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.ids import plain_id
from robin_perception.core.output import lock_stream

IMAGE_FOLDER = "images"
_RECORD_START = b'{"version":'  # the model's first field comes first in its JSON


class Records(Sequence[Decision]):
    """The records of a file, each read when it is asked for: thousands of them do not fit into memory.

    lines: (number, start, length in bytes) of each; ids: theirs, in the same order.
    """

    def __init__(self, path: Path, lines: Sequence[tuple[int, int, int]], ids: Sequence[str]) -> None:
        self._path, self._lines, self.ids = path, lines, ids

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, index: int) -> Decision: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Decision, ...]: ...
    def __getitem__(self, index: int | slice) -> Decision | tuple[Decision, ...]:
        """Raises RobinError RECORD_INVALID where the file has changed since, INPUT_UNREADABLE."""
        if isinstance(index, slice):
            return tuple(self[at] for at in range(*index.indices(len(self))))
        number, start, length = self._lines[index]
        with _opened(self._path) as stream:
            stream.seek(start)
            return _parse(stream.read(length), f"{self._path}:{number}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)


@dataclass(frozen=True)
class DecisionLog:
    """What was read back. truncated: the last line was cut short (a power cut while writing) and was left out."""

    folder: Path
    decisions: Records
    truncated: bool = False

    def find(self, decision_id: str) -> Decision:
        """The record with that id, or the only one whose id ends with it. Raises RobinError(RECORD_INVALID)."""
        ids = self.decisions.ids
        exact = [index for index, known in enumerate(ids) if known == decision_id]
        if exact:
            return self.decisions[exact[-1]]
        ending = [index for index, known in enumerate(ids) if known.endswith(decision_id)]
        if len(ending) == 1:
            return self.decisions[ending[0]]
        found = f"{len(ending)} decisions end with it" if ending else f"{len(ids)} decisions, none of that id"
        raise RobinError(Code.RECORD_INVALID, f"{self.folder / RECORD_FILE}: '{decision_id}': {found}")


def refuse_foreign_images(folder: Path) -> None:
    """A new run deletes ``folder``'s images, so they must be those of recorded picks. Raises RobinError OPTION_INVALID
    where images lie without records."""
    images = folder / IMAGE_FOLDER
    if images.exists() and not (folder / RECORD_FILE).exists():
        text = f"not of a recorded run (no {RECORD_FILE} beside it), and a run would replace it; name another folder"
        raise RobinError(Code.OPTION_INVALID, f"{images}: {text}")


class DecisionStore:
    """Appends records; one line is flushed and fsynced per record, so that a power cut costs at most the last one.

    After a failed write the store latches off: the file is cut back to its last whole record, the pick's images are
    removed and every later ``append`` is refused with the first failure's reason. Owned by one thread of one process.
    """

    def __init__(self, folder: Path, *, fresh: bool = False) -> None:
        """Open ``folder``'s records for appending; ``fresh`` removes those of an earlier run first. Raises RobinError
        OPTION_INVALID (also where another process records there), DISK_FULL."""
        if fresh:
            refuse_foreign_images(folder)
        self.folder = folder
        self.path = folder / RECORD_FILE
        self._failure: RobinError | None = None
        make_folder(folder)
        try:
            self._stream = self.path.open("ab")
            lock_stream(self._stream, self.path)
            if fresh:
                self._stream.truncate(0)
                shutil.rmtree(folder / IMAGE_FOLDER, ignore_errors=True)
            self._end = _end_of_last_whole_line(self.path)
            self._stream.truncate(self._end)
        except OSError as exc:
            raise write_error(self.path, exc) from None

    @property
    def recording(self) -> bool:
        return self._failure is None

    def append(self, decision: Decision, images: Mapping[str, bytes] | None = None) -> Decision:
        """Write the images (file name -> bytes), then the record that names them. Returns the record as written.

        Raises RobinError ID_INVALID, or RECORD_INVALID for what could not be read back; or DISK_FULL when there is no
        room, on this call and on every later one.
        """
        if self._failure is not None:
            raise self._failure
        image_folder = self.folder / IMAGE_FOLDER / plain_id(decision.decision_id, "decision_id")
        _line_of(decision, self.path)
        others = image_folder.exists()  # not made by this call, so not its to delete
        try:
            if images:
                make_folder(image_folder)
                for name, data in images.items():
                    write_atomic(image_folder / name, data)
                paths = {name.split(".")[0]: f"{IMAGE_FOLDER}/{decision.decision_id}/{name}" for name in images}
                decision = decision.model_copy(update={"images": paths})
            self._append_line(_line_of(decision, self.path))
        except RobinError as failure:
            if not others:
                shutil.rmtree(image_folder, ignore_errors=True)
            self._failure = failure
            raise
        return decision

    def _append_line(self, line: bytes) -> None:
        try:
            self._stream.write(line)
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._end += len(line)
        except OSError as exc:
            self._cut_back()
            raise write_error(self.path, exc) from None

    def _cut_back(self) -> None:
        """Drop what a failed write left, on disk and in the stream's buffer."""
        os.truncate(self.path, self._end)
        with contextlib.suppress(OSError):
            self._stream.close()  # flushes the rest of the buffer, which fails again for the same reason
        os.truncate(self.path, self._end)

    def close(self) -> None:
        if not self._stream.closed:
            self._stream.close()
            sync_folder(self.folder)

    def __enter__(self) -> DecisionStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_decisions(path: Path) -> DecisionLog:
    """Read a record file, or the folder that holds one.

    A cut-off last line is left out and reported in ``truncated``. Raises RobinError: INPUT_MISSING, INPUT_UNREADABLE,
    or RECORD_INVALID naming the line that is no decision record.
    """
    path = path / RECORD_FILE if path.is_dir() else path
    lines, ids = list[tuple[int, int, int]](), list[str]()
    with _opened(path) as stream:
        for number in itertools.count(1):
            start = stream.tell()
            line = stream.readline(LONGEST_RECORD + 1)
            if not line.endswith(b"\n"):
                break
            if line.strip():
                ids.append(_parse(line, f"{path}:{number}").decision_id)
                lines.append((number, start, len(line)))
    if len(line) > LONGEST_RECORD:
        raise RobinError(Code.RECORD_INVALID, f"{path}:{number}: longer than {LONGEST_RECORD:,} bytes")
    truncated = bool(line)  # a whole file ends in a newline, so nothing is left
    if truncated and not lines and not line.startswith(_RECORD_START):
        raise RobinError(Code.RECORD_INVALID, f"{path}:1: not a decision record")
    return DecisionLog(path.parent, Records(path, lines, ids), truncated)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    require_plain_file(path)
    try:
        with path.open("rb") as stream:
            yield stream
    except OSError as exc:
        raise RobinError(Code.INPUT_UNREADABLE, f"{path}: {exc.strerror or exc}") from None


def _parse(line: bytes, source: str) -> Decision:
    try:
        return Decision.model_validate_json(line)
    except ValidationError as exc:
        values = parse_json(line, f"{source}: not a decision record (not JSON)", Code.RECORD_INVALID)
        if not isinstance(values, dict) or not isinstance(values.get("version"), int):
            raise RobinError(Code.RECORD_INVALID, f"{source}: not a decision record (no version)") from None
        raise RobinError(Code.RECORD_INVALID, f"{source}: {first_fault(exc)}") from None


def _line_of(decision: Decision, path: Path) -> bytes:
    """As it is written. Raises RobinError RECORD_INVALID for what ``_parse`` would refuse: a copy with other values was
    never validated, and a single such line would make the whole file unreadable."""
    source = f"{path}: {decision.decision_id}"
    try:
        line = decision.model_dump_json().encode() + b"\n"
    except ValueError as exc:
        raise RobinError(Code.RECORD_INVALID, f"{source}: {exc}") from None
    if len(line) > LONGEST_RECORD:
        raise RobinError(Code.RECORD_INVALID, f"{source}: {len(line):,} bytes")
    _parse(line, source)
    return line


def _end_of_last_whole_line(path: Path) -> int:
    """Byte offset after the last newline: where the next record goes; what follows was cut short."""
    with path.open("rb") as stream:
        end = stream.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - 65536)
            stream.seek(start)
            found = stream.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0
