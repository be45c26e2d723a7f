"""Straight moves with bounded speed, acceleration and jerk: what the tool of the simulated cell follows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Move:
    """From rest to rest along ``direction`` (unit vector in base, float64 [3]).

    A trapezoid in speed, averaged over ``smoothing_s``: the acceleration ramps within that time instead of jumping, and
    neither speed nor acceleration exceeds its bound. distance_m, speed_mps and accel_mps2 are positive; a short move
    never reaches ``speed_mps``.
    """

    direction: NDArray[np.float64]
    distance_m: float
    speed_mps: float
    accel_mps2: float
    smoothing_s: float = 0.12

    @property
    def duration_s(self) -> float:
        return self._raw_duration + self.smoothing_s if self.distance_m > 0 else 0.0

    def at(self, time_s: float) -> tuple[float, float, float]:
        """Path length, speed and acceleration along ``direction`` at ``time_s`` from the start."""
        if self.distance_m <= 0:
            return 0.0, 0.0, 0.0
        now, before, width = self._raw(time_s), self._raw(time_s - self.smoothing_s), self.smoothing_s
        if width <= 0:
            _, path, speed = now
            return path, speed, 0.0
        path, speed, accel = ((a - b) / width for a, b in zip(now, before, strict=True))
        return path, speed, accel

    @property
    def _peak(self) -> float:
        return min(self.speed_mps, math.sqrt(self.distance_m * self.accel_mps2))

    @property
    def _raw_duration(self) -> float:
        return self.distance_m / self._peak + self._peak / self.accel_mps2

    def _raw(self, time_s: float) -> tuple[float, float, float]:
        """The trapezoid: integral of the path, path, speed."""
        if time_s <= 0:
            return 0.0, 0.0, 0.0
        accel, peak, distance, end = self.accel_mps2, self._peak, self.distance_m, self._raw_duration
        ramp, left = peak / accel, end - time_s
        if left <= 0:
            return distance * (end / 2 - left), distance, 0.0
        if time_s < ramp:
            return accel * time_s**3 / 6, accel * time_s**2 / 2, accel * time_s
        if left < ramp:
            # The path is point-symmetric about the middle of the move, so its whole integral is distance * end / 2.
            integral = distance * (end / 2 - left) + accel * left**3 / 6
            return integral, distance - accel * left**2 / 2, accel * left
        integral = accel * ramp**3 / 6 + peak * ((time_s**2 - ramp**2) / 2 - ramp / 2 * (time_s - ramp))
        return integral, peak * (time_s - ramp / 2), peak
