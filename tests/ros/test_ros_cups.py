"""Cup health of the planning node over real DDS: learned from outcomes, published, reset by a service, kept on disk."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.cup_picks import TOOL, pressed
from helpers.ros_cell_by_hand import SLOW_S, Cell
from helpers.ros_client import NodeProcess, RosClient
from robin_msgs.msg import CupHealth, PickOutcome
from robin_msgs.srv import ResetCups

from robin_grasp.cup_health_file import CupHealthKeeper
from robin_grasp.nodes.convert import outcome_to_msg
from robin_grasp.picks.outcome_report import OutcomeReport
from robin_grasp.tool import mask_to_cups
from robin_perception.core.errors import Code
from robin_perception.nodes.qos import RESULT
from robin_perception.topics import CUP_HEALTH, OUTCOME


@pytest.fixture
def cell() -> Iterator[Cell]:
    with RosClient() as client:
        yield Cell(client, 1)


@pytest.fixture
def process(cell: Cell, tmp_path: Path) -> Iterator[NodeProcess]:
    p, q = cell.pose.position, cell.pose.orientation
    values = {
        "planning:camera_pose_xyz_m": [p.x, p.y, p.z],
        "planning:camera_pose_xyzw": [q.x, q.y, q.z, q.w],
        "planning:frame_age_limit_s": 60.0,
        "planning:cups_file": str(tmp_path / "cups.json"),
        "log_period_s": 3600.0,
    }
    script = Path(__file__).parents[1] / "helpers" / "full_disk_workcell.py"
    found = NodeProcess(script, tmp_path / "log", values, arguments=("--nodes", "planning"))
    yield found
    found.stop()


@pytest.mark.slow
def test_a_blocked_cup_is_told_and_a_reset_makes_it_good(cell: Cell, process: NodeProcess, tmp_path: Path) -> None:
    client = cell.client
    told: list[CupHealth] = client.listen(CupHealth, CUP_HEALTH)
    outcomes = client.node.create_publisher(PickOutcome, OUTCOME, RESULT)
    assert client.change("planning", "configure") and client.change("planning", "activate")
    blocked = -1
    for _ in range(8):
        plan = cell.show_and_plan(Code.OK).plan
        cups = mask_to_cups(plan.grasps[0].cups)
        blocked = cups[0] if blocked < 0 else blocked
        measured = pressed({cup: 0.55 for cup in cups if cup != blocked}, traces=False)
        told.clear()
        outcomes.publish(outcome_to_msg(OutcomeReport.of(plan.plan_id, time.time(), measured)))
        client.wait(lambda: len(told) >= TOOL.cup_count, "cup health", SLOW_S)
        if {cup.cup: cup.state for cup in told[-8:]}[blocked] == "blocked":
            break
    found = {cup.cup: cup for cup in told[-8:]}[blocked]
    assert (found.state, found.share) == ("blocked", 0.0)
    assert "replace it" in found.text
    assert [r.cup for r in CupHealthKeeper(TOOL, tmp_path / "cups.json").health.findings] == [blocked]
    assert blocked not in mask_to_cups(cell.show_and_plan(Code.OK).plan.grasps[0].cups)

    refused = client.call(ResetCups, "reset_cups", ResetCups.Request(cups=[9]))
    assert refused.code == Code.CUPS_MISMATCH
    reset = client.call(ResetCups, "reset_cups", ResetCups.Request(cups=[blocked]))
    assert reset.code == Code.OK
    assert [cup.state for cup in reset.cups] == ["good"] * TOOL.cup_count
    assert CupHealthKeeper(TOOL, tmp_path / "cups.json").health.findings == ()
