"""``robin doctor``: what this machine has and lacks. Exit status 0 when the demo can run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robin_cli.commands.station_source import CAMERA_ID
from robin_cli.failures import EXIT_FAILURE
from robin_cli.options import CameraIdOption, EngineOption, JsonOption, ModelOption, model_path
from robin_cli.terminal import print_table, require_writable, write_json
from robin_perception.core.errors import Code, RobinError


def doctor(
    station: Annotated[
        Path | None,
        typer.Option(
            "--station",
            metavar="PATH",
            help="Look at a station in place of this machine: a folder of image folders, or a bag. Exit status 1 where "
            "something is wrong with light, lens, depth or mount.",
        ),
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(
            "--baseline", metavar="FILE", help="What is usual there (robin station baseline); with --station."
        ),
    ] = None,
    camera_id: CameraIdOption = CAMERA_ID,
    engine: EngineOption = "auto",
    model: ModelOption = None,
    json_file: JsonOption = None,
) -> None:
    """Check Python, libraries, the model bundle and the hardware; say how to get what is missing."""
    if baseline is not None and station is None:
        raise RobinError(Code.OPTION_INVALID, "--baseline goes with --station only")
    require_writable(json_file, baseline)
    if station is not None:
        _station(station, baseline, camera_id, model_path(model), engine, json_file)
        return
    from robin_cli.doctor.checks import all_checks

    checks = all_checks(model_path(model))
    ready = all(check.ok for check in checks if check.needed)
    write_json(json_file, {"demo_can_run": ready, "checks": [check.__dict__ for check in checks]})
    rows = [(check.name, _state(check.ok, check.needed), check.found, check.remedy) for check in checks]
    print_table("robin doctor", ("what", "", "found", "to get it"), rows, text_columns=4)
    print("The demo can run: make demo" if ready else "The demo cannot run; see the lines marked MISSING.")
    if not ready:
        raise typer.Exit(EXIT_FAILURE)


def _station(
    frames: Path, baseline: Path | None, camera_id: str, model: Path, engine: str, json_file: Path | None
) -> None:
    from robin_cli.doctor.station import examine, show, versions

    found = {**examine(frames, baseline, camera_id, model, engine), "adaptation": versions(model)}
    write_json(json_file, found)
    show(found)
    if found["alarms"]:
        raise typer.Exit(EXIT_FAILURE)


def _state(ok: bool, needed: bool) -> str:
    return "ok" if ok else "MISSING" if needed else "-"
