"""One helper thread, for what OpenCV or NumPy do on whole images: they leave the interpreter to others meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_helper = ThreadPoolExecutor(1, "beside")


def beside(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    """Begin ``work`` beside the caller's own; ``result()`` waits for it and raises what it raised. It must not itself
    wait for work of this kind. For half a millisecond of it or more: less costs more than it gains."""
    return _helper.submit(work, *args, **kwargs)
