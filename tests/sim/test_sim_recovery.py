"""The simulated cell under the recovery policy: what is wrong on the tool is put right in physics, and counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from helpers.physics_boxes import box as black_box
from helpers.physics_boxes import pile_of, tool_down

from robin_grasp.picks.outcome import PickOutcome, PickResult
from robin_grasp.picks.pick_check import PickJudgement
from robin_grasp.plan import Grasp, Plan
from robin_grasp.recovery.action import Action
from robin_grasp.recovery.config import HelpConfig, RecoveryConfig
from robin_grasp.recovery.machine import PickTarget, Recovery
from robin_grasp.tool import CellConfig
from robin_perception.core.condition import Condition, Family, PickingEffect
from robin_perception.core.errors import Code
from robin_perception.core.frame import Frame
from robin_perception.monitors.station import StationMonitor
from robin_sim.load_camera import LoadCameraConfig
from robin_sim.model import Material, Parcel, Pile
from robin_sim.open_pile import OpenPile
from robin_sim.pick_event import PickEvent
from robin_sim.recovered_pile import PersonConfig, RecoveredPile, RecoveryKit
from robin_sim.runs.recovery_results import recovery_figures, summarize_recovery
from robin_sim.runs.request import RunRequest
from robin_sim.runs.results import summarize
from robin_sim.runs.run import run_scenario
from robin_sim.scenario import CameraConfig, CountRange, Scenario, ScenarioConfig

CELL = CellConfig()
SIZE = (0.20, 0.16, 0.08)
SCENARIO = ScenarioConfig(description="boxes", camera=CameraConfig(width=320, height=240))
SET_DOWN_ONLY = RecoveryConfig(put_backs=0, failures_in_a_row=50)
Belief = Callable[[PickOutcome], PickResult]


def box(mass_kg: float = 0.5) -> Parcel:
    return replace(black_box(SIZE, mass_kg), material=Material(np.full((2, 2, 3), 150, np.uint8), 1.0, 0.0))


TWO = pile_of((box(), (-0.1005, 0, 0)), (box(0.3), (0.1005, 0, 0)))
ONE = pile_of((box(), (0, 0, 0)))


def truth(outcome: PickOutcome) -> PickResult:
    return outcome.result


def says(*results: PickResult) -> Belief:
    """A pick check that says these, one after the other, and then the last for ever."""
    left = list(results)
    return lambda outcome: left.pop(0) if len(left) > 1 else left[0]


def run(
    pile: Pile,
    cups: Sequence[int],
    believes: Belief = truth,
    config: RecoveryConfig | None = None,
    person: PersonConfig | None = None,
    conditions: Callable[[], tuple[Condition, ...]] = tuple,
) -> tuple[list[PickEvent], OpenPile]:
    """Turns of a pile: the k-th grasp opens ``cups[k]`` over the middle, then the planner finds nothing more."""
    opened = OpenPile(SCENARIO, CELL, 0, 0, load_camera=LoadCameraConfig())
    opened.pile = pile
    opened.look()
    left = list(cups)

    def plan(index: int, recovery: Recovery) -> PickEvent:
        assert opened.frame is not None
        scene = replace(opened.oracle_scene(), conditions=conditions())
        excluded = recovery.memory.given_up(opened.frame, scene)
        ids = [instance.id for instance in scene.instances if instance.id not in excluded]
        best = Grasp(tool_down(0, 0, SIZE[2]), left[0], ids[0], 0.9) if left and ids else None
        if best is not None and not conditions():
            left.pop(0)
        code = Code.OK if best is not None else Code.NO_GRASP
        made = Plan(code, "", () if best is None else (best,), (), "by hand")
        meant = () if best is None else opened.meant_by(scene, best)
        pile_left = len(opened.pile.parcels)
        return PickEvent(
            0, index, "flush", "belt", pile_left, opened.frame, scene, made, recovery.memory.failed, None, None,
            meant, timings_ms={"segment": 0.0, "plan": 0.0}, excluded=excluded,
        )  # fmt: skip

    def judge(pick: PickTarget, after: Frame, outcome: PickOutcome, cell: CellConfig) -> PickJudgement:
        result = believes(outcome)
        return PickJudgement(result, 1.0, ("by hand",), 0.0, (), probabilities={result: 1.0})

    kit = RecoveryKit(judge, config or RecoveryConfig(), person or PersonConfig(answer_after_s=7.0))
    return list(RecoveredPile(opened, kit, plan).run(10)), opened


def actions(event: PickEvent) -> list[Action]:
    return [] if event.recovered is None else [taken.step.action for taken in event.recovered.steps]


def test_a_mask_of_two_means_either_of_them() -> None:
    opened = OpenPile(SCENARIO, CELL, 0, 0, load_camera=LoadCameraConfig())
    opened.pile = TWO
    opened.look()
    scene = opened.oracle_scene()
    left, right = ((scene.labels == number).sum() for number in (1, 2))
    both = replace(scene, labels=np.minimum(scene.labels, 1), instances=scene.instances[:1])
    grasp = Grasp(tool_down(0.1005, 0, SIZE[2]), 255, 1, 0.9)
    apart, meant = opened.meant_by(scene, grasp), opened.meant_by(both, grasp)
    assert apart == (0,) and set(meant) == {0, 1} and meant[0] == int(right > left)
    assert opened.meant_by(both, replace(grasp, instance_id=7)) == ()

    outcome = opened.begin_pick(grasp, (0, 1))
    assert outcome.result is PickResult.CLEAN and outcome.truth["target"] == 1 and not opened.held.holds_other


def test_one_that_was_not_meant_is_wrong() -> None:
    opened = OpenPile(SCENARIO, CELL, 0, 0, load_camera=LoadCameraConfig())
    opened.pile = TWO
    opened.look()
    outcome = opened.begin_pick(Grasp(tool_down(0.1005, 0, SIZE[2]), 255, 1, 0.9), (0,))
    assert outcome.result is PickResult.WRONG and opened.held.holds_other


def held_with(camera: LoadCameraConfig | None) -> tuple[OpenPile, PickOutcome]:
    opened = OpenPile(SCENARIO, CELL, 0, 0, load_camera=camera)
    opened.pile = ONE
    return opened, opened.begin_pick(Grasp(tool_down(0, 0, SIZE[2]), 255, 1, 0.9, {}), (0,))


def test_the_arm_does_not_stand_for_the_look_and_a_lowered_load_is_raised_again() -> None:
    without, plain = held_with(None)
    opened, seen = held_with(LoadCameraConfig(lower_s=0.4))
    assert seen.load is not None and plain.load is None
    assert seen.duration_s == plain.duration_s
    assert opened.set_down() == pytest.approx(without.set_down() + 0.4, abs=1e-6)


def test_a_second_parcel_that_is_put_back_costs_the_way_up_once() -> None:
    def put_back_s(lower_s: float) -> float:
        opened = OpenPile(SCENARIO, CELL, 0, 0, load_camera=LoadCameraConfig(lower_s=lower_s))
        opened.pile = TWO
        opened.begin_pick(Grasp(tool_down(0, 0, SIZE[2]), 255, 1, 0.9, {}), (0,))
        before_s = opened.stamp_s
        took_s = opened.let_go(0b1010_1010 & 0b1100_1100).duration_s
        assert opened.stamp_s == pytest.approx(before_s + took_s)
        return took_s

    assert put_back_s(0.4) == pytest.approx(put_back_s(0.0) + 0.4, abs=1e-6)


def test_a_good_load_is_delivered_at_once() -> None:
    (event,), opened = run(ONE, [255])
    assert event.result == "clean" and actions(event) == [Action.DELIVER] and opened.empty
    assert event.recovered is not None and not event.recovered.false_stop and event.extra_s == 0.0
    assert event.outcome is not None and event.outcome.load is not None


def test_two_parcels_do_not_leave_the_cell() -> None:
    (event, last), opened = run(TWO, [255], config=SET_DOWN_ONLY)
    assert event.recovered is not None and actions(event) == [Action.SET_DOWN, Action.OTHER_CUPS]
    assert event.recovered.bad_load and event.recovered.caught and event.recovered.corrected
    assert not event.recovered.uncaught and not event.recovered.left_wrong
    assert len(opened.pile.parcels) == 2 and last.result == "infeasible"
    assert event.extra_s > 2.0 and last.failed[0].times == 1
    assert event.after is last.frame  # taken when the load lay in the pile again


def test_the_second_parcel_is_put_back_and_the_first_delivered() -> None:
    (event, *_), opened = run(TWO, [255])
    assert actions(event) == [Action.PUT_BACK, Action.DELIVER]
    assert event.result == "clean" and event.recovered is not None and event.recovered.corrected
    assert event.recovered.first is PickResult.MULTI
    assert [parcel.mass_kg for parcel in opened.pile.parcels] == [0.3]


def test_a_double_that_nobody_recognises_is_counted() -> None:
    (event,), opened = run(TWO, [255], says(PickResult.CLEAN))
    assert event.recovered is not None and event.recovered.uncaught and not event.recovered.caught
    assert event.recovered.left_wrong and not event.recovered.corrected and opened.empty
    assert event.result == "multi"


def test_a_good_load_that_is_set_down_is_a_false_stop_and_no_clean_pick() -> None:
    (event, *_), _ = run(ONE, [255], says(PickResult.MULTI))
    assert event.recovered is not None and event.recovered.false_stop and not event.recovered.caught
    assert event.result == "drop" and event.outcome is not None and "set down" in str(event.outcome.truth["reason"])


def test_a_person_takes_off_what_setting_down_does_not_settle() -> None:
    events, opened = run(TWO, [255, 255, 255], config=SET_DOWN_ONLY)
    asked = events[2]
    assert actions(asked) == [Action.ASK_HELP] and asked.recovered is not None
    (request,) = asked.recovered.helps
    assert request.code is Code.LOAD_DOUBTFUL and request.answer == "done" and "judged multi" in request.text
    assert asked.recovered.steps[0].picture.startswith(b"\xff\xd8")
    assert asked.recovered.corrected and opened.empty and asked.extra_s == 7.0


def test_nobody_answers_and_the_stated_answer_is_taken() -> None:
    config = SET_DOWN_ONLY.model_copy(update={"set_downs": 1, "help": HelpConfig(load_timeout_s=50.0)})
    events, opened = run(TWO, [255, 255], config=config, person=PersonConfig(answers=False))
    asked = events[1]
    assert asked.recovered is not None
    (request,) = asked.recovered.helps
    assert request.answer == "set_down" and request.answered_by == "timeout"
    assert asked.extra_s > 52.0 and len(opened.pile.parcels) == 2


def test_a_parcel_that_nothing_holds_is_removed_by_hand() -> None:
    events, opened = run(ONE, [0, 0, 0, 0])
    assert [actions(event)[-1] for event in events[:3]] == [Action.OTHER_CUPS, Action.OTHER_POSE, Action.OTHER_PARCEL]
    assert events[3].excluded and actions(events[3]) == [Action.ASK_HELP] and events[3].result == "infeasible"
    assert events[3].extra_s == 7.0 and opened.empty and len(events) == 4


def test_failures_in_a_row_call_a_person() -> None:
    events, opened = run(TWO, [0, 0, 0], config=RecoveryConfig(failures_in_a_row=2))
    assert actions(events[1]) == [Action.ASK_HELP] and len(opened.pile.parcels) == 1


def condition(effect: PickingEffect) -> Condition:
    return Condition(Code.POSE_DOUBTFUL, "moved", Family.ENVIRONMENT, 30.0, 10.0, "mm", 0.0, effect, "it moved")


def test_a_station_that_is_not_in_order_is_put_right_before_anything_moves() -> None:
    found = [(condition(PickingEffect.STOP),), ()]
    events, opened = run(ONE, [255], conditions=lambda: found[0])
    assert {event.result for event in events} == {"waited"}  # the condition stays, so the cell stops in the end
    assert actions(events[-1]) == [Action.STOP] and len(opened.pile.parcels) == 1
    assert events[0].recovered is not None and events[0].recovered.helps[0].code is Code.POSE_DOUBTFUL


def test_a_condition_that_slows_down_makes_the_pick_longer() -> None:
    (fast,), _ = run(ONE, [255])
    (slow,), _ = run(ONE, [255], conditions=lambda: (condition(PickingEffect.SLOW_DOWN),))
    assert actions(slow)[0] is Action.GO_SLOWLY and slow.outcome is not None and fast.outcome is not None
    assert slow.outcome.duration_s > 1.3 * fast.outcome.duration_s


def test_looking_again_costs_time_and_moves_nothing() -> None:
    events, _ = run(ONE, [255], conditions=lambda: (condition(PickingEffect.LOOK_AGAIN),))
    assert events[0].result == "waited" and events[0].extra_s == pytest.approx(0.5 + 7.0)


def test_a_load_that_was_lost_can_be_set_down_too() -> None:
    """The pick check may believe in a load that fell off on its way."""
    heavy = pile_of((box(9.0), (0, 0, 0)))
    (event, *_), _ = run(heavy, [0b11], says(PickResult.MULTI))
    assert event.recovered is not None and not event.recovered.bad_load


def test_a_run_is_watched_and_the_person_s_repair_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A condition that stops until a person has put the station right, in a run as ``robin sim run`` makes it."""
    right = []
    monkeypatch.setattr(StationMonitor, "observe", lambda *_: () if right else (condition(PickingEffect.STOP),))
    monkeypatch.setattr(StationMonitor, "reset", lambda _: right.append(1))
    few = ScenarioConfig(
        description="few",
        arrangements={"single_layer": 1.0},
        belt_parcels=CountRange(least=3, most=3),
        camera=CameraConfig(width=320, height=240),
    )
    request = RunRequest(Scenario("few", few), 1, 3, "geometric", "oracle", recovery=True)
    result = run_scenario(request)
    assert result.picks[0].result == "waited" and result.attempts == 1
    figures = result.to_json()
    assert figures["helped"] == 1 and figures["help_s"] == 20.0 and figures["recovery"] and len(right) == 1
    assert result.cell_time_s > 20.0


def test_figures_of_a_run() -> None:
    good, _ = run(ONE, [255])
    bad, _ = run(TWO, [255], config=SET_DOWN_ONLY)
    turns = [summarize_recovery(event.recovered) for event in (*good, *bad) if event.recovered is not None]
    figures = recovery_figures([*turns, None], 100.0)
    assert figures["bad_loads"] == figures["caught"] == figures["corrected"] == 1
    assert figures["uncaught"] == figures["helped"] == figures["false_stops"] == 0
    assert figures["actions"] == {"deliver": 1, "other_cups": 1, "set_down": 1} and figures["recovery"]
    assert not recovery_figures([None], 1.0)["recovery"]
    event = bad[0]
    assert event.outcome is not None and event.extra_s > 0
    assert summarize(event).duration_s == event.outcome.duration_s + event.extra_s
