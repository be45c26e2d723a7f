"""The test between picks with and without a release: e-values by enumeration, stated rates by simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import binom

from robin_fleet.rollout.evidence import KEPT, WORSE_BY, Evidence, Picks, added, log_e_values


def mean_e(theta_a: float, theta_b: float, losses: list[float], bound: float, n_a: int = 7, n_b: int = 4) -> np.ndarray:
    """Exact mean of a block's e-values, over all its outcomes; [alternatives]."""
    outcomes = list(itertools.product(range(n_a + 1), range(n_b + 1)))
    picks = [Picks(clean_with=b, with_release=n_b, clean_without=a, without=n_a) for a, b in outcomes]
    e = np.exp(log_e_values(picks, np.full(len(picks), 0.9), np.array(losses), np.full(len(losses), bound)))
    chance = np.array([binom.pmf(a, n_a, theta_a) * binom.pmf(b, n_b, theta_b) for a, b in outcomes])
    return np.asarray(chance @ e)


@pytest.mark.parametrize("theta_a", (0.3, 0.7, 0.9, 0.99))
@pytest.mark.parametrize("loss", (0.02, 0.0, -0.2))
def test_a_loss_within_the_null_never_pays(theta_a: float, loss: float) -> None:
    theta_b = min(theta_a - loss, 1.0)
    assert (mean_e(theta_a, theta_b, [0.02 + w for w in WORSE_BY], 0.02) <= 1 + 1e-6).all()


@pytest.mark.parametrize("theta_a", (0.3, 0.7, 0.9, 0.99))
@pytest.mark.parametrize("loss", (0.1, 0.15, 0.25))
def test_no_proof_pays_for_what_loses_the_margin(theta_a: float, loss: float) -> None:
    assert (mean_e(theta_a, theta_a - loss, [share * 0.1 for share in KEPT], 0.1) <= 1 + 1e-6).all()


def test_bets_pay_where_the_alternative_holds() -> None:
    assert mean_e(0.9, 0.9 - 0.32, [0.32], 0.02)[0] > 1.2
    assert mean_e(0.9, 0.9, [0.0], 0.1)[0] > 1.0


def judged(rng: np.random.Generator, loss: float, rates: float = 0.02) -> str:
    """ "worse", "kept" or "" after 12,000 picks at two stations of differing, drifting difficulty."""
    evidence = Evidence()
    for hour in range(60):
        picks = {}
        for station, rate in (("a", 0.99), ("b", 0.94)):
            now = rate + 0.01 * np.sin(hour / 7)
            clean = int(rng.binomial(100, now - loss)), int(rng.binomial(500, now))
            picks[station] = Picks(clean_with=clean[0], with_release=100, clean_without=clean[1], without=500)
        evidence = added(evidence, picks, 0.005, (0.02,))
        if evidence.wealth_worse >= 1 / rates:
            return "worse"
        if evidence.wealth_kept(0.02) >= 1 / rates:
            return "kept"
    return ""


def test_equal_ones_are_kept_and_worse_ones_found() -> None:
    rng = np.random.default_rng(5)
    equal = [judged(rng, 0.0) for _ in range(60)]
    worse = [judged(rng, 0.03) for _ in range(60)]
    assert equal.count("worse") <= 3 and equal.count("kept") >= 55
    assert worse.count("kept") <= 3 and worse.count("worse") >= 55


def test_stations_with_one_kind_of_pick_say_nothing_but_are_counted() -> None:
    evidence = added(
        Evidence(), {"a": Picks(clean_with=1, with_release=5), "b": Picks(clean_without=9, without=9)}, 0, (0.1,)
    )
    assert evidence.wealth_worse == 1.0 and evidence.wealth_kept(0.1) == 1.0
    assert (evidence.picks, evidence.lost, evidence.picks_without) == (5, 4, 9)
    assert evidence.rates["b"] == (9.0, 9.0)
