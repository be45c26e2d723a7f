"""Decision records on disk: ``decisions.jsonl`` (one record per line) and, per pick, a folder of images beside it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from edge_adapt.decision import Decision
from robin_perception.core.disk import make_folder, sync_folder, write_atomic, write_error
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.ids import plain_id

RECORD_FILE = "decisions.jsonl"
IMAGE_FOLDER = "images"
_RECORD_START = b'{"version":'  # the model's first field comes first in its JSON


@dataclass(frozen=True)
class DecisionLog:
    """What was read back. truncated: the last line was cut short (a power cut while writing) and was left out."""

    folder: Path
    decisions: tuple[Decision, ...]
    truncated: bool = False

    def find(self, decision_id: str) -> Decision:
        """The record with that id, or the only one whose id ends with it. Raises RobinError(RECORD_INVALID)."""
        exact = [d for d in self.decisions if d.decision_id == decision_id]
        if exact:
            return exact[-1]
        ending = [d for d in self.decisions if d.decision_id.endswith(decision_id)]
        if len(ending) == 1:
            return ending[0]
        found = (
            f"{len(ending)} decisions end with it" if ending else f"{len(self.decisions)} decisions, none of that id"
        )
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
        OPTION_INVALID, DISK_FULL."""
        if fresh:
            refuse_foreign_images(folder)
        self.folder = folder
        self.path = folder / RECORD_FILE
        self._failure: RobinError | None = None
        make_folder(folder)
        if fresh:
            self.path.unlink(missing_ok=True)
            shutil.rmtree(folder / IMAGE_FOLDER, ignore_errors=True)
        try:
            self._stream = self.path.open("ab")
            self._end = _end_of_last_whole_line(self.path)
            self._stream.truncate(self._end)
        except OSError as exc:
            raise write_error(self.path, exc) from None

    @property
    def recording(self) -> bool:
        return self._failure is None

    def append(self, decision: Decision, images: Mapping[str, bytes] | None = None) -> Decision:
        """Write the images (file name -> bytes), then the record that names them. Returns the record as written.

        Raises RobinError ID_INVALID; or DISK_FULL when there is no room, on this call and on every later one.
        """
        if self._failure is not None:
            raise self._failure
        image_folder = self.folder / IMAGE_FOLDER / plain_id(decision.decision_id, "decision_id")
        others = image_folder.exists()  # not made by this call, so not its to delete
        try:
            if images:
                make_folder(image_folder)
                for name, data in images.items():
                    write_atomic(image_folder / name, data)
                paths = {name.split(".")[0]: f"{IMAGE_FOLDER}/{decision.decision_id}/{name}" for name in images}
                decision = decision.model_copy(update={"images": paths})
            self._append_line(decision.model_dump_json(exclude_defaults=False).encode() + b"\n")
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
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise RobinError(Code.INPUT_MISSING, f"{path}: no such file") from None
    except OSError as exc:
        raise RobinError(Code.INPUT_UNREADABLE, f"{path}: {exc.strerror or exc}") from None
    lines = data.split(b"\n")
    truncated = bool(lines[-1])  # a whole file ends in a newline, so the last piece is empty
    decisions = tuple(_parse(line, path, number) for number, line in enumerate(lines[:-1], start=1) if line.strip())
    if truncated and not decisions and not lines[-1].startswith(_RECORD_START):
        raise RobinError(Code.RECORD_INVALID, f"{path}:1: not a decision record")
    return DecisionLog(path.parent, decisions, truncated)


def _parse(line: bytes, path: Path, number: int) -> Decision:
    try:
        values = json.loads(line)
    except ValueError:
        raise RobinError(Code.RECORD_INVALID, f"{path}:{number}: not a decision record (not JSON)") from None
    version = values.get("version") if isinstance(values, dict) else None
    if not isinstance(version, int):
        raise RobinError(Code.RECORD_INVALID, f"{path}:{number}: not a decision record (no version)")
    try:
        return Decision.model_validate(values)
    except ValidationError as exc:
        first = exc.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise RobinError(Code.RECORD_INVALID, f"{path}:{number}: '{key}': {first['msg']}") from None


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
