"""The suction planner: poses per parcel, seals per cup, the best of 255 subsets per pose, order, clearance, rank."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from robin_grasp.plan import FailedPick, Grasp, Plan, Reject, Rejected
from robin_grasp.plan_report import Rejects, no_grasp_text, ruled_out
from robin_grasp.planner.candidates import Footprints, Poses, best_rows, land, promise, sample_poses, shortlist, tie
from robin_grasp.planner.clearance import Clearance, check_clearance, hits_wall
from robin_grasp.planner.config import PlannerConfig
from robin_grasp.planner.facets import split_faces
from robin_grasp.planner.multipick import RIDGE_MERGED, Merges, Risks, cup_risks, find_merges
from robin_grasp.planner.order import Order, pick_order
from robin_grasp.planner.parcels_seen import Contacts, Parcels, observe, on_supports, with_upright
from robin_grasp.planner.ranker import GeometricRanker, Ranker, utility
from robin_grasp.planner.seal import Seals, seat
from robin_grasp.planner.subsets import Chosen, choose_subsets, eligible_cups
from robin_grasp.planner.surface import Floats, Ints, View, make_view
from robin_grasp.planner.terms import candidate_terms, carry_room, failures_near, repeats_failure
from robin_grasp.planner.wrench import subset_table
from robin_grasp.tool import CellConfig
from robin_perception.core.errors import Code
from robin_perception.core.frame import Frame
from robin_perception.core.helper_thread import HelperThread
from robin_perception.core.scene import Scene


class SuctionPlanner:
    """Implements ``robin_grasp.plan.Planner``. Not thread-safe only in ``explore`` mode, which draws from ``rng``.

    flags: what the planner has to say of itself, e.g. "ranker_missing". ranker: None for the geometric one. With a
    learned ranker the geometric odds still choose each pose's subset.
    """

    def __init__(
        self,
        cell: CellConfig,
        config: PlannerConfig | None = None,
        ranker: Ranker | None = None,
        name: str = "geometric",
        rng: np.random.Generator | None = None,
        flags: tuple[str, ...] = (),
        helper: HelperThread | None = None,
    ) -> None:
        self.name = name
        self.flags = flags
        self.cell = cell
        self.config = config or PlannerConfig()
        self._geometric = GeometricRanker(self.config.rank, self.config.clearance)
        self._ranker: Ranker = ranker or self._geometric
        self._rng = rng or np.random.default_rng(0)
        self._helper = helper or HelperThread()
        self._table = subset_table(cell.tool, self.config.wrench)

    def plan(self, frame: Frame, scene: Scene, failed: tuple[FailedPick, ...] = ()) -> Plan:
        """Ranked grasps for ``scene``. Always a Plan: code OK, NO_INSTANCE or NO_GRASP with the reasons in its
        message."""
        clock = _Clock()
        if not scene.instances:
            return Plan(Code.NO_INSTANCE, "no parcel was detected", (), (), self.name, clock.timings_ms)
        view = make_view(frame, scene, self.config.surface, self._helper)
        clock.lap("plan_view")
        whole_order = pick_order(view, scene, self.config.order)
        early = self._rule_out(view, scene, whole_order)
        left = np.array([i for i, instance in enumerate(scene.instances) if instance.id not in early], dtype=np.int64)
        scene = replace(scene, instances=tuple(scene.instances[i] for i in left))
        clock.lap("plan_order")
        faces, facets = split_faces(view, scene, self.config.surface, self.config.facets)
        parcels, contacts = observe(view, faces, facets, scene, self.config, self.cell.workspace.belt_z_m)
        contacts = with_upright(contacts, self.config.sampling, walls=self.cell.workspace.wall_height_m > 0)
        rejects = Rejects(scene, parcels, self.config.sampling.rejects_per_instance, tuple(early.values()))
        other_px, merges = find_merges(view, parcels, self.config.multi)
        view = replace(faces, other_px=other_px)
        order = whole_order.take(left[parcels.index])
        ragged = np.minimum(self.config.multi.ragged_merged * order.ragged, RIDGE_MERGED)
        merged = np.maximum(merges.probability, ragged)
        parcels = on_supports(parcels, order.support_m, self.config.wrench)
        room_m = carry_room(parcels, self._highest(early), self.cell.motion.lift_m)
        usable = self._usable(parcels, rejects)
        clock.lap("plan_parcels")
        work = _Candidates(self, view, parcels, contacts, order, merged, room_m, rejects, failed)
        poses, landed = work.propose(usable)
        clock.lap("plan_poses")
        poses, landed, seals, risks = work.judge_cups(poses, landed, merges)
        clock.lap("plan_seal")
        clear = check_clearance(view, poses, parcels.face[poses.parcel], self.cell, self.config.clearance)
        rows = work.pick_full(poses, landed, seals, risks, clear)
        clock.lap("plan_clearance")
        poses, landed, seals, risks = poses.take(rows), landed.take(rows), seals.take(rows), risks.take(rows)
        chosen = choose_subsets(
            self._table, poses, parcels, seals, risks, order.free[poses.parcel], self.cell, self.config
        )
        clock.lap("plan_subsets")
        grasps = work.rank(poses, landed, seals, risks, clear.take(rows), chosen)
        clock.lap("plan_rank")
        return self._answer(grasps, rejects, clock)

    def _rule_out(self, view: View, scene: Scene, order: Order) -> dict[int, Rejected]:
        """By id: parcels whose detection or place in the pile allows no pick. In a deep pile that is half of them, and
        nothing more is worked out for these."""
        rejected = {}
        low = np.array([instance.detection for instance in scene.instances]) < self.config.rank.least_detection
        covered = order.buried
        if self._ranker is self._geometric:  # whose odds have a bound that is known by now
            covered = covered | (self._geometric.at_best(order.free, order.cover) < self.config.rank.least_clean)
        for i in np.flatnonzero(low | covered).tolist():
            instance = scene.instances[i]
            terms = {
                "detection": instance.detection,
                "visible_fraction": instance.visible_fraction,
                "cover": float(order.cover[i]),
                "free_probability": float(order.free[i]),
            }
            reason = Reject.LOW_DETECTION if low[i] else Reject.COVERED_BY_OTHER
            rejected[instance.id] = ruled_out(view, instance, reason, terms)
        return rejected

    def _highest(self, early: dict[int, Rejected]) -> float:
        """Height above the belt of the highest parcel among those that were ruled out and have depth, metres."""
        tops = [ruled.T_base_tool[2, 3] for ruled in early.values() if ruled.T_base_tool[2, 2] < 0]
        return float(max(tops) - self.cell.workspace.belt_z_m) if tops else 0.0

    def _usable(self, parcels: Parcels, rejects: Rejects) -> np.ndarray:
        """bool [I]: parcels with enough mask and depth for a pick."""
        rank = self.config.rank
        blind = (parcels.depth_share < rank.least_depth_share) | (parcels.area_px < rank.least_area_px)
        rejects.parcels(blind, Reject.TOO_LITTLE_DEPTH)
        return np.asarray(~blind)

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


class _Candidates:
    """The candidates of one plan on their way through the stages; each that is dropped goes to ``rejects``, once."""

    def __init__(
        self,
        planner: SuctionPlanner,
        view: View,
        parcels: Parcels,
        contacts: Contacts,
        order: Order,
        merged: Floats,
        room_m: Floats,
        rejects: Rejects,
        failed: tuple[FailedPick, ...],
    ) -> None:
        self._planner = planner
        self._config = planner.config
        self._tool = planner.cell.tool
        self._view, self._parcels, self._contacts = view, parcels, contacts
        self._order, self._merged, self._room_m = order, merged, room_m
        self._rejects, self._failed = rejects, failed

    def propose(self, usable: np.ndarray) -> tuple[Poses, Footprints]:
        """All sampled poses on usable parcels, cut to the most promising with a cup inside the mask."""
        poses = sample_poses(self._parcels, self._contacts, self._tool)
        poses = poses.take(np.flatnonzero(usable[poses.parcel]))
        down = -poses.rotation[:, 2, 2]
        steep = down < np.cos(self._config.sampling.max_tilt_rad)
        self._rejects.poses(poses, steep, Reject.TILT_TOO_LARGE, {"tool_tilt_rad": np.arccos(np.clip(down, -1.0, 1.0))})
        poses = poses.take(np.flatnonzero(~steep))
        wall = hits_wall(poses, self._planner.cell, self._config.clearance.wall_margin_m, thorough=False)
        self._rejects.poses(poses, wall, Reject.TOOL_HITS_WALL, {})
        poses = poses.take(np.flatnonzero(~wall))
        landed = land(self._view, self._parcels, poses, self._tool)
        margin_m = 0.8 * self._tool.cup_radius_m
        rows, promising = shortlist(poses, self._parcels, landed, self._tool, self._config.sampling, margin_m)
        parcel = self._parcels.index[poses.parcel]
        none = ~np.isin(parcel, parcel[rows])
        self._rejects.poses(poses, none, Reject.NO_CUP_SEALS, {"edge_max_m": landed.edge_m.max(axis=1, initial=0.0)})
        self._rejects.without_example(~promising & ~none, Reject.NO_CUP_SEALS)
        promising[rows] = False
        self._rejects.without_example(promising, Reject.OUTRANKED_ON_INSTANCE)
        return poses.take(rows), landed.take(rows)

    def judge_cups(self, poses: Poses, landed: Footprints, merges: Merges) -> tuple[Poses, Footprints, Seals, Risks]:
        """Seals and risks of every cup; poses without an eligible cup are dropped."""
        poses, seals = seat(self._view, poses, self._parcels, landed, self._tool, self._config)
        risks = cup_risks(self._view, poses, self._parcels, landed, merges, self._tool, self._config.multi)
        seals_any = np.asarray((seals.probability >= self._config.seal.least_probability).any(axis=1))
        good = np.asarray(eligible_cups(seals, risks, self._config).any(axis=1))
        split = np.asarray(seals_any & ~good & risks.split.any(axis=1))
        best = {
            "seal_max": seals.probability.max(axis=1, initial=0.0),
            "touch_max": risks.touch.max(axis=1, initial=0.0),
        }
        self._rejects.poses(poses, ~seals_any, Reject.NO_CUP_SEALS, best)
        self._rejects.poses(poses, split, Reject.LIKELY_MERGED, best)
        self._rejects.poses(poses, seals_any & ~good & ~split, Reject.MULTI_PICK_RISK, best)
        rows = np.flatnonzero(good)
        return poses.take(rows), landed.take(rows), seals.take(rows), risks.take(rows)

    def pick_full(self, poses: Poses, landed: Footprints, seals: Seals, risks: Risks, clear: Clearance) -> Ints:
        """Rows that may be reached without a collision, the most promising per parcel."""
        free = np.ones(poses.count, dtype=bool)
        for bad, reason in (
            (clear.outside, Reject.OUTSIDE_WORKSPACE),
            (clear.unreachable, Reject.OUT_OF_REACH),
            (clear.wall, Reject.TOOL_HITS_WALL),
            (clear.hits, Reject.TOOL_HITS_NEIGHBOUR),
        ):
            terms = {"push_m": clear.push_m, "headroom_m": clear.headroom_m}
            self._rejects.poses(poses, bad & free, reason, terms)
            free &= ~bad
        rank = self._config.rank
        eligible = eligible_cups(seals, risks, self._config)
        rows = np.flatnonzero(free)
        value = promise(poses, self._parcels, landed, self._tool, np.where(eligible, seals.probability, 0.0))
        value *= np.exp(-self._config.clearance.press_logit_per_m * clear.push_m)
        again = failures_near(poses.position, self._failed, rank.failed_radius_m)
        value *= rank.failed_elsewhere ** np.minimum(again, 4.0)
        keep = best_rows(
            self._parcels.index[poses.parcel[rows]], value[rows], self._config.sampling.full_poses_per_instance
        )
        free[rows[keep]] = False
        self._rejects.without_example(free, Reject.OUTRANKED_ON_INSTANCE)
        return rows[keep]

    def rank(
        self, poses: Poses, landed: Footprints, seals: Seals, risks: Risks, clear: Clearance, chosen: Chosen
    ) -> list[Grasp]:
        """Score what is left, keep the best few per parcel, best first."""
        rank = self._config.rank
        near = failures_near(poses.position, self._failed, rank.failed_reach_m)
        terms = candidate_terms(
            self._planner.cell,
            self._parcels,
            self._order,
            self._merged,
            poses,
            landed,
            seals,
            risks,
            clear,
            chosen,
            near,
            self._room_m,
            rank,
        )
        terms["p_clean_geometric"], _ = self._planner._geometric.product(terms)
        odds = self._planner._ranker.odds(terms)
        score = utility(odds, rank)
        terms |= {"p_clean": odds.clean, "p_multi": odds.multi}
        weak = np.asarray(~chosen.strong)
        again = repeats_failure(poses.position, chosen.cups, self._failed, rank) & ~weak
        hopeless = np.asarray((odds.clean < rank.least_clean) & ~weak & ~again)
        covered = hopeless & (terms["free_probability"] <= np.minimum(chosen.hold, chosen.single))
        T = poses.matrices()
        ruled_out: tuple[tuple[NDArray[np.bool_], Reject], ...] = (
            (weak, Reject.WRENCH_TOO_LARGE),
            (again, Reject.FAILED_BEFORE),
            (covered, Reject.COVERED_BY_OTHER),
            (hopeless & ~covered & (chosen.single < chosen.hold), Reject.MULTI_PICK_RISK),
            (hopeless & ~covered & (chosen.single >= chosen.hold), Reject.WRENCH_TOO_LARGE),
        )
        for bad, reason in ruled_out:
            self._rejects.poses(poses, bad, reason, terms, chosen.cups)
        rows = np.flatnonzero(~weak & ~again & ~hopeless)
        kept = rows[
            best_rows(self._parcels.index[poses.parcel[rows]], score[rows], self._config.sampling.grasps_per_instance)
        ]
        outranked = np.zeros(poses.count, dtype=bool)
        outranked[rows] = True
        outranked[kept] = False
        self._rejects.poses(poses, outranked, Reject.OUTRANKED_ON_INSTANCE, terms, chosen.cups)
        order = kept[np.lexsort((kept, -tie(score[kept])))]
        ids = self._parcels.ids[poses.parcel]
        return [
            Grasp(T[i], int(chosen.cups[i]), int(ids[i]), float(score[i]), {k: float(v[i]) for k, v in terms.items()})
            for i in order
        ]
