"""The geometric odds of a candidate, and what they are worth."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.planner_fits import with_fit

from robin_grasp.planner.config import PlannerConfig, RankConfig
from robin_grasp.planner.ranker import GeometricRanker, Odds, utility

TERMS = (
    *("hold_probability", "free_probability", "single_probability", "merged_probability", "detection", "mask_quality"),
    *("tool_tilt_rad", "carry_room_m", "push_m", "standing", "lever_m", "cover", "short_side_m", "failed_near"),
    *("film", "cup_count"),
)


def riskless(count: int) -> dict[str, np.ndarray]:
    """Terms of ``count`` candidates that nothing speaks against."""
    zero = ("cover", "push_m", "merged_probability", "tool_tilt_rad", "failed_near", "lever_m", "standing", "film")
    return {name: np.ones(count) for name in TERMS} | {name: np.zeros(count) for name in zero}


def test_geometric_odds_fall_with_each_risk() -> None:
    ranker = GeometricRanker(PlannerConfig())
    good = riskless(1)
    best = ranker.odds(good).clean[0]
    assert best == pytest.approx(1.0)
    for name, value in (("hold_probability", 0.5), ("free_probability", 0.5), ("single_probability", 0.5),
                        ("detection", 0.5), ("push_m", 0.02), ("tool_tilt_rad", 0.5), ("failed_near", 1.0),
                        ("merged_probability", 0.5), ("carry_room_m", -0.2), ("standing", 0.2),
                        ("lever_m", 0.03), ("mask_quality", 0.9), ("cover", 0.3), ("short_side_m", 0.06),
                        ("film", 1.0)):  # fmt: skip
        assert ranker.odds(good | {name: np.full(1, value)}).clean[0] < best


def test_a_face_that_was_told_wants_more_cups() -> None:
    """Where it is off, it is off for all of them."""
    ranker, cups = GeometricRanker(PlannerConfig()), np.array([2.0, 3.0, 5.0, 8.0])
    seen, told = (ranker.odds(riskless(4) | {"cup_count": cups, "film": np.full(4, film)}).clean for film in (0.0, 1.0))
    assert (seen == 1.0).all() and (np.diff(told) > 0).all() and told[-1] < 1.0


def test_geometric_odds_are_a_power_of_the_product_and_share_the_rest_as_it_does() -> None:
    ranker = GeometricRanker(with_fit(rank={"odds_power": 0.25}))
    terms = riskless(3)
    terms |= {"free_probability": np.array([0.0625, 0.5, 1.0]), "hold_probability": np.array([1.0, 0.8, 1.0])}
    odds = ranker.odds(terms)
    np.testing.assert_allclose(odds.clean, [0.5, 0.4**0.25, 1.0])
    np.testing.assert_allclose(odds.multi, [0.5, (1 - 0.4**0.25) * 0.4 / 0.6, 0.0])


def test_no_candidate_has_better_odds_than_its_parcel_at_best() -> None:
    """So that what is ruled out by that bound would have been ruled out in the end."""
    ranker, rng = GeometricRanker(PlannerConfig()), np.random.default_rng(3)
    good = riskless(500)
    mixed = good | {name: rng.random(500) for name in TERMS}
    for terms in (good | {"free_probability": rng.random(500), "cover": rng.random(500)}, mixed):
        bound = ranker.at_best(terms["free_probability"], terms["cover"])
        assert (ranker.odds(terms).clean <= bound + 1e-12).all()
    assert np.allclose(ranker.odds(good).clean, ranker.at_best(good["free_probability"], good["cover"]))


def test_utility_weighs_two_parcels_heavier_than_none() -> None:
    config = RankConfig()
    multi = utility(Odds(np.array([0.8]), np.array([0.2])), config)
    nothing = utility(Odds(np.array([0.8]), np.array([0.0])), config)
    assert multi[0] < nothing[0] < 0.8
