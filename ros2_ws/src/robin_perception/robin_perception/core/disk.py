"""Writing so that nothing half-written is ever taken for whole, and nothing is replaced but a plain file: write aside,
fsync, rename, fsync the folder."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from pathlib import Path

from robin_perception.core.errors import Code, RobinError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Numbers of an OSError for no space, quota or size limit."""
_LOST = FULL | {errno.EIO}
_NAME_SHOWN = 40  # of the file's name in the name of the one aside, which must not become too long


def write_error(path: Path, exc: OSError) -> RobinError:
    """The numbered reason for a write that failed: DISK_FULL for no space, quota or size limit, else OPTION_INVALID."""
    code = Code.DISK_FULL if exc.errno in FULL else Code.OPTION_INVALID
    return RobinError(code, f"{path}: cannot write: {exc.strerror or exc}")


def make_folder(folder: Path) -> None:
    """Create ``folder`` and its parents. Raises RobinError (DISK_FULL, OPTION_INVALID) naming it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise write_error(folder, exc) from None


def write_atomic(path: Path, data: bytes) -> None:
    """Replace the plain file at ``path`` by ``data``, or leave it as it was.

    Links are followed. What is no plain file (a device, a pipe) is written into, and so is this process's own standard
    output, under whatever name. Raises RobinError (DISK_FULL, OPTION_INVALID) naming ``path``.
    """
    try:
        found = _found(path)
        if found is not None and (own := _own_stream(found)) is not None:
            _write_all(own, data)
        elif found is not None and not stat.S_ISREG(found.st_mode):
            _write_into(path, data)
        else:
            _replace(Path(os.path.realpath(path)), data, None if found is None else stat.S_IMODE(found.st_mode))
    except OSError as exc:
        raise write_error(path, exc) from None


def set_aside(path: Path) -> str:
    """Rename a file that cannot be used, so that it is not replaced; in words, what came of it."""
    aside = path.with_name(f"{path.name}.damaged")
    with contextlib.suppress(OSError):
        os.replace(path, aside)
        return f"it is now {aside.name}"
    return "it stays where it is"


def write_synced(path: Path, data: bytes) -> None:
    """Write a new file and wait until it is on the disk. Raises OSError."""
    with path.open("wb") as handle:
        handle.write(data)
        handle.flush()
        _sync(handle.fileno())


def sync_tree(folder: Path) -> None:
    """Wait until the files of ``folder`` (itself, not of folders below) and their names are on the disk. Raises
    OSError."""
    for entry in os.scandir(folder):
        if entry.is_file():
            with open(entry.path, "rb") as handle:
                _sync(handle.fileno())
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut, where the file system can: several know no fsync of a folder, or
    of one that may not be listed, and what was written is there all the same. Raises OSError for a disk that fails."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def _found(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as exc:
        if exc.errno in _LOST:
            raise


def _replace(path: Path, data: bytes, mode: int | None) -> None:
    aside = path.with_name(f".{path.name[:_NAME_SHOWN]}.{os.getpid()}.tmp")
    try:
        write_synced(aside, data)
        if mode is not None:
            with contextlib.suppress(OSError):
                aside.chmod(mode)
        os.replace(aside, path)
        sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            aside.unlink()


def _own_stream(found: os.stat_result) -> int | None:
    """The descriptor of standard output or error, where that is what was ``found``; what was printed comes first."""
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        with contextlib.suppress(OSError):
            if os.path.samestat(found, os.fstat(number)):
                if stream is not None:
                    stream.flush()
                return number
    return None


def _write_into(path: Path, data: bytes) -> None:
    """A pipe that nobody reads is refused by the system rather than waited for."""
    descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        os.set_blocking(descriptor, True)
        _write_all(descriptor, data)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
