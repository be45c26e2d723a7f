"""Planners to compare with: mask centroid, flattest point, best single cup. They share the planner's view of the
scene, the workspace and the detection threshold, and nothing else: no wrench, no neighbours, no order, no collision
check.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from robin_grasp.plan import ALL_SOUND, CupTrust, FailedPick, Grasp, Plan, Reject
from robin_grasp.plan_report import Rejects, no_grasp_text
from robin_grasp.planner.candidates import Poses, best_rows, project_cups, sample_poses, tool_rotations
from robin_grasp.planner.clearance import hits_wall
from robin_grasp.planner.config import PlannerConfig, plan_basis
from robin_grasp.planner.facets import split_faces
from robin_grasp.planner.parcels_seen import Contacts, Parcels, observe
from robin_grasp.planner.refusal import refusal
from robin_grasp.planner.seal import seat
from robin_grasp.planner.surface import Floats, Ints, View, make_view
from robin_grasp.planner.terms import failures_near
from robin_grasp.tool import CellConfig
from robin_perception.core.errors import Code
from robin_perception.core.frame import Frame
from robin_perception.core.helper_thread import HelperThread
from robin_perception.core.scene import Scene

FAILURE_COST = 1.0  # a parcel that failed goes behind all that did not


@dataclass(frozen=True)
class Proposal:
    """Candidate poses with their cups [N] and the baseline's own score [N]. passed_over [M]: rows of Parcels of the
    sampled poses that the baseline itself left out for better ones."""

    poses: Poses
    cups: Ints
    score: Floats
    passed_over: Ints = field(default_factory=lambda: np.zeros(0, np.int64))


class BaselinePlanner(ABC):
    """One candidate per parcel, ranked by the baseline's score."""

    name = "baseline"

    def __init__(
        self, cell: CellConfig, config: PlannerConfig | None = None, helper: HelperThread | None = None
    ) -> None:
        self.cell = cell
        self.config = config or PlannerConfig()
        one_face = self.config.fit.facets.model_copy(update={"least_share": 1.0})
        self._helper = helper or HelperThread()
        self._basis = plan_basis(self.name, cell, self.config)
        self._whole_masks = self.config.fit.model_copy(update={"facets": one_face})

    @abstractmethod
    def propose(self, view: View, parcels: Parcels, contacts: Contacts) -> Proposal:
        """Candidates of all parcels."""

    def plan(self, frame: Frame, scene: Scene, failed: tuple[FailedPick, ...] = (), cups: CupTrust = ALL_SOUND) -> Plan:
        """As ``robin_grasp.plan.Planner``. A parcel that failed before is tried after all others. A baseline trusts all
        cups, whatever ``cups`` says."""
        return replace(self._planned(frame, scene, failed), basis=self._basis)

    def _planned(self, frame: Frame, scene: Scene, failed: tuple[FailedPick, ...]) -> Plan:
        if (refused := refusal(frame, scene, self.cell.workspace.belt_z_m, self.name)) is not None:
            return refused
        view = make_view(frame, scene, self.config.fit.surface, self._helper)
        faces, facets = split_faces(view, scene, self._whole_masks)
        parcels, contacts = observe(view, faces, facets, scene, self.config, self.cell.workspace.belt_z_m)
        view = faces
        rejects = Rejects(scene, parcels, self.config.sampling.rejects_per_instance)
        usable = self._usable(parcels, rejects)
        proposal = self.propose(view, parcels, contacts)
        rows = self._executable(proposal, usable, rejects)
        near = failures_near(proposal.poses.position, failed, self.config.fit.rank.failed_reach_m)
        score = proposal.score - FAILURE_COST * near
        outranked = np.zeros(proposal.poses.count, dtype=bool)
        outranked[rows] = True
        rows = rows[best_rows(proposal.poses.parcel[rows], score[rows], 1)]
        outranked[rows] = False
        rejects.without_example(outranked, Reject.OUTRANKED_ON_INSTANCE)
        rejects.without_example(usable[proposal.passed_over], Reject.OUTRANKED_ON_INSTANCE)
        rows = rows[np.lexsort((rows, -score[rows]))]
        if len(rows) == 0:
            text = no_grasp_text(rejects.instance_reasons())
            return Plan(Code.NO_GRASP, text, (), rejects.rows(), self.name, rejected_counts=rejects.counts())
        T = proposal.poses.matrices()
        grasps = tuple(
            Grasp(
                T[i],
                int(proposal.cups[i]),
                int(parcels.ids[proposal.poses.parcel[i]]),
                float(score[i]),
                {"score": float(proposal.score[i]), "failed_near": float(near[i])},
            )
            for i in rows
        )
        text = f"{len(grasps)} grasps"
        return Plan(Code.OK, text, grasps, rejects.rows(), self.name, rejected_counts=rejects.counts())

    def _usable(self, parcels: Parcels, rejects: Rejects) -> NDArray[np.bool_]:
        rank = self.config.rank
        low = parcels.detection < rank.least_detection
        blind = (parcels.depth_share < rank.least_depth_share) | (parcels.area_px < self.config.fit.rank.least_area_px)
        rejects.parcels(low, Reject.LOW_DETECTION)
        rejects.parcels(~low & blind, Reject.TOO_LITTLE_DEPTH)
        return np.asarray(~low & ~blind)

    def _executable(self, proposal: Proposal, usable: NDArray[np.bool_], rejects: Rejects) -> Ints:
        """Rows within tilt limit, reach, workspace and walls: what no cell would send to its arm otherwise."""
        poses, space = proposal.poses, self.cell.workspace
        good = usable[poses.parcel]
        distance = np.hypot(poses.position[:, 0], poses.position[:, 1])
        beyond = np.abs(poses.position[:, :2] - np.asarray(space.centre_m)) > np.asarray(space.size_m) / 2 + 0.05
        for bad, reason in (
            (-poses.rotation[:, 2, 2] < np.cos(self.config.sampling.max_tilt_rad), Reject.TILT_TOO_LARGE),
            (proposal.cups == 0, Reject.NO_CUP_SEALS),
            (beyond.any(axis=1), Reject.OUTSIDE_WORKSPACE),
            ((distance < space.reach_min_m) | (distance > space.reach_max_m), Reject.OUT_OF_REACH),
            (hits_wall(poses, self.cell, self.config.clearance.wall_margin_m), Reject.TOOL_HITS_WALL),
        ):
            rejects.poses(poses, good & bad, reason, {"score": proposal.score}, proposal.cups)
            good &= ~bad
        return np.flatnonzero(good)


class CentroidPlanner(BaselinePlanner):
    """The mask's centroid along the surface normal there, x along the longer side, all cups open; the
    highest parcel first."""

    name = "centroid"

    def propose(self, view: View, parcels: Parcels, contacts: Contacts) -> Proposal:
        first = np.unique(contacts.parcel, return_index=True)[1]
        rotation = tool_rotations(contacts.axis[first], parcels.long_axis[contacts.parcel[first]], np.zeros(len(first)))
        poses = Poses(contacts.parcel[first], first, contacts.point[first], rotation)
        return Proposal(poses, np.full(len(first), (1 << self.cell.tool.cup_count) - 1), parcels.top_m[poses.parcel])


class FlattestPlanner(BaselinePlanner):
    """The point whose neighbourhood has the least spread of surface normals (the baseline of SuctionNet-1Billion,
    arXiv 2103.12311); all cups that fall inside the mask open; the flattest parcel first."""

    name = "flattest"

    def propose(self, view: View, parcels: Parcels, contacts: Contacts) -> Proposal:
        u, v, z = view.project(contacts.point)
        px_per_m = view.fx / np.maximum(z, 0.05)
        half = np.maximum(0.012 * px_per_m, 1.0)
        step = 0.02 * px_per_m
        axes = []
        for dx, dy in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)):
            axes.append(view.axes(view.fit(u + dx * step, v + dy * step, half)))
        spread = np.linalg.norm(np.std(np.stack(axes), axis=0), axis=1)
        rotation = tool_rotations(contacts.axis, parcels.long_axis[contacts.parcel], np.zeros(len(u)))
        poses = Poses(contacts.parcel, np.arange(len(u)), contacts.point, rotation)
        footprints = project_cups(view, parcels, poses, self.cell.tool)
        inside = footprints.on_target & (footprints.edge_m > self.cell.tool.cup_radius_m)
        return Proposal(poses, inside @ (1 << np.arange(inside.shape[1])), np.exp(-10.0 * spread))


class SingleCupPlanner(BaselinePlanner):
    """The one cup with the highest P(seal) over all sampled poses; ties go to the cup nearest the mask's middle."""

    name = "single_cup"

    def propose(self, view: View, parcels: Parcels, contacts: Contacts) -> Proposal:
        tool = self.cell.tool
        poses = sample_poses(parcels, contacts, tool)
        footprints = project_cups(view, parcels, poses, tool)
        lever = np.linalg.norm(poses.cups(tool) - parcels.centre[poses.parcel][:, None], axis=2)
        ready = footprints.on_target & (footprints.edge_m > tool.cup_radius_m)
        promise = np.where(ready, 1.0 / (0.05 + lever), 0.0).max(axis=1)
        rows = best_rows(poses.parcel, promise, self.config.fit.sampling.poses_per_instance)
        passed_over = np.delete(poses.parcel, rows)
        poses, footprints, lever = poses.take(rows), footprints.take(rows), lever[rows]
        shares = self.config.shares(ALL_SOUND, tool.cup_count)
        poses, seals = seat(view, poses, parcels, footprints, tool, self.config, shares)
        value = np.where(footprints.on_target, seals.probability - 0.5 * lever, -np.inf)
        cup = value.argmax(axis=1)
        n = np.arange(poses.count)
        sealed = seals.probability[n, cup] >= self.config.seal.least_probability
        return Proposal(poses, np.where(sealed, 1 << cup, 0), value[n, cup], passed_over)
