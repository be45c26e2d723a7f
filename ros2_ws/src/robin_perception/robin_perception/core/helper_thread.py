"""A second thread for what OpenCV and NumPy do on whole images: they let other Python code run meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class HelperThread:
    """One thread, started by the first ``submit``, which ends when nobody holds this object any more. Whoever starts a
    segmenter and a planner gives both the same one."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "helper")

    def submit(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Begin ``work`` while the caller goes on; ``result()`` waits for it and raises what it raised. It must not
        itself wait for work of this thread. For half a millisecond of it or more: less costs more than it gains."""
        return self._pool.submit(work, *args, **kwargs)
