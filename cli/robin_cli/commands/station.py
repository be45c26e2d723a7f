"""``robin station``: what is usual at one station, taken at commissioning."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robin_cli.commands.station_source import CAMERA_ID, seen_in, simulated
from robin_cli.options import CameraIdOption, EngineOption, JsonOption, ModelOption, SeedOption, model_path
from robin_cli.terminal import note, print_table, require_writable, write_json
from robin_perception.core.errors import Code, RobinError

if TYPE_CHECKING:
    from robin_perception.monitors.baseline import StationBaseline

app = typer.Typer(help="What is usual at a station: light, lens, depth, the camera's place.", no_args_is_help=True)
_MOST_SIMULATED = 10_000


@app.command("baseline")
def baseline(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", dir_okay=False, help="The baseline's file.")],
    frames: Annotated[
        Path | None,
        typer.Option("--frames", metavar="PATH", help="A folder of image folders, or a bag, of the healthy station."),
    ] = None,
    scenario: Annotated[
        str | None, typer.Option("--scenario", metavar="S", help="In place of --frames: a simulated station.")
    ] = None,
    count: Annotated[
        int, typer.Option("--count", metavar="N", min=1, max=_MOST_SIMULATED, help="Frames of the simulated station.")
    ] = 30,
    seed: SeedOption = 1,
    camera_id: CameraIdOption = CAMERA_ID,
    engine: EngineOption = "auto",
    model: ModelOption = None,
    json_file: JsonOption = None,
) -> None:
    """Take it from 30 frames or more of the healthy station, with goods that come and go."""
    if (frames is None) == (scenario is None):
        raise RobinError(Code.OPTION_INVALID, "give either --frames or --scenario")
    require_writable(json_file)
    from robin_perception.monitors.baseline import BEGINS, take_baseline

    require_writable(out, begins=(BEGINS,))
    bundle = model_path(model)
    if frames is not None:
        seen = seen_in(frames, camera_id, bundle, engine)
    else:
        seen = simulated(str(scenario), seed, count, bundle, engine)
    taken = take_baseline(seen)
    taken.save(out)
    _show(taken, out)
    write_json(json_file, _plain(taken))
    note(f"the node segmentation reads it as monitors.baseline: {out}")


@app.command("show")
def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A baseline.")], json_file: JsonOption = None
) -> None:
    """What is usual, by cause; its hash is checked."""
    require_writable(json_file, file)
    from robin_perception.monitors.baseline import load_baseline

    read = load_baseline(file)
    write_json(json_file, _plain(read))
    _show(read, file)


def _show(taken: StationBaseline, file: Path) -> None:
    from robin_perception.monitors.registry import CAUSES

    rows = [
        (cause.name, f"{usual.location:.4g}", f"{usual.spread:.2g}", cause.unit)
        for cause in CAUSES
        if (usual := taken.usual.get(cause.name)) is not None
    ]
    size = f"{taken.width}x{taken.height}"
    print(
        f"{file}: {taken.frames} frames, {size}, of camera '{taken.camera_id}'; {100 * _known(taken):.0f} % of it seen"
    )
    print_table("usual", ("cause", "usual", "spread", "unit"), rows)


def _known(taken: StationBaseline) -> float:
    """Share of the picture that was free of goods often enough."""
    import numpy as np

    return float(np.isfinite(taken.reference.light).mean())


def _plain(taken: StationBaseline) -> dict[str, Any]:
    usual = {name: {"location": found.location, "spread": found.spread} for name, found in taken.usual.items()}
    size = {"width": taken.width, "height": taken.height, "frames": taken.frames}
    return {"camera_id": taken.camera_id, **size, "seen": _known(taken), "usual": usual}
