"""``robin demo``: the simulated cell, closed loop, with a report to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robin_cli.options import (
    JsonOption,
    ModelOption,
    RecordedPicksOption,
    SeedOption,
    WorkersOption,
    model_path,
    worker_count,
)
from robin_cli.terminal import note, print_table, progress_bar, require_writable, write_json


def demo(
    picks: RecordedPicksOption = 30,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for report.html, records and images.")
    ] = Path("out/demo"),
    seed: SeedOption = 20,
    workers: WorkersOption = 0,
    model: ModelOption = None,
    json_file: JsonOption = None,
) -> None:
    """Run the simulated cell on mixed piles and write a report of every pick."""
    require_writable(json_file)
    from robin_sim.runs.simulated import REPORT_FILE, run_demo, summary_rows

    with progress_bar("picking", "picks") as advance:
        result = run_demo(picks, out, advance, seed=seed, workers=worker_count(workers), model=model_path(model))
    write_json(json_file, result.to_json())
    print_table(f"{picks} picks, scenario {result.scenario}, seed {seed}", ("", "", ""), summary_rows(result))
    note(f"report: {(out / REPORT_FILE).resolve()}")
    note(f"why a pick was chosen: robin trace --run {out}")
