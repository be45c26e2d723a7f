"""The closed loop over several worker processes."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from robin_sim.runs.cell_runner import CellPick, CellRunner
from robin_sim.runs.loop import closed_loop
from robin_sim.runs.results import AttemptCounter
from robin_sim.runs.workers import process_context, worker_pool


def in_processes(runner: CellRunner, counter: AttemptCounter) -> Iterator[CellPick]:
    """The closed loop with as many worker processes as the request asks for. Piles are started in order, a few ahead;
    those beyond the last counted attempt are thrown away."""
    context = process_context()
    results, stop = context.Queue(), context.Event()
    workers = runner.request.workers
    pending: deque[Future[list[CellPick]]] = deque()
    with worker_pool(workers, context, _start_worker, runner, results, stop) as pool:

        def run_pile(index: int, left: int) -> list[CellPick]:
            while len(pending) < workers + 1:
                pending.append(pool.submit(_pile_in_worker, index + len(pending), left))
            return _wait(pending.popleft(), results, counter)

        try:
            yield from closed_loop(runner.request.picks, run_pile, lambda pick: pick.summary.attempted)
        finally:
            stop.set()  # piles beyond the last counted attempt end after the pick they are at


def _wait(future: Future[list[CellPick]], results: Any, counter: AttemptCounter) -> list[CellPick]:
    while True:
        try:
            counter.count(results.get(timeout=0.2))
        except queue.Empty:
            if future.done():
                return future.result()


@dataclass
class _Worker:
    """What a worker process keeps between piles."""

    runner: CellRunner
    results: Any
    stop: Any


_worker: _Worker | None = None


def _start_worker(runner: CellRunner, results: Any, stop: Any) -> None:
    global _worker
    _worker = _Worker(runner, results, stop)


def _pile_in_worker(pile_index: int, most_attempts: int) -> list[CellPick]:
    assert _worker is not None
    picks = []
    for pick in _worker.runner.run_pile(pile_index, most_attempts):
        picks.append(pick)
        _worker.results.put(pick.summary.result)
        if _worker.stop.is_set():
            break
    return picks
