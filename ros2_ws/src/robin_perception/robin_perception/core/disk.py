"""Writing so that nothing half-written is ever taken for whole: write, fsync, rename, fsync the folder."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from robin_perception.core.errors import Code, RobinError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Numbers of an OSError for no space, quota or size limit."""


def write_synced(path: Path, data: bytes) -> None:
    """Write a new file and wait until it is on the disk. Raises OSError."""
    with path.open("wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def disk_error(exc: OSError, path: Path) -> RobinError:
    """The numbered reason for a write that failed: DISK_FULL for no space, quota or size limit, else
    INPUT_UNREADABLE."""
    code = Code.DISK_FULL if exc.errno in FULL else Code.INPUT_UNREADABLE
    return RobinError(code, f"{path}: {exc.strerror or exc}; nothing was written")
