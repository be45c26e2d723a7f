"""Versions of what is learned as messages: of scene, plan and record, and the terms that a plan was told of holding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.ros_environment import ROS_REASON

if ROS_REASON is not None:
    pytest.skip(ROS_REASON, allow_module_level=True)

from helpers.decision_samples import sample_frame, sample_plan, sample_scene
from rclpy.serialization import deserialize_message, serialize_message
from robin_msgs.msg import GraspPlan

from edge_adapt.bag.messages import PLAN_TYPE, plan_message
from edge_adapt.bag.recorded_holding import recorded_holding
from edge_adapt.decision import DecisionContext, build_decision
from edge_adapt.nodes.convert import decision_from_msg, decision_to_msg
from robin_grasp.holding import HOLD_FIELDS, PLACES, HoldTerms
from robin_grasp.learned import LearnedState
from robin_grasp.nodes.convert import plan_from_msg, plan_to_msg
from robin_grasp.picks.plan_server import IssuedPlan
from robin_grasp.plan import PlanBasis
from robin_grasp.tool import CellConfig
from robin_perception.bags import cdr
from robin_perception.nodes.convert import frame_header, scene_from_msg, scene_to_msg

HOLD, TOOL = LearnedState(57, "ab" * 32), LearnedState(60, "cd" * 32)


def issued() -> IssuedPlan:
    rng = np.random.default_rng(4)
    frame = sample_frame(rng)
    scene = replace(sample_scene(frame), model_version=0)
    count = len(scene.instances)
    level, last = np.arange(count) == 0, np.arange(count) == 1
    terms = HoldTerms(rng.random((count, len(PLACES))), *rng.random((5, count)), level, last, HOLD)
    return IssuedPlan("p-1", True, replace(sample_plan(), holding=terms, basis=PlanBasis(tool=TOOL)), frame, scene)


def same_terms(found: HoldTerms | None, wanted: HoldTerms | None) -> bool:
    assert found is not None and wanted is not None
    same = all(np.array_equal(getattr(found, name), getattr(wanted, name)) for name in HOLD_FIELDS)
    return same and found.state == wanted.state


def test_a_plan_tells_what_it_was_told_of_holding_and_cups() -> None:
    sent = issued()
    message = deserialize_message(serialize_message(plan_to_msg(sent, CellConfig())), GraspPlan)
    assert [terms.instance_id for terms in message.hold_terms] == [1, 2]
    back = plan_from_msg(message).plan
    assert same_terms(back.holding, sent.plan.holding) and back.basis.tool == TOOL
    nobody = replace(sent, plan=replace(sent.plan, holding=None, basis=PlanBasis()))
    assert plan_from_msg(plan_to_msg(nobody, CellConfig())).plan.holding is None


def test_a_bag_holds_the_same_message() -> None:
    sent = issued()
    data = cdr.encode(PLAN_TYPE, plan_message(sent, CellConfig()))
    back = plan_from_msg(deserialize_message(data, GraspPlan)).plan
    assert same_terms(back.holding, sent.plan.holding) and back.basis.tool == TOOL
    assert same_terms(recorded_holding(cdr.decode(PLAN_TYPE, data), sent.scene), sent.plan.holding)


def test_the_factorys_version_and_none_are_told_apart() -> None:
    sent = issued()
    for version in (0, 12, None):
        scene = replace(sent.scene, model_version=version)
        assert scene_from_msg(scene_to_msg(scene, frame_header(sent.frame))).model_version == version


def test_a_record_as_a_message_names_them() -> None:
    sent = issued()
    context = DecisionContext(run_id="r", pile=0, pick=0)
    decision = build_decision(context, sent.frame, sent.scene, sent.plan, None)
    message = decision_to_msg(decision)
    assert (message.model_version, message.holding.picks, message.tool.digest) == ("0", 57, "cd" * 32)
    assert decision_from_msg(message) == decision
