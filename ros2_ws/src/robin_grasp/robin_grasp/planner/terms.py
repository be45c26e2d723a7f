"""The named terms of every fully evaluated candidate: what the ranker reads and a decision record shows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robin_grasp.plan import FailedPick
from robin_grasp.planner.config import RankConfig
from robin_grasp.planner.fit import RankFit
from robin_grasp.planner.parcels_seen import Parcels
from robin_grasp.planner.situation import Reachable, Situation
from robin_grasp.planner.subsets import Chosen
from robin_grasp.planner.surface import Floats, Ints
from robin_grasp.planner.wrench import subset_members
from robin_grasp.tool import MAX_CUPS

MOST_MARGIN = 20.0
MOST_DISTANCE_M = 0.2
SAME_CUPS = 0.6  # share of cups in common that makes two subsets the same for a failure


def candidate_terms(situation: Situation, left: Reachable, chosen: Chosen) -> dict[str, Floats]:
    """Terms of M candidates, name -> float64 [M]; docs/planner.md says what each means."""
    tool, config = situation.cell.tool, situation.config
    parcels, order = situation.parcels, situation.order
    poses, seals, risks, footprints = left.poses, left.seals, left.risks, left.footprints
    open_cups = subset_members(tool.cup_count)[chosen.cups]
    count = open_cups.sum(axis=1)
    n = np.maximum(count, 1)
    parcel = poses.parcel

    def most(values: Floats) -> Floats:
        return np.asarray(np.where(open_cups, values, 0.0).max(axis=1, initial=0.0))

    def least(values: Floats, cap: float) -> Floats:
        return np.asarray(np.where(open_cups, values, cap).min(axis=1, initial=cap))

    sealed = np.where(open_cups, seals.probability, 0.0).sum(axis=1)
    terms = {
        "cup_count": count.astype(np.float64),
        "seal_min": least(seals.probability, 1.0),
        "seal_mean": sealed / n,
        "seal_sum": sealed,
        "hold_probability": chosen.hold,
        "single_probability": chosen.single,
        "wrench_margin": np.minimum(chosen.margin, MOST_MARGIN),
        "spread_min_m": np.where(count > 0, spread_min(open_cups, tool.cups_m[:, :2]), 0.0),
        "lever_m": chosen.lever_m,
        "edge_min_m": least(footprints.edge_m, MOST_DISTANCE_M),
        "other_min_m": least(footprints.other_m, MOST_DISTANCE_M),
        "touch_sum": np.where(open_cups, risks.touch, 0.0).sum(axis=1),
        "boundary_max": most(risks.boundary),
        "gap_max_m": most(np.abs(seals.gap_m)),
        "cup_tilt_max_rad": most(seals.tilt_rad),
        "rough_max_m": most(seals.excess_rms_m),
        "holes_max": most(seals.holes),
        "tool_tilt_rad": np.arccos(np.clip(-poses.rotation[:, 2, 2], -1.0, 1.0)),
        "plane_rms_m": parcels.plane_rms_m[parcel],
        "depth_share": parcels.depth_share[parcel],
        "visible_fraction": parcels.visible[parcel],
        "mask_quality": parcels.mask_quality[parcel],
        "detection": parcels.detection[parcel],
        "height_rank": order.height_rank[parcel],
        "cover": order.cover[parcel],
        "overlap": order.overlap[parcel],
        "ragged": order.background[parcel],
        "free_probability": order.free[parcel],
        "merged_probability": situation.merges.probability[parcel],
        "push_m": left.clear.push_m,
        "carry_room_m": situation.carry_room_m[parcel],
        "headroom_m": left.clear.headroom_m,
        "long_side_m": parcels.sides_m[parcel, 0],
        "short_side_m": parcels.sides_m[parcel, 1],
        "thickness_m": parcels.thickness_m[parcel],
        "top_m": parcels.top_m[parcel],
        "mass_kg": parcels.mass_kg[parcel],
        "failed_near": failures_near(poses.position, situation.failed, config.fit.rank.failed_reach_m),
        "film": parcels.film[parcel],
        "standing": edge_on(parcels, config.fit.rank)[parcel],
    }
    for k, name in enumerate(situation.scene.class_names):
        terms[f"is_{name}"] = parcels.classes[parcel, k]
    return {name: np.asarray(value, dtype=np.float64) for name, value in terms.items()}


def spread_min(open_cups: NDArray[np.bool_], cups: Floats) -> Floats:
    """Radius of gyration of the open cups [M, K] along the direction in which it is least, metres [M]: 0 for a row."""
    share = open_cups / np.maximum(open_cups.sum(axis=1), 1)[:, None]
    middle = share @ cups
    xx, yy = (share @ cups**2 - middle**2).T
    xy = share @ (cups[:, 0] * cups[:, 1]) - middle[:, 0] * middle[:, 1]
    least = 0.5 * (xx + yy) - np.hypot(0.5 * (xx - yy), xy)
    return np.asarray(np.sqrt(np.maximum(least, 0.0)))


def edge_on(parcels: Parcels, fit: RankFit) -> Floats:
    """How much narrower than ``edge_on_aspect`` flat goods look, float64 [I]: seen from above, a mailer or bag that
    stands on its edge, leaning on something, shows a strip, whose slope depth images understate."""
    aspect = parcels.sides_m[:, 1] / np.maximum(parcels.sides_m[:, 0], 1e-6)
    return np.asarray(parcels.flat_probability * np.maximum(fit.edge_on_aspect - aspect, 0.0))


def failures_near(position: Floats, failed: tuple[FailedPick, ...], reach_m: float) -> Floats:
    """How many failures happened within ``reach_m`` of each tool position: float64 [N]."""
    near = np.zeros(len(position))
    for failure in failed:
        distance = np.linalg.norm(position - np.asarray(failure.position_m), axis=1)
        near += failure.times * (distance < reach_m)
    return near


def repeats_failure(
    position: Floats, cups: Ints, failed: tuple[FailedPick, ...], config: RankConfig
) -> NDArray[np.bool_]:
    """bool [N]: the tool would stand within ``failed_radius_m`` of a spot where mostly the same cups failed
    ``failed_most`` times, or anything failed one time more than that."""
    repeated = np.zeros(len(position), dtype=bool)
    for failure in failed:
        near = np.linalg.norm(position - np.asarray(failure.position_m), axis=1) < config.failed_radius_m
        shared = _count(cups & failure.cups) / np.maximum(_count(cups | failure.cups), 1)
        same = (shared > SAME_CUPS) & (failure.times >= config.failed_most)
        repeated |= near & (same | (failure.times > config.failed_most))
    return repeated


def _count(cups: Ints) -> Ints:
    """Cups of each mask."""
    return np.asarray(subset_members(MAX_CUPS)[cups].sum(axis=1))
