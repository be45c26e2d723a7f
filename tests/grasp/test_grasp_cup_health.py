"""Cup health: what picks tell of the cups, and what the planner makes of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers.cup_picks import ALL, GOOD, TOOL, grasp_with, pressed
from helpers.grasp_scenes import Box, box_scene

from robin_grasp.cup_health import CupHealth, CupHealthConfig, CupState, pressed_vacuum
from robin_grasp.picks.outcome import PickOutcome, PickResult
from robin_grasp.picks.traces import PickTraces
from robin_grasp.plan import ALL_SOUND, CupTrust, Grasp, PlanBasis
from robin_grasp.planner.planner import SuctionPlanner
from robin_grasp.tool import CellConfig, ToolConfig, mask_to_cups
from robin_perception.core.errors import Code, RobinError


def picks_until_found(bad: int, reads: float, cups: tuple[int, ...] = ALL) -> tuple[int, CupHealth]:
    health = CupHealth(TOOL)
    for count in range(1, 30):
        shares = {cup: reads if cup == bad else GOOD for cup in cups}
        if health.note(grasp_with(cups), pressed(shares), float(count)):
            return count, health
    raise AssertionError("never found")


@pytest.mark.parametrize("cup", ALL)
@pytest.mark.parametrize(("reads", "state"), [(0.0, CupState.BLOCKED), (0.19, CupState.WEAK)])
def test_a_bad_cup_is_found_and_named_within_eight_picks(cup: int, reads: float, state: CupState) -> None:
    picks, health = picks_until_found(cup, reads)
    assert 2 <= picks <= 8, "not at the first doubt, and not late"
    (found,) = health.findings
    assert (found.cup, found.state) == (cup, state)
    assert found.code is (Code.CUP_BLOCKED if state is CupState.BLOCKED else Code.CUP_WEAK)
    assert found.changed_s == picks
    assert f"cup {cup}" in found.text
    assert health.trust.shares[cup] == 0.0
    assert all(health.trust.shares[other] == 1.0 for other in ALL if other != cup)


def test_goods_that_no_cup_can_hold_say_nothing_of_the_cups() -> None:
    health = CupHealth(TOOL)
    for count in range(40):
        cups = ALL if count % 2 else (1, 2, 5, 6)
        health.note(grasp_with(cups), pressed({}), float(count))
    assert health.findings == ()
    assert health.trust == ALL_SOUND


def test_goods_that_leak_under_every_cup_say_nothing_of_the_cups() -> None:
    health = CupHealth(TOOL)
    for count in range(40):
        health.note(grasp_with(ALL), pressed(dict.fromkeys(ALL, 0.19)), float(count))
    assert health.findings == ()


def test_a_cup_on_a_doubtful_spot_is_not_blamed_as_one_on_a_flat_face() -> None:
    blamed = []
    for seal in (0.5, 0.99):
        health = CupHealth(TOOL)
        grasp = grasp_with(ALL)
        grasp = Grasp(grasp.T_base_tool, grasp.cups, 1, 0.0, cup_seal=(seal, *grasp.cup_seal[1:]))
        health.note(grasp, pressed({cup: GOOD for cup in ALL if cup != 0}), 0.0)
        blamed.append(1.0 - health.cups[0].probabilities[CupState.GOOD])
    assert blamed[0] < blamed[1]


def test_a_cup_that_holds_again_is_trusted_again_and_at_once_after_a_reset() -> None:
    _, health = picks_until_found(3, 0.0)
    again = 0
    while health.findings:
        again += 1
        health.note(grasp_with(ALL), pressed(dict.fromkeys(ALL, GOOD)), 50.0 + again)
    assert 1 <= again <= 6
    assert health.cups[3].changed_s == 50.0 + again
    _, other = picks_until_found(3, 0.0)
    other.reset((3,), 99.0)
    assert other.trust == ALL_SOUND
    assert (other.cups[3].picks, other.cups[3].changed_s) == (0, 99.0)
    with pytest.raises(RobinError) as wrong:
        other.reset((2, 8), 100.0)
    assert wrong.value.code is Code.CUPS_MISMATCH
    assert other.cups[2].picks > 0, "a refused reset changes nothing"


def test_a_cup_that_peels_off_in_the_lift_is_not_blamed() -> None:
    health = CupHealth(TOOL)
    trace = np.full((60, 8), GOOD * TOOL.vacuum_pa, dtype=np.float32)
    trace[30:, 0] = 0.0
    after = tuple(0.0 if cup == 0 else GOOD * TOOL.vacuum_pa for cup in ALL)
    traces = PickTraces(50.0, trace, np.zeros(60, np.float32), {"vacuum": 0, "lift": 20})
    for count in range(20):
        health.note(grasp_with(ALL), PickOutcome(PickResult.CLEAN, after, 5.0, 3.0, traces=traces), float(count))
    assert health.findings == ()
    assert health.cups[0].held == 20


def test_without_traces_the_vacuum_after_the_lift_counts() -> None:
    found = []
    for traces in (True, False):
        health = CupHealth(TOOL)
        count = 0
        while not health.findings:
            count += 1
            health.note(grasp_with(ALL), pressed({cup: GOOD for cup in ALL if cup != 5}, traces), float(count))
        found.append(count)
    assert found[0] <= found[1] <= 8


@pytest.mark.parametrize("samples", [0, 2])
def test_traces_too_short_or_of_another_tool_are_not_read(samples: int) -> None:
    assert pressed_vacuum(None, 8) is None
    short = PickTraces(50.0, np.zeros((samples, 8), np.float32), np.zeros(samples, np.float32))
    other = PickTraces(50.0, np.zeros((20, 4), np.float32), np.zeros(20, np.float32))
    assert pressed_vacuum(short, 8) is None
    assert pressed_vacuum(other, 8) is None


def test_figures_of_another_tool_are_refused_and_nothing_is_learned() -> None:
    health = CupHealth(TOOL)
    four = ToolConfig(cup_centres_m=((0.0, 0.0), (0.05, 0.0), (0.0, 0.05), (0.05, 0.05)))
    for grasp, outcome in (
        (grasp_with((0, 1)), pressed({0: GOOD}, tool=four)),
        (grasp_with((0, 1), tool=four), pressed({0: GOOD})),
    ):
        with pytest.raises(RobinError) as wrong:
            health.note(grasp, outcome, 1.0)
        assert wrong.value.code is Code.CUPS_MISMATCH
    assert health.cups[0].picks == 0


def test_a_planner_that_does_not_tell_its_seals_teaches_nothing() -> None:
    health = CupHealth(TOOL)
    for count in range(20):
        assert health.note(Grasp(np.eye(4), 0b11, 1, 0.0), pressed({0: GOOD}), float(count)) == ()
    assert health.cups[1].picks == 0


def test_a_clock_that_jumps_back_leaves_no_change_in_the_future() -> None:
    _, health = picks_until_found(2, 0.0)
    assert health.cups[2].changed_s > 1.0
    health.note(grasp_with(ALL), pressed({cup: GOOD for cup in ALL if cup != 2}), 0.5)
    assert health.cups[2].changed_s == 0.5
    assert health.findings


def test_a_cup_found_bad_is_tried_again_after_a_while() -> None:
    config = CupHealthConfig(retry_picks=5)
    health = CupHealth(TOOL, config)
    while not health.findings:
        health.note(grasp_with(ALL), pressed({cup: GOOD for cup in ALL if cup != 6}), 0.0)
    assert health.trust.probe == 0
    others = tuple(cup for cup in ALL if cup != 6)
    for _ in range(5):
        health.note(grasp_with(others), pressed(dict.fromkeys(others, GOOD)), 0.0)
    assert health.trust.probe == 1 << 6
    health.note(grasp_with(ALL), pressed(dict.fromkeys(ALL, GOOD)), 0.0)
    assert health.findings, "one reading does not undo a finding"
    assert health.trust.probe == 1 << 6, "but it is tried again at once"


BIG = Box(0.75, 0.0, 0.4, 0.3, 0.2)


def test_the_planner_tells_what_it_expects_of_each_open_cup() -> None:
    for grasp in SuctionPlanner(CellConfig()).plan(*box_scene([BIG])).grasps:
        opened = tuple(cup for cup, seal in enumerate(grasp.cup_seal) if not math.isnan(seal))
        assert opened == mask_to_cups(grasp.cups)
        assert all(0.35 <= grasp.cup_seal[cup] <= 1.0 for cup in opened)


def test_sound_cups_change_no_plan() -> None:
    frame, scene = box_scene([BIG, Box(0.75, 0.32, 0.25, 0.2, 0.12)])
    planner = SuctionPlanner(CellConfig())
    plain, told = planner.plan(frame, scene), planner.plan(frame, scene, (), CupTrust((1.0,) * 8))
    assert [(g.score, g.cups, g.terms) for g in plain.grasps] == [(g.score, g.cups, g.terms) for g in told.grasps]
    assert plain.basis.cups == ALL_SOUND


def test_the_planner_does_without_a_cup_that_is_not_relied_on() -> None:
    shares = (1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0)
    grasps = SuctionPlanner(CellConfig()).plan(*box_scene([BIG]), (), CupTrust(shares)).grasps
    assert grasps
    for grasp in grasps:
        assert not {1, 6} & set(mask_to_cups(grasp.cups))
        assert math.isnan(grasp.cup_seal[1])


def test_a_cup_in_doubt_is_opened_beside_the_others_on_a_flat_face() -> None:
    shares = (1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    planner, seen = SuctionPlanner(CellConfig()), box_scene([BIG])
    without, with_it = (planner.plan(*seen, (), CupTrust(shares, probe)).best for probe in (0, 1 << 1))
    assert without is not None
    assert with_it is not None
    assert with_it.cups == without.cups | 1 << 1
    assert (with_it.score, with_it.terms) == (without.score, without.terms), "it costs the pick nothing"
    assert np.array_equal(with_it.T_base_tool, without.T_base_tool)
    assert with_it.cup_seal[1] >= 0.9


def test_a_plan_tells_what_was_expected_of_the_cups() -> None:
    trust = CupTrust((1.0, 0.0, 0.375, 1.0, 1.0, 1.0, 1.0, 1.0), 0b110)
    plan = SuctionPlanner(CellConfig()).plan(*box_scene([BIG]), (), trust)
    assert plan.basis.cups == trust
    assert PlanBasis(plan.basis.digest, dict(plan.basis.thresholds)).cups == trust


def test_cups_of_another_tool_are_refused() -> None:
    with pytest.raises(RobinError, match="cup health knows 4 cups, the tool has 8") as wrong:
        SuctionPlanner(CellConfig()).plan(*box_scene([BIG]), (), CupTrust((1.0, 1.0, 0.5, 1.0)))
    assert wrong.value.code is Code.CUPS_MISMATCH
