"""The narrow interface of everything that does heavy work."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, TypeVar

from robin_perception.core.errors import Code, RobinError

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
TRIES = 3
"""A part is done again where its worker was killed, so often in all."""
_AHEAD = 2  # parts that wait for each worker


class Compute(ABC):
    """Function and items travel between processes: functions of modules, plain data. workers: how many there are."""

    workers: int

    def map(self, function: Callable[[ItemT], ResultT], items: Iterable[ItemT]) -> Iterator[ResultT]:
        """Results in the order of the items, which are taken as workers become free. A function that raises ends it:
        with its own RobinError, any other exception as COMPUTE_FAILED."""
        under_way: deque[Any] = deque()
        for item in items:
            under_way.append(self._submit(function, item))
            if len(under_way) > (1 + _AHEAD) * self.workers:
                yield self._result(under_way.popleft())
        while under_way:
            yield self._result(under_way.popleft())

    @abstractmethod
    def _submit(self, function: Callable[[ItemT], ResultT], item: ItemT) -> Any:
        """Hand over one part of the work. Returns what ``_result`` waits for."""

    @abstractmethod
    def _result(self, part: Any) -> Any:
        """Raises RobinError COMPUTE_*, and what the function raised."""

    @abstractmethod
    def close(self) -> None:
        """What is under way is given up."""

    def __enter__(self) -> Compute:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def call(function: Callable[[ItemT], ResultT], item: ItemT) -> ResultT:
    """Runs in the worker: what leaves it is a result or a RobinError, for other exceptions may not travel."""
    try:
        return function(item)
    except RobinError:
        raise
    except Exception as exc:
        name = getattr(function, "__qualname__", "function")
        raise RobinError(Code.COMPUTE_FAILED, f"{name}: {type(exc).__name__}: {exc}") from None


def lost(function: Callable[..., Any]) -> RobinError:
    """A part whose worker ended each time."""
    name = getattr(function, "__qualname__", "function")
    return RobinError(Code.COMPUTE_FAILED, f"{name}: its worker was killed {TRIES} times; is the memory enough?")
