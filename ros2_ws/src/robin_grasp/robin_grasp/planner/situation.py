"""What a plan is made of: the situation, made once and read by every stage, and the candidates in it, a table that
gains columns and loses rows from stage to stage."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from robin_grasp.holding import HoldTerms
from robin_grasp.plan import CupTrust, FailedPick, Rejected
from robin_grasp.planner.candidates import Footprints, Poses
from robin_grasp.planner.clearance import Clearance
from robin_grasp.planner.config import PlannerConfig
from robin_grasp.planner.facets import split_faces
from robin_grasp.planner.multipick import Merges, Risks, find_merges
from robin_grasp.planner.order import Order
from robin_grasp.planner.parcels_seen import Contacts, Parcels, observe, on_supports, with_upright
from robin_grasp.planner.rows import Rows
from robin_grasp.planner.seal import Seals
from robin_grasp.planner.surface import Floats, View
from robin_grasp.tool import CellConfig
from robin_perception.core.scene import Scene

MOST_CARRY_ROOM_M = 0.5


@dataclass(frozen=True)
class Situation:
    """The parcels that may be picked, as one frame shows them.

    scene: without the parcels that were ruled out early. view: labelled by faces; ridges inside masks count as contacts
    with another parcel. order, merges: of the rows of ``parcels``. carry_room_m [I]: ``carry_room``. failed: recent
    failures in this pile. cups: what is expected of them. learned: what was learned of holding, by ``Parcels.index``;
    None where nobody learns.
    """

    cell: CellConfig
    config: PlannerConfig
    scene: Scene
    view: View
    parcels: Parcels
    contacts: Contacts
    order: Order
    merges: Merges
    carry_room_m: Floats
    failed: tuple[FailedPick, ...]
    cups: CupTrust
    learned: HoldTerms | None = None


@dataclass(frozen=True)
class Placed(Rows):
    """Candidates whose cups are known in the image."""

    poses: Poses
    footprints: Footprints


@dataclass(frozen=True)
class Sealed(Placed):
    """Candidates moved onto the surface, their cups judged one by one."""

    seals: Seals
    risks: Risks


@dataclass(frozen=True)
class Reachable(Sealed):
    """Candidates that the tool can reach."""

    clear: Clearance


def make_situation(
    view: View,
    scene: Scene,
    order: Order,
    early: dict[int, Rejected],
    failed: tuple[FailedPick, ...],
    cups: CupTrust,
    cell: CellConfig,
    config: PlannerConfig,
    learned: HoldTerms | None = None,
) -> Situation:
    """Look closely at what is left of ``scene`` without ``early``: parcels that were ruled out, by id.
    learned: of all instances of ``scene``."""
    left = np.array([i for i, instance in enumerate(scene.instances) if instance.id not in early], dtype=np.int64)
    scene = replace(scene, instances=tuple(scene.instances[i] for i in left))
    faces, facets = split_faces(view, scene, config.fit)
    belt_z_m = cell.workspace.belt_z_m
    parcels, contacts = observe(view, faces, facets, scene, config, belt_z_m)
    contacts = with_upright(contacts, config.fit.sampling, walls=cell.workspace.wall_height_m > 0)
    order = order.take(left[parcels.index])
    other_px, merges = find_merges(view, parcels, order.background, config.fit.multi)
    learned = None if learned is None else learned.take(left)
    parcels = _as_heavy(on_supports(parcels, order.support_m, config), learned, config)
    tops = [ruled.T_base_tool[2, 3] - belt_z_m for ruled in early.values() if ruled.T_base_tool[2, 2] < 0]
    room = carry_room(parcels, float(max(tops, default=0.0)), cell.motion.lift_m)
    view = replace(faces, other_px=other_px)
    return Situation(cell, config, scene, view, parcels, contacts, order, merges, room, failed, cups, learned)


def _as_heavy(parcels: Parcels, learned: HoldTerms | None, config: PlannerConfig) -> Parcels:
    """Parcels as heavy as such goods were."""
    if learned is None:
        return parcels
    mass = parcels.mass_kg * np.exp(learned.mass_log[parcels.index])
    least, most = config.fit.wrench.least_mass_kg, config.wrench.most_mass_kg
    return replace(parcels, mass_kg=np.clip(mass, least, most))


def carry_room(parcels: Parcels, other_top_m: float, lift_m: float) -> Floats:
    """How far a lifted parcel's underside passes above the highest other parcel, metres [I], at most
    MOST_CARRY_ROOM_M. other_top_m: height above the belt of the highest that is not among ``parcels``."""
    if parcels.count == 0:
        return np.zeros(0)
    top = np.sort(parcels.top_m)
    highest_other = np.where(parcels.top_m >= top[-1], top[-2] if len(top) > 1 else 0.0, top[-1])
    highest_other = np.maximum(highest_other, other_top_m)
    underside = parcels.top_m + lift_m - parcels.thickness_m
    return np.minimum(underside - highest_other, MOST_CARRY_ROOM_M)
