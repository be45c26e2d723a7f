"""From a candidate's terms to P(clean) and P(multi)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robin_grasp.planner.config import PlannerConfig, RankConfig
from robin_grasp.planner.fit import RankFit

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Odds:
    """Of N candidates, each [N]: P(the target alone arrives), P(two or more are lifted)."""

    clean: Floats
    multi: Floats


class GeometricRanker:
    """P(clean) from the product hold x single x free x mask is one parcel x nothing pushed x not standing on its edge
    x drawn up level x wide enough for two rows of cups x no higher neighbour in its way; halved per failure nearby.

    The product orders candidates well and is far too small: its doubts overlap, and the physics forgives much. So
    P(clean) = product ** ``odds_power``, and what is left is shared between two parcels and none as the product does.
    """

    def __init__(self, config: PlannerConfig) -> None:
        self._carry_margin_m = config.clearance.carry_margin_m
        self._clearance = config.fit.clearance
        self._fit = config.fit.rank

    def odds(self, terms: dict[str, Floats]) -> Odds:
        product, multi = self.product(terms)
        clean = product**self._fit.odds_power
        return Odds(clean, (1.0 - clean) * multi / np.maximum(1.0 - product, 1e-9))

    def at_best(self, free: Floats, cover: Floats) -> Floats:
        """P(clean) [N] that no pick of a parcel exceeds, given its ``free_probability`` and its ``cover``."""
        return np.asarray((free * np.exp(-self._cover_cost(cover))) ** self._fit.odds_power)

    def _cover_cost(self, cover: Floats) -> Floats:
        return np.asarray(self._fit.cover_cost * np.minimum(cover, self._fit.cover_most))

    def product(self, terms: dict[str, Floats]) -> tuple[Floats, Floats]:
        """The product [N], and how much of what it lacks is lifting two [N]."""
        one_parcel = (
            terms["detection"] * (0.5 + 0.5 * terms["mask_quality"]) * (1.0 - 0.6 * terms["merged_probability"])
        )
        alone = terms["single_probability"] * terms["free_probability"] * (1.0 - 0.4 * terms["merged_probability"])
        steep = np.maximum(terms["tool_tilt_rad"] - self._fit.tilt_free_rad, 0.0)
        low = np.maximum(self._carry_margin_m - terms["carry_room_m"], 0.0)
        cost = self._clearance.press_logit_per_m * terms["push_m"] + self._clearance.carry_cost_per_m * low
        cost = cost + self._fit.edge_on_cost * terms["standing"]
        # The middle of a mask of two parcels is no centre of mass.
        cost = cost + lever_cost(terms["lever_m"], self._fit) * (1.0 - terms["merged_probability"])
        doubt = np.maximum(self._fit.mask_quality_sure - terms["mask_quality"], 0.0)
        cost = cost + self._fit.mask_doubt_cost * doubt + self._cover_cost(terms["cover"])
        narrow = np.maximum(self._fit.narrow_m - terms["short_side_m"], 0.0)
        cost = cost + self._fit.narrow_cost_per_m * narrow + film_cost(terms["film"], terms["cup_count"], self._fit)
        undisturbed = np.exp(-cost - self._fit.tilt_cost_per_rad * steep)
        again = (1.0 - self._fit.failed_discount) ** terms["failed_near"]
        clean = terms["hold_probability"] * alone * one_parcel * undisturbed * again
        return clean, terms["hold_probability"] * (1.0 - alone)


def lever_cost(lever_m: Floats, fit: RankFit) -> Floats:
    """-ln product for the lever between the cups' middle and the centre of mass, any shape. Of 2,500 simulated picks
    (some piles several times) 1 % below 15 mm failed and a fifth beyond 30 mm."""
    cost = fit.lever_cost_per_m * np.maximum(lever_m - fit.lever_free_m, 0.0)
    return np.asarray(np.minimum(cost, fit.lever_cost_most))


def film_cost(film: Floats, cups: Floats, fit: RankFit) -> Floats:
    """-ln product for a face that was told and not seen, any shape. Where it is off it is so for all cups, so that more
    cups are worth more than their seals say. film: 1 for such a face, else 0."""
    return np.asarray(fit.film_cost * film / np.maximum(cups, 2.0) ** 1.5)


def utility(odds: Odds, config: RankConfig) -> Floats:
    """P(clean) - c1 P(multi) - c2 P(nothing delivered). All tries take about the same time, so it also orders utility
    per second."""
    nothing = np.clip(1.0 - odds.clean - odds.multi, 0.0, 1.0)
    return np.asarray(odds.clean - config.multi_cost * odds.multi - config.fail_cost * nothing)
