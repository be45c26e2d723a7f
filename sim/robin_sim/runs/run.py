"""Closed-loop runs: many piles, one or several processes, the same figures whatever the number of processes."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from robin_grasp.plan import Planner
from robin_grasp.planner.config import PlannerConfig
from robin_grasp.planner.registry import DEFAULT_PLANNER, make_planner
from robin_grasp.tool import CellConfig
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.helper_thread import HelperThread
from robin_perception.core.parent_death import end_with_parent
from robin_perception.engines.base import EngineConfig
from robin_perception.segmentation.segmenter import load_segmenter
from robin_sim.cell import PickEvent, SeeFrame, SimCell
from robin_sim.runs.results import PickSummary, RunResult, is_attempt, summarize
from robin_sim.runs.workers import one_thread_each
from robin_sim.scenario import Scenario, load_scenario

DEFAULT_ENGINE = "auto"
MASKS = ("predicted", "oracle")

Capture = Callable[[PickEvent], Any]
Progress = Callable[[int, int, str], None]
Tick = Callable[[str], None]
Stop = Callable[[], bool]


@dataclass(frozen=True)
class RunRequest:
    """What to run: a scenario (loaded, by name or by path), how many picks, and with what.

    masks: one of MASKS; model: the bundle for predicted ones. ranker, planner_config, cell: None for what is shipped.
    """

    scenario: str | Path | Scenario
    picks: int
    seed: int
    planner: str = DEFAULT_PLANNER
    masks: str = "predicted"
    engine: str = DEFAULT_ENGINE
    model: Path | None = None
    workers: int = 1
    cell: CellConfig | None = None
    ranker: Path | None = None
    planner_config: PlannerConfig | None = None

    def checked(self) -> RunRequest:
        """With its scenario loaded. Raises RobinError: SCENARIO_UNKNOWN, OPTION_INVALID."""
        if self.picks < 1:
            raise RobinError(Code.OPTION_INVALID, f"picks must be at least 1, got {self.picks}")
        if self.workers < 1:
            raise RobinError(Code.OPTION_INVALID, f"workers must be at least 1, got {self.workers}")
        if self.masks not in MASKS:
            raise RobinError(Code.OPTION_INVALID, f"masks must be one of {', '.join(MASKS)}, got '{self.masks}'")
        return replace(self, scenario=self.loaded)

    @property
    def loaded(self) -> Scenario:
        return self.scenario if isinstance(self.scenario, Scenario) else load_scenario(self.scenario)


@dataclass(frozen=True)
class RunSpec:
    """All that a worker process needs to run piles of one scenario; it travels pickled between our own processes.

    request: with its scenario loaded. capture: turns an event into what is kept of it (a record with images); None
    keeps the summaries only.
    """

    request: RunRequest
    capture: Capture | None = None


@dataclass(frozen=True)
class PileRun:
    """What one pile gave: a summary per turn, in order, and what ``capture`` made of each (empty without one)."""

    pile_index: int
    turns: tuple[PickSummary, ...]
    captured: tuple[Any, ...] = ()


def _run_pile(spec: RunSpec, cell: SimCell, pile_index: int, max_attempts: int, tick: Tick, stop: Stop) -> PileRun:
    turns: list[PickSummary] = []
    captured: list[Any] = []
    for event in cell.run_pile(spec.request.seed, pile_index, max_attempts):
        turns.append(summarize(event))
        if spec.capture is not None:
            captured.append(spec.capture(event))
        tick(event.result)
        if stop():
            break
    return PileRun(pile_index, tuple(turns), tuple(captured))


def run_scenario(
    request: RunRequest,
    progress: Progress | None = None,
    *,
    capture: Capture | None = None,
    on_captured: Callable[[Any], object] | None = None,
) -> RunResult:
    """Run a scenario's attempts, closed loop.

    Pile k draws from ``default_rng([seed, k])`` alone and piles count in order of k until ``picks`` attempts are made,
    so the outcome does not depend on ``workers`` (measured times do). progress(done, of, latest result).
    ``on_captured`` gets, in order, what ``capture`` made of each
    turn. Raises RobinError: SCENARIO_UNKNOWN, OPTION_INVALID and what loading the model, engine and planner raise.
    """
    request = request.checked()
    spec, picks, workers = RunSpec(request, capture), request.picks, request.workers
    started = time.perf_counter()
    counter = _Counter(picks, progress)
    runs = _in_this_process(spec, picks, counter) if workers == 1 else _in_processes(spec, picks, workers, counter)
    turns: list[PickSummary] = []
    for run in runs:
        turns.extend(run.turns)
        for record in run.captured:
            if on_captured is not None:
                on_captured(record)
    return RunResult(
        scenario=request.loaded.name,
        seed=request.seed,
        planner=request.planner,
        masks=request.masks,
        engine=request.engine,
        model=_model_name(turns, request.model),
        workers=workers,
        turns=tuple(turns),
        wall_s=time.perf_counter() - started,
    )


def _model_name(turns: list[PickSummary], model: Path | None) -> str:
    if turns:
        return turns[0].model_id
    return model.name if model is not None else ""


class _Counter:
    """Counts attempts towards the total and passes them on to the progress call."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total, self._progress, self._done = total, progress, 0

    def tick(self, result: str) -> None:
        self._done += is_attempt(result)
        if self._progress is not None:
            self._progress(min(self._done, self._total), self._total, result)


def _in_this_process(spec: RunSpec, picks: int, counter: _Counter) -> Iterator[PileRun]:
    cell = build_cell(spec.request)
    left, index = picks, 0
    while left > 0:
        run = _run_pile(spec, cell, index, left, counter.tick, lambda: False)
        yield run
        left -= _attempts(run)
        index += 1
        _refuse_endless(index, picks, left)


def _in_processes(spec: RunSpec, picks: int, workers: int, counter: _Counter) -> Iterator[PileRun]:
    """Piles are started in order, a few ahead; those beyond the last counted attempt are thrown away."""
    context = multiprocessing.get_context("spawn")
    ticks, stop = context.Queue(), context.Event()
    pending: deque[Future[PileRun]] = deque()
    with one_thread_each():
        pool = ProcessPoolExecutor(workers, context, _start_worker, (os.getpid(), spec, ticks, stop))
        try:
            left, started = picks, 0
            while left > 0:
                while len(pending) < workers + 1:
                    pending.append(pool.submit(_pile_in_worker, started, left))
                    started += 1
                run = _cut(_wait(pending.popleft(), ticks, counter), left)
                yield run
                left -= _attempts(run)
                _refuse_endless(run.pile_index + 1, picks, left)
        except BrokenProcessPool:
            text = "a worker process ended unexpectedly (out of memory?); fewer workers need less"
            raise RobinError(Code.ENGINE_FAILED, text) from None
        finally:
            stop.set()  # piles beyond the last counted attempt end after the pick they are at
            pool.shutdown(wait=True, cancel_futures=True)


def _wait(future: Future[PileRun], ticks: Any, counter: _Counter) -> PileRun:
    while True:
        try:
            counter.tick(ticks.get(timeout=0.2))
        except queue.Empty:
            if future.done():
                return future.result()


def _cut(run: PileRun, attempts: int) -> PileRun:
    """The run up to its ``attempts``-th attempt."""
    kept = 0
    for turn in run.turns:
        if attempts == 0:
            break
        attempts -= turn.attempted
        kept += 1
    return PileRun(run.pile_index, run.turns[:kept], run.captured[:kept])


def _attempts(run: PileRun) -> int:
    return sum(turn.attempted for turn in run.turns)


def _refuse_endless(piles: int, picks: int, left: int) -> None:
    """A planner that never finds a grasp would run for ever: give up after many piles without one."""
    if left == picks and piles >= 20:
        raise RobinError(Code.NO_GRASP, f"{piles} piles without a single grasp: nothing to measure")


@dataclass
class _WorkerState:
    """What a worker process keeps between piles. The cell is built by the first, where a failure can be reported."""

    spec: RunSpec
    ticks: Any
    stop: Any
    cell: SimCell | None = None


_state: _WorkerState | None = None


def _start_worker(parent: int, spec: RunSpec, ticks: Any, stop: Any) -> None:
    global _state
    end_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    _state = _WorkerState(spec, ticks, stop)


def _pile_in_worker(pile_index: int, max_attempts: int) -> PileRun:
    assert _state is not None
    if _state.cell is None:
        _state.cell = build_cell(_state.spec.request)
    return _run_pile(_state.spec, _state.cell, pile_index, max_attempts, _state.ticks.put, _state.stop.is_set)


def build_cell(request: RunRequest) -> SimCell:
    """The cell of one process: model and planner are loaded here, once."""
    config, helper = request.loaded.config, HelperThread()
    return SimCell(config, request.cell or CellConfig(), partial(_planner, request, helper), _seer(request, helper))


def _planner(request: RunRequest, helper: HelperThread, cell: CellConfig, rng: np.random.Generator) -> Planner:
    return make_planner(request.planner, cell, request.ranker, request.planner_config, rng, helper)


def _seer(request: RunRequest, helper: HelperThread) -> SeeFrame | None:
    if request.masks == "oracle":
        return None
    if request.model is None:
        raise RobinError(Code.MODEL_MISSING, "predicted masks need a model bundle; name one, or use oracle masks")
    # One thread, no spinning: workers share the cores, and sums in another order would give other figures.
    return load_segmenter(
        request.model, request.engine, engine_config=EngineConfig(intra_threads=1, spin=False), helper=helper
    ).segment
