"""Figures with their spread: Wilson intervals for rates, percentiles for times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from scipy.stats import norm


class Rate(TypedDict):
    """A rate as a fraction with its two-sided Wilson interval and the counts behind it."""

    rate: float
    low: float
    high: float
    count: int
    of: int


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a binomial proportion (E. B. Wilson, JASA 22, 1927), as fractions.

    No trials give (0, 1): nothing is known. Raises ValueError when the counts make no sense.
    """
    if trials < 0 or not 0 <= successes <= trials:
        raise ValueError(f"need 0 <= successes <= trials, got {successes} of {trials}")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}")
    if trials == 0:
        return 0.0, 1.0
    z = float(norm.ppf(0.5 + confidence / 2.0))
    p = successes / trials
    centre = p + z * z / (2 * trials)
    spread = z * math.sqrt(p * (1.0 - p) / trials + z * z / (4.0 * trials * trials))
    scale = 1.0 + z * z / trials
    low = 0.0 if successes == 0 else max(0.0, (centre - spread) / scale)
    high = 1.0 if successes == trials else min(1.0, (centre + spread) / scale)
    return low, high


def rate(successes: int, trials: int) -> Rate:
    """A rate with its 95 % Wilson interval; the rate of no trials is 0 with the interval (0, 1)."""
    low, high = wilson_interval(successes, trials)
    return Rate(rate=successes / trials if trials else 0.0, low=low, high=high, count=successes, of=trials)


def paired_difference(lost: int, won: int, of: int) -> Rate:
    """Share of pairs that lost what they had less that of pairs that won it, with the adjusted Wald interval for paired
    proportions (D. G. Bonett and R. M. Price, J. Educ. Behav. Stat. 37, 2012). count: lost less won. No pairs: 0 in
    (-1, 1). Raises ValueError when the counts make no sense."""
    if min(lost, won) < 0 or lost + won > of:
        raise ValueError(f"need 0 <= lost + won <= of, got {lost} + {won} of {of}")
    if of == 0:
        return Rate(rate=0.0, low=-1.0, high=1.0, count=0, of=0)
    p, q = (lost + 1) / (of + 2), (won + 1) / (of + 2)
    spread = float(norm.ppf(0.975)) * math.sqrt((p + q - (p - q) ** 2) / (of + 2))
    low, high = max(-1.0, p - q - spread), min(1.0, p - q + spread)
    return Rate(rate=(lost - won) / of, low=low, high=high, count=lost - won, of=of)


def rate_difference(successes: int, trials: int, other: int, other_trials: int) -> Rate:
    """How much higher the first of two independent rates is, with the 95 % hybrid score interval (R. G. Newcombe, Stat.
    Med. 17, 1998, method 10). count, of: those of the first. Raises ValueError when the counts make no sense."""
    one, two = rate(successes, trials), rate(other, other_trials)
    found = one["rate"] - two["rate"]
    below = math.hypot(one["rate"] - one["low"], two["high"] - two["rate"])
    above = math.hypot(one["high"] - one["rate"], two["rate"] - two["low"])
    return Rate(rate=found, low=found - below, high=found + above, count=successes, of=trials)


def percentiles(values: Sequence[float], levels: Sequence[int] = (50, 95)) -> dict[str, float]:
    """``{"p50": …, "p95": …}`` of the values; zeros when there are none."""
    if not len(values):
        return {f"p{level}": 0.0 for level in levels}
    found = np.percentile(np.asarray(values, dtype=np.float64), levels)
    return {f"p{level}": float(value) for level, value in zip(levels, found, strict=True)}
