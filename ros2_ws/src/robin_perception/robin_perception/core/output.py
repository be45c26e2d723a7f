"""Where a command writes: folders that one process owns at a time, and files that are the command's own to replace."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from robin_perception.core.disk import make_folder, write_error
from robin_perception.core.errors import Code, RobinError

_WAIT_STEP_S = 0.1
# Files that commands read, and that only the command that makes their folder replaces.
_READ_BY_COMMANDS = frozenset(
    {
        "camera.json",
        "config.json",
        "dataset.json",
        "decisions.jsonl",
        "entry.json",
        "index.jsonl",
        "manifest.json",
        "scene.json",
        "state.json",
    }
)


@contextlib.contextmanager
def output_folder(folder: Path) -> Iterator[None]:
    """Own ``folder``, made if need be, while inside; one that was made and is still empty at the end goes again.

    Raises RobinError OPTION_INVALID where another process owns it or it cannot be written, DISK_FULL.
    """
    made = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    try:
        make_folder(folder)
        require_room(folder)
        with locked(folder):
            yield
    finally:
        for path in made:
            with contextlib.suppress(OSError):  # it holds something now
                path.rmdir()


@contextlib.contextmanager
def locked(folder: Path, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the lock of ``folder``; the system frees it when this process ends, however it does. No file is left in it.

    A file system without locks is used without them. Raises RobinError OPTION_INVALID where another process has held
    it for ``wait_s``.
    """
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise write_error(folder, exc) from None
    try:
        ending = time.monotonic() + wait_s
        while not _lock(handle):
            if time.monotonic() >= ending:
                text = f"{folder}: another process writes there; wait for its end, or name another folder"
                raise RobinError(Code.OPTION_INVALID, text)
            time.sleep(_WAIT_STEP_S)
        yield
    finally:
        os.close(handle)


def lock_stream(stream: IO[bytes], path: Path) -> None:
    """Hold the lock of an open file until it is closed. Raises RobinError OPTION_INVALID where another one holds it."""
    if not _lock(stream.fileno()):
        stream.close()
        raise RobinError(Code.OPTION_INVALID, f"{path}: another process writes it; name another folder")


@contextlib.contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """A temporary folder, removed at the end. What processes that were killed left under ``prefix`` is removed first:
    a folder whose owner lives is locked. Raises RobinError OPTION_INVALID, DISK_FULL."""
    try:
        root = Path(tempfile.gettempdir())
        for left in root.glob(f"{prefix}*"):
            _remove_if_left(left)
        # Hidden until it is locked: no other process may take it for one that was left.
        hidden = Path(tempfile.mkdtemp(prefix=f".{prefix}", dir=root))
    except OSError as exc:
        raise write_error(Path(exc.filename or "temporary folder"), exc) from None
    folder = hidden.with_name(hidden.name[1:])
    try:
        with locked(hidden):
            hidden.rename(folder)
            yield folder
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


def require_room(folder: Path) -> None:
    """Refuse a folder that no file can be put into. Raises RobinError OPTION_INVALID, DISK_FULL."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0")
    except OSError as exc:
        raise write_error(folder, exc) from None


def require_own(path: Path, begins: tuple[bytes, ...], inputs: Iterable[Path | None] = ()) -> None:
    """Refuse to replace a file that no command of this kind has written, before any work is done.

    begins: what a file of the kind begins with. inputs: files that the command reads. What is no plain file is written
    into and never replaced. Raises RobinError OPTION_INVALID naming it.
    """
    if path.is_dir():
        raise RobinError(Code.OPTION_INVALID, f"{path}: is a folder, a file is needed")
    if not path.is_file():
        return
    if any(file is not None and file.exists() and path.samefile(file) for file in inputs):
        raise RobinError(Code.OPTION_INVALID, f"{path}: is an input; name another file for the result")
    with path.open("rb") as file:
        head = file.read(max(map(len, begins)))
    if path.resolve().name in _READ_BY_COMMANDS or (head and not head.startswith(begins)):
        text = "exists and is no result that may be replaced; name another file, or remove it"
        raise RobinError(Code.OPTION_INVALID, f"{path}: {text}")


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _remove_if_left(folder: Path) -> None:
    """Only where the lock can be had, only folders of this very user, and no links."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if os.fstat(handle).st_uid == os.geteuid():
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        return
    finally:
        os.close(handle)
