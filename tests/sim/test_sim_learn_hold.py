"""The simulated cell learns to hold: what was seldom held waits, and a person is asked when nothing else is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_adapt.learn.hold_file import HoldKeeper
from robin_grasp.holding import HoldTerms
from robin_grasp.picks.outcome import PickOutcome
from robin_grasp.picks.pick_check import PickJudgement
from robin_grasp.planner.registry import make_planner
from robin_grasp.recovery.machine import PickTarget
from robin_grasp.tool import CellConfig
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene
from robin_sim.cell import SimCell
from robin_sim.recovered_pile import RecoveryKit
from robin_sim.runs.request import RunRequest
from robin_sim.scenario import CameraConfig, CountRange, ScenarioConfig

CELL = CellConfig()
SCENARIO = ScenarioConfig(
    description="few",
    camera=CameraConfig(width=320, height=240),
    containers={"belt": 1.0},
    belt_parcels=CountRange(least=3, most=3),
)


class KnowsOneThing(HoldKeeper):
    """Says of all goods that they were seldom held, or of none."""

    def __init__(self, seldom_held: bool) -> None:
        super().__init__(CELL, None)
        self.seldom_held = seldom_held
        self.noted: list[PickTarget] = []

    def expected(self, frame: Frame, scene: Scene) -> HoldTerms:
        terms = HoldTerms.factory(len(scene.instances))
        terms.last[:] = self.seldom_held
        return terms

    def note(self, pick: PickTarget, *told: object) -> None:
        self.noted.append(pick)


def judge(pick: PickTarget, after: Frame, outcome: PickOutcome, cell: CellConfig) -> PickJudgement:
    return PickJudgement(outcome.result, 1.0, (), 0.0, (), probabilities={outcome.result: 1.0})


def cell_with(holding: KnowsOneThing) -> SimCell:
    def planner(cell: CellConfig, rng: object):  # type: ignore[no-untyped-def]
        return make_planner("geometric", cell, holding=holding)

    return SimCell(SCENARIO, CELL, planner, recovery=RecoveryKit(judge), holding=holding)


def test_where_only_goods_are_left_that_were_seldom_held_a_person_takes_them_away() -> None:
    holding = KnowsOneThing(seldom_held=True)
    events = list(cell_with(holding).run_pile(140950, 0, 5))
    first = events[0]
    assert first.result == "infeasible" and first.left_for_last and first.recovered is not None
    assert [help.code for help in first.recovered.helps] == [Code.GOODS_SELDOM_HELD]
    assert not holding.noted and all(event.outcome is None for event in events)


def test_every_pick_is_told_to_who_learns() -> None:
    holding = KnowsOneThing(seldom_held=False)
    events = list(cell_with(holding).run_pile(140950, 0, 1))
    assert [pick.grasp for pick in holding.noted] == [event.plan.best for event in events if event.outcome is not None]
    assert len(holding.noted) == 1 and events[0].left_for_last == ()


def test_holding_is_learned_in_one_process(tmp_path: Path) -> None:
    request = RunRequest("mixed", 2, 1, masks="oracle", workers=2, learn_hold=tmp_path / "hold.json")
    with pytest.raises(RobinError) as refused:
        request.checked()
    assert refused.value.code is Code.OPTION_INVALID and "--workers 1" in refused.value.text
