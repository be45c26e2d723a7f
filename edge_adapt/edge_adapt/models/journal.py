"""What happened to the versions of a model: JSON lines, each with the hash of the one before; nothing is ever changed.

Order is that of sequence numbers. Times are told, and nothing depends on them: a robot's clock may jump.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_adapt.store.blobs import Files
from robin_perception.core.bounded import parse_json, read_plain_bytes
from robin_perception.core.disk import make_folder, write_error
from robin_perception.core.errors import Code, RobinError

FOLDER = "journal"
FILE_BYTES = 4_000_000
"""A new file is begun when the last one is longer."""
ENTRY_BYTES = 1_000_000


@dataclass(frozen=True)
class Entry:
    """One line. sequence: from 1 on. event: added, active, rolled_back ... state: of the registry after it, as JSON.
    data: figures that belong to it. digest: sha256 of the line without it; before: that of the entry before."""

    sequence: int
    event: str
    by: str
    why: str
    at: str
    state: dict[str, Any]
    data: dict[str, Any]
    before: str
    digest: str = ""

    def to_json(self) -> dict[str, Any]:
        return dict(self.__dict__)


def signed(entry: Entry) -> Entry:
    """``entry`` with its digest."""
    return Entry(**{**entry.__dict__, "digest": _digest(entry)})


@dataclass(frozen=True)
class Story:
    """The entries that could be read. problem: what could not be, None where all is whole. torn: length in bytes of the
    last file's whole lines, where a line that was cut short follows them. last_damaged: the last file has a fault."""

    entries: tuple[Entry, ...]
    problem: RobinError | None = None
    torn: int | None = None
    last_damaged: bool = False


class Journal:
    """Files of lines below ``folder``. One writer, who holds the registry's lock."""

    def __init__(self, folder: Path, files: Files) -> None:
        self.folder = folder / FOLDER
        self._files = files

    def append(self, entry: Entry) -> None:
        """On the disk when this returns. Raises RobinError DISK_FULL, OPTION_INVALID; what was written of the line is
        cut off again."""
        make_folder(self.folder)
        path = self._last() or self._named(entry.sequence)
        if path.exists() and path.stat().st_size > FILE_BYTES:
            path = self._named(entry.sequence)
        end = path.stat().st_size if path.exists() else 0
        try:
            self._files.append(path, line_of(entry))
            self._files.sync(path)
            if not end:
                self._files.sync_folder(self.folder)
                self._files.sync_folder(self.folder.parent)
        except OSError as exc:
            self._cut_quietly(path, end)
            raise write_error(path, exc) from None

    def read(self, last_file: bool = False) -> Story:
        """All that can be read, or the newest file only; a line that was cut short at the very end is a crash's, any
        other fault damage."""
        entries: list[Entry] = []
        problem, torn, fault = None, None, None
        paths = self._paths()
        for path in paths[-1:] if last_file else paths:
            found, fault, whole = _read_file(path, entries[-1].digest if entries else None)
            entries += found
            problem = problem or fault
            if path == paths[-1] and fault is None and whole < path.stat().st_size:
                torn = whole
        return Story(tuple(entries), problem, torn, fault is not None)

    def cut(self, length: int) -> None:
        """Cut the torn line off the last file. Raises RobinError DISK_FULL, OPTION_INVALID."""
        path = self._last()
        assert path is not None
        try:
            self._files.cut(path, length)
            self._files.sync(path)
        except OSError as exc:
            raise write_error(path, exc) from None

    def begin_file(self, sequence: int) -> None:
        """The next entry goes into a file of its own: the last one is damaged, and stays as it is."""
        make_folder(self.folder)
        try:
            self._files.append(self._named(sequence), b"")
            self._files.sync_folder(self.folder)
        except OSError as exc:
            raise write_error(self.folder, exc) from None

    def _cut_quietly(self, path: Path, length: int) -> None:
        try:
            self._files.cut(path, length)
        except OSError:
            return  # the next writer cuts it

    def _named(self, sequence: int) -> Path:
        return self.folder / f"{sequence:08d}.jsonl"

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.jsonl")) if self.folder.is_dir() else []

    def _last(self) -> Path | None:
        paths = self._paths()
        return paths[-1] if paths else None


def line_of(entry: Entry) -> bytes:
    """Its line. Raises RobinError OPTION_INVALID for one that could not be read back."""
    data = json.dumps(entry.to_json(), sort_keys=True).encode() + b"\n"
    if len(data) > ENTRY_BYTES:
        raise RobinError(Code.OPTION_INVALID, f"a journal entry of {len(data):,} bytes; {ENTRY_BYTES:,} are allowed")
    return data


def stamp(seconds: float) -> str:
    """Seconds since 1970 as text for people; what a broken clock gives is told as it is."""
    try:
        return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).isoformat(timespec="seconds")
    except (OverflowError, OSError, ValueError):
        return str(seconds)


def _digest(entry: Entry) -> str:
    plain = {key: value for key, value in entry.to_json().items() if key != "digest"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _read_file(path: Path, before: str | None) -> tuple[list[Entry], RobinError | None, int]:
    """(entries, fault, bytes of the whole lines). before: digest of the last entry so far, None where the file is the
    first that can be read, or follows a damaged one."""
    entries: list[Entry] = []
    whole = 0
    try:
        data = read_plain_bytes(path, FILE_BYTES + 2 * ENTRY_BYTES)
    except RobinError as exc:
        return [], RobinError(Code.MODELS_DAMAGED, exc.text), 0
    for number, line in enumerate(data.split(b"\n")[:-1], 1):
        try:
            entry = _parsed(parse_json(line, f"{path}:{number}", Code.MODELS_DAMAGED), f"{path}:{number}")
        except RobinError as exc:
            return entries, exc, whole
        known = entries[-1].digest if entries else before
        if known is not None and entry.before != known and entry.event != "journal_damaged":
            text = f"{path}:{number}: entry {entry.sequence} does not follow the one before it"
            return entries, RobinError(Code.MODELS_DAMAGED, text), whole
        entries.append(entry)
        whole += len(line) + 1
    return entries, None, whole


def _parsed(values: Any, source: str) -> Entry:
    if not isinstance(values, Mapping) or set(values) != set(Entry.__dataclass_fields__):
        raise RobinError(Code.MODELS_DAMAGED, f"{source}: not an entry of a journal of models")
    entry = Entry(**values)
    if entry.digest != _digest(entry):
        raise RobinError(Code.MODELS_DAMAGED, f"{source}: does not match its digest")
    return entry
