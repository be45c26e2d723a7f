"""Picks with a release against picks without it, at the same stations in the same stretch of time: a sequential test.

Per station and stretch of time, n_a picks without and n_b picks with the release are one block. The block's e-value for
a null hypothesis about (θ_a, θ_b), the rates of clean picks, is a likelihood ratio against the member of the null that
is nearest to the alternative (R. Turner, A. Ly and P. Grünwald, J. Stat. Plan. Inference 230, 2024; strata and a stated
difference: R. Turner and P. Grünwald, AISTATS 2023). Its mean is at most 1 for every member of a convex null, whatever
the rates of the station and however they drift from block to block, so the product over blocks and stations is a test
that may be looked at at any time: by Ville's inequality it reaches 1 / ``rate`` with probability ``rate`` at most.
As in ``edge_adapt.models.watch``, the mean over several alternatives stands for not knowing how large a difference is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robin_perception.core.config import StrictConfig

Floats = NDArray[np.float64]

WORSE_BY = (0.005, 0.01, 0.02, 0.04, 0.1, 0.3)
"""Alternatives of the test for a loss: rate of clean picks that is lost beyond what is tolerated."""
KEPT = (0.5, 0.0, -0.5)
"""Alternatives of the proof that not so much is lost: losses as shares of the margin."""
_PRIOR = (97.0, 3.0)  # clean and failed picks that a station begins with, so that its rate is never unknown
_REMEMBERED = 3000.0  # picks of a station; rates drift
_INSIDE = 1e-4  # rates stay this far from 0 and 1
_BISECTIONS = 36


class Picks(StrictConfig):
    """Of one station in one stretch of time: clean ones and all, with the release and without it."""

    clean_with: int = Field(0, ge=0)
    with_release: int = Field(0, ge=0)
    clean_without: int = Field(0, ge=0)
    without: int = Field(0, ge=0)


class Evidence(StrictConfig):
    """All that is known of a release so far; each stretch of time adds to it.

    worse: log wealth of the test against "loses at most what is tolerated", for each of ``WORSE_BY``. kept: of the
    tests against "loses the margin or more", by margin, for each of ``KEPT``. rates: clean and all picks without the
    release, by station; old ones count less. picks, lost: picks with it, and those of them that were not clean.
    """

    worse: tuple[float, ...] = (0.0,) * len(WORSE_BY)
    kept: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    rates: dict[str, tuple[float, float]] = Field(default_factory=dict)
    picks: int = 0
    lost: int = 0
    picks_without: int = 0
    lost_without: int = 0

    @property
    def wealth_worse(self) -> float:
        """At least 1 / rate: it loses more than is tolerated, wrongly said with that rate at most."""
        return _wealth(self.worse)

    def wealth_kept(self, margin: float) -> float:
        """At least 1 / rate: it loses less than ``margin``, wrongly said with that rate at most."""
        return _wealth(self.kept.get(str(margin), ()))


def added(evidence: Evidence, picks: Mapping[str, Picks], tolerated: float, margins: Sequence[float]) -> Evidence:
    """With the picks of one stretch of time, by station. How many picks it holds must not depend on how they ended.

    Stations with picks of one kind only say nothing about the difference; their rates are remembered. tolerated: loss
    that is no reason to stop, since robots of one station differ by as much. margins: of the proofs.
    """
    both = [s for s in sorted(picks) if picks[s].with_release and picks[s].without]
    worse, kept = evidence.worse, dict(evidence.kept)
    if both:
        losses = [tolerated + loss for loss in WORSE_BY] + [share * margin for margin in margins for share in KEPT]
        bounds = [tolerated] * len(WORSE_BY) + [margin for margin in margins for _ in KEPT]
        rates = np.array([_rate(evidence.rates.get(s)) for s in both])
        found = log_e_values([picks[s] for s in both], rates, np.array(losses), np.array(bounds)).sum(axis=0)
        worse = _sum(worse, found[: len(WORSE_BY)])
        for n, margin in enumerate(margins):
            begin = len(WORSE_BY) + n * len(KEPT)
            kept[str(margin)] = _sum(kept.get(str(margin), (0.0,) * len(KEPT)), found[begin : begin + len(KEPT)])
    return Evidence(
        worse=worse,
        kept=kept,
        rates={**evidence.rates, **{s: _remembered(evidence.rates.get(s), found) for s, found in picks.items()}},
        picks=evidence.picks + sum(p.with_release for p in picks.values()),
        lost=evidence.lost + sum(p.with_release - p.clean_with for p in picks.values()),
        picks_without=evidence.picks_without + sum(p.without for p in picks.values()),
        lost_without=evidence.lost_without + sum(p.without - p.clean_without for p in picks.values()),
    )


def log_e_values(picks: Sequence[Picks], rates: Floats, losses: Floats, bounds: Floats) -> Floats:
    """Of blocks [N], for alternatives [K] "the release loses ``losses``", float64 [N, K].

    rates: of clean picks without the release, known before the block, [N]. bounds: the null is that the loss is at most
    (where ``losses`` is above it) or at least (where it is below) this, [K].
    """
    clean_b, n_b, clean_a, n_a = np.array(
        [(p.clean_with, p.with_release, p.clean_without, p.without) for p in picks], dtype=np.float64
    ).T[:, :, None]
    a = np.clip(np.broadcast_to(rates[:, None], (len(rates), len(losses))), bounds + _INSIDE, 1 - _INSIDE)
    b = np.clip(a - losses, _INSIDE, 1 - _INSIDE)
    null_a = _nearest(a, b, n_a, n_b, bounds)
    null_b = null_a - bounds
    with_release = clean_b * np.log(b / null_b) + (n_b - clean_b) * np.log((1 - b) / (1 - null_b))
    without = clean_a * np.log(a / null_a) + (n_a - clean_a) * np.log((1 - a) / (1 - null_a))
    return np.asarray(with_release + without)


def _nearest(a: Floats, b: Floats, n_a: Floats, n_b: Floats, bounds: Floats) -> Floats:
    """θ_a on the null's edge θ_b = θ_a - bound with the least n_a KL(a, θ_a) + n_b KL(b, θ_b): its slope in θ_a rises,
    and is bisected."""
    low = np.broadcast_to(bounds + _INSIDE / 2, a.shape)
    high = np.full(a.shape, 1.0 - _INSIDE / 2)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        shifted = middle - bounds
        slope = n_a * (middle - a) / (middle * (1 - middle)) + n_b * (shifted - b) / (shifted * (1 - shifted))
        low, high = np.where(slope < 0, middle, low), np.where(slope < 0, high, middle)
    return np.asarray((low + high) / 2)


def _rate(known: tuple[float, float] | None) -> float:
    clean, of = known or (0.0, 0.0)
    return (clean + _PRIOR[0]) / (of + sum(_PRIOR))


def _remembered(known: tuple[float, float] | None, found: Picks) -> tuple[float, float]:
    clean, of = known or (0.0, 0.0)
    keep = min(1.0, _REMEMBERED / (of + 1.0))
    return clean * keep + found.clean_without, of * keep + found.without


def _sum(wealth: tuple[float, ...], more: Floats) -> tuple[float, ...]:
    return tuple(float(a + b) for a, b in zip(wealth, more, strict=True))


def _wealth(log_wealth: Sequence[float]) -> float:
    """The mean of the bets, 1 in the beginning; e^600 at most, so that it stays a number."""
    return float(np.exp(np.minimum(np.array(log_wealth), 600.0)).mean()) if log_wealth else 1.0
