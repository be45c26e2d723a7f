"""``robin cups``: the health of the suction cups, as the planning node keeps it."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robin_cli.options import CellOption, JsonOption
from robin_cli.terminal import note, print_table, require_writable, write_json
from robin_perception.core.errors import Code, RobinError

if TYPE_CHECKING:
    from robin_grasp.cup_health_file import CupHealthKeeper

DEFAULT_STATE = Path("cups.json")
ALL = "all"


def cups(
    action: Annotated[str, typer.Argument(metavar="show|reset", help="reset: these cups were replaced.")] = "show",
    which: Annotated[
        list[str] | None, typer.Argument(metavar="[CUP]...", help="For reset: numbers of cups, or all.")
    ] = None,
    state: Annotated[
        Path, typer.Option("--state", metavar="FILE", help="The file of the planning node's parameter cups_file.")
    ] = DEFAULT_STATE,
    cell: CellOption = None,
    json_file: JsonOption = None,
) -> None:
    """Health of the suction cups: each one's state with its evidence, and which to replace.

    After a reset they are trusted again; a running node takes it over before its next pick.
    """
    require_writable(json_file)
    if action not in ("show", "reset"):
        raise RobinError(Code.OPTION_INVALID, f"'{action}': known are show, reset")
    if bool(which) != (action == "reset"):
        raise RobinError(Code.OPTION_INVALID, "reset needs the numbers of cups, or all; show takes none")
    keeper = _read(state, cell)
    if which:
        keeper.reset(_numbers(which), time.time())
        if keeper.problem is not None:
            raise keeper.problem
    _tell(keeper, json_file)


def _numbers(which: list[str]) -> tuple[int, ...]:
    if which == [ALL]:
        return ()
    if wrong := [word for word in which if not (word.isascii() and word.isdigit() and len(word) < 4)]:
        raise RobinError(Code.OPTION_INVALID, f"'{wrong[0]}' is no number of a cup; cups count from 0")
    return tuple(int(word) for word in which)


def _read(state: Path, cell: Path | None) -> CupHealthKeeper:
    """Reads only: a file that is damaged or of another tool stays where it is."""
    from robin_grasp.cup_health_file import CupHealthKeeper
    from robin_grasp.tool import CellConfig
    from robin_perception.core.bounded import require_plain_file
    from robin_perception.core.config import load_config

    require_plain_file(state)
    keeper = CupHealthKeeper(load_config(CellConfig, cell).tool, state, now_s=time.time(), set_aside=False)
    if keeper.problem is not None:
        raise keeper.problem
    return keeper


def _tell(keeper: CupHealthKeeper, json_file: Path | None) -> None:
    cups = keeper.health.cups
    rows, figures = [], []
    for report in cups:
        good, weak, blocked = report.probabilities
        since = datetime.fromtimestamp(report.changed_s, timezone.utc).isoformat(timespec="seconds")
        rows.append(
            (str(report.cup), report.state.name.lower(), f"{good:.3f}", f"{report.share:.2f}", since, report.text)
        )
        figures.append(
            {
                "cup": report.cup,
                "state": report.state.name.lower(),
                "good": good,
                "weak": weak,
                "blocked": blocked,
                "share": report.share,
                "picks": report.picks,
                "held": report.held,
                "since": since,
                "code": int(report.code),
                "text": report.text,
            }
        )
    write_json(json_file, {"state": str(keeper.path), "cups": figures})
    print_table(f"cups, {keeper.path}", ("cup", "state", "P(good)", "share", "since", "evidence"), rows)
    for report in keeper.health.findings:
        note(f"E{int(report.code)} {report.code.name}: {report.text}")
