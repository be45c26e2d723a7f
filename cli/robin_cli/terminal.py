"""What all commands share on the terminal: streams, the error line, progress bars, tables, JSON files."""

from __future__ import annotations

import io
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robin_perception.core.errors import RobinError

if TYPE_CHECKING:
    from rich.table import Table

JSON_BEGINS = (b"{", b"[")
LEAST_PAUSE_S = 10.0
PAUSE_SHARE = 0.05

Advance = Callable[[int, int, str], None]


def prepare_streams() -> None:
    """Have standard streams that can be printed to: one that was closed leads nowhere, and a character that the
    terminal's encoding lacks is escaped."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # else the next file that is opened would be what libraries print into
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _is_dumb() -> bool:
    return os.environ.get("TERM", "").lower() in ("dumb", "unknown")


def print_error(reason: RobinError) -> None:
    """One line on stderr, red on a terminal."""
    line = f"error {reason}"
    plain = not sys.stderr.isatty() or bool(os.environ.get("NO_COLOR")) or _is_dumb()
    print(line if plain else f"\033[31m{line}\033[0m", file=sys.stderr)


def note(text: str) -> None:
    """A line for people, on stderr, so that stdout stays a result."""
    print(text, file=sys.stderr)


class ProgressLines:
    """What a log gets in place of a bar: a line after 10 s, then every 10 s or 5 % of the time so far, whichever is
    longer: a run of seconds prints none, one of an hour about eighty. clock: seconds."""

    def __init__(self, title: str, unit: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._title, self._unit, self._clock = title, unit, clock
        self._started = clock()
        self._next = LEAST_PAUSE_S
        self._done, self._total = 0, 0

    def advance(self, done: int, total: int, latest: str = "") -> None:
        """As the bar's: ``done`` of ``total``. Less that is done, or another total, is the next part of the work: its
        time counts anew."""
        if done < self._done or total != self._total:
            self._started, self._next = self._clock(), LEAST_PAUSE_S
        self._done, self._total = done, total
        elapsed = self._clock() - self._started
        if elapsed < self._next:
            return
        self._next = elapsed + max(LEAST_PAUSE_S, PAUSE_SHARE * elapsed)
        left = f", about {_duration(elapsed * (total - done) / done)} left" if 0 < done < total else ""
        note(f"{self._title}: {done} of {total} {self._unit}".rstrip() + f" in {_duration(elapsed)}{left}")


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 90 else f"{minutes} min" if minutes < 90 else f"{seconds / 3600:.1f} h"


@contextmanager
def progress_bar(title: str, unit: str = "") -> Iterator[Advance]:
    """Yields ``advance(done, total, latest)``. A bar on a terminal's stderr; elsewhere a line now and then."""
    if not sys.stderr.isatty() or _is_dumb():
        yield ProgressLines(title, unit).advance
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[latest]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(title, total=None, latest="")

        def advance(done: int, total: int, latest: str = "") -> None:
            bars.update(task, completed=done, total=total, latest=latest)

        yield advance


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int = 1) -> None:
    """A table on stdout; the first ``text_columns`` columns are text, the others figures."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    console.print(_table(title, header, rows, text_columns))


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", show_header=any(header))
    for index, name in enumerate(header):
        table.add_column(name, justify="left" if index < text_columns else "right")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    return table


def write_json(path: Path | None, values: Any) -> None:
    """Write ``values`` to ``path`` in one atomic step; nothing for None. NaN and infinity become null."""
    if path is None:
        return
    from robin_perception.core.disk import make_folder, write_atomic

    make_folder(path.parent)
    write_atomic(path, json_bytes(values))


def json_bytes(values: Any) -> bytes:
    return (json.dumps(_plain(values), indent=1, allow_nan=False) + "\n").encode()


def _plain(value: Any) -> Any:
    """Values as JSON holds them; numpy scalars and arrays by their own ``tolist``."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    return value


def require_writable(path: Path | None, *inputs: Path | None, begins: tuple[bytes, ...] = JSON_BEGINS) -> None:
    """Refuse a result file that cannot be written, or that is another's, before hours of work go into it.

    inputs: files that the command reads. begins: what an earlier result, which may be replaced, begins with. Raises
    RobinError OPTION_INVALID, DISK_FULL.
    """
    if path is None:
        return
    from robin_perception.core.disk import make_folder
    from robin_perception.core.output import require_own, require_room

    require_own(path, begins, inputs)
    if path.exists() and not path.is_file():
        return
    folder = Path(os.path.realpath(path)).parent
    make_folder(folder)
    require_room(folder)
