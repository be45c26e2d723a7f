"""The suction planner: poses per parcel, seals per cup, the best subset of cups per pose, order, clearance, rank."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from robin_grasp.holding import Holding
from robin_grasp.plan import ALL_SOUND, CupTrust, FailedPick, Grasp, Plan, Reject, Rejected
from robin_grasp.plan_report import Rejects, no_grasp_text, ruled_out
from robin_grasp.planner.config import PlannerConfig, plan_basis
from robin_grasp.planner.hidden_depth import with_film_faces, with_level_faces
from robin_grasp.planner.mask_evidence import mask_evidence
from robin_grasp.planner.order import Order, pick_order
from robin_grasp.planner.ranker import GeometricRanker
from robin_grasp.planner.refusal import refusal
from robin_grasp.planner.situation import make_situation
from robin_grasp.planner.stages import judge_cups, keep_reachable, propose, rank, usable_parcels
from robin_grasp.planner.subsets import choose_subsets
from robin_grasp.planner.surface import View, make_view
from robin_grasp.planner.wrench import subset_table
from robin_grasp.tool import CellConfig
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.helper_thread import HelperThread
from robin_perception.core.scene import Instance, Scene


class SuctionPlanner:
    """Implements ``robin_grasp.plan.Planner``. Not thread-safe only in ``explore`` mode, which draws from ``rng``.

    holding: what was learned of holding such goods; None: plans are as the fit has them.
    """

    def __init__(
        self,
        cell: CellConfig,
        config: PlannerConfig | None = None,
        name: str = "geometric",
        rng: np.random.Generator | None = None,
        helper: HelperThread | None = None,
        holding: Holding | None = None,
    ) -> None:
        self.name = name
        self.cell = cell
        self.config = config or PlannerConfig()
        health, cups = self.config.cup_health, cell.tool.cup_count
        if health and len(health) != cups:
            text = f"planner: 'cup_health' names {len(health)} cups, the tool has {cups}"
            raise RobinError(Code.CONFIG_OUT_OF_RANGE, text)
        self._ranker = GeometricRanker(self.config)
        self._rng = rng or np.random.default_rng(0)
        self._helper = helper or HelperThread()
        self._holding = holding
        self._table = subset_table(cell.tool, self.config.fit.wrench.peel_moment_share)
        self._basis = plan_basis(name, cell, self.config)

    def plan(self, frame: Frame, scene: Scene, failed: tuple[FailedPick, ...] = (), cups: CupTrust = ALL_SOUND) -> Plan:
        """Ranked grasps for ``scene``. Always a Plan: code OK, NO_GRASP with the reasons in its message, or what
        ``refusal`` says. Raises RobinError CUPS_MISMATCH for ``cups`` of another tool."""
        return replace(self._planned(frame, scene, failed, cups), basis=self._basis.with_cups(cups))

    def _planned(self, frame: Frame, scene: Scene, failed: tuple[FailedPick, ...], cups: CupTrust) -> Plan:
        clock = _Clock()
        if (refused := refusal(frame, scene, self.cell.workspace.belt_z_m, self.name)) is not None:
            return refused
        learned = None if self._holding is None else self._holding.expected(frame, scene)
        shown = with_film_faces(frame, scene)
        if learned is not None:
            shown = with_level_faces(shown, scene, learned.level_face)
        as_seen = view = make_view(frame, scene, self.config.fit.surface, self._helper)
        if shown is not frame:
            view = make_view(shown, scene, self.config.fit.surface, self._helper)
        clock.lap("plan_view")
        order = pick_order(view, scene, self.config)
        early = self._rule_out(view, scene, order)
        early |= self._without_evidence(frame, as_seen, scene, [i for i in scene.instances if i.id not in early])
        clock.lap("plan_order")
        situation = make_situation(view, scene, order, early, failed, cups, self.cell, self.config, learned)
        kept = self.config.sampling.rejects_per_instance
        rejects = Rejects(situation.scene, situation.parcels, kept, tuple(early.values()))
        usable = usable_parcels(situation, rejects)
        clock.lap("plan_parcels")
        placed = propose(situation, usable, rejects)
        clock.lap("plan_poses")
        sealed = judge_cups(situation, placed, rejects)
        clock.lap("plan_seal")
        reachable = keep_reachable(situation, sealed, rejects)
        clock.lap("plan_clearance")
        chosen = choose_subsets(self._table, situation, reachable)
        clock.lap("plan_subsets")
        grasps = rank(situation, reachable, chosen, self._ranker, rejects)
        clock.lap("plan_rank")
        return replace(self._answer(grasps, rejects, clock), holding=learned)

    def _rule_out(self, view: View, scene: Scene, order: Order) -> dict[int, Rejected]:
        """By id: what is no parcel, and parcels whose detection or place in the pile allows no pick. In a deep pile
        that is half of them, and nothing more is worked out for these."""
        rejected = {}
        low = np.array([instance.detection for instance in scene.instances]) < self.config.rank.least_detection
        other = np.array([scene.other_probability(instance) for instance in scene.instances])
        thing = other > self.config.rank.most_other
        covered = order.buried | (self._ranker.at_best(order.free, order.cover) < self.config.rank.least_clean)
        for i in np.flatnonzero(low | thing | covered).tolist():
            instance = scene.instances[i]
            terms = {
                "detection": instance.detection,
                "visible_fraction": instance.visible_fraction,
                "cover": float(order.cover[i]),
                "free_probability": float(order.free[i]),
            }
            reason = Reject.LOW_DETECTION if low[i] else Reject.NO_PARCEL if thing[i] else Reject.COVERED_BY_OTHER
            if reason is Reject.NO_PARCEL:
                terms["other_probability"] = float(other[i])
            rejected[instance.id] = ruled_out(view, instance, reason, terms)
        return rejected

    def _without_evidence(
        self, frame: Frame, view: View, scene: Scene, instances: Sequence[Instance]
    ) -> dict[int, Rejected]:
        """By id: masks where neither depth nor colour shows a thing."""
        evidence = mask_evidence(frame, view, instances, self.config.evidence)
        blind, edgeless = evidence.blind, evidence.edgeless(self.config.evidence.least_edge_share)
        rejected = {}
        for i in np.flatnonzero(blind | edgeless).tolist():
            reason = Reject.NO_DEPTH_AROUND if blind[i] else Reject.NO_EDGE
            rejected[instances[i].id] = ruled_out(view, instances[i], reason, evidence.terms(i))
        return rejected

    def _answer(self, grasps: list[Grasp], rejects: Rejects, clock: _Clock) -> Plan:
        if not grasps:
            text = no_grasp_text(rejects.instance_reasons())
            return Plan(Code.NO_GRASP, text, (), rejects.rows(), self.name, clock.timings_ms, rejects.counts())
        grasps = self._explore(grasps)
        text = f"{len(grasps)} grasps on {len({g.instance_id for g in grasps})} parcels"
        return Plan(Code.OK, text, tuple(grasps), rejects.rows(), self.name, clock.timings_ms, rejects.counts())

    def _explore(self, grasps: list[Grasp]) -> list[Grasp]:
        explore = self.config.explore
        if explore.probability <= 0 or len(grasps) < 2 or self._rng.random() >= explore.probability:
            return grasps
        scores = np.array([g.score for g in grasps[: explore.candidates]])
        weights = np.exp((scores - scores.max()) / explore.temperature)
        first = int(self._rng.choice(len(scores), p=weights / weights.sum()))
        taken = replace(grasps[first], terms={**grasps[first].terms, "explored": 1.0})
        return [taken, *grasps[:first], *grasps[first + 1 :]]


class _Clock:
    """Laps in milliseconds."""

    def __init__(self) -> None:
        self.timings_ms: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.timings_ms[name] = 1e3 * (now - self._last)
        self._last = now
