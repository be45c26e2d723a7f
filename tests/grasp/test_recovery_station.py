"""Policy and help desk of a running station: what reports of a cell and answers of people lead to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.grasp_scenes import Box, box_scene

from robin_grasp.picks.outcome import PickResult
from robin_grasp.picks.pick_check import PickJudgement
from robin_grasp.plan import Grasp
from robin_grasp.recovery.action import Action, known_action
from robin_grasp.recovery.config import RecoveryConfig
from robin_grasp.recovery.help_desk import HelpDesk
from robin_grasp.recovery.machine import PickTarget, refuse_to_pick
from robin_grasp.recovery.station import StationRecovery
from robin_perception.core.condition import Condition, Family, PickingEffect
from robin_perception.core.errors import Code, RobinError

FRAME, SCENE = box_scene([Box(0.65, 0.0, 0.2, 0.2, 0.1), Box(0.95, 0.0, 0.2, 0.2, 0.12)])
CONFIG = RecoveryConfig(set_downs=1)


def target(x: float = 0.65, instance_id: int = 1) -> PickTarget:
    pose = np.eye(4)
    pose[:3, 3] = (x, 0.0, 0.1)
    return PickTarget(Grasp(pose, 0b11, instance_id, 0.9), FRAME, SCENE)


def judged(result: PickResult) -> PickJudgement:
    return PickJudgement(result, 1.0, (), 1.0, (), probabilities={result: 1.0})


def station(folder: Path | None = None, config: RecoveryConfig = CONFIG) -> StationRecovery:
    return StationRecovery(config, HelpDesk(folder))


def asked_about_a_load(cell: StationRecovery, plan_id: str = "p-2") -> str:
    assert cell.held("p-1", target(), judged(PickResult.MULTI)).step.action is Action.SET_DOWN
    assert cell.ended("p-1", target(), PickResult.MULTI).step.action is Action.OTHER_CUPS
    told = cell.held(plan_id, target(), judged(PickResult.MULTI))
    assert told.step.action is Action.ASK_HELP and told.help_id
    return told.help_id


@pytest.mark.parametrize(
    ("answer", "action"),
    [("deliver", Action.GO_ON), ("done", Action.GO_ON), ("set_down", Action.OTHER_POSE), ("stop", Action.STOP)],
)
def test_what_a_person_says_about_a_load_decides_what_it_was(answer: str, action: Action) -> None:
    cell = station()
    cell.answer(asked_about_a_load(cell), answer, "Kim")
    assert cell.ended("p-2", target(), PickResult.MULTI).step.action is action
    assert cell.stopped == (answer == "stop")


def test_the_judgement_of_the_load_is_the_one_of_the_pick() -> None:
    cell, belief = station(), judged(PickResult.CLEAN)
    assert cell.held("p-1", target(), belief).step.action is Action.DELIVER
    assert cell.judged("p-1") is belief
    assert cell.ended("p-1", target(), PickResult.CLEAN).step.action is Action.GO_ON
    assert cell.judged("p-1") is None


def test_cups_that_let_go_of_the_second_parcel_are_not_judged_again() -> None:
    cell = station()
    told = cell.held("p-1", target(), judged(PickResult.MULTI), apart=0b10)
    assert told.step.action is Action.PUT_BACK and told.step.release_cups == 0b10
    assert cell.holding("p-1", target().grasp).cups == 0b01
    assert cell.holding("p-9", target().grasp).cups == 0b11
    assert cell.held("p-1", target(), judged(PickResult.CLEAN)).step.action is Action.DELIVER


def test_nobody_asks_about_a_load_that_nobody_judged() -> None:
    assert station().held("p-1", target(), None).step.action is Action.DELIVER


def test_only_what_the_policy_gave_up_is_asked_about() -> None:
    cell = station()
    assert cell.planned("p-0", FRAME, SCENE, (1, 2), False) == ""  # left out by the caller
    for number in range(3):
        cell.ended(f"p-{number}", target(), PickResult.MISS)
    assert cell.planned("p-3", FRAME, SCENE, (1,), True) == ""  # something else can be picked
    help_id = cell.planned("p-4", FRAME, SCENE, (1,), False)
    assert cell.desk.request(help_id).plan_id == "p-4" and cell.desk.request(help_id).code is Code.PARCEL_NOT_HELD
    cell.answer(help_id, "done", "Kim")
    assert cell.planned("p-5", FRAME, SCENE, (1,), False) == ""  # forgotten: it was removed


def test_goods_that_were_seldom_held_are_asked_about_where_nothing_else_is_left() -> None:
    cell = station()
    assert cell.planned("p-0", FRAME, SCENE, (2,), True, seldom_held=(2,)) == ""  # something else can be picked
    assert cell.planned("p-1", FRAME, SCENE, (1,), False, seldom_held=(2,)) == ""  # left out by the caller
    help_id = cell.planned("p-2", FRAME, SCENE, (2,), False, seldom_held=(2,))
    cell.scene(FRAME, SCENE)
    request = cell.desk.request(help_id)
    assert (request.code, request.plan_id, request.is_open) == (Code.GOODS_SELDOM_HELD, "p-2", True)


def condition(effect: PickingEffect) -> Condition:
    return Condition(Code.POSE_DOUBTFUL, "moved", Family.ENVIRONMENT, 30.0, 10.0, "mm", 0.0, effect, "it moved")


def test_a_station_that_is_not_in_order_is_asked_about_once_and_withdrawn_when_it_is() -> None:
    cell, bad = station(), replace(SCENE, conditions=(condition(PickingEffect.STOP),))
    for _ in range(3):
        cell.scene(FRAME, bad)
    (request,) = cell.desk.requests()
    assert request.code is Code.POSE_DOUBTFUL and request.text == "it moved" and request.plan_id == ""
    cell.scene(FRAME, SCENE)
    assert cell.desk.requests() == () and cell.desk.request(request.help_id).answer == "withdrawn"
    assert not cell.stopped


def test_requests_of_before_a_restart_stay_open_and_are_not_asked_twice(tmp_path: Path) -> None:
    bad = replace(SCENE, conditions=(condition(PickingEffect.STOP),))
    first = station(tmp_path)
    first.scene(FRAME, bad)
    load = asked_about_a_load(first)
    again = station(tmp_path)
    again.scene(FRAME, bad)
    assert len(again.desk.requests()) == 2
    assert again.answer(load, "set_down", "Kim").answer == "set_down"


def test_a_condition_refuses_plans_by_its_number() -> None:
    refuse_to_pick([condition(PickingEffect.SLOW_DOWN), condition(PickingEffect.GO_ON)])
    for effect in (PickingEffect.STOP, PickingEffect.LOOK_AGAIN):
        with pytest.raises(RobinError, match="it moved") as caught:
            refuse_to_pick([condition(effect)])
        assert caught.value.code is Code.POSE_DOUBTFUL


def test_actions_of_another_version_are_none() -> None:
    assert known_action("set_down") is Action.SET_DOWN and known_action("") is None and known_action("dance") is None
