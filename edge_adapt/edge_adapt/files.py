"""Writing to disk so that nothing half-written is ever left behind: write aside, fsync, rename, fsync the folder."""

from __future__ import annotations

import os
from pathlib import Path

from robin_perception.core.disk import FULL, sync_folder, write_synced
from robin_perception.core.errors import Code, RobinError


def write_error(path: Path, exc: OSError) -> RobinError:
    """The numbered reason for a write that failed: DISK_FULL for no space, quota or size limit, else OPTION_INVALID."""
    reason = exc.strerror or str(exc)
    if exc.errno in FULL:
        return RobinError(Code.DISK_FULL, f"{path}: cannot write: {reason}")
    return RobinError(Code.OPTION_INVALID, f"{path}: cannot write: {reason}")


def make_folder(folder: Path) -> None:
    """Create ``folder`` and its parents; raises RobinError naming it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise write_error(folder, exc) from None


def write_atomic(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data`` or leave it as it was. Raises RobinError (DISK_FULL, OPTION_INVALID) naming it."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write_synced(aside, data)
        os.replace(aside, path)
        sync_folder(path.parent)
    except OSError as exc:
        aside.unlink(missing_ok=True)
        raise write_error(path, exc) from None
