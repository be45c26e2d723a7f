"""Objects in a folder of this machine: blobs as in a robot's store, keys of an area beside them.

```
blobs/ab/cd/…    named by the sha256 of their content
areas/decks/…    keys; "=" stands for the "/" inside them
incoming/        being written
lock             held by every process that writes; who has it alone removes what a crash left in incoming/
```
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from edge_adapt.store.blobs import ASIDE_FOLDER, BlobFolder, Files
from robin_fleet.objects.interface import OBJECT_BYTES, flat_key, is_blob, key_of, require_content, require_name
from robin_perception.core.bounded import read_plain_bytes
from robin_perception.core.disk import make_folder, write_error
from robin_perception.core.errors import Code, RobinError

AREA_FOLDER = "areas"
LOCK_FILE = "lock"
_MANY = 8
_LIBC = ctypes.CDLL(None, use_errno=True)
_CODES = {
    Code.STORE_BLOB_MISSING: Code.OBJECT_MISSING,
    Code.INPUT_MISSING: Code.OBJECT_MISSING,
    Code.STORE_BLOB_DAMAGED: Code.OBJECT_DAMAGED,
    Code.INPUT_UNREADABLE: Code.OBJECT_DAMAGED,
    Code.INPUT_TOO_LARGE: Code.OBJECT_DAMAGED,
    Code.OPTION_INVALID: Code.OBJECTS_UNREACHABLE,  # what a disk says that fails, or may not be written
}


class ManyFiles(Files):
    """Many files are on the disk after one sync of their whole file system, which costs as much as a few of single
    files. Linux tells of failed writes then, as it does for one file."""

    def sync_all(self, paths: Iterable[Path]) -> None:
        self._sync(list(paths), self.sync)

    def sync_folders(self, paths: Iterable[Path]) -> None:
        self._sync(list(paths), self.sync_folder)

    def _sync(self, paths: list[Path], sync: Callable[[Path], None]) -> None:
        if len(paths) < _MANY or not hasattr(_LIBC, "syncfs"):
            for path in paths:
                sync(path)
            return
        descriptor = os.open(paths[0], os.O_RDONLY | os.O_CLOEXEC)
        try:
            if _LIBC.syncfs(descriptor) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), str(paths[0]))
        finally:
            os.close(descriptor)


class FolderObjects:
    """files: what the disk is asked to do. Other processes may write the same folder."""

    def __init__(self, folder: Path, files: Files | None = None) -> None:
        """Raises RobinError OBJECTS_UNREACHABLE, DISK_FULL."""
        self.folder = folder
        self._files = files or ManyFiles()
        self._blobs = BlobFolder(folder, self._files)
        self._turn = threading.Lock()
        with _numbered(folder):
            make_folder(folder / ASIDE_FOLDER)
            make_folder(folder / AREA_FOLDER)
            self._lock = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._blobs.prepare()
            fcntl.flock(self._lock, fcntl.LOCK_SH)
            make_folder(self._blobs.folder)

    def put(self, name: str, data: bytes) -> bool:
        require_name(name)
        require_content(name, data)
        with self._turn, _numbered(self.folder):
            if not is_blob(name):
                return self._put_key(name, data)
            # What is there is written all the same: it may be damaged, or not yet be on the disk.
            was_there = self._blobs.path(name).exists()
            self._blobs.write({name: data})
            return not was_there

    def put_all(self, blobs: Mapping[str, bytes]) -> None:
        for name, data in blobs.items():
            require_name(name)
            require_content(name, data)
        with self._turn, _numbered(self.folder):
            self._blobs.write({name: data for name, data in blobs.items() if is_blob(name)})
            for name, data in blobs.items():
                if not is_blob(name):
                    self._put_key(name, data)

    def get(self, name: str) -> bytes:
        require_name(name)
        with _numbered(self.folder):
            return self._blobs.read(name) if is_blob(name) else read_plain_bytes(self._path(name), OBJECT_BYTES)

    def size(self, name: str) -> int | None:
        require_name(name)
        try:
            return self._path(name).stat().st_size
        except FileNotFoundError:
            return None

    def names(self, prefix: str = "") -> Iterator[str]:
        yield from (name for name in self._blobs.names() if name.startswith(prefix))
        for path in (self.folder / AREA_FOLDER).glob("*/*"):
            name = key_of(f"{path.parent.name}/{path.name}")
            if name.startswith(prefix):
                yield name

    def remove(self, name: str) -> bool:
        require_name(name)
        path = self._path(name)
        with self._turn, _numbered(self.folder):
            if not path.exists():
                return False
            self._files.remove(path)
            return True

    def close(self) -> None:
        os.close(self._lock)

    def _path(self, name: str) -> Path:
        if is_blob(name):
            return self._blobs.path(name)
        return self.folder / AREA_FOLDER / flat_key(name)

    def _put_key(self, name: str, data: bytes) -> bool:
        path = self._path(name)
        aside = self.folder / ASIDE_FOLDER / f"{path.parent.name}={path.name}.{secrets.token_hex(4)}"
        try:
            self._files.make_folder(path.parent)
            self._files.write(aside, data)
            self._files.sync(aside)
            try:
                os.link(aside, path)  # fails where another was quicker
                made = True
            except FileExistsError:
                made = False
        finally:
            with contextlib.suppress(OSError):
                self._files.remove(aside)
        for folder in (path.parent, path.parent.parent):
            self._files.sync_folder(folder)
        if not made and read_plain_bytes(path, OBJECT_BYTES) != data:
            raise RobinError(Code.OBJECT_TAKEN, f"{name}: is there with other content")
        return made


@contextlib.contextmanager
def _numbered(folder: Path) -> Iterator[None]:
    """What disk and blob folder say, as an object store says it."""
    try:
        yield
    except OSError as exc:
        known = write_error(folder, exc)
        raise RobinError(_CODES.get(known.code, known.code), known.text) from None
    except RobinError as exc:
        raise RobinError(_CODES.get(exc.code, exc.code), exc.text) from None
