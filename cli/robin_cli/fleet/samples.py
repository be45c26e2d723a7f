"""``robin fleet samples``: the samples that robots sent."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robin_cli.fleet.options import (
    FleetOption,
    RobotOption,
    SinceOption,
    SiteOption,
    StationOption,
    moment_s,
    shown_time,
)
from robin_cli.options import JsonOption
from robin_cli.terminal import print_table, require_writable, write_json

if TYPE_CHECKING:
    from robin_fleet.ledger.samples import SampleRow


def add_to(app: typer.Typer) -> None:
    app.command("samples")(samples)


def samples(
    fleet: FleetOption,
    robot: RobotOption = None,
    site: SiteOption = None,
    station: StationOption = None,
    result: Annotated[
        str | None, typer.Option("--result", metavar="R", help="Only picks of this result: clean, miss, multi ...")
    ] = None,
    goods: Annotated[str | None, typer.Option("--goods", metavar="G", help="Only picks of these goods.")] = None,
    novel: Annotated[
        bool | None, typer.Option("--novel/--known", help="Only goods that nobody taught, or only others.")
    ] = None,
    since: SinceOption = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=1_000_000, help="At most; the latest.")] = 20,
    json_file: JsonOption = None,
) -> None:
    """List samples, those that came last first."""
    require_writable(json_file)
    since_s = moment_s(since, time.time())
    from robin_fleet.folder import open_fleet
    from robin_fleet.ledger.samples import SampleFilter, count_samples, find_samples

    chosen = SampleFilter(robot, site, station, result, goods, novel, since_s)
    with open_fleet(fleet) as opened, opened.ledger.read() as connection:
        found, total = find_samples(connection, chosen, limit), count_samples(connection, chosen)
    write_json(json_file, {"total": total, "samples": [_values(row) for row in found]})
    rows = [
        (
            shown_time(row.received_s),
            *(row.robot, row.site, row.station, row.decision_id, row.name, row.result),
            "yes" if row.novel else "",
            f"{row.bytes / 1e6:.2f}",
        )
        for row in found
    ]
    header = ("received (UTC)", "robot", "site", "station", "decision", "goods", "result", "novel", "MB")
    print_table(f"{len(found)} of {total} samples", header, rows, text_columns=8)


def _values(row: SampleRow) -> dict[str, Any]:
    values = row._asdict()
    values["embedding"] = row.embedding is not None
    return values
