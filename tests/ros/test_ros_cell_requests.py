"""Planning, pick check and recorder over real DDS, fed by hand: refusals by number, a pick, full disk, two domains."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import rclpy
from geometry_msgs.msg import Pose
from helpers.grasp_scenes import Box, box_scene
from helpers.ros_client import DOMAIN, NodeProcess, RosClient
from robin_msgs.msg import Decision, GraspPlan, PickOutcome, SegmentedScene
from robin_msgs.srv import PlanPick, ReportOutcome
from sensor_msgs.msg import CameraInfo, Image
from visualization_msgs.msg import Marker, MarkerArray

from edge_adapt.decision_store import read_decisions
from robin_grasp.nodes.convert import outcome_to_msg, pose_to_msg
from robin_grasp.picks.outcome_report import OutcomeReport
from robin_perception.core.errors import Code
from robin_perception.nodes.convert import frame_header, frame_to_msgs, scene_to_msg, stamp_to_s
from robin_perception.nodes.qos import RESULT, SENSOR_OUT
from robin_perception.topics import SCENE, camera_topics

BOXES = [Box(0.65, 0.0, 0.25, 0.2, 0.1), Box(0.95, 0.0, 0.25, 0.2, 0.12)]
NODES = ("planning", "pick_check", "recorder")
AGE_LIMIT_S = 60.0
SLOW_S = 60.0


class Cell:
    """Camera, segmentation and arm, by hand."""

    def __init__(self, client: RosClient) -> None:
        self.client = client
        topics = camera_topics("camera")
        self._publishers = [
            client.node.create_publisher(kind, topic, SENSOR_OUT)
            for kind, topic in ((Image, topics.color), (Image, topics.depth), (CameraInfo, topics.info))
        ]
        self._scenes = client.node.create_publisher(SegmentedScene, SCENE, RESULT)
        self.frame, self.scene = box_scene(BOXES, 320, 240)
        self._answered = False

    @property
    def pose(self) -> Pose:
        return pose_to_msg(self.frame.T_base_camera)

    def show(self, age_s: float = 0.0) -> float:
        """One segmented frame of that age; its stamp."""
        frame = replace(self.frame, stamp_s=time.time() - age_s)
        for publisher, message in zip(self._publishers, frame_to_msgs(frame), strict=True):
            publisher.publish(message)
        self._scenes.publish(scene_to_msg(self.scene, frame_header(frame)))
        return frame.stamp_s

    def plan(self, **request: Any) -> PlanPick.Response:
        reply: PlanPick.Response = self.client.call(PlanPick, "plan_pick", PlanPick.Request(**request))
        return reply

    def show_and_plan(self, code: Code, age_s: float = 0.0) -> PlanPick.Response:
        """Show frames, once all three nodes see them, until planning answers with that code."""
        publishers = (*self._publishers, self._scenes)
        self.client.wait(lambda: all(p.get_subscription_count() == len(NODES) for p in publishers), "listeners", SLOW_S)
        self.show(age_s)  # its camera_info may come after its images: those are not used
        self.client.spin(0.5)

        def answer() -> PlanPick.Response | None:
            self.show(age_s)
            self.client.spin(0.3)
            reply = self.plan()
            return reply if reply.code == code else None

        found: PlanPick.Response = self.client.wait(answer, code.name, SLOW_S)
        return found

    def report(self, plan_id: str, grasp: int = 0) -> ReportOutcome.Response:
        if not self._answered:  # may be repeated where the answer is lost; the report of a pick closes it
            nonsense = ReportOutcome.Request(outcome=PickOutcome(plan_id=plan_id, result="perhaps"))
            assert self.client.call(ReportOutcome, "report_outcome", nonsense).code == Code.OUTCOME_INVALID
            self._answered = True
        report = OutcomeReport(plan_id, grasp, time.time(), None, (0.0,) * 8, 0.0, 2.0)
        request = ReportOutcome.Request(outcome=outcome_to_msg(report))
        reply: ReportOutcome.Response = self.client.call(ReportOutcome, "report_outcome", request, again=False)
        return reply


@pytest.fixture
def cell() -> Iterator[Cell]:
    with RosClient() as client:
        yield Cell(client)


@pytest.fixture
def process(cell: Cell, tmp_path: Path) -> Iterator[NodeProcess]:
    p, q = cell.pose.position, cell.pose.orientation
    pose = {"camera_pose_xyz_m": [p.x, p.y, p.z], "camera_pose_xyzw": [q.x, q.y, q.z, q.w]}
    values = {f"{node}:{key}": value for node in NODES for key, value in pose.items()} | {
        "planning:frame_age_limit_s": AGE_LIMIT_S,
        "planning:markers_rate_hz": 30.0,
        "pick_check:after_wait_s": 0.2,
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
