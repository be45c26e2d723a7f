"""Options that several commands share, so that they read and behave the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_BUNDLE = "base"

JsonOption = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Also write the result as JSON to FILE.")
]
ModelOption = Annotated[
    Path | None,
    typer.Option(
        "--model", metavar="DIR", envvar="ROBIN_MODEL", help="Model bundle. Default: models/base of this installation."
    ),
]
EngineOption = Annotated[
    str, typer.Option("--engine", metavar="NAME", help="Inference engine; auto takes the best one this machine has.")
]
SupervisedOption = Annotated[
    bool | None,
    typer.Option(
        "--supervised/--no-supervised",
        help="Run the engine in a process of its own, with a fallback beside it. Default: not here; in a station where "
        "the engine needs a driver.",
    ),
]
CellOption = Annotated[
    Path | None,
    typer.Option(
        "--cell", metavar="FILE", help="YAML file of tool, motion and workspace (SI units). Default: built in."
    ),
]
RankerOption = Annotated[
    Path | None,
    typer.Option("--ranker", metavar="FILE", help="Learned ranker to use. Default: the one that is shipped."),
]
PlannerConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--planner-config", metavar="FILE", help="YAML of the planner's constants (SI units). Default: built in."
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", metavar="K", min=0, help="Seed of every random draw.")]
WorkersOption = Annotated[int, typer.Option("--workers", metavar="N", min=0, help="Processes; 0 means one per core.")]


def repository_root() -> Path:
    """The folder that holds ``models/`` and ``docs/``: where the editable installation points, else the current one."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "models").is_dir() else Path.cwd()


def model_path(chosen: Path | None) -> Path:
    """The bundle to use: the one named, else the one that this project ships."""
    return chosen if chosen is not None else repository_root() / "models" / DEFAULT_BUNDLE


def engine_called(engine: str, supervised: bool | None) -> str:
    """The name that stands for ``engine`` in a process of its own, where that was asked for."""
    prefix = "supervised:"
    return engine if not supervised or engine.startswith(prefix) else f"{prefix}{engine}"


def worker_count(chosen: int) -> int:
    """``chosen``, or for 0 the cores that this process may use."""
    if chosen > 0:
        return chosen
    import psutil

    return max(1, len(psutil.Process().cpu_affinity() or ()))
