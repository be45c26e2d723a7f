"""Scenes on which no planner plans: a pose that the picture contradicts, nothing to see."""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers.grasp_scenes import Box, box_scene

from robin_grasp.planner.registry import make_planner
from robin_grasp.tool import CellConfig
from robin_perception.core.errors import Code
from robin_perception.core.support_check import POSE_FLAGS, measure_support
from robin_perception.core.support_plane import BARE_FLAG

BOXES = [Box(0.65, -0.15, 0.2, 0.15, 0.10), Box(0.9, 0.15, 0.25, 0.2, 0.08), Box(0.6, 0.2, 0.15, 0.15, 0.2)]
PLANNERS = ["geometric", "centroid"]


@pytest.mark.parametrize("name", PLANNERS)
@pytest.mark.parametrize("by_message", [False, True], ids=["measured", "flag alone"])
def test_a_pose_that_is_15_cm_too_high_gives_no_grasp(name: str, by_message: bool) -> None:
    frame, scene = box_scene(BOXES)
    pose = frame.T_base_camera.copy()
    pose[2, 3] += 0.15
    frame = replace(frame, T_base_camera=pose)
    support = None if by_message else measure_support(frame, scene.labels)
    scene = replace(scene, support=support, flags=(POSE_FLAGS[Code.POSE_CONTRADICTED],))
    plan = make_planner(name, CellConfig()).plan(frame, scene)
    assert plan.code == Code.POSE_CONTRADICTED and plan.grasps == ()
    assert "the surface seen lies 150 mm above z = 0" in plan.message


@pytest.mark.parametrize("name", PLANNERS)
def test_a_doubtful_pose_is_planned_on(name: str) -> None:
    frame, scene = box_scene(BOXES)
    scene = replace(scene, flags=(POSE_FLAGS[Code.POSE_DOUBTFUL],))
    assert make_planner(name, CellConfig()).plan(frame, scene).code == Code.OK


@pytest.mark.parametrize("name", PLANNERS)
def test_an_empty_scene_says_whether_anything_stands_there(name: str) -> None:
    frame, scene = box_scene(BOXES)
    planner = make_planner(name, CellConfig())
    plan = planner.plan(frame, replace(scene, instances=()))
    assert plan.code == Code.NO_INSTANCE and plan.message == "no parcel was detected"
    plan = planner.plan(frame, replace(scene, instances=(), flags=(BARE_FLAG,)))
    assert plan.code == Code.NO_INSTANCE and "nothing stands on the support plane" in plan.message
