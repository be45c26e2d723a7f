"""A process beside the page that runs planner and networks, so that neither its memory nor its work is the page's."""

from __future__ import annotations

import multiprocessing
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_adapt.decision import Decision
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_view.decision.answer import Answer, Question

if TYPE_CHECKING:
    from robin_perception.segmentation.segmenter import Segmenter

_KEPT = 64
_WAIT_S = 60.0


class Seen(NamedTuple):
    """What is asked about: frame, masks as recorded, record."""

    frame: Frame
    labels: NDArray[np.uint16]
    decision: Decision


class Replanned(NamedTuple):
    """What another model makes of the frame: its record, as far as there would be one, and its masks."""

    decision: Decision
    labels: NDArray[np.uint16]


class Worker:
    """One process, started when it is first asked. cell, planner: YAML files, None for what is built in. Answers are
    kept for a while."""

    def __init__(self, cell: Path | None, planner: Path | None) -> None:
        self._files = cell, planner
        self._pool: ProcessPoolExecutor | None = None
        self._answers: OrderedDict[Any, Future[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def why(self, seen: Seen, question: Question) -> Answer:
        """Raises RobinError of planner and configuration, VIEW_WORKER_LOST."""
        found: Answer = self.asked((seen.decision.decision_id, question), partial(_why, self._files, seen, question))
        return found

    def replan(self, seen: Seen, model: Path) -> Replanned:
        """Raises RobinError MODEL_*, ENGINE_*, VIEW_WORKER_LOST."""
        found: Replanned = self.asked((seen.decision.decision_id, model), partial(_replan, self._files, seen, model))
        return found

    def close(self) -> None:
        with self._lock:
            if self._pool is not None:
                self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def asked(self, key: Any, work: Callable[[], Any]) -> Any:
        """What ``work`` gives there, kept by ``key``. A process that has died since the last question is replaced; one
        that dies of this question is not. Raises what it raises, and VIEW_WORKER_LOST."""
        for last in (False, True):
            future = self.begin(key, work)
            try:
                return future.result(_WAIT_S)
            except (BrokenProcessPool, TimeoutError) as exc:
                self._forget()
                if last or isinstance(exc, TimeoutError):
                    why = "it took too long" if isinstance(exc, TimeoutError) else "it ended"
                    raise RobinError(Code.VIEW_WORKER_LOST, f"no answer: {why}") from None
            except RobinError:
                with self._lock:
                    self._answers.pop(key, None)
                raise
        raise AssertionError  # the last turn returns or raises

    def begin(self, key: Any, work: Callable[[], Any]) -> Future[Any]:
        """As ``asked``, without waiting."""
        with self._lock:
            future = self._answers.get(key)
            if future is None:
                try:
                    future = self._started().submit(work)
                except BrokenProcessPool:
                    self._pool = None
                    future = self._started().submit(work)
                self._answers[key] = future
            self._answers.move_to_end(key)
            while len(self._answers) > _KEPT:
                self._answers.popitem(last=False)
            return future

    def _forget(self) -> None:
        with self._lock:
            self._answers.clear()
            if self._pool is not None:
                self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        return self._pool


# In the process.

_segmenters: dict[tuple[Path, Path | None], Segmenter] = {}


def _why(files: tuple[Path | None, Path | None], seen: Seen, question: Question) -> Answer:
    from edge_adapt.recorded_scene import recorded_scene
    from robin_view.decision.questions import ask_again

    scene = recorded_scene(seen.decision, seen.labels)
    return ask_again(seen.frame, scene, seen.decision, *_settings(files), question)


def _replan(files: tuple[Path | None, Path | None], seen: Seen, model: Path) -> Replanned:
    from edge_adapt.decision import build_decision
    from robin_grasp.planner.registry import make_planner
    from robin_view.decision.questions import cups_then, failed_then

    cell, config = _settings(files)
    scene = segmenter_of(model, files[0]).segment(seen.frame)
    planner, failed = make_planner(seen.decision.planner, cell, config=config), failed_then(seen.decision)
    plan = planner.plan(seen.frame, scene, failed, cups_then(seen.decision))
    context = seen.decision.context
    return Replanned(build_decision(context, seen.frame, scene, plan, None, failed=failed), scene.labels)


def segmenter_of(model: Path, cell: Path | None) -> Segmenter:
    """The one that was asked for last is kept. Raises RobinError MODEL_*, ENGINE_*, CONFIG_*."""
    from robin_perception.segmentation.segmenter import SegmenterConfig, load_segmenter

    if (model, cell) not in _segmenters:
        for old in _segmenters.values():
            old.close()
        _segmenters.clear()
        belt_z_m = _settings((cell, None))[0].workspace.belt_z_m
        _segmenters[model, cell] = load_segmenter(model, config=SegmenterConfig(belt_z_m=belt_z_m))
    return _segmenters[model, cell]


def _settings(files: tuple[Path | None, Path | None]) -> tuple[Any, Any]:
    from robin_grasp.planner.config import PlannerConfig
    from robin_grasp.tool import CellConfig
    from robin_perception.core.config import load_config

    return load_config(CellConfig, files[0]), load_config(PlannerConfig, files[1])
