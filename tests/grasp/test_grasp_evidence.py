"""Masks where neither depth nor colour shows a thing are not picked; things that one of both shows are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.grasp_scenes import Box, box_scene, instance

from robin_grasp.plan import Reject
from robin_grasp.planner.config import PlannerConfig
from robin_grasp.planner.mask_evidence import Evidence, mask_evidence
from robin_grasp.planner.planner import SuctionPlanner
from robin_grasp.planner.surface import make_view
from robin_grasp.tool import CellConfig
from robin_perception.core.frame import Frame
from robin_perception.core.helper_thread import HelperThread
from robin_perception.core.scene import Scene

CONFIG = PlannerConfig()
LEAST = CONFIG.evidence.least_edge_share
BOXES = [Box(0.62, -0.15, 0.2, 0.15, 0.10), Box(0.88, 0.12, 0.25, 0.18, 0.06, yaw=0.4)]
MAILER = Box(0.75, 0.0, 0.25, 0.2, 0.002, kind="flat_mailer")


def judged(frame: Frame, scene: Scene) -> Evidence:
    view = make_view(frame, scene, CONFIG.fit.surface, HelperThread())
    return mask_evidence(frame, view, scene.instances, CONFIG.evidence)


def drawn(scene: Scene, rows: slice, columns: slice) -> Scene:
    """The scene with one more mask, of nothing."""
    number = len(scene.instances) + 1
    labels = scene.labels.copy()
    labels[rows, columns] = number
    ghost = instance(labels, number, Box(0, 0, 0, 0, 0))
    return replace(scene, labels=labels, instances=(*scene.instances, ghost))


def grey(frame: Frame) -> Frame:
    """The frame without any colour to tell things by, but for the camera's noise."""
    noise = np.random.default_rng(3).integers(-3, 4, frame.rgb.shape)
    return replace(frame, rgb=(110 + noise).astype(np.uint8))


def test_boxes_have_edges_by_depth_alone_and_bare_belt_has_none() -> None:
    frame, scene = box_scene(BOXES, noise=0.04)
    evidence = judged(grey(frame), drawn(scene, slice(330, 430), slice(60, 200)))
    assert (evidence.edge[:2] > 0.95).all() and evidence.edge[2] < 0.3
    assert evidence.edgeless(LEAST).tolist() == [False, False, True]
    assert not evidence.blind.any()


@pytest.mark.parametrize("size", [(640, 480), (1280, 720), (320, 240)])
def test_a_mailer_has_edges_by_colour_alone(size: tuple[int, int]) -> None:
    frame, scene = box_scene([MAILER], *size, noise=0.08)
    assert judged(frame, scene).edge[0] > 0.9
    assert judged(grey(frame), scene).edgeless(LEAST).all()


def test_the_slope_of_a_wall_is_no_edge() -> None:
    frame, scene = box_scene([])
    steep = 1.2 + 0.6 * np.linspace(0, 1, 480, dtype=np.float32)[:, None] + np.zeros((480, 640), np.float32)
    evidence = judged(grey(replace(frame, depth=steep)), drawn(scene, slice(150, 300), slice(200, 400)))
    assert evidence.edge[0] < 0.1


def test_where_depth_ends_is_an_edge() -> None:
    """A clear bag: no depth in it, some around it, the colour of the belt."""
    frame, scene = box_scene([MAILER])
    depth = np.where(scene.labels == 1, 0, frame.depth).astype(np.float32)
    evidence = judged(grey(replace(frame, depth=depth)), scene)
    assert evidence.depth[0] == 0 and evidence.depth_around[0] == 1 and not evidence.blind[0]
    assert evidence.edge[0] > 0.95


def test_what_touches_other_parcels_all_around_is_not_judged() -> None:
    frame, scene = box_scene([])
    labels = np.full(scene.labels.shape, 1, np.uint16)
    labels[150:300, 200:400] = 2
    instances = tuple(instance(labels, number, MAILER) for number in (1, 2))
    assert judged(grey(frame), replace(scene, labels=labels, instances=instances)).edge[1] == 1.0


def plan_of(frame: Frame, scene: Scene) -> tuple[set[int], dict[int, Reject]]:
    """Instances with a grasp, and why others have none."""
    plan = SuctionPlanner(CellConfig()).plan(frame, scene)
    return {grasp.instance_id for grasp in plan.grasps}, {r.instance_id: r.reason for r in plan.rejected}


def test_no_cup_is_put_on_bare_belt() -> None:
    frame, scene = box_scene(BOXES)
    picked, why = plan_of(grey(frame), drawn(scene, slice(330, 430), slice(60, 200)))
    assert picked == {1, 2} and why[3] == Reject.NO_EDGE


def test_a_thin_mailer_is_not_taken_for_bare_belt() -> None:
    """It has hardly any height: its colour alone shows an edge."""
    frame, scene = box_scene([*BOXES, Box(0.60, 0.22, 0.18, 0.14, 0.001, kind="flat_mailer")], noise=0.02)
    assert judged(frame, scene).edge[2] > 0.9
    picked, _ = plan_of(frame, scene)
    assert picked == {1, 2, 3}


def test_a_mask_that_the_picture_cuts_off_is_left() -> None:
    frame, scene = box_scene([*BOXES, Box(0.75, 0.66, 0.12, 0.4, 0.1)])
    assert 0.1 < judged(frame, scene).cut[2] < 0.5
    assert not judged(frame, scene).edgeless(LEAST)[2]
    labels = np.where((scene.labels == 3) & (np.arange(640) >= 5), 0, scene.labels)
    sliver = replace(scene, labels=labels, instances=(*scene.instances[:2], instance(labels, 3, BOXES[0])))
    assert judged(frame, sliver).cut[2] > 0.5 and judged(frame, sliver).edgeless(LEAST)[2]
    assert plan_of(frame, sliver)[1][3] == Reject.NO_EDGE


@pytest.mark.parametrize(("margin_px", "reason"), [(0, None), (30, Reject.NO_DEPTH_AROUND)])
def test_a_mask_in_a_hole_of_the_depth_is_left(margin_px: int, reason: Reject | None) -> None:
    """Two fifths of its own depth are enough for a pick where there is depth around it."""
    frame, scene = box_scene(BOXES)
    x0, y0, x1, y1 = scene.instances[0].bbox
    depth = frame.depth.copy()
    hole = np.zeros(depth.shape, dtype=bool)
    hole[y0 - margin_px : y1 + margin_px, x0 - margin_px : x1 + margin_px] = margin_px > 0
    hole[scene.labels == 1] = False
    hole[y0 : y0 + (y1 - y0) // 3, x0:x1] = True
    picked, why = plan_of(replace(frame, depth=np.where(hole, 0, depth).astype(np.float32)), scene)
    assert why.get(1) == reason if reason else 1 in picked
    assert 2 in picked
