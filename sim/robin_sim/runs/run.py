"""Closed-loop runs: many piles, one or several processes, the same figures whatever the number of processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from robin_sim.runs.cell_runner import Capture, CellPick, CellRunner
from robin_sim.runs.loop import closed_loop
from robin_sim.runs.processes import in_processes
from robin_sim.runs.request import RunRequest
from robin_sim.runs.results import AttemptCounter, PickSummary, Progress, RunResult


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
    ``on_captured`` gets, in order, what ``capture`` made of each pick.
    Raises RobinError: SCENARIO_UNKNOWN, OPTION_INVALID and what loading the model, engine and planner raise.
    """
    request = request.checked()
    started = time.perf_counter()
    counter = AttemptCounter(request.picks, progress)
    runner = CellRunner(request, capture)
    picks = _in_this_process(runner, counter) if request.workers == 1 else in_processes(runner, counter)
    summaries: list[PickSummary] = []
    for pick in picks:
        summaries.append(pick.summary)
        if on_captured is not None and capture is not None:
            on_captured(pick.captured)
    return RunResult(
        scenario=request.loaded.name,
        seed=request.seed,
        planner=request.planner,
        masks=request.masks,
        engine=summaries[0].engine if summaries else request.engine,
        model=_model_name(summaries, request.model),
        workers=request.workers,
        picks=tuple(summaries),
        wall_s=time.perf_counter() - started,
    )


def _model_name(summaries: list[PickSummary], model: Path | None) -> str:
    if summaries:
        return summaries[0].model_id
    return model.name if model is not None else ""


def _in_this_process(runner: CellRunner, counter: AttemptCounter) -> Iterator[CellPick]:
    for pick in closed_loop(runner.request.picks, runner.run_pile, lambda pick: pick.summary.attempted):
        counter.count(pick.summary.result)
        yield pick
