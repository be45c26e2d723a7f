"""``robin bench``: figures with their spread and what they were measured on, as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from robin_cli import bench_ros, bench_supervision
from robin_cli.options import EngineOption, JsonOption, ModelOption, SeedOption, WorkersOption, model_path, worker_count
from robin_cli.terminal import print_table, progress_bar, require_writable, write_json

app = typer.Typer(help="Measure latency and throughput on this machine.", no_args_is_help=True)
app.command("ros")(bench_ros.ros)
app.command("supervision")(bench_supervision.supervision)

MasksOption = Annotated[str, typer.Option("--masks", metavar="KIND", help="predicted or oracle.")]


@app.command("pipeline")
def pipeline(
    frames: Annotated[int, typer.Option("--frames", metavar="N", min=1, help="Different simulated frames.")] = 8,
    repeats: Annotated[int, typer.Option("--repeats", metavar="N", min=1, help="Timed passes over the frames.")] = 12,
    width: Annotated[int, typer.Option("--width", metavar="PX", min=160, help="Frame width, pixels.")] = 1280,
    height: Annotated[int, typer.Option("--height", metavar="PX", min=120, help="Frame height, pixels.")] = 720,
    threads: Annotated[
        int, typer.Option("--threads", metavar="N", min=0, help="Threads of the network; 0 means one per core.")
    ] = 0,
    planner: Annotated[str, typer.Option("--planner", metavar="P", help="Planner by name.")] = "geometric",
    seed: SeedOption = 7,
    model: ModelOption = None,
    engine: EngineOption = "auto",
    json_file: JsonOption = None,
) -> None:
    """Time the way of one pick: the bare network, frame to instances, frame to ranked plan; milliseconds."""
    require_writable(json_file)
    from robin_cli.bench_pipeline import PipelineBench, measure_pipeline

    bench = PipelineBench(frames, repeats, width, height, threads, planner, seed, model_path(model), engine)
    with progress_bar("timing", "frames") as advance:
        figures = measure_pipeline(bench, lambda done, total: advance(done, total, ""))
    write_json(json_file, figures)
    rows = [(name, *_spread(figures[name])) for name in ("network_ms", "frame_to_instances_ms", "frame_to_plan_ms")]
    print_table(f"{width}x{height}, {frames} frames x {repeats}", ("ms", "p50", "p95", "p99", "mean", "sd"), rows)
    print(f"frame to plan / bare network, medians: {figures['plan_over_network']:.2f}")


@app.command("sim")
def simulator(
    picks: Annotated[int, typer.Option("--picks", metavar="N", min=1, help="Pick attempts.")] = 60,
    scenario: Annotated[str, typer.Option("--scenario", metavar="S", help="Scenario by name or file.")] = "mixed",
    seed: SeedOption = 7,
    masks: MasksOption = "predicted",
    model: ModelOption = None,
    workers: WorkersOption = 0,
    json_file: JsonOption = None,
) -> None:
    """Closed-loop picks of the simulated cell per second of wall clock."""
    require_writable(json_file)
    from robin_cli.machine import machine_facts
    from robin_cli.simulated import run_simulated
    from robin_sim.run import RunRequest

    bundle = None if masks == "oracle" else model_path(model)
    facts = machine_facts()
    with progress_bar("picking", "picks") as advance:
        request = RunRequest(scenario, picks, seed, masks=masks, model=bundle, workers=worker_count(workers))
        result = run_simulated(request, progress=advance)
    values = result.to_json()
    values.pop("failures")
    write_json(json_file, {**values, "machine": facts})
    pace = values["wall_picks_per_s"]
    print(f"{pace:.2f} picks/s: {values['attempts']} picks in {values['wall_s']:.0f} s, {values['workers']} processes")


@app.command("dataset")
def rendering(
    scenes: Annotated[int, typer.Option("--scenes", metavar="N", min=1, help="Scenes to render.")] = 90,
    seed: SeedOption = 7,
    workers: WorkersOption = 0,
    json_file: JsonOption = None,
) -> None:
    """Rendered training scenes per second of wall clock, labels and files included (they are deleted again)."""
    require_writable(json_file)
    import tempfile
    import time
    from pathlib import Path

    from robin_cli.machine import machine_facts
    from robin_sim.dataset import make_dataset

    count = worker_count(workers)
    facts = machine_facts()
    with tempfile.TemporaryDirectory(prefix="robin-bench-") as folder, progress_bar("rendering", "scenes") as advance:
        started = time.perf_counter()
        make_dataset(Path(folder) / "set", scenes, seed, count, None, lambda done, total: advance(done, total, ""))
        seconds = time.perf_counter() - started
    pace = scenes / seconds
    values = {"scenes": scenes, "seed": seed, "workers": count, "wall_s": round(seconds, 2)}
    write_json(json_file, {**values, "scenes_per_s": round(pace, 3), "machine": facts})
    print(f"{pace:.2f} scenes/s: {scenes} scenes in {seconds:.0f} s, {count} processes")


def _spread(times: Mapping[str, float]) -> tuple[str, ...]:
    return tuple(f"{times[key]:.1f}" for key in ("p50", "p95", "p99", "mean", "sd"))
