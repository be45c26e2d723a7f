"""``robin adapt teach``: the network taught from labelled frames."""

from __future__ import annotations

from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robin_cli.known_scenes import KnownScenes
from robin_cli.options import (
    CoreOption,
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

if TYPE_CHECKING:
    from edge_adapt.learn.see import Lesson

_FIGURES = {"overlap_f": "overlap F", "boundary_f": "boundary F", "ap50": "AP50", "ap75": "AP75"}
_PAGE = "lesson.html"
_BY = "robin adapt teach"


def teach(
    data: Annotated[
        list[Path],
        typer.Option(
            "--data",
            metavar="PATH",
            help="Labelled frames: image folders, or COCO, LabelMe, Label Studio JSON. May be given several times.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder of the taught bundle, of the page, and of the work.")
    ],
    models: Annotated[
        Path | None,
        typer.Option("--models", metavar="DIR", help="Versions of the model: one that is accepted runs from now on."),
    ] = None,
    judge: Annotated[
        list[Path] | None,
        typer.Option("--judge", metavar="PATH", help="Others to judge by. Default: some of --data are kept for it."),
    ] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Teach the whole network, not its head alone: a quarter of an hour.")
    ] = False,
    model: ModelOption = None,
    core: CoreOption = None,
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
    from edge_adapt.learn.see_page import write_page
    from robin_perception.core.config import load_config

    _require_own(out)
    settings = load_config(TeachConfig, config)

    count = worker_count(workers)
    scenes = KnownScenes(core, count)
    request = TeachRequest(
        tuple(data), tuple(judge or ()), model_path(model), scenes, out, engine, deep, seed, at_once=count > 1
    )
    with closing(scenes), progress_bar("teaching", "steps") as advance:
        lesson = run(request, settings, lambda what, done, total: advance(done, total, what))
    result = lesson.to_json()
    write_page(out / _PAGE, lesson)
    if models is not None:
        result["version"] = _registered(models, model_path(model), lesson)
    write_json(json_file, result)
    note(lesson.split.how)
    _print_figures(lesson, result)
    print(f"{'accepted' if lesson.verdict.accepted else 'refused'}: {lesson.verdict.text}; {out / _PAGE}")


def _print_figures(lesson: Lesson, result: dict[str, Any]) -> None:
    titles = {"site": "this place", "site_with_depth": "masks with depth", "core": "known scenes"}
    rows = [
        (
            f"{title}, {_FIGURES[figure]}",
            *(f"{100 * found[key]:.1f}" for key in ("before", "after", "value", "low", "high")),
        )
        for part, title in titles.items()
        for figure, found in result[part].items()
    ]
    title = f"{lesson.candidate.model_id} from {lesson.factory.model_id}; %"
    print_table(title, ("figure", "before", "after", "change", "low", "high"), rows)


def _registered(models: Path, factory: Path, lesson: Lesson) -> int | None:
    """The version that runs from now on; None for a candidate that was refused."""
    from edge_adapt.models.registry import ModelRegistry

    registry, why = ModelRegistry(models, factory), lesson.split.how
    told = {"lesson": why, "gate": lesson.verdict.to_json()}
    if not lesson.verdict.accepted:
        registry.refuse(_BY, lesson.verdict.text, told)
        return None
    version = registry.add(lesson.candidate.directory, _BY, why, told)
    registry.activate(version, _BY, why)
    return version


def _require_own(out: Path) -> None:
    """Refuse a folder that holds what no lesson wrote, for parts of it are replaced. Raises RobinError
    OPTION_INVALID."""
    if out.exists() and not out.is_dir():
        raise RobinError(Code.OPTION_INVALID, f"{out}: is a file, a folder is needed")
    known = {"work", "bundle", _PAGE}
    others = (
        sorted(p.name for p in out.iterdir() if p.name not in known and p.suffix != ".json") if out.is_dir() else []
    )
    if others:
        raise RobinError(Code.OPTION_INVALID, f"{out / others[0]}: of no lesson; name another folder")
