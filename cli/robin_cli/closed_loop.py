"""The simulated closed loop for the fleet's gate, which knows no simulator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from robin_fleet.training.closed_loop import PickWith, Tally
from robin_perception.core.errors import Code, RobinError
from robin_sim.runs.request import RunRequest
from robin_sim.runs.results import RunResult, is_attempt
from robin_sim.runs.run import run_scenario

Progress = Callable[[int, int, str], None]


def tally(result: RunResult) -> Tally:
    return Tally(dict(Counter(one.result for one in result.picks if is_attempt(one.result))))


def closed_loop(request: RunRequest, progress: Progress) -> PickWith:
    """``request`` with the bundle that it is given; one that finds nothing to grasp has made no picks. Raises as
    ``RunRequest.checked``."""
    request = request.checked()
    what = f"closed loop, {request.loaded.name}: picks"

    def run(bundle: Path) -> Tally:
        told = replace(request, model=bundle)
        try:
            return tally(run_scenario(told, lambda done, total, _: progress(done, total, what)))
        except RobinError as exc:
            if exc.code is not Code.NO_GRASP:
                raise
            return Tally({})

    return run
