"""``robin adapt teach``: the network taught from labelled frames."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from robin_cli.options import (
    EngineByNameOption,
    JsonOption,
    ModelOption,
    SeedOption,
    WorkersOption,
    model_path,
    worker_count,
)
from robin_cli.terminal import note, print_table, progress_bar, require_writable, write_json
from robin_perception.core.errors import Code, RobinError

CORE_SEED = 141500
_FIGURES = ("overlap_f", "boundary_f", "ap50", "ap75")


def teach(
    data: Annotated[
        list[Path],
        typer.Option(
            "--data",
            metavar="PATH",
            help="Labelled frames: image folders, or COCO, LabelMe, Label Studio JSON. May be given several times.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the taught bundle and of the page.")],
    judge: Annotated[
        list[Path] | None,
        typer.Option("--judge", metavar="PATH", help="Others to judge by. Default: some of --data are kept for it."),
    ] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Teach the whole network, not its head alone: a quarter of an hour.")
    ] = False,
    model: ModelOption = None,
    core: Annotated[
        Path | None,
        typer.Option(
            "--core",
            metavar="DIR",
            help="Data set of known scenes that must not be forgotten. Default: one that is rendered at the first "
            "start, in the user's cache folder.",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="YAML: steps, rates, ... Default: built in.")
    ] = None,
    seed: SeedOption = 0,
    engine: EngineByNameOption = "onnxruntime",
    workers: WorkersOption = 0,
    json_file: JsonOption = None,
) -> None:
    """Teach the network a new cell or new goods from a few labelled frames; it is told what was learned and lost."""
    require_writable(json_file)
    if find_spec("torch") is None:
        raise RobinError(Code.DEPENDENCY_MISSING, "torch is not installed; teaching needs it: make setup-dev")
    from edge_adapt.learn.see import TeachConfig, TeachRequest
    from edge_adapt.learn.see import teach as run
    from robin_perception.core.config import load_config

    settings = load_config(TeachConfig, config)
    scenes = core or _rendered_core(settings.core_scenes + settings.judged_scenes, worker_count(workers))
    request = TeachRequest(tuple(data), tuple(judge or ()), model_path(model), scenes, out / "work", engine, deep, seed)
    with progress_bar("teaching", "steps") as advance:
        lesson = run(request, settings, lambda what, done, total: advance(done, total, what))
    result = lesson.to_json()
    write_json(json_file, result)
    note(lesson.split.how)
    rows = []
    for key in ("site", "site_with_depth", "core"):
        for when in ("before", "after"):
            rows.append((f"{key} {when}", *(f"{result[key][when][figure]:.4f}" for figure in _FIGURES)))
    print_table(f"{lesson.candidate.model_id} from {lesson.factory.model_id}", ("frames", *_FIGURES), rows)


def _rendered_core(scenes: int, workers: int) -> Path:
    """Known scenes, rendered once for each user of this machine."""
    from robin_perception.engines.cache import cache_root
    from robin_sim.dataset import make_dataset
    from robin_sim.training_scenes import DatasetConfig

    out = cache_root().parent / "core"
    config = DatasetConfig(fitted_share=1.0, views_per_pile=1)
    with progress_bar("rendering known scenes, once", "scenes") as advance:
        make_dataset(out, scenes, CORE_SEED, workers, config, lambda done, total: advance(done, total, ""))
    return out
