"""``robin train``, ``robin export``, and ``robin calibrate``: from data sets to a model bundle."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robin_cli.options import (
    DEFAULT_BUNDLE,
    EngineOption,
    JsonOption,
    LimitOption,
    ModelOption,
    SeedOption,
    WorkersOption,
    model_path,
    worker_count,
)
from robin_cli.terminal import note, progress_bar, require_writable, write_json
from robin_perception.core.bounded import parse_yaml, read_plain_text
from robin_perception.core.errors import Code, RobinError

if TYPE_CHECKING:
    from edge_adapt.training.trainer import TrainResult


def train(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Checkpoint and log; a stopped run continues.")],
    data: Annotated[
        list[Path] | None, typer.Option("--data", metavar="DIR", help="Data set; may be given several times.")
    ] = None,
    validation: Annotated[
        Path | None, typer.Option("--validation", metavar="DIR", help="Another data set, looked at now and then.")
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option("--recipe", metavar="FILE", help="YAML: data sets to render beside the training, under OUT/data."),
    ] = None,
    scale: Annotated[
        float, typer.Option("--scale", metavar="F", min=0.001, help="So many times the recipe's training scenes.")
    ] = 1.0,
    workers: WorkersOption = 0,
    steps: Annotated[int | None, typer.Option("--steps", metavar="N", min=1, help="End after N steps.")] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", metavar="T", min=0.01, help="End after T minutes of training.")
    ] = None,
    batch: Annotated[int | None, typer.Option("--batch", metavar="N", min=1, help="Images per step.")] = None,
    start_from: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIR", help="Bundle whose weights a new run starts with. Default: random ones."),
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", metavar="D", help="auto (cuda where there is one), cpu or cuda.")
    ] = None,
    seed: SeedOption = 0,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="YAML with further settings (network, loss, augment, ...)."),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Train the network from scratch or from a bundle, or go on where the checkpoint in the output folder stands."""
    if steps is None and minutes is None and config is None:
        raise RobinError(Code.OPTION_INVALID, "give --steps, --minutes or both, so that the training ends")
    if (recipe is None) == (not data or validation is None):
        raise RobinError(Code.OPTION_INVALID, "give either --recipe, or --data and --validation")
    require_writable(json_file)
    require_torch()
    from robin_cli.commands.train_recipe import RecipeRun

    given = {"steps": steps, "max_minutes": minutes, "batch": batch, "start_from": start_from, "device": device}
    values = {**_yaml_values(config), "out": out, "seed": seed}
    values.update({key: value for key, value in given.items() if value is not None})
    if recipe is None:
        result = _train({**values, "data": data, "validation_data": validation}, config)
    else:
        run = RecipeRun(recipe, out, scale, worker_count(workers))
        values = {**run.values, **values}
        with run.rendering():
            result = _train(values, config)
    summary = {"checkpoint": result.checkpoint, "steps": result.steps, "minutes": round(result.minutes, 2)}
    write_json(json_file, {**summary, "finished": result.finished, "validation": result.validation})
    state = "finished" if result.finished else "stopped; the same command continues"
    print(f"{state}: {result.steps} steps, {result.minutes:.1f} min, checkpoint {result.checkpoint}")


def _train(values: dict[str, Any], config: Path | None) -> TrainResult:
    from edge_adapt.training.trainer import TrainConfig
    from edge_adapt.training.trainer import train as run_training
    from robin_perception.core.config import parse_config

    return run_training(parse_config(TrainConfig, values, str(config or "robin train")), note)


def export(
    checkpoint: Annotated[Path, typer.Option("--checkpoint", metavar="DIR", help="Checkpoint of robin train.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the bundle; replaced in one step.")],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Name of the model.")] = DEFAULT_BUNDLE,
    card: Annotated[
        Path | None, typer.Option("--card", metavar="FILE", help="Text for CARD.md. Default: a heading.")
    ] = None,
    start_from: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIR", help="Bundle that the training began with; see --share."),
    ] = None,
    share: Annotated[
        float,
        typer.Option("--share", min=0, max=1, help="Weights this share of the way from that bundle to the checkpoint."),
    ] = 1.0,
    json_file: JsonOption = None,
) -> None:
    """Write the trained network as a model bundle (ONNX graph, head weights, manifest) and verify it."""
    require_writable(json_file)
    if share < 1 and start_from is None:
        raise RobinError(Code.OPTION_INVALID, "--share needs --from, the bundle where the way begins")
    require_torch()
    from edge_adapt.training.blend import Blend
    from edge_adapt.training.export import export_bundle
    from edge_adapt.training.trainer import read_network
    from robin_cli.commands.provenance import provenance_of
    from robin_perception.model.bundle import load_bundle, require_bundle_folder

    require_bundle_folder(out)
    text = read_plain_text(card) if card is not None else ""
    network, provenance = read_network(checkpoint), provenance_of(checkpoint)
    blend = None if start_from is None else Blend(load_bundle(start_from), share)
    if blend is not None:
        notes = f"{provenance.notes}; weights {100 * share:.0f} % of the way from {blend.bundle.model_id}"
        provenance = provenance.model_copy(update={"notes": notes})
    bundle = export_bundle(network, out, name, provenance=provenance, card=text, blend=blend)
    manifest = bundle.manifest
    write_json(json_file, {"model": bundle.model_id, "out": out, "parameters": manifest.parameters})
    print(f"{bundle.model_id}: {manifest.parameters:,} parameters, {out}")


def calibrate(
    data: Annotated[
        Path, typer.Option("--data", metavar="DIR", help="Labelled scenes that the model was not trained on.")
    ],
    model: ModelOption = None,
    engine: EngineOption = "auto",
    limit: LimitOption = None,
    detection: Annotated[
        float | None,
        typer.Option(
            "--detection",
            metavar="P",
            min=0.0,
            max=1.0,
            help="Calibrated probability below which an instance is not reported. Default: as in the manifest.",
        ),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Fit the calibration of a bundle's scores on held-out scenes and store it in its manifest."""
    require_writable(json_file)
    from robin_perception.core.output import require_room
    from robin_perception.model.bundle import Thresholds, update_manifest
    from robin_perception.model.calibration import fit_calibration
    from robin_perception.segmentation.segmenter import load_segmenter

    bundle = model_path(model)
    segmenter = load_segmenter(bundle, engine)
    require_room(bundle)
    with progress_bar("calibrating", "scenes") as advance:
        tables = fit_calibration(segmenter, data, limit, lambda done, total: advance(done, total, ""))
    limits = {} if detection is None else {"thresholds": Thresholds(detection=detection)}
    update_manifest(bundle, calibration=tables, **limits)
    write_json(json_file, tables.model_dump(mode="json"))
    for key, value in sorted(tables.reliability.items()):
        print(f"{key}: {value:.4f}")
    note(f"calibration stored in {bundle / 'manifest.json'}")


def require_torch() -> None:
    if find_spec("torch") is None:
        raise RobinError(Code.DEPENDENCY_MISSING, "torch is not installed; training needs it: make setup-dev")


def _yaml_values(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}

    values = parse_yaml(read_plain_text(path), str(path))
    if not isinstance(values, dict):
        raise RobinError(Code.CONFIG_UNREADABLE, f"{path}: expected a mapping at the top level")
    return values
