"""``robin eval``: masks against labels, planners against each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robin_cli.commands import evaluate_cups, evaluate_health, evaluate_labels, film, novelty, pickcheck
from robin_cli.options import (
    PLANNERS,
    CellOption,
    EngineByNameOption,
    EngineOption,
    JsonOption,
    LimitOption,
    MasksOption,
    ModelOption,
    ScenarioOption,
    SeedOption,
    WorkersOption,
    model_path,
    worker_count,
)
from robin_cli.terminal import note, print_table, progress_bar, require_writable, write_json
from robin_perception.core.errors import Code, RobinError

if TYPE_CHECKING:
    from robin_perception.evaluation.evaluate import Predict

app = typer.Typer(
    help="Evaluate masks, planners, cups, monitors, novelty, film, labels and the pick check.", no_args_is_help=True
)
app.command("health")(evaluate_health.health)
app.command("cups")(evaluate_cups.cups)
app.command("labels")(evaluate_labels.labels)
app.command("novelty")(novelty.evaluate)
app.command("film")(film.evaluate)
app.command("pickcheck")(pickcheck.evaluate)

_SEG_COLUMNS = ("ap50", "ap75", "overlap_f", "boundary_f", "merge_rate", "split_rate")
_ALL_PLANNERS = "geometric,no_order,no_wrench,single_cup,flattest,centroid"


@app.command("seg")
def seg(
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="Folder of labelled scene folders.")],
    model: ModelOption = None,
    engine: EngineOption = "auto",
    method: Annotated[
        str, typer.Option("--method", metavar="M", help="network, or classical (region growing, the baseline).")
    ] = "network",
    limit: LimitOption = None,
    min_visible: Annotated[
        float,
        typer.Option(
            "--min-visible",
            metavar="F",
            min=0.0,
            max=1.0,
            help="Parcels of which a smaller fraction is seen are ignored.",
        ),
    ] = 0.0,
    drop_depthless: Annotated[
        float,
        typer.Option(
            "--drop-depthless",
            metavar="F",
            min=0.0,
            max=1.0,
            help="Predictions of which a smaller share has valid depth are not counted; 0.8 is the published rule.",
        ),
    ] = 0.0,
    record: Annotated[
        str | None,
        typer.Option("--record", metavar="NAME", help="Store the figures under NAME in the bundle's manifest."),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Compare masks with labels: AP, overlap and boundary F (fractions), merge and split rates, also by strata."""
    if method not in ("network", "classical"):
        raise RobinError(Code.OPTION_INVALID, f"--method '{method}': known are network, classical")
    if record is not None and method != "network":
        raise RobinError(Code.OPTION_INVALID, "--record goes with --method network only")
    require_writable(json_file)
    from robin_perception.core.output import require_room
    from robin_perception.evaluation.depth_rule import depthless_dropped
    from robin_perception.evaluation.evaluate import evaluate

    if record is not None:
        require_room(model_path(model))
    predict, name = _predictor(method, model_path(model), engine)
    predict = depthless_dropped(predict, drop_depthless) if drop_depthless else predict
    with progress_bar(f"evaluating {name}", "scenes") as advance:
        figures = evaluate(
            predict, data, limit, progress=lambda done, total: advance(done, total, ""), min_visible=min_visible
        )
    asked = {"min_visible": min_visible, "drop_depthless": drop_depthless}
    figures = {"model": name, "data": str(data), **asked, **figures}
    write_json(json_file, figures)
    if record is not None:
        _record(model_path(model), record, figures)
    rows = [("all", *_figures(figures))]
    rows += [(stratum, *_figures(part)) for stratum, part in sorted(figures["strata"].items())]
    print_table(f"{name}, {figures['scenes']} scenes of {data}", ("stratum", *_SEG_COLUMNS), rows)


def _predictor(method: str, bundle: Path, engine: str) -> tuple[Predict, str]:
    if method == "classical":
        from robin_perception.segmentation.classical import ClassicalSegmenter

        return ClassicalSegmenter().segment, "classical"
    from robin_perception.evaluation.evaluate import segmenter_predictor
    from robin_perception.segmentation.segmenter import load_segmenter

    segmenter = load_segmenter(bundle, engine)
    note(segmenter.engine.selection.line())
    return segmenter_predictor(segmenter), segmenter.model_id


def _record(bundle: Path, name: str, figures: dict[str, Any]) -> None:
    from robin_perception.model.bundle import update_manifest

    update_manifest(bundle, scores={name: figures})
    note(f"stored as '{name}' in {bundle / 'manifest.json'}")


def _figures(part: Mapping[str, Any]) -> tuple[str, ...]:
    intervals = part.get("intervals", {})
    return tuple(_with_interval(part.get(key), intervals.get(key)) for key in _SEG_COLUMNS)


def _with_interval(value: float | None, interval: Any) -> str:
    if value is None:
        return "-"
    if not interval or interval[0] is None:
        return f"{value:.3f}"
    return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


@app.command("planners")
def planners(
    names: Annotated[
        str, typer.Option("--planners", metavar="P,P,...", help=f"Separated by commas. Known: {PLANNERS}.")
    ] = _ALL_PLANNERS,
    scenario: ScenarioOption = "mixed",
    picks: Annotated[int, typer.Option("--picks", metavar="N", min=1, help="Pick attempts of each planner.")] = 200,
    seed: SeedOption = 1,
    masks: MasksOption = "predicted",
    engine: EngineByNameOption = "onnxruntime",
    model: ModelOption = None,
    cell: CellOption = None,
    workers: WorkersOption = 0,
    json_file: JsonOption = None,
) -> None:
    """Run several planners on the same piles (same seed) and set their rates side by side, 95 % Wilson intervals."""
    require_writable(json_file)
    from robin_grasp.planner.registry import planner_names
    from robin_grasp.tool import CellConfig
    from robin_perception.core.config import load_config
    from robin_sim.runs.request import RunRequest
    from robin_sim.runs.simulated import run_simulated

    chosen = [name.strip() for name in names.split(",") if name.strip()]
    if not chosen:
        raise RobinError(Code.OPTION_INVALID, f"--planners '{names}': names none; known are {PLANNERS}")
    for name in chosen:
        if name not in planner_names():
            known = ", ".join(planner_names())
            raise RobinError(Code.OPTION_INVALID, f"--planners '{name}': known are {known}")
    settings = load_config(CellConfig, cell)
    bundle = None if masks == "oracle" else model_path(model)
    count = worker_count(workers)
    tables: dict[str, dict[str, Any]] = {}
    for name in chosen:
        with progress_bar(name, "picks") as advance:
            request = RunRequest(scenario, picks, seed, name, masks, engine, bundle, count, cell=settings)
            result = run_simulated(request, progress=advance)
        tables[name] = result.to_json()
        # After each planner, since a comparison takes hours: what is done stays.
        write_json(json_file, {"scenario": scenario, "seed": seed, "picks": picks, "masks": masks, "planners": tables})
    rates = ("clean", "missed", "dropped", "multi", "wrong", "infeasible")
    rows = [(name, *(_rate(table["rates"][key]) for key in rates)) for name, table in tables.items()]
    print_table(f"{picks} picks each, {scenario}, seed {seed}, {masks} masks; %", ("planner", *rates), rows)


def _rate(found: Mapping[str, float]) -> str:
    return f"{100 * found['rate']:.1f} [{100 * found['low']:.1f}, {100 * found['high']:.1f}]"
