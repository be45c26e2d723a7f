"""What a long evaluation has done, one line of JSON for each piece of work, so that a run that broke off goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robin_perception.core.bounded import read_plain_text
from robin_perception.core.disk import write_error
from robin_perception.core.errors import Code, RobinError

Job = tuple[str, str, int]
"""Kind, scenario and index of a piece of work."""
MOST_BYTES = 100_000_000


def done_lines(lines: Path, seed: int) -> dict[Job, dict[str, Any]]:
    """What is done already; a line that was cut short is left out. Raises RobinError OPTION_INVALID for a file of
    another kind, INPUT_*."""
    done: dict[Job, dict[str, Any]] = {}
    texts = read_plain_text(lines, MOST_BYTES, Code.INPUT_UNREADABLE).splitlines() if lines.exists() else []
    found = 0
    for text in texts:
        try:
            line = json.loads(text)
            key = (str(line["kind"]), str(line.get("scenario", "")), int(line["index"]))
            done |= {key: line} if line["seed"] == seed else {}
            found += 1
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    if texts and not found:
        raise RobinError(Code.OPTION_INVALID, f"{lines}: holds no results of this command; name another file")
    return done


def append_line(lines: Path, line: Mapping[str, Any]) -> None:
    """On a line of its own, also after one that was cut short. Raises RobinError DISK_FULL, OPTION_INVALID."""
    try:
        with lines.open("ab+") as handle:
            if handle.tell():
                handle.seek(-1, 2)
                cut_short = handle.read(1) != b"\n"
                handle.write(b"\n" if cut_short else b"")
            handle.write(json.dumps(line).encode() + b"\n")
    except OSError as exc:
        raise write_error(lines, exc) from None
