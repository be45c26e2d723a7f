"""``robin engine``: compiled engines for this machine: build, prove, list; and what TensorRT says without a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robin_cli.failures import EXIT_FAILURE
from robin_cli.options import JsonOption, WorkersOption, model_path, size_px
from robin_cli.terminal import note, print_table, progress_bar, require_writable, write_json

app = typer.Typer(
    help="Inference engines: build one for this machine, prove it, list them, check a bundle without a GPU.",
    no_args_is_help=True,
)

BundleArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="[MODEL]", envvar="ROBIN_MODEL", help="Model bundle. Default: models/base.", show_default=False
    ),
]
NameOption = Annotated[
    str, typer.Option("--engine", metavar="NAME", help="Engine by name; auto: the best this machine can have.")
]


@app.command("build")
def build(
    model: BundleArgument = None,
    engine: NameOption = "auto",
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Build even where a cached engine fits.")] = False,
    workspace_mb: Annotated[
        int, typer.Option("--workspace-mb", metavar="MB", min=16, help="TensorRT: device memory an operator may take.")
    ] = 512,
    level: Annotated[
        int, typer.Option("--level", metavar="0..5", min=0, max=5, help="TensorRT: how long to search for kernels.")
    ] = 3,
    scenes: Annotated[
        int, typer.Option("--scenes", metavar="N", min=1, help="INT8: simulated scenes to calibrate with.")
    ] = 96,
    labelled: Annotated[
        int, typer.Option("--labelled", metavar="N", min=1, help="INT8: other scenes to measure accuracy on.")
    ] = 100,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="INT8: image folders with labels instead.")
    ] = None,
    workers: WorkersOption = 0,
    json_file: JsonOption = None,
) -> None:
    """Build the engine that fits this machine and prove it. A TensorRT engine takes minutes, once."""
    require_writable(json_file)
    from robin_cli.engine import build as engine_build

    request = engine_build.Request(
        model_path(model), engine, rebuild, workspace_mb << 20, level, scenes, labelled, data, workers
    )
    with progress_bar("building") as advance:
        result = engine_build.build(request, lambda phase, done, total: advance(done, total, phase))
    write_json(json_file, result)
    for line in result["lines"]:
        print(line)
    if not result["usable"]:
        raise typer.Exit(EXIT_FAILURE)


@app.command("verify")
def verify(
    model: BundleArgument = None,
    engine: NameOption = "auto",
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Image folders to compare on, besides golden frames.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="All that was found, as JSON, with machine facts.")
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Compare an engine with ONNX Runtime's reference on golden frames, with this head and another, output by output.

    With --engine tensorrt the engine is built first where it was not: this one command proves it on a robot.
    Exit status 0: proven; 1: it differs, or cannot run.
    """
    require_writable(report)
    require_writable(json_file)
    from robin_cli.engine.verify import verify as run

    with progress_bar("verifying") as advance:
        result = run(model_path(model), engine, data, lambda phase, done, total: advance(done, total, phase))
    write_json(report, result)
    write_json(json_file, result)
    rows = [
        (name, f"{row['max_abs']:.3g}", f"{row['mean_abs']:.3g}", f"{row['reference_max']:.3g}")
        for name, row in result["outputs"].items()
    ]
    print_table(result["selection"], ("output", "largest difference", "mean", "largest value"), rows)
    for line in result["lines"]:
        print(line)
    for failure in result["failures"]:
        note(f"differs: {failure}")
    if not result["passed"]:
        from robin_cli.engine.verify import disagreement

        raise disagreement(result)


@app.command("check")
def check(
    model: BundleArgument = None,
    compute: Annotated[
        list[str] | None,
        typer.Option("--compute", metavar="X.Y", help="Compute capability to compile for; may be given again."),
    ] = None,
    camera: Annotated[
        list[str] | None,
        typer.Option("--camera", metavar="WxH", help="Size of a camera's frames; may be given again."),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Have NVIDIA's parser and compiler take a bundle's graphs, on a machine without a GPU. Nothing is kept.

    Needs TensorRT for RTX, whose builder asks for no GPU: pip install tensorrt-rtx-cu13 (NVIDIA's licence).
    """
    require_writable(json_file)
    from robin_cli.engine.check import check as run

    sizes = [size_px(text, "--camera") for text in camera or ()]
    with progress_bar("compiling") as advance:
        result = run(model_path(model), compute or (), sizes, lambda graph, done, total: advance(done, total, graph))
    write_json(json_file, result)
    sizes_of = ("plan_bytes", "weight_bytes", "scratch_bytes")
    rows = [
        (g["graph"], g["compute"], f"{g['seconds']:.2f}", *(_megabytes(g[name]) for name in sizes_of))
        for g in result["graphs"]
    ]
    header = ("graph", "compute", "seconds", "engine MB", "weights MB", "scratch MB")
    print_table(f"{result['model']}: compiled by TensorRT {result['tensorrt']}", header, rows)
    print("It takes every graph. What they compute there is proven on a GPU: robin engine verify --engine tensorrt")


def _megabytes(size: int | None) -> str:
    return "" if size is None else f"{size / 2**20:.1f}"


@app.command("list")
def list_engines(model: BundleArgument = None, json_file: JsonOption = None) -> None:
    """Cached engines: what for, how large, proven or not, whether they fit here; and which engine auto is, and why."""
    require_writable(json_file)
    from robin_cli.engine.list import list_cached

    result = list_cached(model_path(model))
    write_json(json_file, result)
    rows = [
        (e["kind"], e["for"], e["precision"], e["gpu"], f"{e['size_mb']:.1f}", e["made"], e["verified"], e["fits"])
        for e in result["engines"]
    ]
    header = ("engine", "bundle", "precision", "device", "MB", "built", "verified", "fits here")
    print_table(f"{result['root']}: {len(rows)} engines", header, rows, text_columns=8)
    auto = result["auto"]
    print(f"auto: {auto['engine'] or 'none'} ({auto['why']})")
    for name, reason in auto["rejected"].items():
        print(f"  not {name}: {reason}")
