"""What becomes of an exception that nobody expected: one numbered line, and its traceback in a file."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from robin_perception.core.errors import Code, RobinError

EXIT_BUG = 70
"""Exit status after such an exception: EX_SOFTWARE of sysexits.h."""
_LONGEST = 300


def internal_error(exc: BaseException, command: Sequence[str]) -> RobinError:
    """INTERNAL_ERROR with the exception in one line and the file that holds its traceback.

    command: what was run, for the file. Where no file can be written the traceback goes to standard error.
    """
    trace = "".join(traceback.format_exception(exc))
    said = " ".join(str(exc).split())
    line = f"{type(exc).__name__}: {said}" if said else type(exc).__name__
    path = _save(f"{_about(command)}\n{trace}")
    if path is None:
        with contextlib.suppress(OSError, ValueError):
            print(trace, file=sys.stderr)
    where = "its traceback is above" if path is None else f"its traceback: {path}"
    return RobinError(Code.INTERNAL_ERROR, f"{line[:_LONGEST]} (a bug; {where})")


def _about(command: Sequence[str]) -> str:
    return f"{' '.join(command)}\nPython {platform.python_version()}, {platform.platform()}"


def _save(text: str) -> Path | None:
    try:
        handle, name = tempfile.mkstemp(prefix="robin-traceback-", suffix=".txt")
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode(errors="backslashreplace"))
    except OSError:
        return None
    return Path(name)
