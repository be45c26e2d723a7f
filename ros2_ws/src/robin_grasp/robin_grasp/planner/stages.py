"""The stages of a plan: each takes the candidates that are left, drops some, and tells ``Rejects`` of every one that it
drops, once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robin_grasp.plan import Grasp, Reject
from robin_grasp.plan_report import Rejects
from robin_grasp.planner.candidates import best_rows, holding_estimate, project_cups, sample_poses, shortlist, tie
from robin_grasp.planner.clearance import check_clearance, hits_wall
from robin_grasp.planner.learned_holding import last_cost, learned_odds, learned_seals, learned_terms
from robin_grasp.planner.multipick import cup_risks
from robin_grasp.planner.ranker import GeometricRanker, utility
from robin_grasp.planner.seal import seat
from robin_grasp.planner.situation import Placed, Reachable, Sealed, Situation
from robin_grasp.planner.subsets import Chosen, eligible_cups
from robin_grasp.planner.terms import candidate_terms, failures_near, repeats_failure
from robin_grasp.planner.wrench import subset_members

LIP_INSIDE = 0.8  # share of a lip's radius that lies inside the mask under a cup that counts in the first estimate
PROBE_LEAST_SEAL = 0.9  # P(seal) of a sound cup, for a cup in doubt to be tried
MOST_FAILURES = 4.0  # that count against a spot


def usable_parcels(situation: Situation, rejects: Rejects) -> NDArray[np.bool_]:
    """bool [I]: parcels with enough mask and depth for a pick."""
    parcels, config = situation.parcels, situation.config
    blind = parcels.depth_share < config.rank.least_depth_share
    blind |= parcels.area_px < config.fit.rank.least_area_px
    rejects.parcels(blind, Reject.TOO_LITTLE_DEPTH)
    return np.asarray(~blind)


def propose(situation: Situation, usable: NDArray[np.bool_], rejects: Rejects) -> Placed:
    """All sampled poses on usable parcels, cut to those that may hold most, with a cup inside the mask."""
    tool, config, parcels = situation.cell.tool, situation.config, situation.parcels
    poses = sample_poses(parcels, situation.contacts, tool)
    poses = poses.take(usable[poses.parcel])
    down = -poses.rotation[:, 2, 2]
    steep = down < np.cos(config.sampling.max_tilt_rad)
    rejects.poses(poses, steep, Reject.TILT_TOO_LARGE, {"tool_tilt_rad": np.arccos(np.clip(down, -1.0, 1.0))})
    poses = poses.take(~steep)
    wall = hits_wall(poses, situation.cell, config.clearance.wall_margin_m, thorough=False)
    rejects.poses(poses, wall, Reject.TOOL_HITS_WALL, {})
    poses = poses.take(~wall)
    footprints = project_cups(situation.view, parcels, poses, tool)
    rows, on_mask = shortlist(poses, parcels, footprints, tool, config.fit.sampling, LIP_INSIDE * tool.cup_radius_m)
    parcel = parcels.index[poses.parcel]
    none = ~np.isin(parcel, parcel[rows])
    rejects.poses(poses, none, Reject.NO_CUP_SEALS, {"edge_max_m": footprints.edge_m.max(axis=1, initial=0.0)})
    rejects.without_example(~on_mask & ~none, Reject.NO_CUP_SEALS)
    on_mask[rows] = False
    rejects.without_example(on_mask, Reject.OUTRANKED_ON_INSTANCE)
    return Placed(poses, footprints).take(rows)


def judge_cups(situation: Situation, placed: Placed, rejects: Rejects) -> Sealed:
    """Seals and risks of every cup; candidates without a cup that may be opened are dropped."""
    tool, config, view, parcels = situation.cell.tool, situation.config, situation.view, situation.parcels
    shares = config.shares(situation.cups, tool.cup_count)
    poses, seals = seat(view, placed.poses, parcels, placed.footprints, tool, config, shares)
    seals = learned_seals(situation, poses, placed.footprints, seals, shares)
    risks = cup_risks(view, poses, parcels, placed.footprints, situation.merges, tool, config)
    seals_any = np.asarray((seals.probability >= config.seal.least_probability).any(axis=1))
    good = np.asarray(eligible_cups(seals, risks, config).any(axis=1))
    split = np.asarray(seals_any & ~good & risks.split.any(axis=1))
    best = {
        "seal_max": seals.probability.max(axis=1, initial=0.0),
        "touch_max": risks.touch.max(axis=1, initial=0.0),
    }
    rejects.poses(poses, ~seals_any, Reject.NO_CUP_SEALS, best)
    rejects.poses(poses, split, Reject.LIKELY_MERGED, best)
    rejects.poses(poses, seals_any & ~good & ~split, Reject.MULTI_PICK_RISK, best)
    return Sealed(poses, placed.footprints, seals, risks).take(good)


def keep_reachable(situation: Situation, sealed: Sealed, rejects: Rejects) -> Reachable:
    """Candidates that are reached without a collision, those of each parcel that may hold most."""
    config, poses, parcels = situation.config, sealed.poses, situation.parcels
    clear = check_clearance(situation.view, poses, parcels.face[poses.parcel], situation.cell, config)
    free = np.ones(poses.count, dtype=bool)
    for bad, reason in (
        (clear.outside, Reject.OUTSIDE_WORKSPACE),
        (clear.unreachable, Reject.OUT_OF_REACH),
        (clear.wall, Reject.TOOL_HITS_WALL),
        (clear.hits, Reject.TOOL_HITS_NEIGHBOUR),
    ):
        rejects.poses(poses, bad & free, reason, {"push_m": clear.push_m, "headroom_m": clear.headroom_m})
        free &= ~bad
    likely = np.where(eligible_cups(sealed.seals, sealed.risks, config), sealed.seals.probability, 0.0)
    value = holding_estimate(poses, parcels, sealed.footprints, situation.cell.tool, likely)
    value *= np.exp(-config.fit.clearance.press_logit_per_m * clear.push_m)
    again = failures_near(poses.position, situation.failed, config.rank.failed_radius_m)
    value *= config.fit.rank.failed_elsewhere ** np.minimum(again, MOST_FAILURES)
    rows = np.flatnonzero(free)
    group = parcels.index[poses.parcel[rows]]
    rows = rows[best_rows(group, value[rows], config.fit.sampling.full_poses_per_instance)]
    free[rows] = False
    rejects.without_example(free, Reject.OUTRANKED_ON_INSTANCE)
    return Reachable(poses, sealed.footprints, sealed.seals, sealed.risks, clear).take(rows)


def rank(
    situation: Situation, left: Reachable, chosen: Chosen, ranker: GeometricRanker, rejects: Rejects
) -> list[Grasp]:
    """Score what is left, keep the best few per parcel, best first."""
    config, poses = situation.config, left.poses
    terms = candidate_terms(situation, left, chosen)
    terms["p_clean_geometric"], _ = ranker.product(terms)
    found = ranker.odds(terms)
    terms |= learned_terms(situation, poses, left.footprints, chosen.cups, found)
    odds = learned_odds(situation, poses, found)
    score = utility(odds, config.rank) - last_cost(situation, poses)
    terms |= {"p_clean": odds.clean, "p_multi": odds.multi}
    weak = np.asarray(~chosen.strong)
    again = repeats_failure(poses.position, chosen.cups, situation.failed, config.rank) & ~weak
    as_seen = {**terms, "film": np.zeros(poses.count)}  # what is told of film orders grasps and rules none out
    worth = ranker.odds(as_seen).clean
    if situation.learned is not None:
        worth = np.maximum(worth, ranker.odds({**as_seen, "hold_probability": chosen.factory_hold}).clean)
    hopeless = np.asarray((worth < config.rank.least_clean) & ~weak & ~again)
    covered = hopeless & (terms["free_probability"] <= np.minimum(chosen.hold, chosen.single))
    for bad, reason in (
        (weak, Reject.WRENCH_TOO_LARGE),
        (again, Reject.FAILED_BEFORE),
        (covered, Reject.COVERED_BY_OTHER),
        (hopeless & ~covered & (chosen.single < chosen.hold), Reject.MULTI_PICK_RISK),
        (hopeless & ~covered & (chosen.single >= chosen.hold), Reject.WRENCH_TOO_LARGE),
    ):
        rejects.poses(poses, bad, reason, terms, chosen.cups)
    outranked = ~weak & ~again & ~hopeless
    rows = np.flatnonzero(outranked)
    group = situation.parcels.index[poses.parcel[rows]]
    rows = rows[best_rows(group, score[rows], config.sampling.grasps_per_instance)]
    outranked[rows] = False
    rejects.poses(poses, outranked, Reject.OUTRANKED_ON_INSTANCE, terms, chosen.cups)
    T, ids = poses.matrices(), situation.parcels.ids[poses.parcel]
    cups = chosen.cups | probed_cups(situation, left)
    opened = subset_members(situation.cell.tool.cup_count)[cups]
    cup_seal = np.where(opened, left.seals.sound, np.nan)
    return [
        Grasp(
            T[i],
            int(cups[i]),
            int(ids[i]),
            float(score[i]),
            {k: float(v[i]) for k, v in terms.items()},
            tuple(cup_seal[i].tolist()),
        )
        for i in rows[np.lexsort((rows, -tie(score[rows])))]
    ]


def probed_cups(situation: Situation, left: Reachable) -> NDArray[np.int64]:
    """Cups in doubt that are opened with whatever is chosen, 8-bit masks [M]: those that lie flat and well inside the
    parcel, so that a sound one would surely seal and none of them can touch a neighbour. It costs the pick nothing."""
    probe = subset_members(situation.cell.tool.cup_count)[situation.cups.probe]
    sure = left.seals.sound >= PROBE_LEAST_SEAL
    return np.asarray((probe & sure & ~left.risks.vetoed) @ (1 << np.arange(len(probe))), dtype=np.int64)
