"""What the planner is told of picks that did not work, so that it does not repeat them unchanged."""

from __future__ import annotations

import math
from dataclasses import replace

from robin_grasp.picks.outcome import PickResult
from robin_grasp.plan import FailedPick, Grasp

SAME_SPOT_M = 0.04  # two contacts nearer than this are the same spot
GIVE_UP_ON_SPOT = 3  # failures in a row on one spot before the pile is replaced, as an operator would clear a jam
GIVE_UP_ANYWHERE = 4  # failures in a row wherever they are: what rolls away or is dropped is no longer on its spot


class FailureMemory:
    """The planner's failures in one pile. A clean pick near a spot forgets it: what lay there is gone."""

    def __init__(self) -> None:
        self._failed: list[FailedPick] = []
        self._in_a_row = 0
        self._on_spot = 0
        self._last_spot: tuple[float, float, float] | None = None

    @property
    def failed(self) -> tuple[FailedPick, ...]:
        return tuple(self._failed)

    @property
    def stuck(self) -> bool:
        return self._on_spot >= GIVE_UP_ON_SPOT or self._in_a_row >= GIVE_UP_ANYWHERE

    def note(self, grasp: Grasp, result: PickResult) -> None:
        x, y, z = (float(v) for v in grasp.T_base_tool[:3, 3])
        spot = (x, y, z)
        if result is PickResult.CLEAN:
            self._failed = [f for f in self._failed if math.dist(f.position_m, spot) > SAME_SPOT_M]
            self._in_a_row, self._on_spot, self._last_spot = 0, 0, None
            return
        again = self._last_spot is not None and math.dist(self._last_spot, spot) <= SAME_SPOT_M
        self._in_a_row += 1
        self._on_spot = self._on_spot + 1 if again else 1
        self._last_spot = spot
        for i, known in enumerate(self._failed):
            if math.dist(known.position_m, spot) <= SAME_SPOT_M and known.cups == grasp.cups:
                self._failed[i] = replace(known, times=known.times + 1)
                return
        self._failed.append(FailedPick(spot, grasp.cups))
