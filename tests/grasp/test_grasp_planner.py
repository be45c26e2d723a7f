"""The planner on analytic scenes: every reject code forced, what must never happen, determinism."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers.grasp_scenes import Box, box_scene
from helpers.planner_fits import with_all_classes, with_fit

from robin_grasp.plan import FailedPick, Plan, Reject
from robin_grasp.planner.config import ExploreConfig, PlannerConfig, RankConfig, SamplingConfig, WrenchConfig
from robin_grasp.planner.fit import shipped_fit
from robin_grasp.planner.order import pick_order
from robin_grasp.planner.planner import SuctionPlanner
from robin_grasp.planner.surface import make_view
from robin_grasp.tool import CellConfig, WorkspaceConfig, mask_to_cups, tote_workspace
from robin_perception.core.config import parse_config
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.helper_thread import HelperThread
from robin_perception.core.scene import Scene

BIG = Box(0.75, 0.0, 0.30, 0.20, 0.15)


def plan(
    boxes: list[Box], cell: CellConfig | None = None, config: PlannerConfig | None = None, **kwargs: object
) -> Plan:
    frame, scene = box_scene(boxes)
    return SuctionPlanner(cell or CellConfig(), config).plan(frame, scene, **kwargs)  # type: ignore[arg-type]


def reasons(result: Plan, instance: int = 1) -> set[Reject]:
    return {rejected.reason for rejected in result.rejected if rejected.instance_id == instance}


def change(scene: Scene, **fields: object) -> Scene:
    """The scene with fields of every instance replaced."""
    return replace(scene, instances=tuple(replace(i, **fields) for i in scene.instances))  # type: ignore[arg-type]


def test_a_big_box_is_taken_in_the_middle_with_all_cups() -> None:
    result = plan([BIG])
    assert result.code is Code.OK
    best = result.best
    assert best is not None
    assert len(mask_to_cups(best.cups)) >= 4
    assert np.allclose(best.T_base_tool[:3, 3], (0.75, 0.0, 0.15), atol=0.012)
    assert best.terms["p_clean"] > 0.85
    assert {"plan_view", "plan_seal", "plan_subsets"} <= set(result.timings_ms)


def test_open_cups_lie_on_the_parcel_with_room() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        box = Box(0.75, 0.0, rng.uniform(0.06, 0.3), rng.uniform(0.06, 0.2), 0.1, yaw=rng.uniform(0, 3))
        grasps = plan([box]).grasps
        assert grasps
        for grasp in grasps:
            cups = CellConfig().tool.cups_m[list(mask_to_cups(grasp.cups))]
            world = cups @ grasp.T_base_tool[:3, :3].T + grasp.T_base_tool[:3, 3] - (box.x, box.y, 0)
            c, s = np.cos(box.yaw), np.sin(box.yaw)
            along, across = c * world[:, 0] + s * world[:, 1], -s * world[:, 0] + c * world[:, 1]
            assert (np.abs(along) < box.size_x / 2 - 0.011).all()
            assert (np.abs(across) < box.size_y / 2 - 0.011).all()


def test_no_instance_is_an_answer() -> None:
    frame, scene = box_scene([BIG])
    result = SuctionPlanner(CellConfig()).plan(frame, replace(scene, instances=()))
    assert (result.code, result.best) == (Code.NO_INSTANCE, None)
    assert result.message


def test_nothing_is_grasped_where_there_is_no_depth() -> None:
    frame, scene = box_scene([BIG])
    blind = frame.with_depth(np.zeros_like(frame.depth))
    result = SuctionPlanner(CellConfig()).plan(blind, scene)
    assert result.code is Code.NO_GRASP
    assert reasons(result) == {Reject.NO_DEPTH_AROUND}
    assert "no depth around" in result.message


def test_cups_avoid_a_hole_in_the_depth() -> None:
    frame, scene = box_scene([BIG])
    depth = frame.depth.copy()
    xs = np.nonzero(scene.labels == 1)[1]
    left = (scene.labels == 1) & (np.arange(depth.shape[1])[None, :] < xs.mean())
    depth[left] = 0
    grasps = SuctionPlanner(CellConfig()).plan(frame.with_depth(depth), scene).grasps
    assert grasps
    for grasp in grasps:
        for cup in mask_to_cups(grasp.cups):
            point = grasp.T_base_tool[:3, :3] @ CellConfig().tool.cups_m[cup] + grasp.T_base_tool[:3, 3]
            camera = (point - frame.T_base_camera[:3, 3]) @ frame.T_base_camera[:3, :3]
            u, v = (frame.K[:2, :2] @ camera[:2] / camera[2] + frame.K[:2, 2]).round().astype(int)
            assert (depth[v - 5 : v + 6, u - 5 : u + 6] > 0).any()


def test_what_can_only_be_drawn_up_askew_comes_later() -> None:
    boxes = [Box(0.75, -0.15, 0.30, 0.20, 0.15), Box(0.75, 0.15, 0.12, 0.10, 0.12)]
    frame, scene = box_scene(boxes)
    scene = replace(scene, instances=(scene.instances[0], replace(scene.instances[1], detection=0.7)))
    first = scene.labels == 1
    rows = np.flatnonzero(first.any(axis=1))
    first[rows[0] + round(0.58 * len(rows)) :] = False
    frame = frame.with_depth(np.where(first, np.float32(0), frame.depth))

    def first_with(cost: float) -> int:
        config = with_fit(rank={"lever_cost_per_m": cost})
        best = SuctionPlanner(CellConfig(), config).plan(frame, scene).best
        assert best is not None
        return best.instance_id

    assert first_with(0.0) == 1  # more cups than the second, but beside its centre of mass
    assert first_with(shipped_fit().rank.lever_cost_per_m) == 2


def test_low_detection() -> None:
    frame, scene = box_scene([BIG])
    result = SuctionPlanner(CellConfig()).plan(frame, change(scene, detection=0.1))
    assert reasons(result) == {Reject.LOW_DETECTION}


def test_too_small_for_a_cup() -> None:
    assert Reject.NO_CUP_SEALS in reasons(plan([Box(0.75, 0.0, 0.024, 0.1, 0.1)]))


def test_too_heavy() -> None:
    config = with_all_classes(PlannerConfig(wrench=WrenchConfig(most_mass_kg=50.0)), density_kgpm3=4000.0)
    result = plan([BIG], config=config)
    assert result.code is Code.NO_GRASP
    assert Reject.WRENCH_TOO_LARGE in reasons(result)
    assert "too heavy" in result.message


def test_too_steep() -> None:
    config = PlannerConfig(sampling=SamplingConfig(max_tilt_rad=0.8))
    result = plan([Box(0.75, 0.0, 0.2, 0.2, 0.2, slope_x=2.2, kind="flat_mailer")], config=config)
    assert Reject.TILT_TOO_LARGE in reasons(result)
    assert result.code is Code.NO_GRASP


def test_out_of_reach_and_outside() -> None:
    near = CellConfig(workspace=WorkspaceConfig(reach_max_m=0.5))
    assert Reject.OUT_OF_REACH in reasons(plan([BIG], near))
    elsewhere = CellConfig(workspace=WorkspaceConfig(centre_m=(2.0, 0.0)))
    assert Reject.OUTSIDE_WORKSPACE in reasons(plan([BIG], elsewhere))


def test_a_strip_between_neighbours_is_a_multi_pick_risk() -> None:
    """Three flush boxes: a 34 mm strip fits a lip, but not with the margin to its neighbours."""
    strips = [Box(0.75, y, 0.3, 0.034, 0.1) for y in (-0.034, 0.0, 0.034)]
    assert Reject.MULTI_PICK_RISK in reasons(plan(strips), 2)


def test_flush_boxes_are_never_bridged() -> None:
    boxes = [Box(0.75, -0.06, 0.3, 0.12, 0.1), Box(0.75, 0.06, 0.3, 0.12, 0.1)]
    result = plan(boxes)
    assert {g.instance_id for g in result.grasps} == {1, 2}
    for grasp in result.grasps:
        cups = CellConfig().tool.cups_m[list(mask_to_cups(grasp.cups))]
        world = cups @ grasp.T_base_tool[:3, :3].T + grasp.T_base_tool[:3, 3]
        side = -1 if grasp.instance_id == 1 else 1
        assert (side * world[:, 1] > 0.015).all()


def test_tool_hits_tall_neighbours() -> None:
    """A low box in a shaft between four towers."""
    low = Box(0.75, 0.0, 0.10, 0.10, 0.05)
    towers = [Box(0.75 + dx, dy, 0.10, 0.10, 0.25) for dx, dy in ((0.1, 0), (-0.1, 0), (0, 0.1), (0, -0.1))]
    assert Reject.TOOL_HITS_NEIGHBOUR in reasons(plan([low, *towers]))


@pytest.mark.parametrize("gap_m", [0.02, 0.03, 0.04, 0.05, 0.06])
@pytest.mark.parametrize("turn_rad", [0.0, 0.45])
def test_no_corner_of_the_plate_reaches_into_a_tall_neighbour(gap_m: float, turn_rad: float) -> None:
    """A small box beside a tower: whatever is proposed for it, the plate's rim stays outside the tower."""
    low, tower = Box(0.75, 0.0, 0.14, 0.08, 0.08, turn_rad), Box(0.75 + 0.07 + gap_m + 0.15, 0.0, 0.30, 0.30, 0.26)
    half_x, half_y = CellConfig().tool.plate_half_size_m
    along = np.linspace(-1.0, 1.0, 21)
    rim = [(half_x * a, side * half_y, 0.0) for a in along for side in (-1, 1)]
    rim += [(side * half_x, half_y * a, 0.0) for a in along for side in (-1, 1)]
    result = plan([low, tower])
    assert {grasp.instance_id for grasp in result.grasps} == {1, 2}, result.message
    for grasp in result.grasps:
        if grasp.instance_id == 1:
            world = np.array(rim) @ grasp.T_base_tool[:3, :3].T + grasp.T_base_tool[:3, 3]
            into = 0.15 - np.abs(world[:, :2] - (tower.x, tower.y)).max(axis=1)
            assert into.max() < 0.004, grasp.T_base_tool


def test_tool_hits_the_totes_wall() -> None:
    cell = CellConfig(workspace=tote_workspace())
    corner = Box(0.75 - 0.30 + 0.025, -0.2 + 0.025, 0.05, 0.05, 0.03)
    assert Reject.TOOL_HITS_WALL in reasons(plan([corner], cell))
    assert plan([Box(0.75, 0.0, 0.2, 0.15, 0.05)], cell).code is Code.OK


def test_what_lies_under_another_comes_later_or_never() -> None:
    under, over = Box(0.75, 0.0, 0.3, 0.25, 0.10, visible=0.5), Box(0.80, 0.05, 0.2, 0.2, 0.18)
    result = plan([under, over])
    assert result.best is not None and result.best.instance_id == 2
    assert all(g.instance_id == 2 or g.terms["free_probability"] < 0.2 for g in result.grasps)
    buried = plan([replace(under, visible=0.2), over])
    assert Reject.COVERED_BY_OTHER in reasons(buried)


def test_order_graph() -> None:
    frame, scene = box_scene([Box(0.70, 0.0, 0.15, 0.2, 0.10, visible=0.8), Box(0.80, 0.0, 0.1, 0.2, 0.16)])
    order = pick_order(make_view(frame, scene, shipped_fit().surface, HelperThread()), scene, PlannerConfig())
    assert order.above.tolist() == [[False, False], [True, False]]
    assert order.cover[0] > 0.1 and order.cover[1] == 0.0
    assert order.free[1] > order.free[0]
    assert order.support_m[1] == pytest.approx(0.06, abs=0.01)
    flat = box_scene([Box(0.70, 0.0, 0.15, 0.2, 0.10), Box(0.80, 0.0, 0.05, 0.2, 0.104)])
    assert not pick_order(make_view(*flat, shipped_fit().surface, HelperThread()), flat[1], PlannerConfig()).above.any()


def with_ridge(frame: Frame, scene: Scene) -> Scene:
    """A boundary that runs across the middle of the mask, along image columns."""
    boundary = scene.boundary.copy()
    middle = int(np.nonzero(scene.labels == 1)[1].mean()) // 4
    boundary[:, middle - 1 : middle + 2] = 0.95
    return replace(scene, boundary=boundary)


def test_a_mask_with_a_ridge_is_picked_on_one_side_only() -> None:
    frame, scene = box_scene([Box(0.75, 0.0, 0.20, 0.36, 0.1)])
    result = SuctionPlanner(CellConfig()).plan(frame, with_ridge(frame, scene))
    assert result.best is not None
    assert result.best.terms["merged_probability"] > 0.3
    cups = CellConfig().tool.cups_m[list(mask_to_cups(result.best.cups))]
    world = cups @ result.best.T_base_tool[:3, :3].T + result.best.T_base_tool[:3, 3]
    assert np.ptp(np.sign(world[:, 1])) == 0
    assert np.abs(world[:, 1]).min() > 0.015


def test_a_mask_cut_into_strips_is_likely_merged() -> None:
    frame, scene = box_scene([Box(0.75, 0.0, 0.25, 0.10, 0.1)])
    result = SuctionPlanner(CellConfig()).plan(frame, with_ridge(frame, scene))
    assert {Reject.LIKELY_MERGED, Reject.MULTI_PICK_RISK} & reasons(result)


def test_a_failure_is_not_repeated() -> None:
    small = Box(0.75, 0.0, 0.06, 0.06, 0.08)
    first = plan([small]).best
    assert first is not None
    x, y, z = (float(v) for v in first.T_base_tool[:3, 3])
    again = plan([small], failed=(FailedPick((x, y, z), first.cups, times=1),))
    assert again.best is not None
    assert again.best.score < first.score
    often = plan([small], failed=(FailedPick((x, y, z), first.cups, times=3),))
    assert often.grasps
    near = [g for g in often.grasps if np.linalg.norm(g.T_base_tool[:3, 3] - (x, y, z)) < 0.02]
    assert not near
    config = PlannerConfig(rank=RankConfig(failed_radius_m=0.3))
    given_up = plan([small], config=config, failed=(FailedPick((x, y, z), first.cups, times=3),))
    assert given_up.code is Code.NO_GRASP
    assert Reject.FAILED_BEFORE in reasons(given_up)


def test_another_parcel_goes_first_after_a_failure() -> None:
    boxes = [BIG, Box(0.75, 0.32, 0.25, 0.2, 0.12)]
    best = plan(boxes).best
    assert best is not None
    x, y, z = (float(v) for v in best.T_base_tool[:3, 3])
    after = plan(boxes, failed=(FailedPick((x, y, z), best.cups),)).best
    assert after is not None and after.instance_id != best.instance_id


def test_outranked_and_small_plans() -> None:
    result = plan([BIG])
    assert Reject.OUTRANKED_ON_INSTANCE in reasons(result)
    assert 1 <= len(result.grasps) <= 2 and len(result.rejected) <= 4
    scores = [g.score for g in result.grasps]
    assert scores == sorted(scores, reverse=True)


def test_plans_are_deterministic() -> None:
    boxes = [BIG, Box(0.75, 0.25, 0.2, 0.2, 0.2), Box(0.5, -0.25, 0.2, 0.15, 0.1, yaw=0.5)]
    frame, scene = box_scene(boxes, noise=0.08, rng=np.random.default_rng(4))
    one = SuctionPlanner(CellConfig()).plan(frame, scene)
    two = SuctionPlanner(CellConfig()).plan(frame, scene)
    assert len(one.grasps) >= 2
    assert [(g.cups, g.score, g.instance_id) for g in one.grasps] == [
        (g.cups, g.score, g.instance_id) for g in two.grasps
    ]
    assert all(np.array_equal(a.T_base_tool, b.T_base_tool) for a, b in zip(one.grasps, two.grasps, strict=True))


def test_terms_are_finite_numbers() -> None:
    grasps = plan([BIG, Box(0.75, 0.25, 0.2, 0.2, 0.2)]).grasps
    assert grasps
    for grasp in grasps:
        json.dumps(grasp.terms, allow_nan=False)


def test_unhealthy_cups_stay_closed() -> None:
    config = PlannerConfig(cup_health=(0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0))
    grasps = plan([BIG], config=config).grasps
    assert grasps
    for grasp in grasps:
        assert not {0, 7} & set(mask_to_cups(grasp.cups))


def test_exploring_puts_another_grasp_first_now_and_then() -> None:
    boxes = [BIG, Box(0.75, 0.32, 0.25, 0.2, 0.12), Box(0.75, -0.32, 0.25, 0.2, 0.12)]
    frame, scene = box_scene(boxes)
    config = PlannerConfig(explore=ExploreConfig(probability=1.0, temperature=1.0))
    planner = SuctionPlanner(CellConfig(), config, rng=np.random.default_rng(0))
    first = [planner.plan(frame, scene).best for _ in range(12)]
    assert len({g.instance_id for g in first if g}) > 1
    assert all(g is not None and g.terms.get("explored") == 1.0 for g in first)


def test_configuration_refuses_what_it_does_not_know() -> None:
    with pytest.raises(RobinError) as unknown:
        parse_config(PlannerConfig, {"seal": {"lip": 1}}, "planner.yaml")
    assert unknown.value.code is Code.CONFIG_UNKNOWN_KEY
    with pytest.raises(RobinError) as wrong:
        parse_config(PlannerConfig, {"wrench": {"safety_factor": 0.1}}, "planner.yaml")
    assert wrong.value.code is Code.CONFIG_OUT_OF_RANGE
