"""A lesson that goes on for as long as a bench looks, in the process that teaches on a robot."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from edge_adapt.learn.see import TeachConfig
from edge_adapt.learn.see_child import MODULE, run_job
from edge_adapt.learn.see_job import TeachJob
from robin_perception.core.errors import RobinError
from robin_sim.dataset import make_dataset
from robin_sim.training_scenes import DatasetConfig

_TAUGHT, _CORE = 4, 8  # scenes; a step costs the same with more of them
_STEPS = 100_000
_LOOK_S = 0.05
_LESSON = "teaching"

Progress = Callable[[int, int, str], None]


class Teaching:
    """Begins on entry and is killed on exit, its steps far from done. Not thread-safe."""

    def __init__(self, model: Path, folder: Path, seed: int, deep: bool, progress: Progress) -> None:
        self._job = _job(model, folder, seed, deep, progress)
        self._progress = progress
        self._stage, self._step = "", 0
        self._failure: RobinError | None = None
        self._process: psutil.Process | None = None
        self._counted = {"steps": 0, "cpu_s": 0.0, "wall_s": 0.0}
        self._thread = threading.Thread(target=self._teach, daemon=True)

    def __enter__(self) -> Teaching:
        """Waits until the first step is done. Raises RobinError as ``run_job``."""
        self._thread.start()
        try:
            while self._stage != _LESSON:
                if self._failure is not None:
                    raise self._failure
                time.sleep(_LOOK_S)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        while self._thread.is_alive():
            for child in _children():
                child.kill()
            self._thread.join(_LOOK_S)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """The process holds its memory and computes nothing meanwhile."""
        self._found().suspend()
        try:
            yield
        finally:
            self._found().resume()

    @contextmanager
    def counted(self) -> Iterator[None]:
        """What is taught meanwhile counts."""
        began, step, cpu_s = time.perf_counter(), self._step, self._cpu_s()
        yield
        self._counted["steps"] += self._step - step
        self._counted["cpu_s"] += self._cpu_s() - cpu_s
        self._counted["wall_s"] += time.perf_counter() - began

    def to_json(self) -> dict[str, Any]:
        """Keys: deep, niceness, threads; steps, cpu_s, wall_s of the time that was counted."""
        job = self._job
        order = {"deep": job.deep, "niceness": job.niceness, "threads": job.threads}
        return {**order, **{key: round(value, 2) for key, value in self._counted.items()}}

    def _teach(self) -> None:
        try:
            run_job(self._job, self._note)
        except RobinError as exc:
            self._failure = exc

    def _note(self, what: str, done: int, total: int) -> None:
        self._stage, self._step = what, done
        if what != _LESSON:
            self._progress(done, total, what)

    def _found(self) -> psutil.Process:
        if self._process is None:
            (self._process,) = _children()
        if self._failure is not None:
            raise self._failure
        return self._process

    def _cpu_s(self) -> float:
        times = self._found().cpu_times()
        return float(times.user + times.system)


def _children() -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
            if MODULE in child.cmdline():
                found.append(child)
    return found


def _render_told(progress: Progress, name: str, done: int, total: int) -> None:
    progress(done, total, f"scenes to teach: {name}")


def _job(model: Path, folder: Path, seed: int, deep: bool, progress: Progress) -> TeachJob:
    """A lesson as ``robin adapt teach`` orders it, on few scenes and without an end."""
    config = TeachConfig()
    scenes = DatasetConfig(fitted_share=1.0, views_per_pile=1)
    for name, count in (("taught", _TAUGHT), ("core", _CORE)):
        make_dataset(folder / name, count, seed, 1, scenes, partial(_render_told, progress, name))
    return TeachJob(
        bundle=model.absolute(),
        taught=folder / "taught",
        content="a bench",
        rows=tuple(range(_TAUGHT)),
        core=folder / "core",
        core_scenes=_CORE,
        core_features=folder / "features",
        work=folder / "work",
        out=folder / "bundle",
        notes="a bench",
        deep=deep,
        seed=seed,
        threads=len(os.sched_getaffinity(0)),
        niceness=config.niceness,
        memory_bytes=config.memory_bytes,
        quick_config=config.quick.model_copy(update={"steps": _STEPS}),
        deep_config=config.deep.model_copy(update={"steps": _STEPS}),
    )
