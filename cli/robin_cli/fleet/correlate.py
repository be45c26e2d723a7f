"""``robin fleet correlate``: what goes with slow or failed picks."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from robin_cli.fleet.options import FleetOption, SinceOption, moment_s
from robin_cli.options import JsonOption, SeedOption
from robin_cli.terminal import print_table, require_writable, write_json

PNG = (b"\x89PNG",)


def add_to(app: typer.Typer) -> None:
    app.command("correlate")(correlate)


def correlate(
    target: Annotated[str, typer.Argument(metavar="failed|FIGURE", show_default=False, help="failed, latency_ms ...")],
    fleet: FleetOption,
    since: SinceOption = "7d",
    picks: Annotated[int, typer.Option("--picks", metavar="N", min=200, help="The newest, at most.")] = 5000,
    false_share: Annotated[
        float, typer.Option("--false", metavar="Q", min=0.001, max=0.5, help="Share of discoveries that may be false.")
    ] = 0.05,
    pictures: Annotated[
        Path | None, typer.Option("--pictures", metavar="PNG", help="Picks at both ends, side by side.")
    ] = None,
    seed: SeedOption = 0,
    json_file: JsonOption = None,
) -> None:
    """Which property of scene, station, model, parcel or hour goes with it: surest first, with pictures of the ends."""
    require_writable(json_file)
    require_writable(pictures, begins=PNG)
    import numpy as np

    from robin_fleet.folder import open_fleet
    from robin_fleet.ledger.metrics import facts_since
    from robin_fleet.metrics.correlate import correlate as correlated
    from robin_fleet.metrics.correlate import extremes
    from robin_fleet.metrics.sheet import sheet_png, tiles
    from robin_perception.core.disk import write_atomic

    since_s = moment_s(since, time.time()) or 0.0
    with open_fleet(fleet) as opened, opened.ledger.read() as connection:
        facts = facts_since(connection, since_s, picks)
        found = correlated(facts, target, np.random.default_rng(seed), false_share)
        if pictures is not None:
            ends = extremes(facts, target, len(facts))
            rows = [tiles(connection, opened.objects, end, target, 6) for end in ends]
            write_atomic(pictures, sheet_png(rows))
    write_json(json_file, found.to_json())
    lines = [
        (
            *(one.name, "yes" if one.discovered else "", one.low, one.high),
            *(f"{one.information:.4f}", f"{one.q:.3f}", f"{one.importance:.3f} ± {one.spread:.3f}"),
        )
        for one in found.found
    ]
    header = ("property", "found", f"low {target}", f"high {target}", "information", "q", "importance")
    print_table(
        f"{found.target} of {found.picks} picks; trees explain {found.score:.2f}", header, lines, text_columns=4
    )
