"""A thousand malformed messages and requests from a peer on real DDS: the nodes refuse by number, and go on."""

from __future__ import annotations

import math
import random
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from helpers.ros_cell_by_hand import Cell
from helpers.ros_client import NodeProcess, RosClient
from rclpy.serialization import deserialize_message, serialize_message
from robin_msgs.msg import GraspPlan, PickOutcome, SegmentedScene
from robin_msgs.srv import PlanPick, ReportOutcome
from sensor_msgs.msg import CameraInfo, Image

from edge_adapt.decision_store import read_decisions
from robin_grasp.nodes.convert import outcome_to_msg
from robin_grasp.picks.outcome_report import OutcomeReport
from robin_perception.core.errors import Code
from robin_perception.nodes.convert import frame_header, frame_to_msgs, scene_to_msg
from robin_perception.nodes.qos import RESULT, SENSOR_OUT
from robin_perception.topics import OUTCOME, PLAN, SCENE, camera_topics

NODES = ("planning", "pick_check", "recorder")
MESSAGES, REQUESTS = 900, 100
MOST_MEMORY = 500_000_000
NUMBERS = (0, 1, 255, 65_535, 2**31 - 1, 2**32 - 1, -1, -(2**31))
FLOATS = (0.0, -1.0, math.nan, math.inf, -math.inf, 1e308, -1e308, 1e-320)
TEXTS = (
    "",
    "..",
    "../../victim",
    "a" * 100_000,
    "\x1b[2J",
    "base_link",
    "{",
    "[" * 5000,
    '{"pile": -1}',
    "clean",
    "\n",
)


def spoil(message: Any, rng: random.Random) -> None:
    """Set one to four fields, somewhere in ``message``, to what nobody would send. What a field's type cannot hold is
    left as it is."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        holder = message
        while True:
            name = rng.choice(list(holder.get_fields_and_field_types()))
            value = getattr(holder, name)
            if hasattr(value, "get_fields_and_field_types"):
                holder = value
                continue
            try:
                setattr(holder, name, _other(value, rng))
                serialize_message(holder)
            except (AssertionError, OverflowError, TypeError, ValueError, SystemError):
                setattr(holder, name, value)
            break


def _other(value: Any, rng: random.Random) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return rng.choice(TEXTS)
    if isinstance(value, int):
        return rng.choice(NUMBERS)
    if isinstance(value, float):
        return rng.choice(FLOATS)
    kept = list(value)[: rng.choice((0, 1, 5, 100_000))] * rng.choice((1, 1, 3))
    for item in kept[:3]:
        if hasattr(item, "get_fields_and_field_types"):
            spoil(item, rng)
    if kept and isinstance(kept[0], int | float):
        kept[rng.randrange(len(kept))] = rng.choice(NUMBERS if isinstance(kept[0], int) else FLOATS)
    return kept


@pytest.fixture
def client() -> Iterator[RosClient]:
    with RosClient() as made:
        yield made


@pytest.fixture
def process(client: RosClient, tmp_path: Path) -> Iterator[NodeProcess]:
    cell = Cell(client, len(NODES))
    p, q = cell.pose.position, cell.pose.orientation
    pose: dict[str, Any] = {"camera_pose_xyz_m": [p.x, p.y, p.z], "camera_pose_xyzw": [q.x, q.y, q.z, q.w]}
    pose["gate.frozen_after"] = 0  # the cell by hand shows one picture again and again
    values = {f"{node}:{key}": value for node in NODES for key, value in pose.items()} | {
        "planning:frame_age_limit_s": 60.0,
        "planning:plan_every_scene": True,
        "pick_check:after_wait_s": 0.0,
        "recorder:after_wait_s": 0.0,
        "recorder:folder": str(tmp_path / "run" / "decisions"),
        "autostart": True,
    }
    made = NodeProcess("robin_bringup.nodes.workcell", tmp_path / "log", values, arguments=("--nodes", ",".join(NODES)))
    for node in NODES:
        client.wait(lambda node=node: client.state(node) == "active", f"{node} active")
    yield made
    made.stop()


class Peer:
    """Sends what nobody should. Every message was a good one before it was spoiled."""

    def __init__(self, client: RosClient) -> None:
        self.cell = Cell(client, len(NODES))
        topics, node = camera_topics("camera"), client.node
        self._publishers = {
            "color": node.create_publisher(Image, topics.color, SENSOR_OUT),
            "depth": node.create_publisher(Image, topics.depth, SENSOR_OUT),
            "info": node.create_publisher(CameraInfo, topics.info, SENSOR_OUT),
            "scene": node.create_publisher(SegmentedScene, SCENE, RESULT),
            "plan": node.create_publisher(GraspPlan, PLAN, RESULT),
            "outcome": node.create_publisher(PickOutcome, OUTCOME, RESULT),
        }
        self.plan = GraspPlan()

    def _good(self, name: str) -> Any:
        frame, scene = replace(self.cell.frame, stamp_s=time.time()), self.cell.scene
        if name in ("color", "depth", "info"):
            color, depth, info = frame_to_msgs(frame)
            return {"color": color, "depth": depth, "info": info}[name]
        if name == "scene":
            return scene_to_msg(scene, frame_header(frame))
        return self.plan if name == "plan" else self.outcome()

    def outcome(self) -> PickOutcome:
        return outcome_to_msg(OutcomeReport(self.plan.plan_id or "p-1", 0, 1.0, None, (0.0,) * 8, 0.0, 2.0))

    def send(self, rng: random.Random) -> None:
        """One message; every fifth as bytes that are none of its type."""
        name = rng.choice(list(self._publishers))
        message = self._good(name)
        publisher = self._publishers[name]
        if rng.random() < 0.2:
            data = bytearray(serialize_message(message))
            for _ in range(rng.choice((1, 4, 64))):
                data[rng.randrange(4, len(data))] = rng.choice((0, 1, 127, 255))
            publisher.publish(bytes(data[: rng.choice((len(data), len(data) // 2, 8))]))
            return
        message = deserialize_message(serialize_message(message), type(message))
        spoil(message, rng)
        publisher.publish(message)


@pytest.mark.slow
def test_malformed_messages_and_requests_stop_no_node(client: RosClient, process: NodeProcess, tmp_path: Path) -> None:
    rng, peer = random.Random(20), Peer(client)
    peer.plan = peer.cell.show_and_plan(Code.OK).plan
    memory = psutil.Process(process.process.pid)
    before = memory.memory_info().rss
    codes = set()
    for index in range(MESSAGES):
        peer.send(rng)
        if index % 20 == 0:
            client.spin(0.05)
            assert process.running, process.log[-3000:]
    for index in range(REQUESTS):
        if index % 2:
            request: Any = ReportOutcome.Request(outcome=peer.outcome())
            spoil(request.outcome, rng)
            codes.add(client.call(ReportOutcome, "report_outcome", request, again=False).code)
        else:
            request = PlanPick.Request()
            spoil(request, rng)
            codes.add(client.call(PlanPick, "plan_pick", request, again=False).code)
    assert codes <= {int(code) for code in Code} and Code.INTERNAL_ERROR not in codes
    assert process.running and memory.memory_info().rss - before < MOST_MEMORY
    assert "Traceback" not in process.log and "INTERNAL_ERROR" not in process.log, process.log[-3000:]
    told = set(re.findall(r"E\d{3} [A-Z_]+", process.log))
    assert len(told) >= 5 and "E618 ID_INVALID" in told, "the messages were taken, and refused by number"
    assert {path.name for path in (tmp_path / "run").iterdir()} <= {"decisions"}
    assert peer.cell.show_and_plan(Code.OK).plan.grasps, "a good frame is still planned on"
    read_decisions(tmp_path / "run" / "decisions")
