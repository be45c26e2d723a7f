"""What the workcell's nodes do, without ROS: plan server, open picks, pick recorder, live cell."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.grasp_scenes import Box, box_scene

from edge_adapt.decision import Decision, run_context
from edge_adapt.decision_store import read_decisions
from edge_adapt.pick_recorder import OPEN_FILE, PickRecorder
from robin_grasp.picks import open_picks
from robin_grasp.picks.open_picks import OpenPick, OpenPicks, PlanNotice
from robin_grasp.picks.outcome import PickOutcome, PickResult
from robin_grasp.picks.outcome_report import OutcomeReport
from robin_grasp.picks.plan_server import IssuedPlan, PlanServer
from robin_grasp.plan import Plan, Reject
from robin_grasp.planner.registry import make_planner
from robin_grasp.tool import CellConfig, MotionConfig, ToolConfig
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene
from robin_sim.cameras import look_at
from robin_sim.live_cell import LiveCell
from robin_sim.parcels import BASE_TRAINING_MIX
from robin_sim.scenario import CountRange, ScenarioConfig

BOXES = [Box(0.65, 0.0, 0.25, 0.2, 0.1), Box(0.95, 0.0, 0.25, 0.2, 0.12)]
CONTEXT = run_context("test", "robot", CellConfig())


def seen(stamp_s: float) -> tuple[Frame, Scene]:
    frame, scene = box_scene(BOXES)
    return replace(frame, stamp_s=stamp_s), replace(scene, stamp_s=stamp_s, engine="boxes")


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(clock: Clock) -> PlanServer:
    return PlanServer(make_planner("geometric", CellConfig()), "p1", clock)


def refused(server: PlanServer, age_limit_s: float = 1.0) -> Code:
    with pytest.raises(RobinError) as error:
        server.plan_requested(age_limit_s)
    return error.value.code


def outcome(result: PickResult = PickResult.CLEAN, **truth: object) -> PickOutcome:
    return PickOutcome(result, (55_000.0,) * 8, 12.0, 2.0, truth)


def report(issued: IssuedPlan, result: PickResult = PickResult.CLEAN, **truth: object) -> OutcomeReport:
    told = outcome(result, **truth)
    judged = {"probability": 0.9, "reasons": ("8 of 8 cups hold",), "check_digest": "c" * 64}
    measured = (told.result, told.vacuum_pa, told.lifted_weight_n, told.duration_s, told.truth)
    return OutcomeReport(issued.plan_id, 0, 3.0, *measured, **judged)  # type: ignore[arg-type]


def opened(issued: IssuedPlan) -> OpenPick:
    return OpenPick(notice(issued), issued.frame, issued.scene)


def notice(issued: IssuedPlan) -> PlanNotice:
    return PlanNotice(issued.plan_id, issued.frame.stamp_s, issued.plan, issued.failed, issued.excluded, issued.flags)


def test_server_refuses_without_a_fresh_frame(server: PlanServer, clock: Clock) -> None:
    assert refused(server) == Code.FRAME_NONE
    server.offer(*seen(clock.now_s - 1.2))
    assert refused(server) == Code.FRAME_STALE
    assert server.plan_requested(2.0).plan.code == Code.OK
    server.offer(*seen(clock.now_s + 5.0))
    assert refused(server) == Code.FRAME_STALE  # a clock that is ahead


def test_server_never_plans_on_the_pile_before_a_pick(server: PlanServer, clock: Clock) -> None:
    server.offer(*seen(clock.now_s))
    first = server.plan_requested(1.0)
    clock.now_s += 0.5
    assert server.note_outcome(first.plan_id, 0, PickResult.CLEAN, clock.now_s)
    assert refused(server) == Code.FRAME_STALE
    server.offer(*seen(clock.now_s))
    assert server.plan_requested(1.0).plan_id != first.plan_id
    assert not server.note_outcome("p0-000001", 0, None, clock.now_s + 0.1)  # from before a restart: still a pick's end
    assert refused(server) == Code.FRAME_STALE


def test_server_remembers_failures_and_forgets_them_with_the_pile(server: PlanServer, clock: Clock) -> None:
    server.offer(*seen(clock.now_s))
    first = server.plan_requested(1.0)
    best = first.plan.best
    assert best is not None
    server.note_outcome(first.plan_id, 0, PickResult.MISS, clock.now_s)
    second = server.plan_requested(1.0)
    assert [f.position_m for f in second.failed] == [tuple(best.T_base_tool[:3, 3])]
    again = second.plan.best
    assert (
        again is None
        or np.linalg.norm(again.T_base_tool[:3, 3] - best.T_base_tool[:3, 3]) > 0.01
        or (again.cups != best.cups)
    )
    server.forget_failures()
    third = server.plan_requested(1.0).plan.best
    assert third is not None and third.cups == best.cups and np.allclose(third.T_base_tool, best.T_base_tool)


def test_server_leaves_out_what_the_caller_excludes(server: PlanServer, clock: Clock) -> None:
    server.offer(*seen(clock.now_s))
    some = server.plan_requested(1.0, exclude=[1])
    assert some.plan.code == Code.OK and {g.instance_id for g in some.plan.grasps} == {2}
    assert Reject.EXCLUDED_BY_CALLER in {r.reason for r in some.plan.rejected if r.instance_id == 1}
    free = server.plan_requested(1.0).plan
    banned = len(free.grasps) - len(some.plan.grasps)
    assert some.plan.rejected_counts == {**free.rejected_counts, Reject.EXCLUDED_BY_CALLER: banned}
    none = server.plan_requested(1.0, exclude=[2, 1])
    assert none.plan.code == Code.NO_GRASP and not none.plan.grasps and "excluded" in none.plan.message
    assert none.excluded == (1, 2)


def test_server_does_not_plan_twice_on_the_same(server: PlanServer, clock: Clock) -> None:
    frame, scene = seen(clock.now_s)
    server.offer(frame, scene)
    shown = server.plan_scene(frame, scene)
    asked = server.plan_requested(1.0)
    assert asked.plan is shown.plan and asked.plan_id != shown.plan_id
    assert asked.requested and not shown.requested


@pytest.mark.parametrize("plan_first", [True, False])
def test_open_picks_join_in_any_order(server: PlanServer, clock: Clock, plan_first: bool) -> None:
    told: list[OpenPick] = []
    picks = OpenPicks(told.append)
    server.offer(*seen(clock.now_s))
    issued = server.plan_requested(1.0)
    steps = [lambda: picks.note_plan(notice(issued)), lambda: picks.offer(issued.frame, issued.scene)]
    for step in steps if plan_first else reversed(steps):
        assert told == []
        step()
    assert [pick.notice.plan_id for pick in told] == [issued.plan_id]
    assert picks.wait(issued.plan_id, 0.0) is told[0]
    assert picks.after(clock.now_s + 1.0, 0.0) is None
    after = replace(issued.frame, stamp_s=clock.now_s + 1.0)
    picks.see(after.stamp_s, lambda: after)
    assert picks.after(clock.now_s + 1.0, 0.0) is after
    picks.close(issued.plan_id)
    assert not picks.knows(issued.plan_id)


@pytest.fixture
def issued(server: PlanServer, clock: Clock) -> IssuedPlan:
    server.offer(*seen(clock.now_s))
    return server.plan_requested(1.0)


def records(folder: Path) -> list[Decision]:
    return list(read_decisions(folder).decisions)


def test_recorder_writes_a_pick_with_its_outcome(issued: IssuedPlan, tmp_path: Path) -> None:
    recorder = PickRecorder(tmp_path, CONTEXT)
    assert recorder.open(opened(issued)) == [] and recorder.open_id == issued.plan_id
    assert recorder.open(opened(issued)) == []  # told twice
    recorder.close(report(issued, pile=7), issued.frame)
    (record,) = records(tmp_path)
    assert (record.decision_id, record.result, record.context.pile) == (issued.plan_id, "clean", 7)
    assert record.outcome is not None and record.outcome.probability == 0.9
    context = record.context
    assert set(context.digests) == {"cell", "planner", "pick_check"} and context.digests["pick_check"] == "c" * 64
    assert context.thresholds["seal_least_probability"] == 0.35 and context.engine == "boxes"
    assert (tmp_path / record.images["after"]).is_file() and not (tmp_path / OPEN_FILE).exists()
    with pytest.raises(RobinError) as error:
        recorder.close(report(issued), None)
    assert error.value.code == Code.PLAN_UNKNOWN


def test_recorder_closes_what_nobody_closed(issued: IssuedPlan, server: PlanServer, tmp_path: Path) -> None:
    recorder = PickRecorder(tmp_path, CONTEXT)
    recorder.open(opened(issued))
    (closed,) = recorder.open(opened(server.plan_requested(1.0)))
    assert closed.decision_id == issued.plan_id and closed.result == "unfinished"
    assert "E615 PICK_UNFINISHED" in closed.message and "outcome_missing" in closed.flags


def test_recorder_that_was_killed_closes_its_pick_after_the_restart(issued: IssuedPlan, tmp_path: Path) -> None:
    PickRecorder(tmp_path, CONTEXT).open(opened(issued))  # and is never shut
    again = PickRecorder(tmp_path, CONTEXT)
    assert again.open_id == issued.plan_id
    again.close(report(issued, PickResult.DROP), None)
    (record,) = records(tmp_path)
    assert record.result == "drop" and {"recorder_restarted", "no_frame_after"} <= set(record.flags)


def test_recorder_keeps_a_frame_without_a_grasp(issued: IssuedPlan, tmp_path: Path) -> None:
    empty = replace(issued, plan=Plan(Code.NO_GRASP, "nothing", (), (), "geometric"))
    (record,) = PickRecorder(tmp_path, CONTEXT, keep_images=False).open(opened(empty))
    assert record.result == "infeasible" and record.images == {} and record.code == Code.NO_GRASP


def test_live_cell_stays_in_one_mount_and_goes_on(issued: IssuedPlan) -> None:
    config = ScenarioConfig(
        description="a few",
        belt_parcels=CountRange(least=3, most=4),
        arrangements={"single_layer": 1.0},
        mix=BASE_TRAINING_MIX,
    )
    config = config.model_copy(update={"camera": config.camera.model_copy(update={"width": 320, "height": 240})})
    mount = look_at(np.array([0.75, 0.0, 0.0]), 1.3, 0.0, 0.0, 0.0)
    cell = LiveCell(config, CellConfig(), 3, mount)
    frame = cell.next_pile(10.0)
    assert frame.stamp_s == 10.0 and np.array_equal(frame.T_base_camera, mount)
    millimetres = frame.depth.astype(np.float64) * 1000
    assert np.abs(millimetres - np.rint(millimetres)).max() < 1e-3
    scene = cell._pile.oracle_scene()
    best = make_planner("geometric", CellConfig()).plan(frame, scene).best
    assert best is not None
    with pytest.raises(RobinError, match="opens cup 7, the simulated tool has 4") as caught:
        four = ToolConfig(cup_centres_m=((0, 0), (0.05, 0), (0, 0.05), (0.05, 0.05)))
        LiveCell(config, CellConfig(tool=four), 3, mount).execute(replace(best, cups=128), scene, MotionConfig())
    assert caught.value.code is Code.CONFIG_OUT_OF_RANGE
    left = cell.parcels_left
    result = cell.execute(best, scene, MotionConfig())
    assert result.truth["result"] == result.result.value and result.truth["pile"] == 0
    assert cell.parcels_left == left - (result.result is PickResult.CLEAN)
    again = LiveCell(config, CellConfig(), 3, mount).next_pile(10.0)
    assert np.array_equal(again.rgb, frame.rgb) and np.array_equal(again.depth, frame.depth)


def test_a_wait_for_a_frame_counts_in_its_own_clock_and_is_bounded_where_that_stands_still(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_picks, "STANDSTILL_S", 0.2)
    picks = OpenPicks(clock=clock)
    assert picks.after(ended_s=1000.0, timeout_s=0.1) is None, "the clock stands still, the wait ends all the same"
    monkeypatch.setattr(open_picks, "STANDSTILL_S", 3600.0)
    ticking = itertools.count(1000.0)
    running = OpenPicks(clock=lambda: next(ticking))
    assert running.after(ended_s=1000.0, timeout_s=5.0) is None, "five seconds of the clock are soon over"


def test_a_clock_that_jumps_back_makes_no_frame_stale(server: PlanServer, clock: Clock) -> None:
    server.note_outcome("p0-1", 0, None, clock.now_s)
    clock.now_s = 10.0
    server.forget_time()
    assert refused(server) == Code.FRAME_NONE
    server.offer(*seen(10.0))
    assert server.plan_requested(1.0).requested
