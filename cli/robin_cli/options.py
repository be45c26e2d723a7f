"""Options that several commands share, so that they read and behave the same everywhere."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

DEFAULT_BUNDLE = "base"

CameraIdOption = Annotated[
    str, typer.Option("--camera-id", metavar="NAME", help="What the camera is called in the station (frame id).")
]
JsonOption = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Also write the result as JSON to FILE.")
]
LinesOption = Annotated[
    Path | None,
    typer.Option(
        "--lines",
        metavar="FILE",
        dir_okay=False,
        help="Keep what is done there, line by line; the same command goes on with it. Default: the --json file's name "
        "with .lines.",
    ),
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
EngineByNameOption = Annotated[
    str, typer.Option("--engine", metavar="E", help="Inference engine by name (robin engine list).")
]
SupervisedOption = Annotated[
    bool | None,
    typer.Option(
        "--supervised/--no-supervised",
        help="Run the engine in a process of its own, with a fallback beside it. Default: not here; in a station where "
        "the engine needs a driver.",
    ),
]
BoostingConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="YAML: rounds, leaves, learning_rate, ... Default: built in."),
]
CellOption = Annotated[
    Path | None,
    typer.Option(
        "--cell", metavar="FILE", help="YAML file of tool, motion and workspace (SI units). Default: built in."
    ),
]
# As robin_grasp.planner.registry has them; the registry is not asked, so that --help stays quick. A test compares.
PLANNERS = "geometric, no_order, no_wrench, centroid, flattest, single_cup"
PlannerOption = Annotated[str, typer.Option("--planner", metavar="P", help=f"Planner: {PLANNERS}.")]
PlannerConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--planner-config", metavar="FILE", help="YAML of the planner's settings (SI units), as in docs/planner.md."
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", metavar="K", min=0, help="Seed of every random draw.")]
WorkersOption = Annotated[int, typer.Option("--workers", metavar="N", min=0, help="Processes; 0 means one per core.")]
ScenarioOption = Annotated[
    str, typer.Option("--scenario", metavar="S", help="Scenario by name (robin sim list) or file.")
]
PicksOption = Annotated[int, typer.Option("--picks", metavar="N", min=1, help="Pick attempts.")]
CoreOption = Annotated[
    Path | None,
    typer.Option(
        "--core",
        metavar="DIR",
        help="Data set of known scenes that must not be forgotten. Default: one that is rendered at the first "
        "start, in the user's cache folder.",
    ),
]
RoundsConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="YAML: when a lesson is due, and what it is made of."),
]
RecordedPicksOption = Annotated[int, typer.Option("--picks", metavar="N", min=1, max=100_000, help="Pick attempts.")]
MasksOption = Annotated[str, typer.Option("--masks", metavar="KIND", help="predicted or oracle.")]
LimitOption = Annotated[
    int | None, typer.Option("--limit", metavar="N", min=1, help="Only the first N scenes. Default: all.")
]
FramesOption = Annotated[int, typer.Option("--frames", metavar="N", min=1, help="Different simulated frames.")]
RepeatsOption = Annotated[int, typer.Option("--repeats", metavar="N", min=1, help="Timed passes over the frames.")]
WidthOption = Annotated[int, typer.Option("--width", metavar="PX", min=160, help="Frame width, pixels.")]
HeightOption = Annotated[int, typer.Option("--height", metavar="PX", min=120, help="Frame height, pixels.")]
ThreadsOption = Annotated[
    int, typer.Option("--threads", metavar="N", min=0, help="Threads of the network; 0 means one per core.")
]


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """``command`` as typer takes it: in place of each parameter whose type is a dataclass of options stand its fields,
    all of which have defaults."""
    signature = inspect.signature(command, eval_str=True)
    groups: dict[str, Any] = {n: p.annotation for n, p in signature.parameters.items() if is_dataclass(p.annotation)}
    fields = {name: inspect.signature(group, eval_str=True).parameters for name, group in groups.items()}
    parameters: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        parameters += [p.replace(kind=p.KEYWORD_ONLY) for p in fields.get(name, {name: parameter}).values()]

    @functools.wraps(command)
    def called(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field: given.pop(field) for field in fields[name]})
        command(**given)

    called.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return called


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


def size_px(text: str, option: str) -> tuple[int, int]:
    """Width and height of "640x480". Raises RobinError OPTION_INVALID naming ``option``."""
    from robin_perception.core.errors import Code, RobinError

    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise RobinError(Code.OPTION_INVALID, f"{option} needs WxH in pixels, such as 640x480, got '{text}'")
    return int(width), int(height)


def worker_count(chosen: int) -> int:
    """``chosen``, or for 0 the cores that this process may use; one where no others can be started."""
    if chosen > 0:
        return chosen
    import psutil

    from robin_cli.terminal import note
    from robin_perception.core.errors import RobinError
    from robin_sim.runs.workers import process_context

    try:
        process_context()
    except RobinError as exc:
        note(f"one process: {exc.text}")
        return 1
    return max(1, len(psutil.Process().cpu_affinity() or ()))


@contextlib.contextmanager
def lines_file(lines: Path | None, json_file: Path | None) -> Iterator[Path]:
    """Where a long evaluation keeps what is done: as LinesOption tells; without either, a file that goes again."""
    with TemporaryDirectory() as folder:
        beside = Path(folder) / "lines" if json_file is None else json_file.with_name(f"{json_file.name}.lines")
        yield lines or beside
