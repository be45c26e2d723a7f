"""What picks of one kind of goods have shown of holding them, and the posteriors that follow. Counts fade.

Rates (seal, clean) are Beta: the factory's own expectation p over these picks counts as ``prior`` picks. With o of n
picks good the rate has Beta(prior p + o, prior (1 - p) + n - o). Logarithms of ratios (vacuum, mass) are Normal-Gamma
(DeGroot 1970, ch. 9). What is told is a bound on the factory's side, ``sds`` standard deviations from the mean: what is
not sure yet changes nothing, and nothing is ever expected to be better than the factory expects.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from robin_grasp.holding import PLACES

Floats = NDArray[np.float64]
MOST_LOGIT = 4.0
MOST_LOG = 1.0
FACTORY_SD = 0.4  # of ln(measured / expected), from parcel to parcel
_SURE = 1e-3
_GAMMA_SHAPE = 2.0


@dataclass
class Evidence:
    """Sums over picks. seal [places, 3], clean [3], steep [3]: picks, expected by the factory, good. clean is of those
    with a level tool, steep of the others. vacuum [3], mass [3]: picks, sum and sum of squares of ln(measured /
    expected)."""

    seal: Floats = field(default_factory=lambda: np.zeros((len(PLACES), 3)))
    clean: Floats = field(default_factory=lambda: np.zeros(3))
    steep: Floats = field(default_factory=lambda: np.zeros(3))
    vacuum: Floats = field(default_factory=lambda: np.zeros(3))
    mass: Floats = field(default_factory=lambda: np.zeros(3))

    @property
    def tries(self) -> float:
        return float(self.clean[0] + self.steep[0])

    def fade(self, share: float) -> None:
        """Keep that share of what is known."""
        for one in fields(self):
            getattr(self, one.name)[...] *= share

    def add(self, other: Evidence) -> None:
        for one in fields(self):
            getattr(self, one.name)[...] += getattr(other, one.name)

    def to_json(self) -> dict[str, list[float]]:
        return {one.name: np.round(getattr(self, one.name), 6).ravel().tolist() for one in fields(self)}

    @classmethod
    def from_json(cls, values: dict[str, list[float]]) -> Evidence:
        """Raises KeyError, TypeError, ValueError for what cannot be one."""
        made = cls()
        for one in fields(cls):
            into = getattr(made, one.name)
            into[...] = np.array(values[one.name], dtype=np.float64).reshape(into.shape)
            if not np.isfinite(into).all():
                raise ValueError(f"'{one.name}' is not finite")
        return made


def seen_rate(expected: float, good: float) -> Floats:
    """Counts of one pick."""
    return np.array([1.0, expected, good])


def seen_log(ratio: float) -> Floats:
    """The same of a ratio measured / expected."""
    value = float(np.log(np.clip(ratio, 0.05, 20.0)))
    return np.array([1.0, value, value * value])


def rate_logit(counts: Floats, prior: float, parent: float, sds: float) -> float:
    """What to add to the logit of the factory's probability, at most 0. parent: the same of the goods' class."""
    picks, expected, good = counts
    if picks < _SURE:
        return parent
    factory = float(np.clip(expected / picks, _SURE, 1.0 - _SURE))
    start = 1.0 / (1.0 + np.exp(-(_logit(factory) + parent)))
    a, b = prior * start + good, prior * (1.0 - start) + picks - good
    mean = a / (a + b)
    upper = mean + sds * np.sqrt(mean * (1.0 - mean) / (a + b + 1.0))
    return float(np.clip(_logit(float(np.clip(upper, _SURE, 1.0 - _SURE))) - _logit(factory), -MOST_LOGIT, 0.0))


def log_bound(counts: Floats, prior: float, parent: float, sds: float, side: int) -> float:
    """Mean of ln(measured / expected), less ``sds`` of its standard deviations towards 0; 0 on the other side than
    ``side`` (1 above, -1 below). parent: the same of the goods' class."""
    picks, total, squares = counts
    if picks < _SURE:
        return parent
    mean = (prior * parent + total) / (prior + picks)
    scatter = max(squares - total * total / picks, 0.0)
    scale = _GAMMA_SHAPE * FACTORY_SD**2 + 0.5 * scatter
    scale += prior * picks * (total / picks - parent) ** 2 / (2.0 * (prior + picks))
    sd = np.sqrt(scale / ((_GAMMA_SHAPE + 0.5 * picks) * (prior + picks)))
    return float(side * np.clip(side * mean - sds * sd, 0.0, MOST_LOG)) + 0.0


def _logit(share: float) -> float:
    return float(np.log(share / (1.0 - share)))
