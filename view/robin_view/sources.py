"""What the page looks at: folders that were named at the start. No path ever comes from a request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_adapt.record_file import RECORD_FILE
from robin_perception.core.errors import Code, RobinError
from robin_view.archive.frames import image_folders

STORE_FILE = "index.sqlite"
HELP, LIVE = "help", "live"
"""Of a run that goes on: what people are asked, what the camera sees now."""
FLEET_FILE = "fleet.yaml"


@dataclass(frozen=True)
class Sources:
    """runs: folders with records, or where a run is about to write some. frames: folders of image folders. store: of
    samples. fleet: folder of an aggregator. desk: where a cell asks people. live: where the newest picture of the
    camera lies. cell, planner: YAML files that the planner is asked again with, None for what is built in. models:
    bundles that a frame may be shown to, the factory's first. versions: folder of the robot's registry of models."""

    runs: tuple[Path, ...] = ()
    frames: tuple[Path, ...] = ()
    store: Path | None = None
    fleet: Path | None = None
    desk: Path | None = None
    live: Path | None = None
    cell: Path | None = None
    planner: Path | None = None
    models: tuple[Path, ...] = ()
    versions: Path | None = None


def find_sources(
    paths: Sequence[Path], fleet: Path | None = None, desk: Path | None = None, live: Path | None = None
) -> Sources:
    """paths: folders of runs, of image folders or of a store, or folders that hold such ones. A folder with nothing in
    it yet is a run that has not begun. Raises RobinError INPUT_MISSING, OPTION_INVALID."""
    runs, frames, stores = list[Path](), list[Path](), list[Path]()
    for path in paths:
        if not path.is_dir():
            raise RobinError(Code.INPUT_MISSING, f"{path}: no such folder; name that of a run or of a store")
        if (path / FLEET_FILE).is_file():
            fleet = path
            continue
        held = [path, *sorted(child for child in path.iterdir() if child.is_dir())]
        found = [child for child in held if (child / RECORD_FILE).is_file()]
        stores += [child for child in held if (child / STORE_FILE).is_file()]
        if not found and image_folders(path):
            frames.append(path)
        else:
            runs += found or ([path] if not stores else [])
    if len(set(stores)) > 1:
        raise RobinError(Code.OPTION_INVALID, f"{' and '.join(map(str, stores))}: one store at a time")
    if fleet is not None and not (fleet / FLEET_FILE).is_file():
        raise RobinError(Code.FLEET_MISSING, f"{fleet}: no {FLEET_FILE} there; robin fleet up makes one")
    store = stores[0] if stores else None
    return Sources(
        tuple(dict.fromkeys(runs)),
        tuple(dict.fromkeys(frames)),
        store,
        fleet,
        desk or _below(runs, HELP),
        live or _below(runs, LIVE),
    )


def _below(runs: Sequence[Path], name: str) -> Path | None:
    """That folder of the run that has one, else of the first: it may begin to have one."""
    return next((run / name for run in runs if (run / name).is_dir()), runs[0] / name if runs else None)
