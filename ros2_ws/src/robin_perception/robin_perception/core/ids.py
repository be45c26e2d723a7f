"""Ids and paths from outside: matched before a file name is made of them or a folder is entered."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field

from robin_perception.core.errors import Code, RobinError

ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,127}$"
"""A plain file name on every system: no separator, no leading dot, no blank, at most 128 characters."""
PlainId = Annotated[str, Field(pattern=ID_PATTERN)]
_PLAIN = re.compile(ID_PATTERN.removesuffix("$"))


def path_below(folder: Path, path: str) -> Path:
    """``path`` itself, from outside, where it leads to something below ``folder``, links followed.
    Raises RobinError PATH_REFUSED."""
    try:
        found, root = Path(path).resolve(), folder.resolve()
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, a link that leads to itself
        found, root = folder, folder
    if found == root or not found.is_relative_to(root):
        raise RobinError(Code.PATH_REFUSED, f"'{path[:200]}' is not below {root}")
    return Path(path)


def plain_id(text: str, what: str, longest: int = 128) -> str:
    """``text`` itself, where it is fit for a file name. what: its name in the line. Raises RobinError ID_INVALID."""
    if _PLAIN.fullmatch(text) is None or len(text) > longest:
        allowed = f"1 to {longest} letters, digits, '_', '.', '-', the first a letter or digit"
        raise RobinError(Code.ID_INVALID, f"{what} '{text[:60]}': an id has {allowed}")
    return text
