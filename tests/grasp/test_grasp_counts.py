"""Every candidate that is ruled out is counted, once, by its reason: what was sampled is a grasp or in a count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import pytest
from helpers.grasp_scenes import Box, box_scene
from helpers.planner_fits import with_all_classes, with_fit
from numpy.typing import NDArray

from robin_grasp.plan import FailedPick, Plan, Reject
from robin_grasp.plan_report import Rejects
from robin_grasp.planner import planner, stages
from robin_grasp.planner.baselines import BaselinePlanner, Proposal, SingleCupPlanner
from robin_grasp.planner.candidates import Poses
from robin_grasp.planner.config import OrderConfig, PlannerConfig, RankConfig, SamplingConfig, WrenchConfig
from robin_grasp.planner.parcels_seen import Parcels
from robin_grasp.planner.planner import SuctionPlanner
from robin_grasp.planner.ranker import GeometricRanker
from robin_grasp.planner.registry import make_planner
from robin_grasp.planner.situation import Situation
from robin_grasp.tool import CellConfig, WorkspaceConfig, tote_workspace
from robin_perception.core.frame import Frame
from robin_perception.core.scene import OTHER, Scene

BIG, SMALL = Box(0.75, 0.0, 0.30, 0.20, 0.15), Box(0.75, 0.32, 0.06, 0.06, 0.08)
SHAFT = [Box(0.75 + dx, dy, 0.10, 0.10, 0.25) for dx, dy in ((0.1, 0), (-0.1, 0), (0, 0.1), (0, -0.1))]
TOTE = CellConfig(workspace=tote_workspace())


@dataclass
class Seen:
    """What a plan sampled, and which of its cuts found something to drop: (method, reason) in order."""

    poses: Poses | None = None
    parcels: Parcels | None = None
    usable: NDArray[np.bool_] | None = None
    cuts: list[tuple[str, Reject]] = field(default_factory=list)

    def expected(self, scene: Scene) -> int:
        """Poses sampled where it was allowed, and parcels where it was not."""
        assert self.poses is not None and self.parcels is not None and self.usable is not None
        index = self.parcels.index
        gone = len(scene.instances) - len(np.unique(index)) + len(np.unique(index[~self.usable]))
        return int(np.count_nonzero(self.usable[self.poses.parcel])) + gone


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Watches the planner's sampling and its rejects."""
    found = Seen()
    sample, usable = stages.sample_poses, stages.usable_parcels

    def sample_poses(*args: object) -> Poses:
        found.poses = sample(*args)  # type: ignore[arg-type]
        return found.poses

    def keep_usable(situation: Situation, rejects: Rejects) -> NDArray[np.bool_]:
        found.parcels, found.usable = situation.parcels, usable(situation, rejects)
        return found.usable

    monkeypatch.setattr(stages, "sample_poses", sample_poses)
    monkeypatch.setattr(planner, "usable_parcels", keep_usable)
    for name, place in (("poses", 1), ("without_example", 0)):
        watch(monkeypatch, found, name, place)
    return found


def watch(monkeypatch: pytest.MonkeyPatch, found: Seen, name: str, place: int) -> None:
    method: Callable[..., None] = getattr(Rejects, name)

    def watched(self: Rejects, *args: object) -> None:
        if np.any(args[place]):  # type: ignore[arg-type]
            found.cuts.append((name, args[place + 1]))  # type: ignore[arg-type]
        method(self, *args)

    monkeypatch.setattr(Rejects, name, watched)


def noisy() -> tuple[Frame, Scene]:
    boxes = [BIG, Box(0.75, 0.25, 0.2, 0.2, 0.2), Box(0.5, -0.25, 0.2, 0.15, 0.1, yaw=0.5)]
    return box_scene(boxes, noise=0.08, rng=np.random.default_rng(4))


def unsure() -> tuple[Frame, Scene]:
    """Three parcels: one detected too weakly, one without depth."""
    frame, scene = box_scene([BIG, SMALL, Box(0.75, -0.3, 0.2, 0.2, 0.1)])
    first, *rest = scene.instances
    blind = frame.with_depth(np.where(scene.labels == 3, np.float32(0), frame.depth))
    return blind, replace(scene, instances=(replace(first, detection=0.1), *rest))


def things() -> tuple[Frame, Scene]:
    """A parcel, and something beside it that is none, to a bundle that knows such things."""
    frame, scene = box_scene([BIG, SMALL])
    known = [np.append(instance.class_probabilities, np.float32(0)) for instance in scene.instances]
    known[1] = np.eye(len(known[1]), dtype=np.float32)[-1]
    instances = tuple(
        replace(instance, class_probabilities=p) for instance, p in zip(scene.instances, known, strict=True)
    )
    return frame, replace(scene, instances=instances, class_names=(*scene.class_names, OTHER))


def doubtful_masks() -> tuple[Frame, Scene]:
    """Three parcels: one in the middle of a hole in the depth, one of the belt's colour and nearly its height."""
    frame, scene = box_scene([BIG, Box(0.75, 0.28, 0.1, 0.1, 0.08), Box(0.5, -0.25, 0.15, 0.15, 0.001)])
    rgb = np.where(scene.labels[..., None] == 3, frame.rgb[0, 0], frame.rgb)
    hole = cv2.dilate((scene.labels == 2).astype(np.uint8), np.ones((41, 41), np.uint8)) > 0
    return replace(frame, rgb=rgb, depth=np.where(hole, np.float32(0), frame.depth)), scene


def ridged() -> tuple[Frame, Scene]:
    """A boundary across the middle of a narrow mask."""
    frame, scene = box_scene([Box(0.75, 0.0, 0.25, 0.10, 0.1)])
    boundary = scene.boundary.copy()
    middle = int(np.nonzero(scene.labels == 1)[1].mean()) // 4
    boundary[:, middle - 1 : middle + 2] = 0.95
    return frame, replace(scene, boundary=boundary)


def two_faced(**fields: object) -> tuple[Frame, Scene]:
    """One mask over a flat and a slanted top. fields: of its instance."""
    frame, scene = box_scene([Box(0.75, -0.06, 0.3, 0.12, 0.2), Box(0.75, 0.07, 0.3, 0.14, 0.15, slope_y=-0.7)])
    labels = np.minimum(scene.labels, 1)
    ys, xs = np.nonzero(labels)
    box = (int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1)
    one = replace(scene.instances[0], bbox=box, area_px=len(xs), **fields)  # type: ignore[arg-type]
    return frame, replace(scene, labels=labels, instances=(one,))


def heavy() -> PlannerConfig:
    return with_all_classes(PlannerConfig(wrench=WrenchConfig(most_mass_kg=50.0)), density_kgpm3=4000.0)


def with_a_failure(config: PlannerConfig) -> tuple[FailedPick, ...]:
    best = SuctionPlanner(CellConfig(), config).plan(*box_scene([SMALL])).best
    assert best is not None
    x, y, z = (float(v) for v in best.T_base_tool[:3, 3])
    return (FailedPick((x, y, z), best.cups, times=3),)


@dataclass(frozen=True)
class Case:
    """A scene, and reasons that it must bring about."""

    scene: Callable[[], tuple[Frame, Scene]]
    reasons: set[Reject]
    cell: CellConfig = field(default_factory=CellConfig)
    config: PlannerConfig = field(default_factory=PlannerConfig)
    failed_before: bool = False


def boxes(*given: Box) -> Callable[[], tuple[Frame, Scene]]:
    return lambda: box_scene(list(given))


UNDER, OVER = Box(0.75, 0.0, 0.3, 0.25, 0.10, visible=0.2), Box(0.80, 0.05, 0.2, 0.2, 0.18)
CASES = {
    "two": Case(boxes(BIG, SMALL), {Reject.OUTRANKED_ON_INSTANCE, Reject.NO_CUP_SEALS}),
    "noisy": Case(noisy, {Reject.OUTRANKED_ON_INSTANCE}),
    "unsure": Case(unsure, {Reject.LOW_DETECTION, Reject.TOO_LITTLE_DEPTH}),
    "doubtful": Case(doubtful_masks, {Reject.NO_DEPTH_AROUND, Reject.NO_EDGE}),
    "things": Case(things, {Reject.NO_PARCEL}),
    "two-faced": Case(two_faced, {Reject.OUTRANKED_ON_INSTANCE}),
    "two-faced and unsure": Case(lambda: two_faced(detection=0.1), {Reject.LOW_DETECTION}),
    "covered": Case(boxes(UNDER, OVER), {Reject.COVERED_BY_OTHER}),
    "too small": Case(boxes(Box(0.75, 0.0, 0.024, 0.1, 0.1)), {Reject.NO_CUP_SEALS}),
    "strips": Case(boxes(*(Box(0.75, y, 0.3, 0.034, 0.1) for y in (-0.034, 0.0, 0.034))), {Reject.MULTI_PICK_RISK}),
    "ridged": Case(ridged, {Reject.LIKELY_MERGED}),
    "shaft": Case(boxes(Box(0.75, 0.0, 0.10, 0.10, 0.05), *SHAFT), {Reject.TOOL_HITS_NEIGHBOUR}),
    "tote": Case(boxes(Box(0.475, -0.175, 0.05, 0.05, 0.03), BIG), {Reject.TOOL_HITS_WALL}, cell=TOTE),
    "steep": Case(boxes(Box(0.75, 0.0, 0.2, 0.2, 0.2, slope_x=5.0, kind="flat_mailer")), {Reject.TILT_TOO_LARGE}),
    "heavy": Case(boxes(BIG), {Reject.WRENCH_TOO_LARGE}, config=heavy()),
    "far": Case(boxes(BIG), {Reject.OUT_OF_REACH}, CellConfig(workspace=WorkspaceConfig(reach_max_m=0.5))),
    "elsewhere": Case(
        boxes(BIG), {Reject.OUTSIDE_WORKSPACE}, CellConfig(workspace=WorkspaceConfig(centre_m=(2.0, 0.0)))
    ),
    "failed": Case(
        boxes(SMALL), {Reject.FAILED_BEFORE}, config=PlannerConfig(rank=RankConfig(failed_radius_m=0.3)),
        failed_before=True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_was_sampled_is_a_grasp_or_counted_once(name: str, seen: Seen) -> None:
    case = CASES[name]
    frame, scene = case.scene()
    failed = with_a_failure(case.config) if case.failed_before else ()
    result = SuctionPlanner(case.cell, case.config).plan(frame, scene, failed)
    assert sum(result.rejected_counts.values()) + len(result.grasps) == seen.expected(scene)
    assert case.reasons <= result.rejected_counts.keys()
    assert list(result.rejected_counts) == sorted(result.rejected_counts)
    examples_are_counted(result)


def examples_are_counted(result: Plan) -> None:
    assert Counter(example.reason for example in result.rejected) <= Counter(result.rejected_counts)
    json_ready = {type(count) for count in result.rejected_counts.values()}
    assert json_ready <= {int}


def test_the_cases_reach_every_cut() -> None:
    """Else a cut might forget to count and no case would tell."""
    pressed = {reason for case in CASES.values() for reason in case.reasons}
    assert pressed == set(Reject) - {Reject.EXCLUDED_BY_CALLER}


def test_a_parcel_of_two_faces_is_ruled_out_once(seen: Seen) -> None:
    large = with_fit(rank={"least_area_px": 100_000})
    result = SuctionPlanner(CellConfig(), large).plan(*two_faced())
    assert seen.parcels is not None and seen.parcels.count == 2
    assert result.rejected_counts == {Reject.TOO_LITTLE_DEPTH: 1} and len(result.rejected) == 1


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({"detection": 0.1}, Reject.LOW_DETECTION), ({"visible_fraction": 0.3}, Reject.COVERED_BY_OTHER)],
)
def test_what_cannot_be_picked_is_told_and_not_worked_out(seen: Seen, fields: dict[str, float], reason: Reject) -> None:
    """A parcel under a higher one: ruled out where it is, and the other's grasps are what they were."""
    under, over = Box(0.68, 0.0, 0.3, 0.3, 0.05), Box(0.84, 0.0, 0.15, 0.2, 0.12)
    frame, scene = box_scene([under, over])
    first, second = scene.instances
    result = SuctionPlanner(CellConfig()).plan(frame, replace(scene, instances=(replace(first, **fields), second)))  # type: ignore[arg-type]
    assert seen.parcels is not None and seen.parcels.ids.tolist() == [2]
    (told,) = (example for example in result.rejected if example.instance_id == 1)
    assert told.reason is reason and result.rejected_counts[reason] == 1
    assert {"detection", "visible_fraction", "cover", "free_probability"} == set(told.terms)
    assert told.terms["cover"] > 0.02
    x, y, z = told.T_base_tool[:3, 3]
    assert under.x - 0.15 < x < over.x and abs(y) < 0.02 and z == pytest.approx(0.05, abs=0.01)
    before = SuctionPlanner(CellConfig()).plan(frame, scene)
    assert result.grasps
    assert [g.T_base_tool.tolist() for g in result.grasps] == [
        g.T_base_tool.tolist() for g in before.grasps if g.instance_id == 2
    ]


def test_a_thing_that_is_no_parcel_is_left_with_its_reason_and_the_parcel_is_picked() -> None:
    result = SuctionPlanner(CellConfig()).plan(*things())
    (told,) = (example for example in result.rejected if example.instance_id == 2)
    assert told.reason is Reject.NO_PARCEL and told.terms["other_probability"] == 1.0
    assert {grasp.instance_id for grasp in result.grasps} == {1}
    allowed = PlannerConfig(rank=RankConfig(most_other=1.0))
    assert {grasp.instance_id for grasp in SuctionPlanner(CellConfig(), allowed).plan(*things()).grasps} == {1, 2}


def test_what_is_ruled_out_by_its_odds_at_best_changes_no_grasp(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    frame, scene = noisy()
    hidden = tuple(replace(instance, visible_fraction=0.25) for instance in scene.instances[1:])
    scene = replace(scene, instances=(scene.instances[0], *hidden))
    config = with_fit(PlannerConfig(order=OrderConfig(ban_visible_fraction=0.0)), order={"lone_free": 0.0})
    early = SuctionPlanner(CellConfig(), config).plan(frame, scene)
    assert seen.parcels is not None and set(seen.parcels.ids.tolist()) == {1}
    monkeypatch.setattr(GeometricRanker, "at_best", lambda self, free, cover: np.ones_like(free))
    late = SuctionPlanner(CellConfig(), config).plan(frame, scene)
    assert set(seen.parcels.ids.tolist()) == {1, 2, 3}
    assert early.grasps and len(early.grasps) == len(late.grasps)
    for before, now in zip(late.grasps, early.grasps, strict=True):
        assert before.T_base_tool.tolist() == now.T_base_tool.tolist() and before.cups == now.cups
        # The room under a carried parcel hangs on the highest other, which is known by its median here.
        assert now.terms == pytest.approx(before.terms, abs=0.003) and now.terms["carry_room_m"] < 0.4


def test_cuts_by_cheap_terms_are_counted_too(seen: Seen) -> None:
    """Parcels lose poses to better ones at three stages, and the small one has some without a cup on it; few examples
    are kept."""
    frame, scene = box_scene([BIG, SMALL])
    result = SuctionPlanner(CellConfig()).plan(frame, scene)
    outranked = [name for name, reason in seen.cuts if reason is Reject.OUTRANKED_ON_INSTANCE]
    assert outranked == ["without_example", "without_example", "poses"]
    assert ("without_example", Reject.NO_CUP_SEALS) in seen.cuts
    config = PlannerConfig()
    assert sum(result.rejected_counts.values()) > 5 * config.fit.sampling.poses_per_instance
    assert len(result.rejected) <= 2 * config.sampling.rejects_per_instance


def test_counts_do_not_hang_on_how_many_examples_are_kept() -> None:
    frame, scene = CASES["shaft"].scene()
    one, many = (
        SuctionPlanner(CellConfig(), PlannerConfig(sampling=SamplingConfig(rejects_per_instance=kept))).plan(
            frame, scene
        )
        for kept in (1, 50)
    )
    assert len(one.rejected) < len(many.rejected)
    assert one.rejected_counts == many.rejected_counts
    assert one.message == many.message


def test_why_there_is_no_grasp_does_not_hang_on_how_many_examples_are_kept() -> None:
    """The hurdle that a parcel failed at last is told though there was room for the first only."""
    frame, scene = CASES["shaft"].scene()
    cell = CellConfig(workspace=WorkspaceConfig(centre_m=(2.0, 0.0)))
    texts = {
        SuctionPlanner(cell, PlannerConfig(sampling=SamplingConfig(rejects_per_instance=kept)))
        .plan(frame, scene)
        .message
        for kept in (1, 4, 50)
    }
    assert texts == {"no grasp on 5 parcels: 5 outside the workspace"}


@pytest.mark.parametrize("name", ["centroid", "flattest", "single_cup"])
@pytest.mark.parametrize("case", ["noisy", "unsure", "tote", "too small"])
def test_baselines_count_too(name: str, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    frame, scene = CASES[case].scene()
    chosen = make_planner(name, CASES[case].cell)
    assert isinstance(chosen, BaselinePlanner)
    proposals: list[Proposal] = []
    told: list[tuple[Parcels, NDArray[np.bool_]]] = []
    propose, usable = chosen.propose, chosen._usable

    def kept_proposal(*args: object) -> Proposal:
        proposals.append(propose(*args))  # type: ignore[arg-type]
        return proposals[-1]

    def kept_usable(parcels: Parcels, rejects: Rejects) -> NDArray[np.bool_]:
        told.append((parcels, usable(parcels, rejects)))
        return told[-1][1]

    monkeypatch.setattr(chosen, "propose", kept_proposal)
    monkeypatch.setattr(chosen, "_usable", kept_usable)
    result = chosen.plan(frame, scene)
    (proposal,), ((parcels, allowed),) = proposals, told
    sampled = np.concatenate([proposal.poses.parcel, proposal.passed_over])
    poses = Poses(sampled, sampled, np.zeros((len(sampled), 3)), np.zeros((len(sampled), 3, 3)))
    expected = Seen(poses, parcels, allowed).expected(scene)
    assert sum(result.rejected_counts.values()) + len(result.grasps) == expected
    assert len(proposal.passed_over) > 0 or not isinstance(chosen, SingleCupPlanner)
    examples_are_counted(result)


def test_examples_of_a_planner_that_does_not_count_are_its_counts() -> None:
    counted = SuctionPlanner(CellConfig()).plan(*box_scene([BIG]))
    bare = Plan(counted.code, counted.message, counted.grasps, counted.rejected, "another")
    assert bare.rejected_counts == Counter(example.reason for example in counted.rejected)
    assert bare.rejected_counts != counted.rejected_counts
