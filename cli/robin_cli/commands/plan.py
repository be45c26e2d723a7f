"""``robin plan``: one RGB-D image to masks and ranked grasps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robin_cli.options import (
    CellOption,
    EngineOption,
    JsonOption,
    ModelOption,
    PlannerOption,
    SupervisedOption,
    engine_called,
    model_path,
)
from robin_cli.terminal import note, print_table, require_writable, write_json
from robin_perception.core.errors import Code, RobinError

if TYPE_CHECKING:
    from robin_cli.commands.plan_run import PlanRun

SHOWN_GRASPS = 8


def plan(
    color: Annotated[
        Path | None, typer.Option("--color", metavar="PNG", help="Colour image, 8 bit, registered with the depth.")
    ] = None,
    depth: Annotated[
        Path | None, typer.Option("--depth", metavar="PNG", help="Depth image, 16 bit, 0 = invalid (or .npy, metres).")
    ] = None,
    camera: Annotated[
        Path | None,
        typer.Option("--camera", metavar="JSON", help="fx fy cx cy width height (px), depth_scale (m), T_base_camera."),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", metavar="DIR", help="Image folder with color.png, depth.png, camera.json."),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for overlay.png, depth.png, masks.png and plan.json.")
    ] = Path("out/plan"),
    planner: PlannerOption = "geometric",
    cell: CellOption = None,
    gate: Annotated[
        Path | None,
        typer.Option("--gate", metavar="FILE", help="YAML file: range of depth and other limits of frames."),
    ] = None,
    model: ModelOption = None,
    engine: EngineOption = "auto",
    supervised: SupervisedOption = None,
    json_file: JsonOption = None,
) -> None:
    """Segment one image and rank the grasps.

    Give either **--folder** or all of **--color --depth --camera**. When nothing can be picked, the answer is a code
    with its reason, and the exit status is 0: finding no grasp is an answer.

    Without **T_base_camera** in the camera file, base_link is laid into the dominant support plane of the image. The
    workspace is then what the image shows of that plane, and there are no reach limits.
    """
    paths = _input_files(folder, color, depth, camera)
    require_writable(json_file, *paths, cell, gate)
    from robin_cli.commands.plan_files import require_own_plan, write_plan
    from robin_cli.commands.plan_run import run_plan
    from robin_perception.core.output import output_folder

    require_own_plan(out, paths)
    camera_id = folder.name if folder is not None else paths[0].stem
    with output_folder(out):
        result = run_plan(paths, camera_id, cell, gate, planner, model_path(model), engine_called(engine, supervised))
        _warn(result)
        write_plan(out, result)
    write_json(json_file, result.to_json())
    _print(result, out)


def _input_files(
    folder: Path | None, color: Path | None, depth: Path | None, camera: Path | None
) -> tuple[Path, Path, Path]:
    if folder is not None:
        if color or depth or camera:
            raise RobinError(Code.OPTION_INVALID, "--folder goes without --color, --depth and --camera")
        if not folder.is_dir():
            raise RobinError(Code.INPUT_MISSING, f"{folder}: no such folder")
        return folder / "color.png", folder / "depth.png", folder / "camera.json"
    if color is None or depth is None or camera is None:
        raise RobinError(Code.OPTION_INVALID, "give --folder, or all of --color, --depth and --camera")
    return color, depth, camera


def _warn(result: PlanRun) -> None:
    """Before anything is written: an error that follows must not hide it."""
    if result.pose_source == "support_plane":
        note("no T_base_camera: base_link lies in the image's support plane; workspace = what the image shows of it")
    for cause, count in result.frame.gate.depth_removed.items():
        note(f"depth: {count} px {cause.replace('_', ' ')} count as no depth")
    for warning in result.frame.gate.warnings:
        note(f"warning {warning}")
    if flags := result.to_json()["flags"]:
        note(f"flags: {', '.join(flags)}")
    note(result.engine_why)


def _print(result: PlanRun, out: Path) -> None:
    rows = []
    for rank, grasp in enumerate(result.to_json()["grasps"][:SHOWN_GRASPS]):
        x, y, z = grasp["position_m"]
        cups = " ".join(str(cup) for cup in grasp["cups"])
        rows.append((str(rank), str(grasp["instance"]), f"{x:.3f} {y:.3f} {z:.3f}", cups, f"{grasp['score']:.3f}"))
    seen = len(result.scene.instances)
    if rows:
        count = len(result.plan.grasps)
        header = ("rank", "parcel", "position m (x y z)", "cups", "score")
        print_table(f"{seen} parcels, {count} grasps, {result.milliseconds:.0f} ms", header, rows)
    else:
        print(
            f"no grasp: E{int(result.plan.code)} {result.plan.code.name}: {result.plan.message} ({seen} parcels seen)"
        )
    note(f"pictures and plan.json: {out.resolve()}")
