"""Parameter files as ROS users write them, and time as ``ros2 bag play --clock`` gives it, over real DDS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.cli_helpers import colours
from helpers.ros_cell_by_hand import Cell
from helpers.ros_client import NodeProcess, RosClient  # skips the module where ROS is not installed
from rclpy.qos import ReliabilityPolicy
from robin_msgs.msg import GraspPlan, PickOutcome
from rosgraph_msgs.msg import Clock

from robin_grasp.nodes.convert import outcome_to_msg
from robin_grasp.picks.outcome_report import OutcomeReport
from robin_perception.core.errors import Code
from robin_perception.nodes.convert import stamp_from_s
from robin_perception.nodes.qos import RESULT, SENSOR

pytestmark = pytest.mark.slow


class PlayedClock:
    """/clock, as often as the client spins. ``now_s`` moves when the test says so, and by a hair for each stamp."""

    def __init__(self, client: RosClient, now_s: float) -> None:
        self.now_s = now_s
        publisher = client.node.create_publisher(Clock, "/clock", 10)
        client.node.create_timer(0.02, lambda: publisher.publish(Clock(clock=stamp_from_s(self.now_s))))

    def __call__(self) -> float:
        self.now_s += 1e-3
        return self.now_s


@pytest.fixture
def client() -> Iterator[RosClient]:
    with RosClient() as made:
        yield made


def started(module: str, folder: Path, text: str, *extra: str) -> NodeProcess:
    file = folder / "mine.yaml"
    file.write_text(text)
    return NodeProcess(module, folder / "log", None, "--params-file", str(file), *extra)


def pose_yaml(cell: Cell) -> str:
    p, q = cell.pose.position, cell.pose.orientation
    return (
        f"camera_pose_xyz_m: [{float(p.x)}, {float(p.y)}, {float(p.z)}]\n"
        f"    camera_pose_xyzw: [{float(q.x)}, {float(q.y)}, {float(q.z)}, {float(q.w)}]"
    )


def test_planning_in_the_time_of_a_played_bag(client: RosClient, tmp_path: Path) -> None:
    cell = Cell(client, nodes=1)
    text = f"""
/**:
  ros__parameters: {{use_sim_time: true, engine: another_node_has_this}}
/planning:
  ros__parameters:
    autostart: true
    {pose_yaml(cell)}
    qos_overrides: {{/decided: {{publisher: {{reliability: best_effort}}}}}}
"""
    process = started(
        "robin_grasp.nodes.planning_node", tmp_path, text, "-r", "plan:=decided", "-p", "frame_age_limit_s:=2.0"
    )
    try:
        client.wait_diagnosed("/planning", "E606 CLOCK_MISSING")
        assert client.state("planning") == "active", process.log
        assert "parameter 'engine' is segmentation's, left out here" in process.log
        plans: list[GraspPlan] = client.listen(GraspPlan, "decided", SENSOR)
        (offered,) = client.wait(lambda: client.node.get_publishers_info_by_topic("/decided"), "remapped topic")
        assert offered.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT, "as qos_overrides says"

        clock = PlayedClock(client, 1000.0)
        cell = Cell(client, 1, clock)
        outcomes = client.node.create_publisher(PickOutcome, "outcome", RESULT)
        cell.show_and_plan(Code.OK)
        clock.now_s += 100.0
        client.spin(0.3)
        stale = client.wait(lambda: r if (r := cell.plan()).code != Code.OK else None, "refusal")
        assert stale.code == Code.FRAME_STALE and "is 100." in stale.text, stale.text
        ended = OutcomeReport("p0-000001", 0, clock.now_s, None, (0.0,) * 8, 0.0, 2.0)
        outcomes.publish(outcome_to_msg(ended))
        client.wait_counted("/planning", "outcomes_of_unknown_plans")

        clock.now_s = 10.0  # the bag begins anew
        client.wait(lambda: "time jumped back" in process.log, "line about the jump")
        assert cell.plan().code == Code.FRAME_NONE
        cell.show_and_plan(Code.OK)
        assert plans and plans[-1].header.stamp.sec == 10
    finally:
        assert process.stop() == 0


def test_frames_are_missed_in_simulated_time(client: RosClient, tmp_path: Path) -> None:
    model = colours(tmp_path / "model")
    values = "input_timeout_s: 0.5, camera_pose_xyzw: [1.0, 0.0, 0.0, 0.0], diagnostics_rate_hz: 10.0"
    text = f"/**: {{ros__parameters: {{use_sim_time: true, autostart: true, model: {model}, {values}}}}}"
    process = started("robin_perception.nodes.segmentation_node", tmp_path, text)
    clock = PlayedClock(client, 50.0)
    try:
        client.wait_diagnosed("/segmentation", "active")
        client.spin(1.5)
        assert "E113" not in process.log, "time stands still: nothing is late"
        clock.now_s += 3.0
        client.wait_diagnosed("/segmentation", "E113 FRAME_TIMEOUT: no usable frame for 3.0 s")
    finally:
        assert process.stop() == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("-p", "engine"), "error E405 OPTION_INVALID: --ros-args: "),
        (("--params-file", "nowhere.yaml"), "error E405 OPTION_INVALID: --ros-args: "),
    ],
)
def test_arguments_that_ros_cannot_read_are_one_line(tmp_path: Path, arguments: tuple[str, ...], text: str) -> None:
    process: Any = NodeProcess("robin_grasp.nodes.planning_node", tmp_path / "log", None, *arguments)
    assert process.process.wait(60.0) == 1
    assert text in process.log and "Traceback" not in process.log
