"""Heavy work on processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from robin_fleet.compute.interface import TRIES, Compute, call, lost


@dataclass
class _Part:
    function: Callable[[Any], Any]
    item: Any
    future: Future[Any]
    tries: int = 1


class ProcessCompute(Compute):
    """workers: processes, 0 for one per core. Used by one thread."""

    def __init__(self, workers: int) -> None:
        self.workers = workers or len(os.sched_getaffinity(0))
        self._pool = self._new_pool()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _submit(self, function: Callable[[Any], Any], item: Any) -> _Part:
        return _Part(function, item, self._handed_over(function, item))

    def _result(self, part: _Part) -> Any:
        while True:
            try:
                return part.future.result()
            except BrokenProcessPool:  # one of its workers was killed, perhaps by another part
                if part.tries >= TRIES:
                    raise lost(part.function) from None
                part.tries += 1
                part.future = self._handed_over(part.function, part.item)

    def _handed_over(self, function: Callable[[Any], Any], item: Any) -> Future[Any]:
        try:
            return self._pool.submit(call, function, item)
        except BrokenProcessPool:
            self._pool.shutdown(wait=False)
            self._pool = self._new_pool()
            return self._pool.submit(call, function, item)

    def _new_pool(self) -> ProcessPoolExecutor:
        # Started anew rather than forked: a fork of a process with threads may hang.
        return ProcessPoolExecutor(self.workers, mp_context=multiprocessing.get_context("spawn"))
