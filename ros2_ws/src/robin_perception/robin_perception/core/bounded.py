"""Reading what a stranger may have made: plain files only, and no size is believed before it is bounded.

Every door to a file's content goes through here or ``bounded_arrays``. What does not fit ends in one numbered line.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from robin_perception.core.errors import Code, RobinError

CONFIG_BYTES = 1_000_000
"""Of a configuration, camera, scene or manifest file."""

_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def read_plain_bytes(path: Path, limit: int) -> bytes:
    """Content of a plain file, or of a link to one, of at most ``limit`` bytes.

    Pipes, devices and sockets are refused before they are opened, for that alone may block.
    Raises RobinError INPUT_MISSING, INPUT_UNREADABLE, INPUT_TOO_LARGE.
    """
    try:
        _refuse_special(path, os.stat(path).st_mode)
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as stream:
            _refuse_special(path, os.fstat(descriptor).st_mode)  # it may have been replaced since
            data = stream.read(min(limit, os.fstat(descriptor).st_size) + 1)
            while len(data) <= limit and (more := stream.read(65536)):  # grows while it is read, or tells no size
                data += more
    except (FileNotFoundError, NotADirectoryError):
        raise RobinError(Code.INPUT_MISSING, f"{path}: no such file") from None
    except (OSError, ValueError) as exc:
        raise RobinError(Code.INPUT_UNREADABLE, f"{path}: {getattr(exc, 'strerror', None) or exc}") from None
    if len(data) > limit:
        raise RobinError(Code.INPUT_TOO_LARGE, f"{path}: more than the {limit:,} bytes that such a file may have")
    return data


def require_plain_file(path: Path) -> None:
    """For what is read piece by piece. Raises RobinError INPUT_MISSING, INPUT_UNREADABLE."""
    try:
        _refuse_special(path, os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        raise RobinError(Code.INPUT_MISSING, f"{path}: no such file") from None
    except (OSError, ValueError) as exc:
        raise RobinError(Code.INPUT_UNREADABLE, f"{path}: {getattr(exc, 'strerror', None) or exc}") from None


def _refuse_special(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = next((name for test, name in _KINDS if test(mode)), "no plain file")
        raise RobinError(Code.INPUT_UNREADABLE, f"{path}: is {kind}, a plain file is needed")


def read_plain_text(path: Path, limit: int = CONFIG_BYTES, code: Code = Code.CONFIG_UNREADABLE) -> str:
    """UTF-8 text. Raises as ``read_plain_bytes``, and RobinError ``code`` for other bytes."""
    try:
        return read_plain_bytes(path, limit).decode()
    except UnicodeDecodeError as exc:
        raise RobinError(code, f"{path}: not UTF-8 text: {exc}") from None


def parse_json(text: str | bytes, source: str, code: Code = Code.CONFIG_UNREADABLE) -> Any:
    """Plain values; nesting and digits are bounded (200 levels, 4,300 digits), lone surrogates are refused.
    Raises RobinError ``code``."""
    try:
        return from_json(text)
    except (ValueError, UnicodeError) as exc:
        raise RobinError(code, f"{source}: {exc}") from None


def parse_yaml(text: str, source: str, code: Code = Code.CONFIG_UNREADABLE) -> Any:
    """Plain values of one YAML document. Raises RobinError ``code``; also for what grows or nests without bound."""
    from robin_perception.core.bounded_yaml import load_yaml

    return load_yaml(text, source, code)


def shown(value: Any, length: int = 80) -> str:
    """``repr`` of a value that a file brought, cut short; never fails and never takes long."""
    if isinstance(value, (str, bytes)):
        return repr(value[:length])
    if isinstance(value, (dict, list, tuple, set)):
        return f"{type(value).__name__} of {len(value)}"
    try:
        return repr(value)[:length]
    except ValueError:  # an integer too long to be printed
        return type(value).__name__
