"""Labelled data sets on disk: parallel, resumable, the same bytes from any number of workers.

Layout: ``<out>/dataset.json`` (seed, classes and configuration), then ``<out>/<index:06d>/`` with color.png, depth.png,
camera.json,
labels.png, scene.json. A scene folder appears only when it is complete. ``views_per_pile`` consecutive scenes form a
group
that one worker makes; the pile depends on (seed, group) alone and a scene on (seed, index), so a run that was stopped
continues where it was.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2

from robin_perception.core.config import parse_config
from robin_perception.core.disk import FULL
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.image_folder import SCENE_FILE, read_json, save_frame
from robin_perception.core.parent_death import end_with_parent
from robin_sim.model import KINDS
from robin_sim.runs.workers import one_thread_each
from robin_sim.training_scenes import DatasetConfig, LabelledScene, draw_pile, draw_scene, pile_rng

DATASET_FILE = "dataset.json"
_FORMAT = 1
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class DatasetSummary:
    """out: the folder; scenes: how many are there now; made: how many this call made."""

    out: Path
    scenes: int
    made: int


@dataclass(frozen=True)
class _Done:
    """What a worker hands back: scenes made, or the code and text of the failure (exceptions do not survive the
    way)."""

    made: int
    code: int = 0
    text: str = ""


def make_dataset(
    out: Path,
    scenes: int,
    seed: int,
    workers: int = 2,
    config: DatasetConfig | None = None,
    progress: Progress | None = None,
) -> DatasetSummary:
    """Make scenes 0..scenes-1 under ``out``; those that are already there are kept.

    progress(done, scenes) is called after every group. Raises RobinError: OPTION_INVALID for bad numbers or an
    ``out`` that holds another seed or configuration, INPUT_UNREADABLE where ``out`` cannot be written, DISK_FULL.
    """
    config = config or DatasetConfig()
    if scenes < 1 or workers < 1 or seed < 0:
        raise RobinError(
            Code.OPTION_INVALID, f"scenes {scenes} and workers {workers} must be >= 1, seed {seed} must be >= 0"
        )
    with _write_errors(out):
        _open(out, seed, config)
    missing = _missing_groups(out, scenes, config.views_per_pile)
    todo = sum(len(indices) for _, indices in missing)
    done = scenes - todo
    if progress:
        progress(done, scenes)
    for result in _run(out, seed, config, missing, workers):
        if result.code:
            raise RobinError(Code(result.code), result.text)
        done += result.made
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
    """Create the folder and its dataset.json, or check that they are those of the same data set."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / DATASET_FILE
    if path.exists():
        if load_dataset_config(out) != (seed, config):
            raise RobinError(
                Code.OPTION_INVALID, f"{path}: made with another seed or configuration; use another folder"
            )
    else:
        values = {"format": _FORMAT, "seed": seed, "classes": KINDS, "config": config.model_dump(mode="json")}
        aside = path.with_suffix(".tmp")
        aside.write_text(json.dumps(values, indent=1) + "\n")
        aside.replace(path)
    for leftover in out.glob(".*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)


def _missing_groups(out: Path, scenes: int, size: int) -> list[tuple[int, list[int]]]:
    """(group, indices that are not on disk yet), for groups that lack any."""
    present = {name for name in os.listdir(out) if name.isdigit()}
    groups = []
    for group in range(-(-scenes // size)):
        indices = [i for i in range(group * size, min(scenes, (group + 1) * size)) if f"{i:06d}" not in present]
        if indices:
            groups.append((group, indices))
    return groups


def _run(
    out: Path, seed: int, config: DatasetConfig, groups: list[tuple[int, list[int]]], workers: int
) -> Iterator[_Done]:
    if workers == 1 or len(groups) <= 1:
        for group, indices in groups:
            yield _make_group(out, seed, config, group, indices)
        return
    with one_thread_each():
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker, (os.getpid(),))
        try:
            waiting = iter(groups)
            running: set[Future[_Done]] = set()
            for group, indices in waiting:
                running.add(pool.submit(_make_group, out, seed, config, group, indices))
                if len(running) >= 3 * workers:
                    finished, running = wait(running, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in finished)
            while running:
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in finished)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _start_worker(parent: int) -> None:
    end_with_parent(parent)
    cv2.setNumThreads(1)


def _make_group(out: Path, seed: int, config: DatasetConfig, group: int, indices: list[int]) -> _Done:
    """Make the missing scenes of one group."""
    try:
        pile = draw_pile(pile_rng(seed, group), config)
        for index in indices:
            scene = draw_scene(pile, seed, index, config)
            with _write_errors(out):
                _write_scene(out, index, scene)
    except RobinError as error:
        return _Done(0, int(error.code), error.text)
    return _Done(len(indices))


def _write_scene(out: Path, index: int, scene: LabelledScene) -> None:
    """Write aside, then rename: a folder with the scene's name is always whole."""
    final, aside = out / f"{index:06d}", out / f".{index:06d}.tmp"
    shutil.rmtree(aside, ignore_errors=True)
    try:
        save_frame(aside, scene.frame, scene.labels)
        (aside / SCENE_FILE).write_text(json.dumps(scene.info) + "\n")
        aside.rename(final)
    finally:  # an interruption leaves nothing half-written either
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _write_errors(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise RobinError(Code.DISK_FULL, f"{out}: no space left; free some and start again to continue") from None
        raise RobinError(Code.INPUT_UNREADABLE, f"{out}: cannot write: {error.strerror or error}") from None
