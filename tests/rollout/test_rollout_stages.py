"""Stages of a roll-out: whom they reach, when the next one comes, what stops them."""

from __future__ import annotations

import pytest

from robin_fleet.rollout.evidence import Picks
from robin_fleet.rollout.plan import RobotFacts, RolloutPlan, Stage, StageRule, TrialRule, chosen, pilot
from robin_fleet.rollout.state import (
    Phase,
    RolloutState,
    Trial,
    aborted,
    decided,
    paused,
    picked,
    resumed,
    started,
    tried,
    went_back,
)
from robin_perception.core.errors import Code, RobinError

LEFT_OUT = TrialRule(picks=0, loss=0.5)
QUICK = RolloutPlan(
    replay=LEFT_OUT,
    shadow=LEFT_OUT,
    acceptance=LEFT_OUT,
    robot=StageRule(picks=200, hours=0.5, margin=0.1),
    line=StageRule(picks=500, hours=0.5, margin=0.05),
    tenth=StageRule(picks=1000, hours=0.5, margin=0.05),
    all=StageRule(picks=1000, hours=0.5),
    window_s=1800,
)


def fleet(lines: int = 5, of_line: int = 10, **more: RobotFacts) -> list[RobotFacts]:
    """Robots a-0 ... on lines a, b, ...; ``more`` replaces some of them."""
    made = [
        RobotFacts(f"{chr(97 + k)}-{n}", chr(97 + k), rate=0.95 + 0.001 * n)
        for k in range(lines)
        for n in range(of_line)
    ]
    return [more.get(one.robot.replace("-", "_"), one) for one in made]


def window(with_release: int = 1000, lost: int = 10, without: int = 4000, lost_without: int = 40) -> dict[str, Picks]:
    return {
        "a": Picks(
            clean_with=with_release - lost,
            with_release=with_release,
            clean_without=without - lost_without,
            without=without,
        )
    }


def begun(plan: RolloutPlan = QUICK) -> RolloutState:
    return started("r1", "new", "m@2", "old", plan, fleet(), 0.0)[0]


def stepped(state: RolloutState, picks: dict[str, Picks]) -> RolloutState:
    state, _ = picked(state, state.seen_s + state.plan.window_s, picks)
    change = decided(state, fleet())
    return state if change is None else change[0]


def test_the_first_robot_is_an_average_one_of_a_line_with_others() -> None:
    alone = RobotFacts("lonely", "z", rate=0.95)
    assert pilot([alone, *fleet(1, 9)]) == "a-4"
    with pytest.raises(RobinError) as refused:
        pilot([alone])
    assert refused.value.code is Code.ROLLOUT_NO_ROBOTS


def test_stages_reach_more_and_more_and_leave_some_to_compare_with() -> None:
    robots, plan = fleet(), RolloutPlan()
    assert chosen(Stage.SHADOW, robots, "a-3", plan) == ()
    assert chosen(Stage.ROBOT, robots, "a-3", plan) == ("a-3",)
    line = chosen(Stage.LINE, robots, "a-3", plan)
    assert len(line) == 8 and {name[0] for name in line} == {"a"} and line[0] == "a-3"
    tenth = chosen(Stage.TENTH, robots, "a-3", plan.model_copy(update={"tenth_share": 0.24}))
    assert len(tenth) == 12 and set(line) < set(tenth)
    assert sorted({name[0] for name in tenth}) == ["a", "b", "c", "d", "e"]
    assert len(chosen(Stage.ALL, robots, "a-3", plan)) == 50


def test_pinned_and_held_robots_are_never_reached() -> None:
    robots = fleet(2, 4, a_1=RobotFacts("a-1", "a", free=False))
    for stage in Stage:
        assert "a-1" not in chosen(stage, robots, "a-0", RolloutPlan())
    with pytest.raises(RobinError) as refused:
        chosen(Stage.ROBOT, robots, "a-1", RolloutPlan())
    assert refused.value.code is Code.ROLLOUT_NO_ROBOTS


def test_a_good_release_reaches_all() -> None:
    state, seen = begun(), []
    for _ in range(40):
        if not state.open:
            break
        seen.append((state.stage, len(state.robots)))
        state = stepped(state, window())
    assert state.phase is Phase.DONE and len(state.robots) == 50
    assert [stage for stage in Stage if stage in dict(seen)] == [Stage.ROBOT, Stage.LINE, Stage.TENTH, Stage.ALL]


def test_a_bad_release_is_stopped_and_all_go_back() -> None:
    state = begun()
    while state.open:
        state = stepped(state, window(lost=60))
    assert state.phase is Phase.STOPPED and state.code == Code.ROLLOUT_WORSE and state.robots == ()
    assert state.stage is Stage.ROBOT and "lost with new" in state.reason


def test_no_stage_ends_before_its_picks_and_hours() -> None:
    few = stepped(begun(), window(with_release=150, lost=0))
    assert few.stage is Stage.ROBOT and stepped(few, window()).stage is Stage.LINE
    longer = QUICK.model_copy(update={"robot": StageRule(picks=1, hours=2.0, margin=0.1)})
    state = begun(longer)
    for _ in range(3):
        state = stepped(state, window())
        assert state.stage is Stage.ROBOT
    assert stepped(state, window()).stage is Stage.LINE


def test_without_anything_to_compare_with_nothing_is_proven() -> None:
    state = begun()
    for _ in range(5):
        state = stepped(state, window(without=0, lost_without=0))
    assert state.stage is Stage.ROBOT and state.open


def test_a_paused_one_goes_no_further_but_is_still_stopped() -> None:
    held, _ = paused(begun(), "stock-taking")
    assert stepped(held, window()).stage is Stage.ROBOT
    again, _ = resumed(held, "done")
    assert stepped(again, window()).stage is Stage.LINE
    assert stepped(held, window(lost=300)).phase is Phase.STOPPED


def test_robots_that_go_back_themselves_stop_it() -> None:
    state, _ = went_back(begun(), "a-4", "E738")
    change = decided(state, fleet())
    assert change is not None and change[0].code == Code.ROLLOUT_WENT_BACK
    line = stepped(begun(), window())
    one, _ = went_back(line, "a-4", "E738")
    assert decided(one, fleet()) is None  # of eight robots one may go back by chance
    two, _ = went_back(one, "a-5", "E738")
    change = decided(two, fleet())
    assert change is not None and change[0].phase is Phase.STOPPED


def test_trials_come_before_any_robot() -> None:
    state = begun(RolloutPlan())
    assert state.stage is Stage.REPLAY and state.robots == ()
    for stage, picks in ((Stage.REPLAY, 150), (Stage.REPLAY, 150), (Stage.SHADOW, 60), (Stage.ACCEPTANCE, 120)):
        state, _ = tried(state, stage, Trial(picks=picks, lost=1, won=1))
        change = decided(state, fleet())
        state = state if change is None else change[0]
    assert state.stage is Stage.ROBOT and state.trials["replay"].picks == 300


@pytest.mark.parametrize(
    ("stage", "found"),
    [
        (Stage.REPLAY, Trial(picks=200, lost=12)),
        (Stage.REPLAY, Trial(picks=3, fault="E203 no such tensor")),
        (Stage.SHADOW, Trial(picks=60, lost=20)),
        (Stage.ACCEPTANCE, Trial(picks=100, lost=9)),
    ],
)
def test_a_failed_trial_ends_it_before_any_robot(stage: Stage, found: Trial) -> None:
    state = begun(RolloutPlan()).model_copy(update={"stage": stage})
    state, _ = tried(state, stage, found)
    change = decided(state, fleet())
    assert change is not None and change[0].phase is Phase.STOPPED and change[0].code == Code.ROLLOUT_TRIAL


def test_what_is_over_cannot_be_changed() -> None:
    state, event = aborted(begun(), "a person asked")
    assert state.phase is Phase.ABORTED and event.data["reached"] == ["a-4"] and decided(state, fleet()) is None
    for change in (aborted, paused, resumed):
        with pytest.raises(RobinError) as refused:
            change(state, "again")
        assert refused.value.code is Code.ROLLOUT_STATE
    with pytest.raises(RobinError):
        tried(state, Stage.ROBOT, Trial(picks=1))


def test_a_state_is_the_same_after_it_was_written() -> None:
    state = stepped(begun(), window())
    assert RolloutState.model_validate_json(state.model_dump_json()) == state
