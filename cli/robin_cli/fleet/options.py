"""Options that commands of the aggregator share."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer

from robin_perception.core.errors import Code, RobinError

FleetOption = Annotated[
    Path, typer.Option("--fleet", metavar="DIR", envvar="ROBIN_FLEET", help="Folder of the aggregator.")
]
RobotOption = Annotated[str | None, typer.Option("--robot", metavar="R", help="Only of this robot.")]
SiteOption = Annotated[str | None, typer.Option("--site", metavar="S", help="Only of this site.")]
StationOption = Annotated[str | None, typer.Option("--station", metavar="S", help="Only of this station.")]
SinceOption = Annotated[
    str | None, typer.Option("--since", metavar="T", help="Only from then on: 2026-05-04, 2026-05-04T10:30, 36h, 7d.")
]
PersonOption = Annotated[str, typer.Option("--by", metavar="NAME", help="Who says so.")]
_UNITS_S = {"h": 3600.0, "d": 86_400.0}


def moment_s(text: str | None, now_s: float) -> float | None:
    """Seconds since 1970 of "36h" ago, "7d" ago, or an ISO time (UTC where it names no zone). Raises RobinError
    OPTION_INVALID."""
    if text is None:
        return None
    if ago := re.fullmatch(r"(\d{1,6})([hd])", text):
        return now_s - int(ago[1]) * _UNITS_S[ago[2]]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise RobinError(Code.OPTION_INVALID, f"--since '{text}': 2026-05-04T10:30, 36h or 7d is needed") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def shown_time(at_s: float | None) -> str:
    """To the second, UTC."""
    if at_s is None:
        return ""
    return datetime.fromtimestamp(at_s, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
