"""Baselines, the registry and the overlay."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.grasp_scenes import Box, box_scene

from robin_grasp.grasp_overlay import draw_grasp, project_tool
from robin_grasp.plan import FailedPick, Grasp
from robin_grasp.planner.registry import make_planner, planner_names, register
from robin_grasp.tool import CellConfig, mask_to_cups
from robin_perception.core.errors import Code, RobinError

HIGH, LOW = Box(0.75, 0.0, 0.3, 0.2, 0.20), Box(0.75, 0.30, 0.12, 0.16, 0.1)
SCENE = box_scene([HIGH, LOW])


def test_every_registered_planner_plans() -> None:
    for name in planner_names():
        result = make_planner(name, CellConfig()).plan(*SCENE)
        assert result.code is Code.OK, name
        assert result.planner == name


def test_unknown_and_double_names() -> None:
    with pytest.raises(RobinError) as unknown:
        make_planner("best", CellConfig())
    assert unknown.value.code is Code.OPTION_INVALID
    assert "geometric" in unknown.value.text
    with pytest.raises(ValueError, match="twice"):
        register("geometric", "again")(lambda *_: None)  # type: ignore[arg-type, return-value]


def test_centroid_opens_all_cups_on_the_highest_parcel() -> None:
    best = make_planner("centroid", CellConfig()).plan(*SCENE).best
    assert best is not None and best.cups == 255 and best.instance_id == 1
    assert np.allclose(best.T_base_tool[:2, 3], (0.75, 0.0), atol=0.01)


def test_flattest_opens_the_cups_on_the_mask() -> None:
    result = make_planner("flattest", CellConfig()).plan(*SCENE)
    small = next(g for g in result.grasps if g.instance_id == 2)
    assert 0 < len(mask_to_cups(small.cups)) < 8


def test_single_cup_opens_one() -> None:
    grasps = make_planner("single_cup", CellConfig()).plan(*SCENE).grasps
    assert len(grasps) == 2
    for grasp in grasps:
        assert len(mask_to_cups(grasp.cups)) == 1


def test_baselines_turn_to_another_parcel_after_a_failure() -> None:
    planner = make_planner("centroid", CellConfig())
    best = planner.plan(*SCENE).best
    assert best is not None
    x, y, z = (float(v) for v in best.T_base_tool[:3, 3])
    after = planner.plan(*SCENE, (FailedPick((x, y, z), 255),)).best
    assert after is not None and after.instance_id != best.instance_id


def test_overlay_draws_where_the_tool_stands() -> None:
    frame, scene = SCENE
    best = make_planner("geometric", CellConfig()).plan(frame, scene).best
    assert best is not None
    before = frame.rgb.copy()
    image = draw_grasp(frame, best, CellConfig().tool)
    assert np.array_equal(frame.rgb, before)
    ys, xs = np.nonzero((image != frame.rgb).any(axis=2))
    centre = project_tool(frame, best, np.zeros((1, 3)))
    assert centre is not None
    assert abs(xs.mean() - centre[0, 0]) < 8 and abs(ys.mean() - centre[0, 1]) < 8


def test_overlay_behind_the_camera_is_nothing() -> None:
    frame, _ = SCENE
    above = np.diag([1.0, -1.0, -1.0, 1.0])
    above[2, 3] = 3.0
    assert project_tool(frame, Grasp(above, 1, 1, 0.0), np.zeros((1, 3))) is None
