"""A disk whose power can be cut: an ext4 file system in a file, on a loop device, shut down without writing back its
journal, unmounted and mounted again."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

_SHUTDOWN, _WITHOUT_JOURNAL = 0x8004587D, 2  # ioctl of ext4 and xfs
_NEW_NAMESPACE, _PRIVATE = 0x00020000, 0x4000 | 0x40000
_DISK_BYTES = 96_000_000


def cuts_unavailable() -> str | None:
    """Why no power can be cut here."""
    if os.geteuid() != 0:
        return "needs root"
    if not Path("/dev/loop-control").exists():
        return "there are no loop devices"
    missing = [name for name in ("mkfs.ext4", "mount", "umount") if shutil.which(name) is None]
    return f"{missing[0]} is not installed" if missing else None


class CutDisk:
    """Mounts of this process are its own from the first one on."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError."""
        _enter_namespace()
        self._disk, self.mount = folder / "disk", folder / "mount"
        self.mount.mkdir()

    def make_fresh(self) -> None:
        """An empty file system, unmounted."""
        with self._disk.open("wb") as stream:
            stream.truncate(_DISK_BYTES)
        _run("mkfs.ext4", "-q", "-F", str(self._disk))

    @contextlib.contextmanager
    def until_cut(self) -> Iterator[Callable[[], object]]:
        """Mounted inside, with what cuts the power; what was on the disk by then is mounted afterwards."""
        self.remount()
        handle, how = os.open(self.mount, os.O_RDONLY | os.O_DIRECTORY), struct.pack("I", _WITHOUT_JOURNAL)
        try:
            yield lambda: fcntl.ioctl(handle, _SHUTDOWN, how)
        finally:
            os.close(handle)
        self.unmount()
        self.remount()

    def remount(self) -> None:
        _run("mount", "-o", "loop", str(self._disk), str(self.mount))

    def unmount(self) -> None:
        _run("umount", str(self.mount))


def _enter_namespace() -> None:
    """Mounts of this process are its own from now on. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_NAMESPACE) or libc.mount(b"none", b"/", None, _PRIVATE, None):
        raise OSError(ctypes.get_errno(), "cannot have a mount namespace of its own")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
