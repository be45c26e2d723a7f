"""Learning to hold: what picks of some goods show reaches later plans, fades, and harms no goods that hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.hold_picks import CARTON, CARTON_ID, CELL, SACK, SACK_ID, expected, goods, grasp_on, pick, plan_with

from edge_adapt.learn.evidence import Evidence, log_bound, rate_logit, seen_log, seen_rate
from edge_adapt.learn.hold import HoldConfig, HoldLearner, tool_tilt
from edge_adapt.learn.hold_file import hold_bytes
from edge_adapt.learn.looks import Looks
from robin_grasp.holding import PLACES, STEEP_RAD
from robin_grasp.picks.outcome import PickResult
from robin_grasp.plan import CupTrust
from robin_grasp.recovery.action import Action
from robin_grasp.recovery.machine import Recovery
from robin_grasp.tool import mask_to_cups
from robin_perception.core.condition import Condition, Family, PickingEffect
from robin_perception.core.errors import Code

NEVER_EXPLORES = HoldConfig(explore_rate=0.0)
GOOD = 0.55
MIDDLE, INNER = PLACES.index("middle"), PLACES.index("inner")


def learner_of(config: HoldConfig = NEVER_EXPLORES) -> HoldLearner:
    return HoldLearner(CELL, config)


def taught_that_sacks_never_hold(learner: HoldLearner, tries: int = 4) -> HoldLearner:
    for _ in range(tries):
        pick(learner, SACK_ID, 0.0)
    return learner


def test_who_has_learned_nothing_plans_as_the_factory_does() -> None:
    frame, scene = goods(SACK, CARTON)
    factory, same = plan_with(None, frame, scene), plan_with(learner_of(), frame, scene)
    assert [g.score for g in factory.grasps] == [g.score for g in same.grasps]
    for one, other in zip(factory.grasps, same.grasps, strict=True):
        assert np.array_equal(one.T_base_tool, other.T_base_tool) and one.cups == other.cups
        assert not any("learned" in name for name in one.terms)
        assert one.terms == {name: other.terms[name] for name in one.terms}


def test_goods_that_were_seldom_held_are_left_for_last() -> None:
    frame, scene = goods(SACK, CARTON)
    before = plan_with(None, frame, scene)
    learner = taught_that_sacks_never_hold(learner_of(), tries=3)
    assert not expected(learner).last.any()
    taught_that_sacks_never_hold(learner, tries=1)
    assert expected(learner).last.tolist() == [True, False]
    plan = plan_with(learner, frame, scene)
    ids = [grasp.instance_id for grasp in plan.grasps]
    assert ids == sorted(ids, reverse=True) and set(ids) == {grasp.instance_id for grasp in before.grasps}
    assert grasp_on(SACK_ID, plan).terms["left_for_last"] == 1.0
    assert grasp_on(SACK_ID, plan).score < min(grasp.score for grasp in before.grasps) - 5


@pytest.mark.parametrize(
    ("held", "last"),
    [((0.0, GOOD, 0.0, GOOD, GOOD, 0.0, GOOD), False), ((0.0, GOOD, 0.0, 0.0, GOOD, 0.0, 0.0), True)],
    ids=["mostly", "seldom"],
)
def test_goods_that_hold_more_often_than_not_are_tried(held: tuple[float, ...], last: bool) -> None:
    learner = learner_of()
    for share in held:
        pick(learner, SACK_ID, share)
    assert expected(learner).last.tolist() == [last, False]


def test_goods_that_hold_are_picked_as_ever() -> None:
    learner = learner_of()
    for _ in range(12):
        pick(learner, CARTON_ID, GOOD)
    terms = expected(learner)
    assert terms.tries[1] > 10 and not terms.last.any()
    for values in (terms.seal_logit, terms.clean_logit):
        assert np.array_equal(values, np.zeros_like(values))


def test_other_goods_are_not_blamed_for_sacks() -> None:
    learner = taught_that_sacks_never_hold(learner_of(), tries=6)
    terms = expected(learner)
    assert terms.clean_logit[0] < -2 < terms.clean_logit[1] and terms.last.tolist() == [True, False]
    plan = plan_with(learner, *goods(SACK, CARTON))
    assert grasp_on(CARTON_ID, plan).terms["p_clean"] > 0.9 > 0.8 > grasp_on(SACK_ID, plan).terms["p_clean"]


def test_what_fails_is_expected_to_seal_less_so_that_no_cup_is_blamed() -> None:
    learner = learner_of()
    first = pick(learner, SACK_ID, 0.0)
    taught_that_sacks_never_hold(learner)
    frame, scene = goods(SACK, CARTON)
    later = grasp_on(SACK_ID, plan_with(learner, frame, scene))
    assert np.nanmax(later.cup_seal) < np.nanmin(first.cup_seal)
    assert later.terms["p_clean"] < first.terms["p_clean"]


def test_cups_near_the_edge_that_peel_off_are_trusted_less_than_inner_ones() -> None:
    narrow, learner = replace(CARTON, size_x=0.11), learner_of()
    for _ in range(5):
        pick(learner, 1, 0.0, boxes=(narrow,))
        pick(learner, 1, GOOD, boxes=(CARTON,))
    offsets = expected(learner, CARTON).seal_logit[0]
    assert offsets[MIDDLE] < -1 and offsets[INNER] == 0
    sure, doubtful = (grasp_on(1, plan_with(learner, *goods(box))) for box in (CARTON, narrow))
    assert np.nanmin(sure.cup_seal) > np.nanmax(doubtful.cup_seal)


def test_a_steep_tool_that_fails_says_nothing_of_a_level_one() -> None:
    sloped, learner = replace(CARTON, slope_x=0.55), learner_of()
    for _ in range(6):
        assert tool_tilt(pick(learner, 1, 0.0, boxes=(sloped,))) > STEEP_RAD
        assert tool_tilt(pick(learner, 1, GOOD, boxes=(CARTON,))) < STEEP_RAD
    terms = expected(learner, CARTON)
    assert terms.steep_logit[0] < -1 and terms.clean_logit[0] == 0 and not terms.seal_logit.any()
    assert terms.tries[0] > 5
    steep, level = (grasp_on(1, plan_with(learner, *goods(box))).terms for box in (sloped, CARTON))
    assert steep["p_clean"] < steep["p_clean_before_learned"] - 0.1
    assert level["p_clean"] == level["p_clean_before_learned"]


def test_heavy_and_leaking_goods_are_expected_to_be_so() -> None:
    learner = learner_of()
    factory = grasp_on(CARTON_ID, plan_with(None, *goods(SACK, CARTON)))
    for _ in range(6):
        pick(learner, CARTON_ID, 0.2, kg=2.0 * factory.terms["mass_kg"])
    terms = expected(learner)
    assert 0.2 < terms.mass_log[1] <= np.log(2.0) + 1e-9 and terms.vacuum_log[1] < -0.1
    later = grasp_on(CARTON_ID, plan_with(learner, *goods(SACK, CARTON)))
    assert later.terms["mass_kg"] > 1.2 * factory.terms["mass_kg"]
    assert later.terms["hold_probability"] <= factory.terms["hold_probability"]


def test_what_was_learned_fades_when_such_goods_are_gone() -> None:
    learner = taught_that_sacks_never_hold(learner_of(HoldConfig(explore_rate=0.0, half_life_picks=5.0)), tries=12)
    assert expected(learner).last[0]
    for _ in range(8):
        pick(learner, CARTON_ID, GOOD)
    assert not expected(learner).last.any()


def test_goods_that_hold_again_are_trusted_again() -> None:
    learner = taught_that_sacks_never_hold(learner_of(HoldConfig(explore_rate=0.0, half_life_picks=8.0)), tries=5)
    low = expected(learner).clean_logit[0]
    for _ in range(16):
        pick(learner, SACK_ID, GOOD)
    assert not expected(learner).last.any() and expected(learner).clean_logit[0] > 0.25 * low


def test_now_and_then_nothing_is_left_for_last() -> None:
    always = taught_that_sacks_never_hold(learner_of(HoldConfig(explore_rate=1.0)))
    assert not expected(always).last.any() and expected(always).clean_logit[0] < 0


def condition(family: Family, name: str, instances: tuple[int, ...] = ()) -> Condition:
    return Condition(Code.LIGHT_LOW, name, family, 2.0, 1.0, "", 0.0, PickingEffect.GO_ON, "", instances)


def test_a_station_that_is_not_in_order_teaches_nothing() -> None:
    learner = learner_of()
    pick(learner, SACK_ID, 0.0, conditions=(condition(Family.ENVIRONMENT, "dark"),))
    assert learner.picks == 0 and not learner.classes
    pick(learner, SACK_ID, 0.0, conditions=(condition(Family.NOVELTY, "novel-03", (SACK_ID,)),))
    assert learner.picks == 1 and learner.looks.all[0].name == "novel-03"


@pytest.mark.parametrize("result", [PickResult.MULTI, PickResult.WRONG])
def test_a_load_of_other_parcels_teaches_nothing(result: PickResult) -> None:
    learner = learner_of()
    pick(learner, SACK_ID, GOOD, result=result)
    assert learner.picks == 0


def test_cups_in_doubt_are_no_fault_of_the_goods() -> None:
    doubted, sound, lost = learner_of(), learner_of(), (0, 1, 2, 3)
    trust = CupTrust(tuple(0.0 if cup in lost else 1.0 for cup in range(8)))
    for _ in range(3):
        grasp = pick(doubted, CARTON_ID, GOOD, lost=lost, trust=trust)
        pick(sound, CARTON_ID, GOOD, lost=lost)
    assert set(mask_to_cups(grasp.cups)) & set(lost)
    assert (expected(doubted).seal_logit[1] == 0).all()
    assert expected(sound).seal_logit[1].min() < 0


def test_the_same_picks_teach_the_same() -> None:
    first, second = (taught_that_sacks_never_hold(learner_of()) for _ in range(2))
    assert hold_bytes(first) == hold_bytes(second)


def test_a_name_of_the_novelty_watch_tells_looks_apart() -> None:
    looks, seen = Looks(within=0.35, most=2), np.full(196, 0.1, np.float32)
    assert looks.learn(seen, "novel-01") is looks.learn(seen * 1.01) is looks.all[0]
    assert looks.learn(seen, "novel-02") is looks.all[1]
    assert looks.find(seen * 9, "novel-02") is looks.all[1] and looks.find(seen * 9) is None
    looks.all[0].evidence.clean += seen_rate(0.9, 1.0)
    looks.learn(seen * -1)
    assert len(looks.all) == 2 and [look.name for look in looks.all] == ["novel-01", ""]


def test_posteriors_lie_between_the_factory_and_what_was_seen() -> None:
    failing, log = Evidence(), Evidence()
    told = []
    for _ in range(30):
        failing.clean += seen_rate(0.9, 0.0)
        log.mass += seen_log(1.5)
        told.append((rate_logit(failing.clean, 4.0, 0.0, 1.0), log_bound(log.mass, 4.0, 0.0, 1.0, 1)))
    rates, logs = np.array(told).T
    assert (np.diff(rates) <= 0).all() and (np.diff(logs) >= 0).all()
    assert 0 < logs[-1] <= np.log(1.5) and log_bound(log.mass, 4.0, 0.0, 1.0, -1) == 0.0
    assert rate_logit(np.zeros(3), 4.0, -0.7, 1.0) == -0.7, "a look that was never picked starts from its class"


def test_a_person_is_asked_about_goods_that_were_seldom_held() -> None:
    step = Recovery().look((), left_over=True, seldom_held=True)
    assert step.action is Action.ASK_HELP and step.code is Code.GOODS_SELDOM_HELD
