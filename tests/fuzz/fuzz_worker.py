"""A process that enters doors: a line with door and folder comes in, a line with what became of it goes out."""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fuzz.fuzz_doors import DOORS
from robin_perception.core.errors import RobinError

_KEPT_FREE = 6_000_000_000  # bytes beyond what the process has: the machine must live through a bomb


def peak_bytes() -> int:
    """Largest resident memory since ``forget_peak``."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


@contextmanager
def _heard() -> Iterator[list[str]]:
    """What is written to stdout and stderr, by libraries too."""
    kept, lines = (os.dup(1), os.dup(2)), list[str]()
    with tempfile.TemporaryFile() as stream:
        for number in (1, 2):
            os.dup2(stream.fileno(), number)
        try:
            yield lines
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, was in zip((1, 2), kept, strict=True):
                os.dup2(was, number)
                os.close(was)
            stream.seek(0)
            lines += stream.read().decode(errors="replace").splitlines()


def enter(door: str, folder: Path) -> dict[str, object]:
    """outcome: "accepted", "refused", or "beyond" with the reason; line: of the refusal; cpu_s, memory_mb: used."""
    forget_peak()
    before, begin = peak_bytes(), time.process_time()
    found: dict[str, object] = {"outcome": "accepted", "line": "", "why": ""}
    with _heard() as lines:
        try:
            DOORS[door].enter(folder)
        except RobinError as exc:
            found |= {"outcome": "refused", "line": str(exc)}
            if not str(exc).isprintable() or len(str(exc)) > 1300:
                found |= {"outcome": "beyond", "why": f"no short line: {str(exc)[:200]!r}"}
        except BaseException:
            found |= {"outcome": "beyond", "why": traceback.format_exc()[-3000:]}
    found["cpu_s"] = round(time.process_time() - begin, 3)
    found["memory_mb"] = round((peak_bytes() - before) / 1e6, 1)
    if lines and not found["why"]:
        found |= {"outcome": "beyond", "why": f"said beside it: {lines[:3]}"}
    return found


def main() -> None:
    warnings.simplefilter("default")
    replies = os.fdopen(os.dup(1), "w")
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _KEPT_FREE,) * 2)
    for line in sys.stdin:
        order = json.loads(line)
        replies.write(json.dumps(enter(order["door"], Path(order["folder"]))) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
