"""The closed loop over several worker processes."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from robin_perception.core.errors import Code, RobinError
from robin_perception.core.parent_death import end_with_parent
from robin_sim.runs.cell_runner import CellPick, CellRunner
from robin_sim.runs.loop import closed_loop
from robin_sim.runs.results import AttemptCounter
from robin_sim.runs.workers import one_thread_each


def in_processes(runner: CellRunner, counter: AttemptCounter) -> Iterator[CellPick]:
    """The closed loop with as many worker processes as the request asks for. Piles are started in order, a few ahead;
    those beyond the last counted attempt are thrown away."""
    context = multiprocessing.get_context("spawn")
    results, stop = context.Queue(), context.Event()
    workers = runner.request.workers
    pending: deque[Future[list[CellPick]]] = deque()
    with one_thread_each():
        pool = ProcessPoolExecutor(workers, context, _start_worker, (os.getpid(), runner, results, stop))

        def run_pile(index: int, left: int) -> list[CellPick]:
            while len(pending) < workers + 1:
                pending.append(pool.submit(_pile_in_worker, index + len(pending), left))
            return _wait(pending.popleft(), results, counter)

        try:
            yield from closed_loop(runner.request.picks, run_pile, lambda pick: pick.summary.attempted)
        except BrokenProcessPool:
            text = "a worker process ended unexpectedly (out of memory?); fewer workers need less"
            raise RobinError(Code.ENGINE_FAILED, text) from None
        finally:
            stop.set()  # piles beyond the last counted attempt end after the pick they are at
            pool.shutdown(wait=True, cancel_futures=True)


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


def _start_worker(parent: int, runner: CellRunner, results: Any, stop: Any) -> None:
    global _worker
    end_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
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
