"""Learning to hold in the planning node over real DDS: from outcomes, kept on disk, told in plans and diagnostics."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.cup_picks import pressed
from helpers.hold_picks import CELL, SACK, goods, outcome_of, plan_with
from helpers.ros_cell_by_hand import SLOW_S, Cell
from helpers.ros_client import NodeProcess, RosClient
from robin_msgs.msg import GraspPlan, PickOutcome
from std_srvs.srv import Trigger

from edge_adapt.learn.hold_file import HoldKeeper
from robin_grasp.nodes.convert import outcome_to_msg
from robin_grasp.nodes.hold_watch import HoldWatch
from robin_grasp.picks.outcome import PickResult
from robin_grasp.picks.outcome_report import OutcomeReport, Stage
from robin_grasp.picks.plan_server import IssuedPlan
from robin_grasp.plan import Grasp
from robin_perception.core.condition import Condition, Family, PickingEffect
from robin_perception.core.errors import Code
from robin_perception.nodes.qos import RESULT
from robin_perception.topics import OUTCOME

NODE = "/planning"
DIRTY = Condition(
    Code.LENS_DIRTY, "dirty", Family.ENVIRONMENT, 1.0, 0.5, "", 0.0, PickingEffect.SLOW_DOWN, "dirt on the lens"
)


@pytest.fixture
def cell() -> Iterator[Cell]:
    with RosClient() as client:
        found = Cell(client, 1)
        found.frame, found.scene = goods(SACK)
        yield found


@pytest.fixture
def process(cell: Cell, tmp_path: Path) -> Iterator[NodeProcess]:
    (tmp_path / "hold.json").write_text("not what it should be")
    p, q = cell.pose.position, cell.pose.orientation
    values = {
        "planning:camera_pose_xyz_m": [p.x, p.y, p.z],
        "planning:camera_pose_xyzw": [q.x, q.y, q.z, q.w],
        "planning:frame_age_limit_s": 60.0,
        "planning:hold_file": str(tmp_path / "hold.json"),
        "planning:hold.explore_rate": 0.0,
        "log_period_s": 3600.0,
    }
    script = Path(__file__).parents[1] / "helpers" / "full_disk_workcell.py"
    found = NodeProcess(script, tmp_path / "log", values, arguments=("--nodes", "planning"))
    yield found
    found.stop()


class ToldNode:
    """What the watch says to its node."""

    def __init__(self) -> None:
        self.standing: set[Code] = set()

    def report(self, code: Code, text: str, warning: bool = False, lasting: bool = False) -> None:
        self.standing.add(code)

    def recovered(self, what: str, *codes: Code) -> None:
        self.standing -= set(codes)


def report_of(grasp: Grasp, stage: Stage, share: float = 0.55) -> OutcomeReport:
    measured = outcome_of(grasp, share) if stage is Stage.HELD else outcome_of(grasp, 0.0)
    return replace(OutcomeReport.of("p-1", 1.0, measured), stage=stage, result=PickResult.CLEAN)


def test_what_was_measured_of_a_load_is_what_teaches_and_one_put_back_teaches_nothing(tmp_path: Path) -> None:
    node, keeper = ToldNode(), HoldKeeper(CELL, tmp_path / "hold.json")
    frame, scene = goods(SACK)
    issued = IssuedPlan("p-1", True, plan_with(keeper, frame, scene), frame, scene)
    (grasp, *_) = issued.plan.grasps

    def picked(*stages: Stage, plan: IssuedPlan | None = issued) -> int:
        with ThreadPoolExecutor(1) as pool:
            watch = HoldWatch(node, keeper, pool)  # type: ignore[arg-type]
            for stage in stages:
                watch.note(plan, report_of(grasp, stage))
        return keeper.learner.picks

    assert picked(Stage.HELD, Stage.HELD, Stage.ENDED) == 0
    assert picked(Stage.HELD, Stage.ENDED, plan=None) == 0
    assert picked(Stage.HELD, Stage.ENDED) == 1
    (look,) = keeper.learner.looks.all
    assert look.evidence.vacuum[0] == 1, "the end alone told of no vacuum"
    (tmp_path / "hold.json").unlink()
    (tmp_path / "hold.json").mkdir()
    assert picked(Stage.ENDED) == 2 and node.standing == {Code.HOLDING_NOT_SAVED}
    (tmp_path / "hold.json").rmdir()
    assert picked(Stage.ENDED) == 3 and node.standing == set()


def picks(client: RosClient) -> str:
    return client.values(NODE).get("holding", "")


@pytest.mark.slow
def test_goods_that_seldom_held_are_left_for_last_and_told(cell: Cell, process: NodeProcess, tmp_path: Path) -> None:
    client, path = cell.client, tmp_path / "hold.json"
    outcomes = client.node.create_publisher(PickOutcome, OUTCOME, RESULT)
    assert client.change("planning", "configure") and client.change("planning", "activate")
    client.wait_diagnosed(NODE, "E672 HOLDING_DAMAGED")
    assert (tmp_path / "hold.json.damaged").exists()

    def missed(plan: GraspPlan) -> None:
        report = OutcomeReport.of(plan.plan_id, time.time(), pressed({}, traces=False))
        outcomes.publish(outcome_to_msg(replace(report, result=PickResult.MISS)))

    plain = cell.scene
    cell.scene = replace(plain, conditions=(DIRTY,))
    missed(cell.show_and_plan(Code.OK).plan)
    cell.scene = plain
    for number in range(4):
        plan = cell.show_and_plan(Code.OK).plan
        assert plan.holding.picks == number and plan.holding.digest and len(plan.hold_terms) == 1
        missed(plan)
        client.wait(lambda wanted=number + 1: f"from {wanted} picks" in picks(client), "what was learned", SLOW_S)
        client.call(Trigger, "forget_failures", Trigger.Request())  # of this pile: only what was learned is to count
    plan = cell.show_and_plan(Code.NO_GRASP).plan
    assert plan.hold_terms[0].last and list(plan.excluded_instances) == [1] and plan.holding.picks == 4
    client.wait_diagnosed(NODE, "E671 GOODS_SELDOM_HELD")
    keeper = HoldKeeper(CELL, path)
    assert keeper.problem is None and (keeper.learner.picks, keeper.learned.digest) == (4, plan.holding.digest)
