"""The named terms of every fully evaluated candidate: the ranker's features and what a decision record shows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robin_grasp.plan import FailedPick
from robin_grasp.planner.candidates import Footprints, Poses
from robin_grasp.planner.clearance import Clearance
from robin_grasp.planner.config import RankConfig
from robin_grasp.planner.multipick import Risks
from robin_grasp.planner.order import Order
from robin_grasp.planner.parcels_seen import Parcels
from robin_grasp.planner.seal import Seals
from robin_grasp.planner.subsets import Chosen
from robin_grasp.planner.surface import Floats, Ints
from robin_grasp.planner.wrench import MEMBERS
from robin_grasp.tool import CellConfig
from robin_perception.core.scene import CLASSES

MOST_MARGIN = 20.0
MOST_DISTANCE_M = 0.2
MOST_CARRY_ROOM_M = 0.5
_FLAT = ("flat_mailer", "padded_mailer", "poly_bag")
SAME_CUPS = 0.6  # share of cups in common that makes two subsets the same for a failure


def candidate_terms(
    cell: CellConfig,
    parcels: Parcels,
    order: Order,
    merged: Floats,
    poses: Poses,
    landed: Footprints,
    seals: Seals,
    risks: Risks,
    clear: Clearance,
    chosen: Chosen,
    failed_near: Floats,
    room_m: Floats,
    rank: RankConfig,
) -> dict[str, Floats]:
    """Terms of M candidates, name -> float64 [M]. Names: ``robin_grasp.planner.ranker.FEATURES``, single_probability,
    standing. room_m [I]: ``carry_room`` of each parcel."""
    tool = cell.tool
    open_cups = MEMBERS[chosen.cups]
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
        "edge_min_m": least(landed.edge_m, MOST_DISTANCE_M),
        "other_min_m": least(landed.other_m, MOST_DISTANCE_M),
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
        "ragged": order.ragged[parcel],
        "free_probability": order.free[parcel],
        "merged_probability": merged[parcel],
        "push_m": clear.push_m,
        "carry_room_m": room_m[parcel],
        "headroom_m": clear.headroom_m,
        "long_side_m": parcels.sides_m[parcel, 0],
        "short_side_m": parcels.sides_m[parcel, 1],
        "thickness_m": parcels.thickness_m[parcel],
        "top_m": parcels.top_m[parcel],
        "mass_kg": parcels.mass_kg[parcel],
        "failed_near": failed_near,
        "standing": standing(parcels, rank)[parcel],
    }
    for k, name in enumerate(CLASSES):
        terms[f"is_{name}"] = parcels.classes[parcel, k]
    return {name: np.asarray(value, dtype=np.float64) for name, value in terms.items()}


def spread_min(open_cups: NDArray[np.bool_], cups: Floats) -> Floats:
    """Radius of gyration of the open cups [M, 8] along the direction in which it is least, metres [M]: 0 for a row."""
    share = open_cups / np.maximum(open_cups.sum(axis=1), 1)[:, None]
    middle = share @ cups
    xx, yy = (share @ cups**2 - middle**2).T
    xy = share @ (cups[:, 0] * cups[:, 1]) - middle[:, 0] * middle[:, 1]
    least = 0.5 * (xx + yy) - np.hypot(0.5 * (xx - yy), xy)
    return np.asarray(np.sqrt(np.maximum(least, 0.0)))


def carry_room(parcels: Parcels, beside_m: float, lift_m: float) -> Floats:
    """How far a lifted parcel's underside passes above the highest other parcel, metres [I], at most
    MOST_CARRY_ROOM_M. beside_m: height above the belt of the highest that is not among ``parcels``."""
    if parcels.count == 0:
        return np.zeros(0)
    top = np.sort(parcels.top_m)
    highest_other = np.where(parcels.top_m >= top[-1], top[-2] if len(top) > 1 else 0.0, top[-1])
    highest_other = np.maximum(highest_other, beside_m)
    underside = parcels.top_m + lift_m - parcels.thickness_m
    return np.minimum(underside - highest_other, MOST_CARRY_ROOM_M)


def standing(parcels: Parcels, rank: RankConfig) -> Floats:
    """How much narrower than ``standing_aspect`` flat goods look, float64 [I]: seen from above, a mailer or bag that
    stands on its edge, leaning on something, shows a strip, whose slope depth images understate."""
    flat = parcels.classes[:, [CLASSES.index(name) for name in _FLAT]].sum(axis=1)
    aspect = parcels.sides_m[:, 1] / np.maximum(parcels.sides_m[:, 0], 1e-6)
    return np.asarray(flat * np.maximum(rank.standing_aspect - aspect, 0.0))


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
        shared = MEMBERS[cups & failure.cups].sum(axis=1) / np.maximum(MEMBERS[cups | failure.cups].sum(axis=1), 1)
        same = (shared > SAME_CUPS) & (failure.times >= config.failed_most)
        repeated |= near & (same | (failure.times > config.failed_most))
    return repeated
