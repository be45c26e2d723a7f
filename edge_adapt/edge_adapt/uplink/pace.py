"""How fast, and how soon again. Both go by a clock that nobody sets."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


class TokenBucket:
    """At most ``rate`` a second on the long run, ``burst`` at once. rate 0: no limit."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float]) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._level, self._at_s = burst, clock()

    def wait_s(self) -> float:
        """Until something may be taken; 0: now."""
        if not self._rate:
            return 0.0
        now_s = self._clock()
        self._level = min(self._burst, self._level + self._rate * (now_s - self._at_s))
        self._at_s = now_s
        return max(0.0, -self._level / self._rate)

    def take(self, amount: float) -> None:
        """It may go below zero, and is waited for afterwards: so what is larger than a burst comes through as well."""
        self._level -= amount

    def try_take(self, amount: float) -> bool:
        """False where that would exceed the rate."""
        if self.wait_s() > 0 or (self._rate and self._level < amount):
            return False
        self.take(amount)
        return True


class Backoff:
    """Waits that double up to ``most_s``, each shortened by chance, so that a fleet does not come back at once."""

    def __init__(self, least_s: float, most_s: float, rng: np.random.Generator) -> None:
        self._least_s, self._most_s, self._rng = least_s, most_s, rng
        self._tries = 0

    def next_s(self) -> float:
        wait_s = min(self._most_s, self._least_s * 2.0 ** min(self._tries, 40))
        self._tries += 1
        return wait_s * float(self._rng.uniform(0.5, 1.0))

    def reset(self) -> None:
        self._tries = 0
