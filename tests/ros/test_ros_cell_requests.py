"""Planning, pick check and recorder over real DDS, fed by hand: refusals by number, a pick, full disk, two domains."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import rclpy
from helpers.ros_cell_by_hand import SLOW_S, Cell
from helpers.ros_client import DOMAIN, NodeProcess, RosClient
from robin_msgs.msg import Decision, GraspPlan
from visualization_msgs.msg import Marker, MarkerArray

from edge_adapt.decision_store import read_decisions
from robin_perception.core.errors import Code
from robin_perception.nodes.convert import stamp_to_s

NODES = ("planning", "pick_check", "recorder")
AGE_LIMIT_S = 60.0


@pytest.fixture
def cell() -> Iterator[Cell]:
    with RosClient() as client:
        yield Cell(client, len(NODES))


@pytest.fixture
def process(cell: Cell, tmp_path: Path) -> Iterator[NodeProcess]:
    p, q = cell.pose.position, cell.pose.orientation
    pose = {"camera_pose_xyz_m": [p.x, p.y, p.z], "camera_pose_xyzw": [q.x, q.y, q.z, q.w]}
    values = {f"{node}:{key}": value for node in NODES for key, value in pose.items()} | {
        "planning:frame_age_limit_s": AGE_LIMIT_S,
        "planning:markers_rate_hz": 30.0,
        "pick_check:after_wait_s": 0.2,
        "pick_check:help_folder": str(tmp_path / "help"),
        "recorder:after_wait_s": 0.2,
        "recorder:folder": str(tmp_path / "decisions"),
        "log_period_s": 3600.0,
    }
    script = Path(__file__).parents[1] / "helpers" / "full_disk_workcell.py"
    found = NodeProcess(script, tmp_path / "log", values, arguments=("--nodes", ",".join(NODES)))
    yield found
    found.stop()


def bring_up(client: RosClient) -> None:
    for node in NODES:
        assert client.change(node, "configure") and client.change(node, "activate")


@pytest.mark.slow
def test_refusals_and_a_pick_by_hand(cell: Cell, process: NodeProcess, tmp_path: Path) -> None:
    client = cell.client
    decisions: list[Decision] = client.listen(Decision, "decision")
    markers: list[MarkerArray] = client.listen(MarkerArray, "grasps")

    reply = cell.plan()
    assert reply.code == Code.NODE_NOT_ACTIVE and "unconfigured" in reply.text
    assert client.change("planning", "configure")
    assert "inactive" in cell.plan().text
    assert client.change("planning", "activate")
    assert cell.plan().code == Code.FRAME_NONE
    for node in ("pick_check", "recorder"):
        assert client.change(node, "configure") and client.change(node, "activate")

    old = cell.show_and_plan(Code.FRAME_STALE, age_s=AGE_LIMIT_S + 100)
    assert "limit is 60" in old.text and not old.plan.grasps
    fresh = cell.show_and_plan(Code.OK)
    assert fresh.plan.requested and fresh.plan.header.frame_id == "base_link" and fresh.plan.model_id == "analytic"
    assert cell.plan(max_frame_age_s=0.001).code == Code.FRAME_STALE
    assert cell.plan(max_frame_age_s=-1.0).code == Code.OPTION_INVALID
    none = cell.plan(exclude_instances=[1, 2])
    assert none.code == Code.NO_GRASP and not none.plan.grasps and list(none.plan.excluded_instances) == [1, 2]
    client.wait(lambda: any(m.type == Marker.CYLINDER for a in markers for m in a.markers), "markers of cups")

    assert cell.report("p0-000009").code == Code.PLAN_UNKNOWN
    assert cell.report("../../victim").code == Code.ID_INVALID
    handed_out = cell.show_and_plan(Code.OK)  # a pick has ended, even if nobody knows which: the frame had to be new
    assert cell.report(handed_out.plan.plan_id, grasp=200).code == Code.OUTCOME_INVALID
    done = cell.report(handed_out.plan.plan_id)
    assert (done.code, done.result, done.decision_id) == (Code.OK, "miss", handed_out.plan.plan_id)
    written = client.wait(lambda: [d for d in decisions if d.decision_id == done.decision_id], "decision", SLOW_S)
    assert written[0].result == "miss"
    record = read_decisions(tmp_path / "decisions").find(done.decision_id)
    assert record.outcome is not None and record.outcome.reasons[0].startswith("0 of")

    before_the_pick = client.wait(lambda: r if (r := cell.plan()).code != Code.OK else None, "refusal", SLOW_S)
    assert before_the_pick.code == Code.FRAME_STALE and "before the last pick ended" in before_the_pick.text
    cell.show()
    again = cell.show_and_plan(Code.OK)
    assert len(again.plan.failed) == 1 and again.plan.failed[0].times == 1

    plans: list[GraspPlan] = client.listen(GraspPlan, "plan")
    assert client.set("planning", plan_every_scene=True) == (True, "")
    unasked = client.wait(lambda: cell.show() and [p for p in plans if not p.requested], "plan of a scene", SLOW_S)
    assert unasked[0].grasps and unasked[0].plan_id not in {d.decision_id for d in decisions}
    assert client.change("planning", "deactivate")
    assert cell.plan().code == Code.NODE_NOT_ACTIVE


@pytest.mark.slow
def test_full_disk_stops_no_pick_and_another_domain_sees_nothing(
    cell: Cell, process: NodeProcess, tmp_path: Path
) -> None:
    client = cell.client
    bring_up(client)
    first = cell.show_and_plan(Code.OK)
    process.process.send_signal(signal.SIGUSR1)
    client.wait(lambda: "the disk is full" in process.log, "full disk")
    assert cell.report(first.plan.plan_id).code == Code.OK
    assert "DISK_FULL" in client.wait_diagnosed("/recorder", "DISK_FULL").message
    second = cell.show_and_plan(Code.OK)
    assert stamp_to_s(second.plan.header.stamp) > stamp_to_s(first.plan.header.stamp)
    assert cell.report(second.plan.plan_id).code == Code.OK
    assert process.running
    assert not list((tmp_path / "decisions").glob("images/*/*.tmp"))

    elsewhere = rclpy.Context()
    rclpy.init(context=elsewhere, domain_id=DOMAIN + 101)
    node = rclpy.create_node("elsewhere", context=elsewhere)
    try:
        time.sleep(2.0)
        assert not [name for name, _ in node.get_service_names_and_types() if "plan_pick" in name]
        assert [name for name, _ in client.node.get_service_names_and_types() if "plan_pick" in name]
    finally:
        node.destroy_node()
        elsewhere.try_shutdown()
