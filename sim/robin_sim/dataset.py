"""Labelled data sets on disk: parallel, resumable, the same bytes from any number of workers.

Layout: ``<out>/dataset.json`` (seed, classes and configuration), then ``<out>/<index:06d>/`` with color.png, depth.png,
camera.json, labels.png, scene.json. A scene folder appears only when it is complete and on the disk; one that was
damaged since is made again. ``views_per_pile`` consecutive scenes form a group that one worker makes; the pile depends
on (seed, group) alone and a scene on (seed, index), so a run that was stopped continues where it was.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path

import cv2

from robin_perception.core.config import parse_config
from robin_perception.core.disk import FULL, write_atomic, write_error
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.image_folder import read_json
from robin_perception.core.output import output_folder
from robin_sim.any_cell.scenes import draw_goods_of_group
from robin_sim.runs.workers import process_context, worker_pool
from robin_sim.scenario_scenes import scenario_scene
from robin_sim.scene_files import is_whole, write_scene
from robin_sim.training_scenes import (
    DatasetConfig,
    LabelledScene,
    any_cell_scene,
    draw_pile,
    draw_scene,
    pile_rng,
)

DATASET_FILE = "dataset.json"
_FORMAT = 1
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class DatasetSummary:
    """out: the folder; scenes: how many are there now; made: how many this call made."""

    out: Path
    scenes: int
    made: int


def make_dataset(
    out: Path,
    scenes: int,
    seed: int,
    workers: int = 2,
    config: DatasetConfig | None = None,
    progress: Progress | None = None,
) -> DatasetSummary:
    """Make scenes 0..scenes-1 under ``out``; those that are already there are kept.

    progress(done, scenes) is called after every group. Raises RobinError: OPTION_INVALID for bad numbers, an ``out``
    that holds another seed or configuration, scenes of another maker, or cannot be written, or that another process
    writes; DISK_FULL; ENGINE_FAILED where a worker was killed.
    """
    config = config or DatasetConfig()
    if scenes < 1 or workers < 1 or seed < 0:
        raise RobinError(
            Code.OPTION_INVALID, f"scenes {scenes} and workers {workers} must be >= 1, seed {seed} must be >= 0"
        )
    with output_folder(out):
        _open(out, seed, config)
        missing = _missing_groups(out, scenes, config.views_per_pile)
        todo = sum(len(indices) for _, indices in missing)
        done = scenes - todo
        if progress:
            progress(done, scenes)
        for made in _run(out, seed, config, missing, workers):
            done += made
            if progress:
                progress(done, scenes)
    return DatasetSummary(out, scenes, todo)


def load_dataset_config(out: Path) -> tuple[int, DatasetConfig]:
    """Seed and configuration that a data set was made with. Raises RobinError when there is none or it is damaged."""
    path = out / DATASET_FILE
    values = read_json(path)
    if not isinstance(values, dict) or not isinstance(values.get("seed"), int):
        raise RobinError(Code.CONFIG_UNREADABLE, f"{path}: expected an object with seed and config")
    return values["seed"], parse_config(DatasetConfig, values.get("config", {}), str(path))


def _open(out: Path, seed: int, config: DatasetConfig) -> None:
    """Begin the data set, or check that it is the same one. What has its scenes' names is removed where it is damaged,
    so it must be of this very data set."""
    path = out / DATASET_FILE
    if os.path.lexists(path):
        if load_dataset_config(out) != (seed, config):
            raise RobinError(
                Code.OPTION_INVALID, f"{path}: made with another seed or configuration; use another folder"
            )
    elif others := sorted(name for name in os.listdir(out) if name.isdigit()):
        raise RobinError(
            Code.OPTION_INVALID, f"{out / others[0]}: of no data set ({DATASET_FILE} is missing beside it)"
        )
    else:
        values = {
            "format": _FORMAT,
            "seed": seed,
            "classes": config.class_names,
            "config": config.model_dump(mode="json"),
        }
        write_atomic(path, (json.dumps(values, indent=1) + "\n").encode())
    for leftover in out.glob(".*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)


def _missing_groups(out: Path, scenes: int, size: int) -> list[tuple[int, list[int]]]:
    """(group, indices that are not on disk, or not whole), for groups that lack any."""
    groups = []
    for group in range(-(-scenes // size)):
        indices = range(group * size, min(scenes, (group + 1) * size))
        if lacking := [index for index in indices if not is_whole(_folder(out, index))]:
            groups.append((group, lacking))
    return groups


def _folder(out: Path, index: int) -> Path:
    return out / f"{index:06d}"


def _run(
    out: Path, seed: int, config: DatasetConfig, groups: list[tuple[int, list[int]]], workers: int
) -> Iterator[int]:
    """Scenes made, group by group."""
    if workers == 1 or len(groups) <= 1:
        for group, indices in groups:
            yield _make_group(out, seed, config, group, indices)
        return
    with worker_pool(workers, process_context(), cv2.setNumThreads, 1) as pool:
        running: set[Future[int]] = set()
        for group, indices in groups:
            running.add(pool.submit(_make_group, out, seed, config, group, indices))
            if len(running) >= 3 * workers:
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in finished)
        while running:
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in finished)


def _group(seed: int, config: DatasetConfig, group: int, indices: list[int]) -> Iterator[tuple[int, LabelledScene]]:
    if config.scenario is not None:
        yield from ((index, scenario_scene(config.scenario, seed, index, config)) for index in indices)
        return
    if config.any_cell is not None:
        kind, goods = draw_goods_of_group(pile_rng(seed, group), config.any_cell)
        yield from ((index, any_cell_scene(kind, goods, seed, index, config)) for index in indices)
        return
    pile = draw_pile(pile_rng(seed, group), config)
    yield from ((index, draw_scene(pile, seed, index, config)) for index in indices)


def _make_group(out: Path, seed: int, config: DatasetConfig, group: int, indices: list[int]) -> int:
    """Make the missing scenes of one group; returns how many. Raises RobinError DISK_FULL, OPTION_INVALID."""
    for index, scene in _group(seed, config, group, indices):
        try:
            write_scene(_folder(out, index), scene)
        except OSError as exc:
            if exc.errno in FULL:
                text = f"{out}: no space left; free some and start again to continue"
                raise RobinError(Code.DISK_FULL, text) from None
            raise write_error(_folder(out, index), exc) from None
    return len(indices)
