"""Bytes that may be on their way to the server, shared by all robots: whoever asks first is served first, what is
urgent earlier."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Generic, TypeVar

OwnerT = TypeVar("OwnerT")
_AHEAD = 64  # so many that came earlier are overtaken by one step of priority: nobody waits forever
_FOR_REPORTS = 8  # a part in so many is kept for reports


class Credit(Generic[OwnerT]):
    """least: nobody is served with less. serve: called with an owner whose turn it is and what is free for it; returns
    what it took of that, 0 where it no longer wants any."""

    def __init__(self, total: int, least: int, serve: Callable[[OwnerT, int], int]) -> None:
        self.total = self.free = total
        self._least = least
        self._serve = serve
        self._waiting: list[tuple[int, int, OwnerT]] = []
        self._numbers = itertools.count()

    def ask(self, owner: OwnerT, priority: int) -> None:
        """``serve`` is called when there is some; 0: a report, for which there is always a part."""
        number = next(self._numbers)
        heapq.heappush(self._waiting, (number + _AHEAD * priority if priority else -1, number, owner))
        self.run()

    def give_back(self, amount: int) -> None:
        self.free += amount

    def run(self) -> None:
        """Serve those that wait, as far as there is credit."""
        while self._waiting:
            rank, _, owner = self._waiting[0]
            free = self.free if rank < 0 else self.free - self.total // _FOR_REPORTS
            if free < self._least:
                return
            heapq.heappop(self._waiting)
            self.free -= self._serve(owner, free)

    def __len__(self) -> int:
        return len(self._waiting)
