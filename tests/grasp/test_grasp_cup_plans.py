"""Cup health in the plan server and the simulated cell: plans follow what picks told of the cups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.cup_picks import ALL, TOOL, grasp_with, pressed
from helpers.grasp_scenes import Box, box_scene

from robin_grasp.cup_health import CupHealth, CupHealthConfig, CupState
from robin_grasp.cup_health_file import CupHealthKeeper
from robin_grasp.picks.outcome import PickOutcome, PickResult
from robin_grasp.picks.plan_server import IssuedPlan, PlanServer
from robin_grasp.plan import ALL_SOUND
from robin_grasp.planner.registry import make_planner
from robin_grasp.tool import CellConfig, mask_to_cups
from robin_perception.core.errors import Code, RobinError
from robin_sim.cell import SimCell
from robin_sim.cup_trials.presses import press_pile
from robin_sim.faults import Faults
from robin_sim.scenario import CountRange, ScenarioConfig

BOXES = [Box(0.75, 0.0, 0.4, 0.3, 0.2)]


class Station:
    """A plan server, frame by frame, and a tool with one blocked cup."""

    def __init__(self, blocked: int, path: Path | None = None) -> None:
        self.now_s = 1000.0
        self.blocked = blocked
        self.server = PlanServer(
            make_planner("geometric", CellConfig()), "p1", lambda: self.now_s, CupHealthKeeper(TOOL, path)
        )

    def plan(self) -> IssuedPlan:
        self.now_s += 5.0
        frame, scene = box_scene(BOXES)
        self.server.offer(replace(frame, stamp_s=self.now_s), scene)
        return self.server.plan_requested(1.0)

    def outcome(self, issued: IssuedPlan) -> PickOutcome:
        assert issued.plan.best is not None
        return pressed({cup: 0.55 for cup in mask_to_cups(issued.plan.best.cups) if cup != self.blocked})

    def pick(self) -> IssuedPlan:
        issued = self.plan()
        self.server.note_cups(issued.plan_id, 0, self.outcome(issued))
        self.server.note_outcome(issued.plan_id, 0, PickResult.CLEAN, self.now_s)
        return issued


def test_plans_do_without_a_cup_that_picks_showed_to_be_blocked() -> None:
    station = Station(blocked=2)
    used = 0
    while station.server.cups[2].state is CupState.GOOD:
        issued = station.pick()
        assert issued.plan.best is not None
        used += 2 in mask_to_cups(issued.plan.best.cups)
        assert used <= 8
    issued = station.plan()
    assert issued.plan.best is not None
    assert 2 not in mask_to_cups(issued.plan.best.cups)
    assert issued.plan.basis.cups.shares[2] == 0.0
    assert station.server.cups[2].changed_s == station.now_s - 5.0
    reset = station.server.reset_cups((2,))
    assert reset[2].state is CupState.GOOD
    again = station.plan().plan
    assert again.best is not None
    assert 2 in mask_to_cups(again.best.cups)
    assert again.basis.cups == ALL_SOUND


def test_a_plan_made_for_display_is_not_handed_out_after_the_cups_changed() -> None:
    station = Station(blocked=2)
    frame, scene = box_scene(BOXES)
    station.server.offer(replace(frame, stamp_s=station.now_s), scene)
    shown = station.server.plan_scene(replace(frame, stamp_s=station.now_s), scene)
    while station.server.cups[2].state is CupState.GOOD:
        station.pick()
    station.server.offer(replace(frame, stamp_s=station.now_s), scene)
    assert station.server.plan_requested(1.0).plan.basis.cups != shown.plan.basis.cups


def test_one_pick_teaches_once_however_often_it_is_reported() -> None:
    station = Station(blocked=2)
    issued = station.plan()
    for _ in range(12):
        station.server.note_cups(issued.plan_id, 0, station.outcome(issued))
    assert station.server.cups[2].picks == 1
    station.server.note_cups("p0-000007", 0, station.outcome(issued))
    station.server.note_cups(issued.plan_id, 200, station.outcome(issued))
    assert station.server.cups[2].picks == 1


def test_a_server_without_cup_health_trusts_all() -> None:
    server = PlanServer(make_planner("geometric", CellConfig()), "p1", lambda: 0.0)
    assert server.cups == ()
    assert server.cups_problem is None
    assert server.reset_cups(()) == ()


def test_a_reset_of_a_cup_that_the_tool_lacks_is_refused() -> None:
    with pytest.raises(RobinError) as wrong:
        Station(blocked=2).server.reset_cups((9,))
    assert wrong.value.code is Code.CUPS_MISMATCH


def sim_cell(cups: CupHealth, faults: Faults) -> SimCell:
    few = CountRange(least=6, most=8)
    config = ScenarioConfig(
        description="few parcels, side by side",
        arrangements={"single_layer": 1.0},
        belt_parcels=few,
        tote_parcels=few,
        faults=faults,
    )
    return SimCell(config, CellConfig(), lambda cell, rng: make_planner("geometric", cell, rng=rng), cups=cups)


def pick_until(cell: SimCell, done: Callable[[], bool]) -> None:
    for pile in range(6):
        for _ in cell.run_pile(11, pile, 20):
            if done():
                return
    raise AssertionError("six piles were not enough")


def test_a_blocked_cup_is_found_in_the_simulated_cell_and_no_other_is_blamed() -> None:
    cups = CupHealth(TOOL)
    pick_until(sim_cell(cups, Faults(blocked_cups=(1,))), lambda: bool(cups.findings))
    assert [(report.cup, report.state) for report in cups.findings] == [(1, CupState.BLOCKED)]
    assert cups.findings[0].picks <= 8


def test_a_cup_that_was_replaced_and_not_reset_is_tried_out_and_trusted_again() -> None:
    cups = CupHealth(TOOL, CupHealthConfig(retry_picks=1))
    while not cups.findings:
        cups.note(grasp_with(ALL), pressed({cup: 0.55 for cup in ALL if cup != 1}), 0.0)
    before = cups.cups[1].picks
    pick_until(sim_cell(cups, Faults()), lambda: not cups.findings)
    assert cups.cups[1].picks > before
    assert cups.trust.shares == () or cups.trust.shares[1] > 0.0


def test_presses_are_the_same_for_the_same_seed_and_tell_of_a_torn_cup() -> None:
    good, torn, again = (list(press_pile("mixed", 5, 1, torn=torn)) for torn in (False, True, True))
    assert torn == again
    assert len(good) >= 3
    for press in torn:
        others = [press.reached[cup] for cup in mask_to_cups(press.cups) if cup != press.torn]
        assert press.reached[press.torn] < 0.3
        assert all(share > 0.3 for share in others if share > 0)
        assert all((seal is None) == (not press.cups >> cup & 1) for cup, seal in enumerate(press.seals))
