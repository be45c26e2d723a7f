"""The recovery policy: its table, what it remembers, and when it asks."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.grasp_scenes import Box, box_scene

from robin_grasp.picks.outcome import PickResult
from robin_grasp.plan import Grasp
from robin_grasp.planner.config import RankConfig
from robin_grasp.recovery import Action
from robin_grasp.recovery.action import MEANING
from robin_grasp.recovery.config import RecoveryConfig
from robin_grasp.recovery.failure_memory import FailureMemory
from robin_grasp.recovery.machine import Fate, PickTarget, Recovery, gravest, load_seen, slowed
from robin_grasp.recovery.table import (
    SEEN_IN,
    Doubt,
    Seen,
    State,
    recovery_table,
    rule_for,
    table_markdown,
)
from robin_grasp.tool import MotionConfig
from robin_perception.core.condition import Condition, Family, PickingEffect
from robin_perception.core.errors import Code
from robin_perception.core.scene import Scene

ROOT = Path(__file__).resolve().parents[2]
FRAME, SCENE = box_scene([Box(0.65, 0.0, 0.2, 0.2, 0.1), Box(0.95, 0.0, 0.2, 0.2, 0.12)])
CLEAN = {PickResult.CLEAN: 0.97, PickResult.MULTI: 0.02, PickResult.WRONG: 0.01}
MULTI = {PickResult.MULTI: 0.95, PickResult.CLEAN: 0.05}
PERHAPS = {PickResult.CLEAN: 0.5, PickResult.MULTI: 0.35, PickResult.WRONG: 0.15}


def target(x: float = 0.65, cups: int = 0b11, instance_id: int = 1) -> PickTarget:
    pose = np.eye(4)
    pose[:3, 3] = (x, 0.0, 0.1)
    return PickTarget(Grasp(pose, cups, instance_id, 0.9), FRAME, SCENE)


def condition(effect: PickingEffect, family: Family = Family.ENVIRONMENT) -> Condition:
    return Condition(Code.POSE_DOUBTFUL, "dark", family, 2.0, 1.0, "", 0.0, effect, "too dark")


def fail(recovery: Recovery, pick: PickTarget, times: int) -> list[Action]:
    return [recovery.ended(pick, PickResult.MISS).action for _ in range(times)]


@pytest.mark.parametrize("config", [RecoveryConfig(), RecoveryConfig(set_downs=1, pose_tries=0, doubtful_set_downs=5)])
def test_every_situation_has_a_rule(config: RecoveryConfig) -> None:
    table = recovery_table(config)
    for state, possible in SEEN_IN.items():
        for seen, doubt, tries in itertools.product(possible, Doubt, range(12)):
            rule = rule_for(table, state, seen, doubt, tries)
            assert rule.next_state is not state or rule.action is Action.LOOK_AGAIN or rule.action is Action.PUT_BACK
    assert {rule.action for rule in table} == set(Action) == set(MEANING)
    assert {seen for possible in SEEN_IN.values() for seen in possible} == set(Seen)


def test_the_page_shows_the_table() -> None:
    assert table_markdown(RecoveryConfig()) in (ROOT / "docs" / "recovery.md").read_text()


def test_limits_are_in_the_table() -> None:
    table = recovery_table(RecoveryConfig(set_downs=4))
    assert rule_for(table, State.HELD, Seen.MULTI, Doubt.SURE, 3).action is Action.SET_DOWN
    assert rule_for(table, State.HELD, Seen.MULTI, Doubt.SURE, 4).action is Action.ASK_HELP


def test_a_load_is_judged_by_the_odds_of_something_wrong() -> None:
    config = RecoveryConfig(deliver_below=0.2, sure_from=0.8)
    assert load_seen(CLEAN, config) == (Seen.CLEAN, Doubt.SURE)
    assert load_seen(MULTI, config) == (Seen.MULTI, Doubt.SURE)
    assert load_seen(PERHAPS, config) == (Seen.MULTI, Doubt.DOUBTFUL)  # clean is likelier, and yet not delivered
    assert load_seen({PickResult.WRONG: 0.5, PickResult.MULTI: 0.4}, config) == (Seen.WRONG, Doubt.SURE)
    assert load_seen({PickResult.DROP: 0.9, PickResult.CLEAN: 0.1}, config) == (Seen.NOTHING, Doubt.SURE)
    assert load_seen({}, config) == (Seen.UNKNOWN, Doubt.DOUBTFUL)


def test_a_clean_load_is_delivered_and_the_next_parcel_picked() -> None:
    recovery = Recovery()
    assert recovery.look().action is Action.GO_ON and recovery.state is State.HELD
    assert recovery.held(target(), CLEAN).action is Action.DELIVER and recovery.state is State.ENDED
    assert recovery.ended(target(), PickResult.CLEAN).action is Action.GO_ON and recovery.state is State.LOOK
    assert recovery.memory.failed == ()


def test_two_parcels_are_set_down_and_the_same_try_is_not_repeated() -> None:
    recovery = Recovery()
    assert recovery.held(target(), MULTI).action is Action.SET_DOWN
    step = recovery.ended(target(), PickResult.MULTI, Fate.BACK)
    assert (step.seen, step.action, step.tries) == (Seen.BACK, Action.OTHER_CUPS, 1)
    (told,) = recovery.memory.failed
    assert told.times == 1
    recovery.ended(target(0.70), PickResult.MULTI, Fate.BACK)
    assert [f.times for f in recovery.memory.failed] == [1, RankConfig().failed_most]  # these cups are ruled out there


def test_setting_down_again_and_again_ends_with_a_question() -> None:
    recovery = Recovery()
    actions = []
    for _ in range(3):
        actions.append(recovery.held(target(), MULTI).action)
        recovery.ended(target(), PickResult.MULTI, Fate.BACK)
    assert actions == [Action.SET_DOWN, Action.SET_DOWN, Action.ASK_HELP]
    doubtful = Recovery()
    assert doubtful.held(target(), PERHAPS).action is Action.SET_DOWN
    doubtful.ended(target(), PickResult.MULTI, Fate.BACK)
    asked = doubtful.held(target(), PERHAPS)
    assert asked.action is Action.ASK_HELP and asked.code is Code.LOAD_DOUBTFUL
    assert doubtful.held(target(0.95, instance_id=2), PERHAPS).action is Action.SET_DOWN  # another parcel


def test_the_second_parcel_alone_is_put_back_once() -> None:
    recovery = Recovery()
    recovery.look()
    step = recovery.held(target(cups=0b1111), MULTI, apart=0b1100)
    assert step.action is Action.PUT_BACK and step.release_cups == 0b1100 and recovery.state is State.HELD
    assert recovery.held(target(cups=0b1111), MULTI, apart=0b1100).action is Action.SET_DOWN
    recovery.look()
    assert recovery.held(target(cups=0b1111), PERHAPS, apart=0b1100).action is Action.SET_DOWN  # not sure enough


def test_what_left_the_cell_wrong_is_marked() -> None:
    step = Recovery().ended(target(), PickResult.WRONG)
    assert step.action is Action.MARK_DESTINATION and step.code is Code.DESTINATION_WRONG


def test_a_parcel_that_nothing_holds_is_given_up_and_a_person_asked() -> None:
    recovery = Recovery()
    assert fail(recovery, target(), 3) == [Action.OTHER_CUPS, Action.OTHER_POSE, Action.OTHER_PARCEL]
    assert recovery.memory.given_up(FRAME, SCENE) == (1,)
    asked = recovery.look(left_over=True)
    assert asked.action is Action.ASK_HELP and asked.code is Code.PARCEL_NOT_HELD
    assert recovery.state is State.WAITING
    recovery.memory.forget_parcels(FRAME, SCENE, (1,))
    recovery.answered("done")
    assert recovery.memory.given_up(FRAME, SCENE) == () and recovery.memory.failed == ()
    assert recovery.state is State.LOOK


def test_tries_count_by_parcel_wherever_on_it_they_were() -> None:
    recovery = Recovery()
    first, second = target(0.60, cups=0b1), target(0.70, cups=0b10)
    other = target(0.95, instance_id=2)
    assert fail(recovery, first, 1) + fail(recovery, other, 1) + fail(recovery, second, 1) == [
        Action.OTHER_CUPS,
        Action.OTHER_CUPS,
        Action.OTHER_POSE,
    ]


def test_many_failures_in_a_row_are_no_parcel_s_fault() -> None:
    recovery = Recovery(RecoveryConfig(failures_in_a_row=4))
    actions = fail(recovery, target(), 2) + fail(recovery, target(0.95, instance_id=2), 2)
    assert actions[-1] is Action.ASK_HELP and recovery.state is State.WAITING
    recovery.answered("stop")
    assert recovery.state is State.STOPPED


def test_a_parcel_is_given_up_also_when_the_row_of_failures_is_told_first() -> None:
    recovery = Recovery(RecoveryConfig(failures_in_a_row=3))
    assert fail(recovery, target(), 3)[-1] is Action.ASK_HELP
    assert recovery.memory.given_up(FRAME, SCENE) == (1,)


def test_nobody_judged() -> None:
    recovery = Recovery()
    assert recovery.held(target(), {}).action is Action.DELIVER
    assert recovery.ended(target(), None).action is Action.GO_ON
    assert recovery.memory.failed == ()


def test_conditions_of_the_station() -> None:
    recovery = Recovery(RecoveryConfig(looks=2))
    stop, slow = condition(PickingEffect.STOP), condition(PickingEffect.SLOW_DOWN)
    assert gravest([slow, stop]) is stop
    assert gravest([condition(PickingEffect.STOP, Family.NOVELTY), condition(PickingEffect.GO_ON)]) is None
    assert recovery.look([slow]).action is Action.GO_SLOWLY
    step = recovery.look([slow, stop])
    assert step.action is Action.ASK_HELP and step.code is stop.code and "too dark" in step.reason
    again = condition(PickingEffect.LOOK_AGAIN)
    assert [recovery.look([again]).action for _ in range(3)] == [Action.LOOK_AGAIN, Action.LOOK_AGAIN, Action.ASK_HELP]
    recovery.look()
    assert recovery.look([again]).action is Action.LOOK_AGAIN


def test_asking_again_and_again_ends_in_a_stop_unless_a_pick_goes_well() -> None:
    recovery = Recovery(RecoveryConfig(helps_in_a_row=2))
    stop = [condition(PickingEffect.STOP)]
    assert [recovery.look(stop).action for _ in range(3)] == [Action.ASK_HELP, Action.ASK_HELP, Action.STOP]
    assert recovery.state is State.STOPPED
    recovery.ended(target(), PickResult.CLEAN)
    assert recovery.look(stop).action is Action.ASK_HELP


def test_slow_motion_takes_the_same_path() -> None:
    motion, slow = MotionConfig(), slowed(MotionConfig(), 0.5)
    assert slow.lift_speed_mps == motion.lift_speed_mps / 2 and slow.lift_accel_mps2 == motion.lift_accel_mps2 / 4
    assert slow.lift_m == motion.lift_m and MotionConfig.model_validate(slow.model_dump()) == slow


def test_a_failure_outside_of_the_image_is_nobody_s() -> None:
    memory = FailureMemory()
    memory.note(target(x=9.0).grasp, PickResult.MISS, Action.OTHER_PARCEL)
    assert memory.given_up(FRAME, SCENE) == ()
    smaller: Scene = replace(SCENE, labels=SCENE.labels[:10, :10])
    memory.note(target().grasp, PickResult.MISS, Action.OTHER_PARCEL)
    assert memory.given_up(FRAME, smaller) == ()


def test_who_was_stopped_meanwhile_stays_stopped() -> None:
    recovery = Recovery()
    recovery.held(target(), PERHAPS)
    recovery.answered("stop")
    step = recovery.ended(target(), PickResult.CLEAN, Fate.BACK)
    assert step.action is Action.STOP and step.next_state is recovery.state is State.STOPPED
