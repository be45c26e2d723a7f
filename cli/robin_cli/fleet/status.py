"""``robin fleet status``: what the aggregator holds."""

from __future__ import annotations

import typer

from robin_cli.fleet.options import FleetOption, shown_time
from robin_cli.options import JsonOption
from robin_cli.terminal import print_table, require_writable, write_json

EVENTS = 10


def add_to(app: typer.Typer) -> None:
    app.command("status")(status)


def status(fleet: FleetOption, json_file: JsonOption = None) -> None:
    """Robots, samples by station, what is in quarantine, and what happened last."""
    require_writable(json_file)
    from robin_fleet.folder import open_fleet
    from robin_fleet.status import fleet_status

    with open_fleet(fleet) as opened:
        values = fleet_status(opened.ledger, EVENTS)
    write_json(json_file, {"fleet": str(fleet), **values})
    robots = values["robots"]
    title = (
        f"{robots['enrolled']} robots, {values['samples']} samples, {values['blobs']} blobs, "
        f"{values['bytes'] / 1e6:.1f} MB, {values['quarantined']} in quarantine"
    )
    keys = ("samples", "novel", "failed", "near")
    rows = [
        (s["site"], s["station"], *(f"{s[key]}" for key in keys), f"{s['bytes'] / 1e6:.1f}", shown_time(s["latest_s"]))
        for s in values["stations"]
    ]
    print_table(title, ("site", "station", *keys, "MB", "latest (UTC)"), rows, text_columns=2)
    for event in values["events"]:
        print(f"{shown_time(event['at_s'])}  {event['kind']}  {event['robot']}  {event['text']}")
