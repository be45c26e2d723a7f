"""Where what was learned of holding (``robin_grasp.holding``) enters a plan.

It orders, chooses cups and tells what to expect. It closes no cup that the fit would open and rules no grasp out:
goods that are never tried again could not be seen to have changed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.special import expit, logit

from robin_grasp.holding import STEEP_RAD, HoldTerms, place_of
from robin_grasp.planner.candidates import Footprints, Poses
from robin_grasp.planner.ranker import Odds
from robin_grasp.planner.seal import Seals
from robin_grasp.planner.situation import Situation
from robin_grasp.planner.surface import Floats, Ints
from robin_grasp.planner.wrench import subset_members

LAST_COST = 10.0  # in clean picks: more than any other difference of utility
_SURE = 1e-6


def learned_seals(situation: Situation, poses: Poses, footprints: Footprints, seals: Seals, shares: Floats) -> Seals:
    """Seals by place on these goods. A cup that would be opened without stays just likely enough for that."""
    if situation.learned is None:
        return seals
    tool, least = situation.cell.tool, situation.config.seal.least_probability
    offsets = situation.learned.seal_logit[situation.parcels.index[poses.parcel]]
    offset = np.take_along_axis(offsets, place_of(footprints.edge_m, tool.cup_radius_m), axis=1)
    sound = np.where(seals.sound > 0, _shifted(seals.sound, offset), 0.0)
    opened = seals.probability >= least
    probability = np.where(opened, np.maximum(sound * shares, least), sound * shares)
    return replace(seals, sound=sound, probability=probability)


def vacuum_shares(situation: Situation, parcel: Ints) -> Floats:
    """Expected pressure difference over the pump's, of rows of the parcels."""
    parcels = situation.parcels
    share = parcels.expected(parcel, parcels.figures.vacuum_share)
    if situation.learned is None:
        return share
    return np.asarray(np.minimum(share * np.exp(situation.learned.vacuum_log[parcels.index[parcel]]), 1.0))


def heavier_by(situation: Situation, parcel: Ints) -> Floats:
    """By how much more than the factory expects the cups are loaded, of rows of the parcels; 1 where it is less."""
    if situation.learned is None:
        return np.ones(len(parcel))
    row = situation.parcels.index[parcel]
    return np.asarray(np.exp(np.maximum(situation.learned.mass_log[row] - situation.learned.vacuum_log[row], 0.0)))


def learned_odds(situation: Situation, poses: Poses, odds: Odds) -> Odds:
    """Odds of such goods; what P(clean) loses is lost to nothing delivered."""
    if situation.learned is None:
        return odds
    return Odds(_shifted(odds.clean, _clean_offset(situation, situation.learned, poses)), odds.multi)


def _clean_offset(situation: Situation, learned: HoldTerms, poses: Poses) -> Floats:
    row, steep = situation.parcels.index[poses.parcel], -poses.rotation[:, 2, 2] <= np.cos(STEEP_RAD)
    return np.asarray(np.where(steep, learned.steep_logit[row], learned.clean_logit[row]))


def last_cost(situation: Situation, poses: Poses) -> Floats | float:
    """What seldom held comes after all else."""
    if situation.learned is None:
        return 0.0
    return np.asarray(LAST_COST * situation.learned.last[situation.parcels.index[poses.parcel]])


def learned_terms(
    situation: Situation, poses: Poses, footprints: Footprints, cups: Ints, odds: Odds
) -> dict[str, Floats]:
    """Terms of a grasp that tell what was learned, and what would have been expected without; none where nobody learns.
    cups [M]: 8-bit masks. odds: without what was learned of P(clean)."""
    learned, parcels, tool = situation.learned, situation.parcels, situation.cell.tool
    if learned is None:
        return {}
    row = parcels.index[poses.parcel]
    places = place_of(footprints.edge_m, tool.cup_radius_m)
    opened = subset_members(tool.cup_count)[cups]
    seal = np.where(opened, np.take_along_axis(learned.seal_logit[row], places, axis=1), 0.0)
    return {
        "learned_tries": learned.tries[row],
        "learned_seal_logit": seal.sum(axis=1) / np.maximum(opened.sum(axis=1), 1),
        "learned_vacuum_log": learned.vacuum_log[row],
        "learned_mass_log": learned.mass_log[row],
        "learned_clean_logit": _clean_offset(situation, learned, poses),
        "level_face": learned.level_face[row].astype(np.float64),
        "left_for_last": learned.last[row].astype(np.float64),
        "vacuum_share": vacuum_shares(situation, poses.parcel),
        "p_clean_before_learned": odds.clean,
    }


def _shifted(share: Floats, offset: Floats) -> Floats:
    """Probabilities moved by an offset of their logit; the same to the bit where it is 0."""
    moved = expit(logit(np.clip(share, _SURE, 1.0 - _SURE)) + offset)
    return np.asarray(np.where(offset == 0, share, moved))
