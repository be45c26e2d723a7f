"""Which parcels a pile is made of: what fits the container, and no more of it than the container takes."""

from __future__ import annotations

import numpy as np

from robin_grasp.tool import WorkspaceConfig
from robin_sim.model import Parcel
from robin_sim.parcels import ParcelMix, draw_parcels

FAIR_SHARE = 2.5  # no parcel takes more than this times its even share of the container's fill
FIT_SHARE = 0.92  # of a tote's inside, by the parcel's longest and second longest side
MAX_BATCHES = 20
BELT_LOAD_LPM2 = 190.0  # a full belt of 0.9 x 0.7 m carries 120 litres
TOTE_LOAD_SHARE = 0.55  # of the inside of a full tote


def full_load_l(workspace: WorkspaceConfig) -> float:
    """Outer volume of the goods in a full container, litres."""
    area_m2 = workspace.size_m[0] * workspace.size_m[1]
    if workspace.container == "tote":
        return 1e3 * TOTE_LOAD_SHARE * area_m2 * workspace.wall_height_m
    return BELT_LOAD_LPM2 * area_m2


def draw_goods(
    rng: np.random.Generator, count: int, mix: ParcelMix, workspace: WorkspaceConfig, fill_l: float
) -> tuple[Parcel, ...]:
    """Up to ``count`` parcels of the mix that fit: crowded piles are made of smaller goods, as on a real line.

    fill_l: outer volume of the goods in a full container, litres; a container that is full gets no more.
    """
    largest_l = FAIR_SHARE * fill_l / count
    kept: list[Parcel] = []
    total_l = 0.0
    for _ in range(MAX_BATCHES):
        for parcel in draw_parcels(rng, count, mix):
            volume_l = 1e3 * float(np.prod(parcel.size_m))
            if len(kept) < count and volume_l <= min(largest_l, fill_l - total_l) and _fits(parcel, workspace):
                kept.append(parcel)
                total_l += volume_l
        if len(kept) >= count:
            break
    return tuple(kept)


def _fits(parcel: Parcel, workspace: WorkspaceConfig) -> bool:
    """Through a tote's opening lying down; anything fits a belt."""
    if workspace.container != "tote":
        return True
    sides = sorted(parcel.size_m, reverse=True)
    inside = sorted(workspace.size_m, reverse=True)
    return bool(sides[0] <= FIT_SHARE * inside[0] and sides[1] <= FIT_SHARE * inside[1])
