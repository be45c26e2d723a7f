"""``robin dataset``: rendered scenes as labelled image folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robin_cli.options import JsonOption, SeedOption, WorkersOption, worker_count
from robin_cli.terminal import progress_bar, require_writable, write_json

app = typer.Typer(help="Rendered, labelled scenes for training and evaluation.", no_args_is_help=True)


@app.command("make")
def make(
    scenes: Annotated[int, typer.Option("--scenes", metavar="N", min=1, help="How many scenes the folder shall hold.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the data set; a stopped run continues.")],
    seed: SeedOption = 1,
    workers: WorkersOption = 0,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", metavar="FILE", help="YAML: image sizes (px), parcels, arrangements. Default: built in."
        ),
    ] = None,
    scenario: Annotated[
        str | None,
        typer.Option("--scenario", metavar="S", help="Scenes of this scenario's cell, by name or as a YAML file."),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Render labelled scenes. Scene k depends on the seed and k only; finished scenes are kept."""
    require_writable(json_file)
    import time

    from robin_perception.core.config import load_config
    from robin_sim.dataset import make_dataset
    from robin_sim.scenario import load_scenario
    from robin_sim.training_scenes import DatasetConfig

    settings = load_config(DatasetConfig, config)
    if scenario is not None:
        settings = settings.model_copy(update={"scenario": load_scenario(scenario).config})
    started = time.perf_counter()
    with progress_bar("rendering", "scenes") as advance:
        summary = make_dataset(
            out, scenes, seed, worker_count(workers), settings, lambda done, total: advance(done, total, "")
        )
    seconds = time.perf_counter() - started
    pace = summary.made / seconds if seconds > 0 else 0.0
    result = {"scenes": summary.scenes, "made": summary.made, "seed": seed, "seconds": round(seconds, 2)}
    write_json(json_file, {**result, "scenes_per_s": round(pace, 3), "out": out})
    print(f"{summary.scenes} scenes in {out}, {summary.made} made now, {pace:.2f} scenes/s")
