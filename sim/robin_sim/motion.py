"""Straight moves with bounded speed and acceleration: what the tool of the simulated cell follows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Move:
    """From rest to rest along ``direction`` (unit vector in base, float64 [3]): trapezoidal speed profile.

    distance_m, speed_mps and accel_mps2 are positive; a short move never reaches ``speed_mps``.
    """

    direction: NDArray[np.float64]
    distance_m: float
    speed_mps: float
    accel_mps2: float

    @property
    def _peak(self) -> float:
        return min(self.speed_mps, math.sqrt(self.distance_m * self.accel_mps2))

    @property
    def duration_s(self) -> float:
        if self.distance_m <= 0:
            return 0.0
        return self.distance_m / self._peak + self._peak / self.accel_mps2

    def at(self, time_s: float) -> tuple[float, float, float]:
        """Path length, speed and acceleration along ``direction`` at ``time_s`` from the start."""
        duration = self.duration_s
        if duration == 0.0 or time_s >= duration:
            return max(self.distance_m, 0.0), 0.0, 0.0
        ramp, peak = self._peak / self.accel_mps2, self._peak
        if time_s < ramp:
            return 0.5 * self.accel_mps2 * time_s**2, self.accel_mps2 * time_s, self.accel_mps2
        if time_s <= duration - ramp:
            return peak * (time_s - ramp / 2), peak, 0.0
        left = duration - time_s
        return self.distance_m - 0.5 * self.accel_mps2 * left**2, self.accel_mps2 * left, -self.accel_mps2
