"""Picks of goods that are told apart by their skin, on analytic scenes: sacks that never hold, cartons that do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edge_adapt.learn.hold import HoldLearner
from edge_adapt.learn.hold_file import HoldKeeper
from helpers.cup_picks import pressed
from helpers.grasp_scenes import Box, box_scene
from robin_grasp.picks.outcome import PickOutcome, PickResult
from robin_grasp.plan import ALL_SOUND, CupTrust, Grasp, Plan
from robin_grasp.planner.registry import make_planner
from robin_grasp.recovery.machine import PickTarget
from robin_grasp.tool import GRAVITY_MPS2, CellConfig, mask_to_cups
from robin_perception.core.condition import Condition
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene

CELL = CellConfig()
SACK = Box(0.62, 0.0, 0.24, 0.3, 0.2)
CARTON = Box(0.92, 0.0, 0.24, 0.3, 0.12)
SACK_ID, CARTON_ID = 1, 2


def goods(*boxes: Box, conditions: tuple[Condition, ...] = ()) -> tuple[Frame, Scene]:
    """The boxes, where a sack (a box as high as SACK) has an open weave and all others plain card."""
    frame, scene = box_scene(list(boxes))
    rgb = np.full_like(frame.rgb, 90)
    weave = np.indices(scene.labels.shape).sum(axis=0) % 6 < 3
    for one, box in zip(scene.instances, boxes, strict=True):
        mask = scene.labels == one.id
        rgb[mask] = (170, 130, 90)
        if box.top == SACK.top:
            rgb[mask & weave], rgb[mask & ~weave] = (200, 30, 40), (20, 20, 60)
    return replace(frame, rgb=rgb), replace(scene, conditions=conditions)


def plan_with(learner: HoldLearner | HoldKeeper | None, frame: Frame, scene: Scene) -> Plan:
    return make_planner("geometric", CELL, holding=learner).plan(frame, scene)


def grasp_on(instance_id: int, plan: Plan) -> Grasp:
    return next(grasp for grasp in plan.grasps if grasp.instance_id == instance_id)


def outcome_of(grasp: Grasp, share: float, lost: tuple[int, ...] = (), kg: float | None = None) -> PickOutcome:
    """All open cups reach that share of the vacuum, without those that were ``lost``. kg: weighed, by default as
    expected."""
    cups = {cup: share for cup in mask_to_cups(grasp.cups) if cup not in lost}
    done = pressed(cups, traces=False)
    weight = GRAVITY_MPS2 * (grasp.terms["mass_kg"] if kg is None else kg)
    return replace(
        done, result=PickResult.CLEAN if share else PickResult.MISS, lifted_weight_n=weight if share else 0.0
    )


def pick(
    learner: HoldLearner | HoldKeeper,
    instance_id: int,
    share: float,
    lost: tuple[int, ...] = (),
    kg: float | None = None,
    boxes: tuple[Box, ...] = (SACK, CARTON),
    conditions: tuple[Condition, ...] = (),
    trust: CupTrust = ALL_SOUND,
    result: PickResult | None = None,
) -> Grasp:
    """One pick of that instance, noted. share 0: nothing holds."""
    frame, scene = goods(*boxes, conditions=conditions)
    grasp = grasp_on(instance_id, plan_with(learner, frame, scene))
    outcome = outcome_of(grasp, share, lost, kg)
    learner.note(PickTarget(grasp, frame, scene), outcome, result or outcome.result, trust)
    return grasp


def expected(learner: HoldLearner | HoldKeeper, *boxes: Box):  # type: ignore[no-untyped-def]
    return learner.expected(*goods(*(boxes or (SACK, CARTON))))
