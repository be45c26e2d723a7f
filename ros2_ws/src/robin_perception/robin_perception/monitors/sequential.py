"""A sequential test: tells a lasting change from one odd frame, at a false-alarm rate that is stated beforehand.

CUSUM (E. S. Page, Biometrika 41, 1954) of clipped increments. What is usual is measured in spreads; the slack that is
taken off each frame's deviation follows from the stated rate, by the Markov chain of D. Brook and D. A. Evans
(Biometrika 59, 1972). Two things make that honest: healthy deviations have the heavier tails of Student's t, and they
last as long as the goods that cause them lie there, so that the frames of one scene count as one draw.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from scipy.stats import t as student

THRESHOLD = 1.0
"""Of the sum, in spreads."""
_STATES = 60
_DEGREES = 10.0
_HALVINGS = 30
_WIDEST = 60.0  # spreads: no slack is sought beyond


def average_run_length(slack: float, clip: float, frames_per_scene: int) -> float:
    """Scenes until a healthy station's first alarm, on average.

    slack: taken off each frame's deviation; clip: the most that one frame adds or takes; both in spreads.
    """
    width = THRESHOLD / _STATES
    centres = (np.arange(_STATES) + 0.5) * width
    centres[0] = 0.0
    step = (np.arange(_STATES + 1) * width)[None, :] - centres[:, None]  # of the sum in a scene, to reach each edge
    below = student.cdf(step / frames_per_scene + slack, _DEGREES)
    most = clip * frames_per_scene
    below = np.where(step > most, 1.0, np.where(step < -most, 0.0, below))
    moves = np.diff(below, axis=1)
    moves[:, 0] = below[:, 1]  # whatever falls below zero starts anew
    try:
        return float(np.linalg.solve(np.eye(_STATES) - moves, np.ones(_STATES))[0])
    except np.linalg.LinAlgError:
        return math.inf


@cache
def slack_for(false_alarm_frames: float, frames_per_scene: int, least_frames: int) -> float:
    """The slack, in spreads, at which a healthy station gives one alarm in ``false_alarm_frames`` frames on average,
    when no alarm comes before ``least_frames`` frames of it."""
    low, high = 0.0, _WIDEST
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        run = average_run_length(middle, THRESHOLD / least_frames, frames_per_scene) * frames_per_scene
        low, high = (middle, high) if 0 <= run < false_alarm_frames else (low, middle)
    return high


class SequentialTest:
    """One cause's sum. Not thread-safe.

    alarm: the sum has reached the threshold, and has not been back at zero since. since_s: stamp of the first frame.
    """

    def __init__(self, slack: float, least_frames: int) -> None:
        self.slack = slack
        self._clip = THRESHOLD / least_frames * (1.0 + 1e-9)
        self.reset()

    def reset(self) -> None:
        self._sum = 0.0
        self.alarm = False
        self.since_s = math.nan

    def update(self, deviation: float, stamp_s: float) -> None:
        """One frame's deviation from what is usual, in spreads."""
        before = self._sum
        gain = float(np.clip(deviation - self.slack, -self._clip, self._clip))
        self._sum = min(max(0.0, before + gain), THRESHOLD)
        if before == 0.0 and self._sum > 0.0:
            self.since_s = stamp_s
        self.alarm = self._sum > 0.0 and (self.alarm or self._sum >= THRESHOLD)
