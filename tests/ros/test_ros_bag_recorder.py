"""The bag recorder on real DDS: a station's bag is replayed to the last bit; a full disk stops nothing but the bag."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.bag_samples import TOPICS, camera_frame
from helpers.cli_helpers import Robin
from helpers.ros_client import NodeProcess, RosClient
from helpers.ros_environment import LONG_S, SIMULATED_NODES, cell_parameters
from rclpy.qos import QoSProfile
from robin_msgs.msg import Decision
from sensor_msgs.msg import CameraInfo, Image

from robin_bringup.node_table import NODES, WORKCELL
from robin_perception.bags.frames import BagFrames
from robin_perception.bags.reader import BagReader
from robin_perception.nodes.convert import frame_to_msgs
from robin_perception.nodes.qos import SENSOR, SENSOR_OUT

pytestmark = pytest.mark.slow

RECORDER = "edge_adapt.nodes.bag_recorder_node"
NODE = "/bag_recorder"


@pytest.fixture
def client() -> Iterator[RosClient]:
    with RosClient() as found:
        yield found


class Camera:
    """A camera driver's three topics, published from the test."""

    def __init__(self, client: RosClient, qos: QoSProfile = SENSOR_OUT) -> None:
        self._client = client
        create, frames = client.node.create_publisher, TOPICS.frames
        self._publishers = [
            create(Image, frames.color, qos),
            create(Image, frames.depth, qos),
            create(CameraInfo, frames.info, qos),
        ]

    def wait_seen(self) -> None:
        self._client.wait(lambda: all(p.get_subscription_count() for p in self._publishers), "recorder's subscriptions")

    def publish(self, index: int) -> None:
        frame = camera_frame(np.random.default_rng(index), 1_700_000_000.0 + index, 320, 240)
        for publisher, message in zip(self._publishers, frame_to_msgs(frame), strict=True):
            publisher.publish(message)
        self._client.spin(0.02)


def recorder(tmp_path: Path, **parameters: Any) -> NodeProcess:
    values = {"autostart": True, "bag": str(tmp_path / "bag"), "diagnostics_rate_hz": 5.0, **parameters}
    return NodeProcess(RECORDER, tmp_path / "recorder.log", values)


@pytest.mark.parametrize("qos", [SENSOR_OUT, SENSOR], ids=["reliable", "best_effort"])
def test_what_a_camera_publishes_is_in_the_bag(client: RosClient, tmp_path: Path, qos: QoSProfile) -> None:
    camera = Camera(client, qos)
    process = recorder(tmp_path)

    def count(name: str) -> int:
        return int(client.values(NODE).get(name, "0"))

    def account() -> int:
        return count("written") + count("dropped") + count("lost")

    def still() -> int:
        """The account, if nothing was added to it for a while."""
        found = account()
        client.spin(1.0)
        return found if account() == found else 0

    try:
        camera.wait_seen()
        client.wait(lambda: client.values(NODE).get("bag"), "active recorder")
        index = 0

        def more() -> bool:
            nonlocal index
            camera.publish(index)
            index += 1
            client.spin(0.3)
            return count("written") >= 15

        client.wait(more, "messages in the bag")  # the first may find a recorder that does not know the camera yet
        if qos is SENSOR_OUT:  # from then on every message is in the bag, or known to be lost
            before = client.wait(still, "counts that stand still")
            for number in range(index, index + 10):
                camera.publish(number)
            client.wait(lambda: account() == before + 30, "account of 30 messages")
    finally:
        assert process.stop() == 0, process.log
    frames = [found.frame for found in BagFrames(tmp_path / "bag")]
    index = round(frames[0].stamp_s - 1_700_000_000)
    first = camera_frame(np.random.default_rng(index), 0.0, 320, 240)
    assert np.array_equal(frames[0].rgb, first.rgb) and np.abs(frames[0].depth - first.depth).max() <= 0.00051
    assert BagReader(tmp_path / "bag").warnings == [] and (tmp_path / "bag/metadata.yaml").is_file()


def test_a_full_disk_is_a_fault_in_diagnostics_and_leaves_a_readable_bag(client: RosClient, tmp_path: Path) -> None:
    camera = Camera(client)
    process = recorder(tmp_path)
    try:
        camera.wait_seen()
        client.wait(lambda: client.values(NODE).get("bag"), "active recorder")
        resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE, (9_000_000, resource.RLIM_INFINITY))
        index = 0

        def full() -> bool:
            nonlocal index
            camera.publish(index)
            index += 1
            return "DISK_FULL" in client.messages().get(NODE, "")

        client.wait(full, "DISK_FULL in diagnostics")
        assert process.running and client.state(NODE) == "active"
        before = int(client.values(NODE).get("dropped", "0"))
        camera.publish(index)
        client.wait(lambda: int(client.values(NODE).get("dropped", "0")) > before, "counted drops")
    finally:
        assert process.stop() == 0, process.log
    assert sum(1 for _ in BagReader(tmp_path / "bag").messages()) >= 3


def station(tmp_path: Path) -> dict[str, Any]:
    cell = cell_parameters(tmp_path)
    return {**cell, "segmentation:engine": "onnxruntime", "segmentation:engine_options.intra_threads": 1}


class Station:
    """The simulated cell with all its nodes, in one process or each in its own."""

    def __init__(self, tmp_path: Path, together: bool) -> None:
        values = station(tmp_path)
        if together:
            arguments = ("--nodes", ",".join(SIMULATED_NODES))
            self._processes = [NodeProcess(WORKCELL.module, tmp_path / "workcell.log", values, arguments=arguments)]
            return
        values["segmentation:publish_boundary"] = True  # planning works with it, and so does a replay
        self._processes = [
            NodeProcess(NODES[node].module, tmp_path / f"{node}.log", _of_node(node, values))
            for node in SIMULATED_NODES
        ]

    def stop(self) -> None:
        for process in self._processes:
            process.stop()


def _of_node(node: str, values: dict[str, Any]) -> dict[str, Any]:
    own = {key.removeprefix(f"{node}:"): value for key, value in values.items() if key.startswith(f"{node}:")}
    return own | {key: value for key, value in values.items() if ":" not in key}


@pytest.mark.slow
@pytest.mark.parametrize("together", [True, False], ids=["one_process", "five_processes"])
def test_a_station_bag_is_replayed_to_the_last_bit(
    client: RosClient, tmp_path: Path, capsys: pytest.CaptureFixture[str], together: bool
) -> None:
    decisions = client.listen(Decision, "decision")
    writing = recorder(tmp_path)
    working: Station | None = None
    try:
        client.wait(lambda: client.values(NODE).get("bag"), "active recorder", LONG_S)
        working = Station(tmp_path, together)
        client.wait(lambda: client.values(NODE).get("pipeline_known") == "true", "parameters of the nodes", LONG_S)
        client.wait(lambda: len(decisions) >= 2, "decisions", LONG_S)
        client.spin(0.5)
    finally:
        if working is not None:
            working.stop()
        assert writing.stop() == 0, writing.log
    robin = Robin(capsys)
    done = robin("replay", tmp_path / "bag", "--tolerance", "exact", "--json", tmp_path / "replay.json")
    report = json.loads((tmp_path / "replay.json").read_text())
    assert done.status == 0, done.out + done.err
    assert report["compared"] >= 2 and report["changes"] == []


def test_the_command_says_what_a_live_recording_holds(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "robin_cli.main", "record", "--live", "--out", str(tmp_path / "bag")]
    command += ["--seconds", "2", "--json", str(tmp_path / "result.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONG_S, check=False)
    assert done.returncode == 0 and "again: robin replay" in done.stderr, done.stderr
    assert json.loads((tmp_path / "result.json").read_text())["bytes"] > 0
