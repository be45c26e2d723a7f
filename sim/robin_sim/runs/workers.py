"""Worker processes of runs and data sets."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.context import SpawnContext
from typing import Any

from robin_perception.core.errors import Code, RobinError
from robin_perception.core.parent_death import end_with_parent

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def process_context() -> SpawnContext:
    """Processes that begin anew. Raises RobinError DEPENDENCY_MISSING where they could share no lock with this one."""
    context = multiprocessing.get_context("spawn")
    try:
        context.Lock()
    except (OSError, ImportError) as exc:
        text = f"worker processes need shared memory, and /dev/shm gives none ({exc}); --workers 1 works without"
        raise RobinError(Code.DEPENDENCY_MISSING, text) from None
    return context


@contextmanager
def worker_pool(
    workers: int, context: SpawnContext, start: Callable[..., None], *arguments: Any
) -> Iterator[ProcessPoolExecutor]:
    """A pool whose processes take one thread per library, end with this one, and leave Ctrl-C to it.

    ``start(*arguments)`` is called in each. At the end what has not begun is cancelled, and the rest waited for.
    Raises RobinError ENGINE_FAILED where a process ended by itself.
    """
    with one_thread_each():
        pool = ProcessPoolExecutor(workers, context, _start_worker, (os.getpid(), start, *arguments))
        try:
            yield pool
        except BrokenProcessPool:
            text = "a worker process ended unexpectedly (out of memory?); fewer workers need less"
            raise RobinError(Code.ENGINE_FAILED, text) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _start_worker(parent: int, start: Callable[..., None], *arguments: Any) -> None:
    end_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    start(*arguments)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Processes started inside inherit one thread per library: the workers fill the machine, more would only fight over
    the cores."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
