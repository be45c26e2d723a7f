"""For each pose, the cup subset with the best expected utility among all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robin_grasp.planner.candidates import Poses, tie
from robin_grasp.planner.config import PlannerConfig
from robin_grasp.planner.fit import MultiPickFit
from robin_grasp.planner.learned_holding import heavier_by, vacuum_shares
from robin_grasp.planner.multipick import Risks
from robin_grasp.planner.parcels_seen import Parcels
from robin_grasp.planner.ranker import film_cost, lever_cost
from robin_grasp.planner.rows import Rows
from robin_grasp.planner.seal import Seals
from robin_grasp.planner.situation import Sealed, Situation
from robin_grasp.planner.surface import Floats, Ints
from robin_grasp.planner.wrench import SubsetTable, hold_probability, load_cases, over_random_seals
from robin_grasp.tool import ToolConfig


@dataclass(frozen=True)
class Chosen(Rows):
    """Of M poses, each [M]. cups: 8-bit mask, 0 when no cup is eligible. margin: limit over load times safety factor
    at the expected mass. hold: P(it stays on), over random seals and mass. single: P(the cups touch no other parcel).
    lever_m: from the cups' middle to the expected centre of mass, in the lip plane. strong: the margin suffices; where
    it does not, the other fields are those of the strongest subset. factory_hold: hold without what was learned of such
    goods."""

    cups: Ints
    margin: Floats
    hold: Floats
    single: Floats
    lever_m: Floats
    strong: NDArray[np.bool_]
    factory_hold: Floats


def eligible_cups(seals: Seals, risks: Risks, config: PlannerConfig) -> NDArray[np.bool_]:
    """bool [N, K]: cups that are likely to seal and stay clear of neighbours."""
    return np.asarray((seals.probability >= config.seal.least_probability) & ~risks.vetoed)


def choose_subsets(table: SubsetTable, situation: Situation, left: Sealed) -> Chosen:
    """Weigh all subsets of every candidate's cups."""
    config, parcels, poses, seals, risks = situation.config, situation.parcels, left.poses, left.seals, left.risks
    free = situation.order.free[poses.parcel]
    wrench, members = config.wrench, table.members
    eligible = eligible_cups(seals, risks, config)
    closed = np.packbits(~eligible, axis=1, bitorder="little")
    allowed: NDArray[np.bool_] = np.asarray((np.arange(len(members), dtype=np.uint8) & closed) == 0)
    allowed[:, 0] = False
    seal = np.where(eligible, seals.probability, 0.0)
    if wrench.enabled:
        load = _utilisation(table, situation, poses)
        sigma = parcels.expected(poses.parcel, parcels.figures.mass_log_sigma)
        sigma = np.hypot(sigma, config.fit.wrench.hold_log_sigma)
        held = hold_probability(load, sigma[:, None])
        margin = 1.0 / (load * wrench.safety_factor)
    else:
        held = np.ones((poses.count, len(members)))
        margin = np.full(held.shape, np.inf)
    held[:, 0] = 0.0
    hold = over_random_seals(held, seal)
    single = _single(risks, members, config.fit.multi)
    lever_m = _levers(poses, parcels, members, situation.cell.tool)
    cups = members.sum(axis=1).astype(np.float64)
    cost = lever_cost(lever_m, config.fit.rank) + film_cost(parcels.film[poses.parcel][:, None], cups, config.fit.rank)
    clean = hold * single * free[:, None] * np.exp(-cost)
    value = (
        clean - config.rank.multi_cost * hold * (1.0 - single * free[:, None]) - config.rank.fail_cost * (1.0 - hold)
    )
    value -= config.fit.rank.cup_cost * cups
    enough: NDArray[np.bool_] = np.asarray(
        allowed & (margin * heavier_by(situation, poses.parcel)[:, None] >= wrench.least_margin)
    )
    strong = np.asarray(enough.any(axis=1))
    usable = np.where(strong[:, None], enough, allowed)
    # Costs may exceed the gain everywhere, so "not usable" must lie below every value.
    best = np.where(usable, tie(np.where(strong[:, None], value, margin)), -1e9).argmax(axis=1)
    rows = np.arange(poses.count)
    best = np.where(usable.any(axis=1), best, 0)
    hold_of_best = hold[rows, best]
    factory = hold_of_best
    if situation.learned is not None:
        factory_seal = np.where(eligible, seals.factory, 0.0)
        factory = over_random_seals(held, factory_seal)[rows, best]
    return Chosen(best, margin[rows, best], hold_of_best, single[rows, best], lever_m[rows, best], strong, factory)


def _utilisation(table: SubsetTable, situation: Situation, poses: Poses) -> Floats:
    """Load over limit of every subset at the expected mass: float64 [M, 2^K]."""
    parcels, cell, config, parcel = situation.parcels, situation.cell, situation.config, poses.parcel
    com = parcels.centre[parcel] + 0.5 * parcels.thickness_m[parcel, None] * parcels.axis[parcel]
    hidden = 1.0 - parcels.visible[parcel]
    sigma = (config.fit.wrench.com_sigma_share + 0.25 * hidden) * np.sqrt(parcels.sides_m[parcel].prod(axis=1))
    loads = load_cases(poses.rotation, poses.position, com, sigma, parcels.mass_kg[parcel], cell.motion)
    force = cell.tool.cup_force_n * vacuum_shares(situation, parcel)
    return table.utilisation(loads * (parcels.mass_kg[parcel] / force)[:, None, None])


def _levers(poses: Poses, parcels: Parcels, members: NDArray[np.bool_], tool: ToolConfig) -> Floats:
    """From the middle of every subset's cups to the expected centre of mass, in the lip plane: float64 [M, 2^K]."""
    middle = members @ tool.cups_m[:, :2] / np.maximum(members.sum(axis=1), 1)[:, None]
    centre = poses.to_tool_plane(parcels.centre[poses.parcel])
    return np.asarray(np.linalg.norm(centre[:, None] - middle, axis=2))


def _single(risks: Risks, members: NDArray[np.bool_], fit: MultiPickFit) -> Floats:
    """P(no second parcel comes along | the cups of a subset): float64 [M, 2^K]."""
    per_cup = (1.0 - fit.capture_probability * risks.touch) * (1.0 - fit.boundary_weight * risks.boundary)
    return np.exp(np.log(np.maximum(per_cup, 1e-6)) @ members.T.astype(np.float64))
