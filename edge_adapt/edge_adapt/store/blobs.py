"""Files named by what is in them: written aside, synced, renamed, and their folders synced before anybody counts on
them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from robin_perception.core.bounded import read_plain_bytes
from robin_perception.core.disk import make_folder, sync_folder, write_error
from robin_perception.core.errors import Code, RobinError

BLOB_FOLDER = "blobs"
ASIDE_FOLDER = "incoming"
QUARANTINE_FOLDER = "quarantine"
BLOB_BYTES = 256_000_000
"""Of one blob, at most."""
_NAME = re.compile(r"[0-9a-f]{64}(\.[a-z0-9]{1,16})?")


def blob_name(data: bytes, suffix: str = "") -> str:
    """sha256 (hex) of ``data``, with ``suffix`` (".png") for people and viewers."""
    return hashlib.sha256(data).hexdigest() + suffix


class Files:
    """What the disk is asked to do, one step each; tests put a disk in its place that forgets and fails."""

    def write(self, path: Path, data: bytes) -> None:
        path.write_bytes(data)

    def append(self, path: Path, data: bytes) -> None:
        with path.open("ab") as stream:
            stream.write(data)

    def cut(self, path: Path, length: int) -> None:
        os.truncate(path, length)

    def sync(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def sync_all(self, paths: Iterable[Path]) -> None:
        """Files of one file system."""
        for path in paths:
            self.sync(path)

    def rename(self, path: Path, target: Path) -> None:
        os.replace(path, target)

    def make_folder(self, path: Path) -> None:
        path.mkdir(exist_ok=True)

    def sync_folder(self, path: Path) -> None:
        sync_folder(path)

    def sync_folders(self, paths: Iterable[Path]) -> None:
        """Of one file system."""
        for path in paths:
            self.sync_folder(path)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)


class BlobFolder:
    """``blobs/ab/cd/abcd….png`` below a store's folder. Each writer is used by one thread at a time."""

    def __init__(self, folder: Path, files: Files | None = None) -> None:
        self.folder = folder / BLOB_FOLDER
        self._aside = folder / ASIDE_FOLDER
        self._quarantine = folder / QUARANTINE_FOLDER
        self._files = files or Files()
        self._writer = secrets.token_hex(4)  # other writers of the folder may write the same blob
        self._known: set[Path] = set()  # folders whose names this process has synced

    def path(self, name: str) -> Path:
        return self.folder / name[:2] / name[2:4] / name

    def prepare(self) -> None:
        """Make the folders, and remove what a crash left half-written. Raises RobinError."""
        make_folder(self.folder)
        make_folder(self._aside)
        for left in self._aside.iterdir():
            self._files.remove(left)
        self._files.sync_folder(self.folder.parent)

    def write(self, blobs: Mapping[str, bytes]) -> None:
        """All of them are on the disk, under their names, when this returns: two rounds of syncs, however many.
        Raises RobinError DISK_FULL, OPTION_INVALID."""
        aside = {self._aside / f"{name}.{self._writer}": self.path(name) for name in blobs}
        try:
            for path, data in zip(aside, blobs.values(), strict=True):
                self._files.write(path, data)
            self._files.sync_all(aside)
            changed: dict[Path, None] = {}
            for path, target in aside.items():
                changed.update(dict.fromkeys(self._make(target.parent)))
                self._files.rename(path, target)
            self._files.sync_folders(changed)
            self._known.update(changed)
        except OSError as exc:
            for path in aside:
                with contextlib.suppress(OSError):
                    self._files.remove(path)
            raise write_error(self.folder, exc) from None

    def read(self, name: str) -> bytes:
        """Raises RobinError STORE_BLOB_MISSING, STORE_BLOB_DAMAGED where it is not what its name says."""
        path = self.path(name)
        try:
            data = read_plain_bytes(path, BLOB_BYTES)
        except RobinError as exc:
            if exc.code is Code.INPUT_MISSING:
                raise RobinError(Code.STORE_BLOB_MISSING, f"{path}: not there") from None
            raise RobinError(Code.STORE_BLOB_DAMAGED, exc.text) from None
        if blob_name(data) != name[:64]:
            raise RobinError(Code.STORE_BLOB_DAMAGED, f"{path}: its content is not what its name says")
        return data

    def remove(self, name: str) -> bool:
        """True when it is gone."""
        try:
            self._files.remove(self.path(name))
        except OSError:
            return False
        return True

    def names(self) -> Iterator[str]:
        """Of all blobs on the disk, in no order; other files are passed over."""
        for path in self.folder.glob("*/*/*"):
            if _NAME.fullmatch(path.name) and path == self.path(path.name):
                yield path.name

    def set_aside(self, name: str) -> None:
        """Out of the way, for a person to look at. Raises RobinError."""
        make_folder(self._quarantine)
        try:
            with contextlib.suppress(FileNotFoundError):
                self._files.rename(self.path(name), self._quarantine / name)
        except OSError as exc:
            raise write_error(self._quarantine, exc) from None

    def _make(self, folder: Path) -> list[Path]:
        """Make a blob's folder. Returns what is to be synced: itself, and those above that hold a new name."""
        above = folder.parent
        if folder in self._known:
            return [folder]
        self._files.make_folder(above)
        self._files.make_folder(folder)
        return [folder, above] if above in self._known else [folder, above, self.folder]
