"""``robin bench``: figures with their spread and what they were measured on, as JSON."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robin_cli.bench.adapt import adapt as bench_adapt
from robin_cli.bench.annotate import annotate as bench_annotate
from robin_cli.bench.ledger import ledger as bench_ledger
from robin_cli.bench.recurrence import recurrence as bench_recurrence
from robin_cli.bench.rollout import rollout as bench_rollout
from robin_cli.bench.ros import command as bench_ros
from robin_cli.bench.view import view as bench_view
from robin_cli.options import (
    EngineOption,
    FramesOption,
    HeightOption,
    JsonOption,
    MasksOption,
    ModelOption,
    PicksOption,
    PlannerOption,
    RepeatsOption,
    ScenarioOption,
    SeedOption,
    ThreadsOption,
    WidthOption,
    WorkersOption,
    model_path,
    worker_count,
)
from robin_cli.terminal import note, print_table, progress_bar, require_writable, write_json
from robin_perception.core.errors import Code, RobinError

if TYPE_CHECKING:
    from robin_cli.bench.figures import Figure

app = typer.Typer(help="Measure latency and throughput on this machine.", no_args_is_help=True)
app.command("ros")(bench_ros.ros)
app.command("adapt")(bench_adapt)
app.command("annotate")(bench_annotate)
app.command("rollout")(bench_rollout)
app.command("ledger")(bench_ledger)
app.command("recurrence")(bench_recurrence)
app.command("view")(bench_view)

SPIN = False  # as engines have it unless told otherwise


@app.command("pipeline")
def pipeline(
    frames: FramesOption = 8,
    repeats: RepeatsOption = 12,
    width: WidthOption = 1280,
    height: HeightOption = 720,
    threads: ThreadsOption = 0,
    planner: PlannerOption = "geometric",
    seed: SeedOption = 7,
    model: ModelOption = None,
    engine: EngineOption = "auto",
    pause_ms: Annotated[
        float,
        typer.Option(
            "--pause-ms",
            metavar="MS",
            min=0,
            max=1000,
            help="In place of an engine: its answers, remembered, after a pause.",
        ),
    ] = 0.0,
    json_file: JsonOption = None,
) -> None:
    """Time the way of one pick: the bare network, frame to instances, frame to ranked plan; milliseconds.

    With --pause-ms what is left is the host's own part, as beside a GPU.
    """
    require_writable(json_file)
    from robin_cli.bench.pipeline import PipelineBench, measure_pipeline, pipeline_figures

    bench = PipelineBench(frames, repeats, width, height, threads, planner, seed, model_path(model), engine, pause_ms)
    with progress_bar("timing", "frames") as advance:
        result = measure_pipeline(bench, lambda done, total: advance(done, total, ""))
    title = f"{width}x{height}, {frames} frames x {repeats}, engine {result['engine']}"
    ratio = f"frame to plan / bare network, medians: {result['plan_over_network']:.2f}"
    _tell(title, result, pipeline_figures(result), json_file, ratio)


@app.command("engine")
def engine_bench(
    engines: Annotated[
        str, typer.Option("--engines", metavar="A,B,...", help="Engines, compared with the first; default: all here.")
    ] = "",
    frames: FramesOption = 6,
    repeats: RepeatsOption = 20,
    threads: ThreadsOption = 0,
    spin: Annotated[bool, typer.Option("--spin/--no-spin", help="Threads busy-wait between operators.")] = SPIN,
    swaps: Annotated[int, typer.Option("--swaps", metavar="N", min=0, help="Heads swapped while frames go on.")] = 20,
    calls: Annotated[
        int, typer.Option("--calls", metavar="N", min=0, help="Runs of a small graph, for growth of memory; 0 = none.")
    ] = 0,
    seed: SeedOption = 7,
    model: ModelOption = None,
    json_file: JsonOption = None,
) -> None:
    """Time engines in turns on the same frames, stage by stage; swap heads between frames; watch memory."""
    require_writable(json_file)
    from robin_cli.bench.engine import FLOAT32, EngineBench, engine_figures, measure_engines
    from robin_perception.engines.registry import unavailable_reasons
    from robin_perception.model.bundle import load_bundle

    path = model_path(model)
    names = [name.strip() for name in engines.split(",") if name.strip()]
    if not names:
        able = [name for name, reason in unavailable_reasons(load_bundle(path)).items() if reason is None]
        names = sorted(able, key=lambda name: name != FLOAT32)  # first what the others are compared with
    bench = EngineBench(tuple(names), frames, repeats, threads, spin, swaps, calls, seed, path)
    with progress_bar("timing", "") as advance:
        result = measure_engines(bench, advance)
    _tell(f"{frames} frames x {repeats}, {result['model']}", result, engine_figures(result), json_file)


@app.command("supervision")
def supervision(
    frames: FramesOption = 4,
    repeats: RepeatsOption = 60,
    hangs: Annotated[int, typer.Option("--hangs", metavar="N", min=1, help="Calls that are made to hang.")] = 12,
    deadline_ms: Annotated[
        float, typer.Option("--deadline-ms", metavar="MS", min=5, help="Deadline of the calls that hang.")
    ] = 500.0,
    calls: Annotated[
        int, typer.Option("--calls", metavar="N", min=100, help="Runs of a small graph, for growth of memory.")
    ] = 5000,
    threads: ThreadsOption = 0,
    seed: SeedOption = 7,
    model: ModelOption = None,
    engine: EngineOption = "onnxruntime",
    json_file: JsonOption = None,
) -> None:
    """Time an engine in a process of its own beside the same engine in this one, and its fallback after a hang."""
    require_writable(json_file)
    from robin_cli.bench.supervision import SupervisionBench, measure_supervision, supervision_figures

    bench = SupervisionBench(model_path(model), engine, threads, frames, repeats, hangs, deadline_ms, calls, seed)
    with progress_bar("measuring", "calls") as advance:
        result = measure_supervision(bench, lambda done, total: advance(done, total, ""))
    title = f"supervision of {result['engine']}, {result['model']}"
    _tell(title, result, supervision_figures(result), json_file)


@app.command("compare")
def compare(
    before: Annotated[Path, typer.Argument(metavar="A.json", help="Result of a bench.")],
    after: Annotated[Path, typer.Argument(metavar="B.json", help="Another one of the same bench.")],
    json_file: JsonOption = None,
) -> None:
    """Set two results side by side, figure by figure, and say what they were not equally measured on."""
    require_writable(json_file, before, after)
    from robin_cli.bench.compare import compare_results, read_result

    result = compare_results(read_result(before), read_result(after))
    write_json(json_file, result)
    rows = [(c["what"], f"{c['a']:.4g}", f"{c['b']:.4g}", f"{c['ratio']:.3f}", c["verdict"]) for c in result["figures"]]
    print_table(f"A {before}, B {after}", ("what", "A p50", "B p50", "B / A", ""), rows)
    for line in result["differences"]:
        print(f"not the same: {line}")


@app.command("sim")
def simulator(
    picks: PicksOption = 60,
    scenario: ScenarioOption = "mixed",
    seed: SeedOption = 7,
    masks: MasksOption = "predicted",
    model: ModelOption = None,
    workers: WorkersOption = 0,
    json_file: JsonOption = None,
) -> None:
    """Closed-loop picks of the simulated cell per second of wall clock."""
    require_writable(json_file)
    from robin_cli.doctor.machine import machine_facts
    from robin_sim.runs.request import RunRequest
    from robin_sim.runs.simulated import run_simulated

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


@app.command("store")
def store(
    kills: Annotated[int, typer.Option("--kills", metavar="N", min=0, help="Times that the writer is killed.")] = 100,
    cuts: Annotated[
        int, typer.Option("--cuts", metavar="N", min=0, help="Power cuts; they need root and a loop device.")
    ] = 30,
    samples: Annotated[
        int, typer.Option("--samples", metavar="N", min=0, help="Small samples in the index, to time its opening.")
    ] = 200_000,
    picks: Annotated[
        int, typer.Option("--picks", metavar="N", min=0, help="Picks stored beside a process that picks, and alone.")
    ] = 120,
    period_s: Annotated[float, typer.Option("--period-s", metavar="S", min=0.05, help="Between two picks.")] = 0.5,
    width: WidthOption = 1280,
    height: HeightOption = 720,
    seed: SeedOption = 7,
    model: ModelOption = None,
    place: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="Disk to store picks on. Default: the temporary folder.")
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Kill the store's writer and cut its power, time its opening, and time inserts beside picking."""
    require_writable(json_file)
    from robin_cli.bench.store import StoreBench, measure_store, store_figures

    bench = StoreBench(kills, cuts, samples, picks, period_s, width, height, seed, model_path(model), place)
    with progress_bar("store", "") as advance:
        result = measure_store(bench, advance)
    if result["cuts_skipped"]:
        note(f"no power cuts here: {result['cuts_skipped']}")
    _tell(f"store, {width}x{height}", result, store_figures(result), json_file)


@app.command("uplink")
def uplink(
    mb: Annotated[int, typer.Option("--mb", metavar="MB", min=10, help="What one robot sends.")] = 400,
    repeats: RepeatsOption = 3,
    robots: Annotated[int, typer.Option("--robots", metavar="N", min=1, help="That send small samples.")] = 1000,
    seconds: Annotated[float, typer.Option("--seconds", metavar="S", min=1, help="So long.")] = 60.0,
    hostile: Annotated[int, typer.Option("--hostile", metavar="N", min=1, help="Malformed messages.")] = 10_000,
    picks: Annotated[
        float, typer.Option("--picks", metavar="S", min=0, help="Seconds of picking, half of it beside an uplink.")
    ] = 120.0,
    turns: Annotated[int, typer.Option("--turns", metavar="N", min=2, help="Turns beside the uplink.")] = 10,
    seed: SeedOption = 7,
    model: ModelOption = None,
    json_file: JsonOption = None,
) -> None:
    """Send a store to a fleet on this machine, beside a raw push and beside picks; as many robots; as a hostile one."""
    require_writable(json_file)
    from robin_cli.bench.uplink import UplinkBench, measure_uplink, uplink_figures
    from robin_cli.bench.uplink_picks import PicksBench

    beside = PicksBench(model_path(model), picks, turns, seed) if picks else None
    with progress_bar("uplink", "") as advance:
        result = measure_uplink(UplinkBench(mb, repeats, robots, seconds, hostile, seed, beside), advance)
    _tell("uplink on loopback", result, uplink_figures(result), json_file)


@app.command("durability")
def durability(
    kills: Annotated[int, typer.Option("--kills", metavar="N", min=0, help="Times that an end is killed.")] = 100,
    cuts: Annotated[
        int, typer.Option("--cuts", metavar="N", min=0, help="Power cuts; they need root and a loop device.")
    ] = 30,
    seed: SeedOption = 7,
    place: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="Folder to work in. Default: memory.")
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Kill robot and fleet, and cut their power, while samples go up a bad wire; look for what was acknowledged."""
    require_writable(json_file)
    from robin_cli.bench.durability import DurabilityBench, durability_figures, measure_durability

    with progress_bar("uplink", "rounds") as advance:
        result = measure_durability(DurabilityBench(kills, cuts, seed, place), advance)
    if result["cuts_skipped"]:
        note(f"no power cuts here: {result['cuts_skipped']}")
    _tell("uplink, killed and cut off", result, durability_figures(result), json_file)


@app.command("learning")
def learning(
    seconds: Annotated[
        float, typer.Option("--seconds", metavar="S", min=1, help="Of picking, half of it beside a lesson.")
    ] = 240.0,
    turns: Annotated[int, typer.Option("--turns", metavar="N", min=2, help="Turns beside the lesson.")] = 12,
    period_s: Annotated[
        float, typer.Option("--period-s", metavar="S", min=0.0, help="From one frame to the next; 0: at once.")
    ] = 0.25,
    swaps: Annotated[int, typer.Option("--swaps", metavar="N", min=1, help="Heads swapped while frames go on.")] = 20,
    rollbacks: Annotated[int, typer.Option("--rollbacks", metavar="N", min=1, help="While frames go on.")] = 10,
    deep: Annotated[bool, typer.Option("--deep", help="The lesson is one of the whole network.")] = False,
    frames: FramesOption = 4,
    width: WidthOption = 1280,
    height: HeightOption = 720,
    threads: ThreadsOption = 0,
    seed: SeedOption = 7,
    model: ModelOption = None,
    engine: EngineOption = "auto",
    json_file: JsonOption = None,
) -> None:
    """Time picks beside the process that teaches and without it, in turns; swap and roll back while frames go on."""
    require_writable(json_file)
    if find_spec("torch") is None:
        raise RobinError(Code.DEPENDENCY_MISSING, "torch is not installed; teaching needs it: make setup-dev")
    from robin_cli.bench.learning import LearningBench, learning_figures, measure_learning

    bench = LearningBench(
        model_path(model),
        engine,
        threads,
        frames,
        seconds,
        turns,
        period_s,
        swaps,
        rollbacks,
        width,
        height,
        deep,
        seed,
    )
    with progress_bar("learning", "") as advance:
        result = measure_learning(bench, advance)
    _tell(f"learning beside picks, {width}x{height}", result, learning_figures(result), json_file)


@app.command("dataset")
def rendering(
    scenes: Annotated[int, typer.Option("--scenes", metavar="N", min=1, help="Scenes to render.")] = 90,
    seed: SeedOption = 7,
    workers: WorkersOption = 0,
    json_file: JsonOption = None,
) -> None:
    """Rendered training scenes per second of wall clock, labels and files included (they are deleted again)."""
    require_writable(json_file)
    import time

    from robin_cli.doctor.machine import machine_facts
    from robin_perception.core.output import scratch_folder
    from robin_sim.dataset import make_dataset

    count = worker_count(workers)
    facts = machine_facts()
    with scratch_folder("robin-bench-") as folder, progress_bar("rendering", "scenes") as advance:
        started = time.perf_counter()
        make_dataset(folder / "set", scenes, seed, count, None, lambda done, total: advance(done, total, ""))
        seconds = time.perf_counter() - started
    pace = scenes / seconds
    values = {"scenes": scenes, "seed": seed, "workers": count, "wall_s": round(seconds, 2)}
    write_json(json_file, {**values, "scenes_per_s": round(pace, 3), "machine": facts})
    print(f"{pace:.2f} scenes/s: {scenes} scenes in {seconds:.0f} s, {count} processes")


def _tell(title: str, result: dict[str, Any], figures: list[Figure], json_file: Path | None, remark: str = "") -> None:
    """Write the result with its figures, print them as a table, the remark and the verdict."""
    from robin_cli.bench.figures import print_figures, print_verdict

    write_json(json_file, {**result, "figures": [figure.to_json() for figure in figures]})
    print_figures(title, figures)
    if remark:
        print(remark)
    over = [f"{figure.part} {figure.name}" for figure in figures if figure.within is False]
    print_verdict(over, result["machine"], "compare ratios, quote no times")
