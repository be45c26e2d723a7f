"""The closed loop of every run, in one process or several: piles in order, until enough picks were attempted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from robin_perception.core.errors import Code, RobinError

T = TypeVar("T")
MOST_PILES_WITHOUT_PICK = 20


def closed_loop(picks: int, run_pile: Callable[[int, int], Iterable[T]], attempted: Callable[[T], bool]) -> Iterator[T]:
    """What piles 0, 1, … give, up to the ``picks``-th attempt.

    run_pile(index, left): what one pile gives, in order, while at most ``left`` more attempts are wanted. attempted:
    whether one of these counts. Raises RobinError NO_GRASP after many piles without a single attempt: a planner that
    never finds a grasp would run for ever.
    """
    left, index = picks, 0
    while True:
        for pick in run_pile(index, left):
            left -= attempted(pick)
            yield pick
            if left == 0:
                return
        index += 1
        if left == picks and index >= MOST_PILES_WITHOUT_PICK:
            raise RobinError(Code.NO_GRASP, f"{index} piles without a single grasp")
