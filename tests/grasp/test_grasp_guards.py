"""One test for each guard of the planner that its other tests would not miss: with the guard off, or its figure at
nothing, the plan is another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.grasp_scenes import Box, box_scene
from helpers.planner_fits import with_fit

from robin_grasp.plan import FailedPick, Grasp, Plan, Reject
from robin_grasp.planner.config import OrderConfig, PlannerConfig, RankConfig
from robin_grasp.planner.fit import shipped_fit
from robin_grasp.planner.parcels_seen import Contacts, with_upright
from robin_grasp.planner.planner import SuctionPlanner
from robin_grasp.planner.terms import repeats_failure
from robin_grasp.tool import CellConfig, WorkspaceConfig, mask_to_cups, tote_workspace

ONE_POSE = with_fit(sampling={"full_poses_per_instance": 1})  # so that the first estimate alone decides
SAMPLING = shipped_fit().sampling


def plan(boxes: list[Box], config: PlannerConfig | None = None, failed: tuple[FailedPick, ...] = ()) -> Plan:
    return SuctionPlanner(CellConfig(), config).plan(*box_scene(boxes), failed)


def best_of(result: Plan, instance: int = 1) -> Grasp:
    found = [grasp for grasp in result.grasps if grasp.instance_id == instance]
    assert found, result.message
    return found[0]


def test_a_box_on_a_box_is_no_tower_down_to_the_belt() -> None:
    """Its thickness lies between the step to the box below it and its height above the belt, as ``support_weight``
    believes; its mass goes with it."""
    upper = Box(0.75, 0.0, 0.40, 0.30, 0.30)
    alone = best_of(plan([upper])).terms
    stacked = best_of(plan([Box(0.75, 0.0, 0.50, 0.45, 0.20, visible=0.5), upper]), 2).terms
    believed = 0.30 + shipped_fit().wrench.support_weight * (0.10 - 0.30)
    assert alone["thickness_m"] == pytest.approx(0.30, abs=0.005)
    assert stacked["thickness_m"] == pytest.approx(believed, abs=0.005)
    assert stacked["mass_kg"] < 0.95 * alone["mass_kg"]


def test_flat_goods_that_stand_on_an_edge_come_after_those_that_lie() -> None:
    strip, lying = Box(0.75, -0.2, 0.30, 0.06, 0.05, kind="flat_mailer"), Box(0.75, 0.2, 0.20, 0.14, 0.01)
    result = plan([strip, lying])
    narrow = best_of(result, 1)
    expected = shipped_fit().rank.edge_on_aspect - narrow.terms["short_side_m"] / narrow.terms["long_side_m"]
    assert narrow.terms["standing"] == pytest.approx(expected) and expected > 0.1
    assert best_of(result, 2).terms["standing"] == 0.0
    assert result.best is not None and result.best.instance_id == 2
    carton = best_of(plan([Box(0.75, -0.2, 0.30, 0.06, 0.05)]))
    assert carton.terms["standing"] == 0.0  # a carton as narrow is narrow, no more
    assert narrow.terms["p_clean"] < 0.85 < carton.terms["p_clean"]


def test_after_a_failure_another_place_on_the_parcel_is_worked_out() -> None:
    long = [Box(0.75, 0.0, 0.45, 0.09, 0.15)]
    first = best_of(plan(long, ONE_POSE))
    x, y, z = (float(v) for v in first.T_base_tool[:3, 3])
    failed = (FailedPick((x, y, z), first.cups),)
    again = best_of(plan(long, ONE_POSE, failed))
    assert np.linalg.norm(again.T_base_tool[:3, 3] - (x, y, z)) > ONE_POSE.rank.failed_radius_m
    stubborn = best_of(plan(long, with_fit(ONE_POSE, rank={"failed_elsewhere": 1.0}), failed))
    assert np.allclose(stubborn.T_base_tool[:3, 3], (x, y, z))


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("step_m", [0.008, 0.016])
def test_idle_cups_are_kept_off_a_higher_neighbour(side: int, step_m: float) -> None:
    """One row of cups fits the strip; the other may hang over the free side, or press on the neighbour."""
    strip, neighbour = Box(0.75, 0.0, 0.30, 0.06, 0.10), Box(0.75, side * 0.08, 0.30, 0.10, 0.10 + step_m)
    grasp = best_of(plan([strip, neighbour], ONE_POSE))
    assert grasp.terms["push_m"] == 0.0
    assert -side * grasp.T_base_tool[1, 3] > 0.02


def test_a_push_costs_odds() -> None:
    """Between neighbours on both sides idle cups press on one of them; the deeper, the less likely is a clean pick."""
    free = PlannerConfig(order=OrderConfig(enabled=False))  # else the strip counts as covered
    odds, pushed = [], []
    for step_m in (0.0, 0.008, 0.016):
        sides = [Box(0.75, side * 0.08, 0.30, 0.10, 0.10 + step_m) for side in (-1, 1)]
        grasp = best_of(plan([Box(0.75, 0.0, 0.30, 0.06, 0.10), *sides], free))
        odds.append(grasp.terms["p_clean_geometric"])
        pushed.append(grasp.terms["push_m"])
    assert pushed == pytest.approx([0.0, 0.002, 0.010], abs=0.001)
    cost = shipped_fit().clearance.press_logit_per_m * np.array(pushed)
    assert np.array(odds) / odds[0] == pytest.approx(np.exp(-cost), rel=0.03)


def contacts(*tilts_rad: float, main: bool = True) -> Contacts:
    count = len(tilts_rad)
    axis = np.array([[0.6 * np.sin(t), 0.8 * np.sin(t), -np.cos(t)] for t in tilts_rad])
    point = np.arange(3.0 * count).reshape(count, 3)
    return Contacts(np.arange(count), point, axis, np.full(count, main), np.full(count, 0.001))


@pytest.mark.parametrize(("walls", "from_rad"), [(True, SAMPLING.upright_from_rad), (False, SAMPLING.steep_from_rad)])
def test_steep_contacts_are_tried_with_a_tool_more_upright(walls: bool, from_rad: float) -> None:
    given = contacts(0.1, from_rad - 0.01, from_rad + 0.01)
    found = with_upright(given, SAMPLING, walls)
    assert found.parcel.tolist() == [0, 1, 2, 2] and found.main.all()
    assert np.array_equal(found.axis[:3], given.axis) and np.array_equal(found.point[3], given.point[2])
    tilt = from_rad + 0.01 - SAMPLING.upright_rad
    assert np.allclose(found.axis[3], (0.6 * np.sin(tilt), 0.8 * np.sin(tilt), -np.cos(tilt)))
    assert len(with_upright(contacts(1.2, main=False), SAMPLING, walls).parcel) == 1


def test_a_face_beyond_the_tilt_limit_is_picked_by_a_tool_more_upright() -> None:
    steep = [Box(0.75, 0.0, 0.2, 0.2, 0.2, slope_x=float(np.tan(1.3)))]
    grasp = best_of(plan(steep))
    assert grasp.terms["tool_tilt_rad"] == pytest.approx(1.3 - SAMPLING.upright_rad, abs=0.02)
    straight = plan(steep, with_fit(sampling={"upright_rad": 0.0}))
    assert not straight.grasps and set(straight.rejected_counts) == {Reject.TILT_TOO_LARGE}
    assert {round(example.terms["tool_tilt_rad"], 1) for example in straight.rejected} == {1.3}


def test_beside_walls_a_tool_more_upright_is_tried_earlier() -> None:
    """A face of moderate tilt: sampled once more in a tote, not on a belt."""
    frame, scene = box_scene([Box(0.75, 0.1, 0.2, 0.2, 0.1, slope_x=0.42)])

    def sampled(cell: CellConfig, upright_rad: float) -> int:
        config = with_fit(sampling={"upright_rad": upright_rad})
        result = SuctionPlanner(cell, config).plan(frame, scene)
        return sum(result.rejected_counts.values()) + len(result.grasps)

    tote, belt = CellConfig(workspace=tote_workspace()), CellConfig()
    assert sampled(tote, SAMPLING.upright_rad) > sampled(tote, 0.0) > 0
    assert sampled(belt, SAMPLING.upright_rad) == sampled(belt, 0.0) > 0


def hopeless(boxes: list[Box], least_clean: float, boundary: float = 0.0) -> dict[Reject, int]:
    """Counts of a plan that tries nothing below ``least_clean``, with that boundary probability everywhere."""
    frame, scene = box_scene(boxes)
    scene = replace(scene, boundary=np.full_like(scene.boundary, boundary))
    result = SuctionPlanner(CellConfig(), PlannerConfig(rank=RankConfig(least_clean=least_clean))).plan(frame, scene)
    assert not result.grasps
    return dict(result.rejected_counts)


def test_what_is_not_worth_a_try_is_told_by_its_worst_doubt() -> None:
    """Each of the four poses that are weighed in full, once: for its hold, its neighbours, or what may lie on it."""
    light = [Box(0.75, 0.0, 0.16, 0.12, 0.05)]
    for boxes, boundary, doubt in (
        ([Box(0.75, 0.0, 0.30, 0.20, 0.15)], 0.0, Reject.WRENCH_TOO_LARGE),
        (light, 0.3, Reject.MULTI_PICK_RISK),
        (light, 0.0, Reject.COVERED_BY_OTHER),
    ):
        counts = hopeless(boxes, 0.999, boundary)
        assert counts.pop(Reject.OUTRANKED_ON_INSTANCE) > 50
        counts.pop(Reject.NO_CUP_SEALS, None)
        assert counts == {doubt: 4}


def test_the_same_try_is_told_by_place_and_cups() -> None:
    config = RankConfig()
    here, far = np.zeros((1, 3)), np.full((1, 3), 0.1)
    failed = FailedPick((0.01, 0.0, 0.0), 0b1111, times=config.failed_most)

    def again(position: np.ndarray, cups: int, failure: FailedPick = failed) -> bool:
        return bool(repeats_failure(position, np.array([cups]), (failure,), config)[0])

    assert again(here, 0b1111) and again(here, 0b0111)  # three of four in common
    assert not again(here, 0b11110011)  # two of eight
    assert not again(here, 0b11110000)
    assert not again(far, 0b1111)
    assert not again(here, 0b1111, replace(failed, times=config.failed_most - 1))
    assert again(here, 0b11110000, replace(failed, times=config.failed_most + 1))  # nothing works there


@pytest.mark.parametrize("belt_z_m", [0.0, 0.03])
def test_a_parcel_is_carried_over_what_was_ruled_out(belt_z_m: float) -> None:
    """Its underside, lifted, against the top of a tower that is not looked at any further."""
    cell = CellConfig(workspace=WorkspaceConfig(belt_z_m=belt_z_m))
    frame, scene = box_scene([Box(0.75, -0.15, 0.20, 0.16, 0.10), Box(0.75, 0.20, 0.20, 0.16, 0.25)])
    low, tower = scene.instances
    scene = replace(scene, instances=(low, replace(tower, detection=0.1)))
    terms = best_of(SuctionPlanner(cell).plan(frame, scene)).terms
    assert terms["top_m"] == pytest.approx(0.10 - belt_z_m, abs=0.002)
    assert terms["carry_room_m"] == pytest.approx(0.10 + cell.motion.lift_m - terms["thickness_m"] - 0.25, abs=0.003)


def test_terms_are_those_of_the_open_cups() -> None:
    tool = CellConfig().tool
    result = plan([Box(0.75, 0.0, 0.30, 0.20, 0.15), Box(0.75, 0.25, 0.06, 0.06, 0.08)])
    for instance in (1, 2):
        grasp = best_of(result, instance)
        terms, cups = grasp.terms, tool.cups_m[list(mask_to_cups(grasp.cups)), :2]
        assert terms["cup_count"] == len(cups)
        assert terms["seal_mean"] == pytest.approx(terms["seal_sum"] / len(cups))
        assert terms["seal_min"] <= terms["seal_mean"] <= 1.0
        assert terms["spread_min_m"] == pytest.approx(cups.std(axis=0).min(), abs=1e-9)
        world = grasp.T_base_tool[:3, :2] @ cups.mean(axis=0) + grasp.T_base_tool[:3, 3]
        middle = ((0.75, 0.0), (0.75, 0.25))[instance - 1]
        assert terms["lever_m"] == pytest.approx(np.hypot(*(world[:2] - middle)), abs=0.006)
    assert best_of(result, 1).terms["cup_count"] == 8 and best_of(result, 2).terms["spread_min_m"] == 0.0
