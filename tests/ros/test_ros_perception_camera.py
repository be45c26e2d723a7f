"""The camera node as a process over DDS, and camera and segmentation in one process."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cli_helpers import colours, pickable_folder
from helpers.ros_client import NodeProcess, RosClient  # skips the module where ROS is not installed
from robin_msgs.msg import SegmentedScene
from sensor_msgs.msg import CameraInfo, Image

from robin_perception.core.image_folder import COLOR_FILE, load_frame
from robin_perception.nodes.convert import camera_from_msg, depth_from_msg, image_from_msg, stamp_to_s
from robin_perception.nodes.qos import SENSOR_RELIABLE
from robin_perception.topics import camera_topics

pytestmark = pytest.mark.slow
MODULE = "robin_perception.nodes.camera_node"
NODE = "/camera"
TOPICS = camera_topics("/camera")
HERE = Path(__file__).parents[1] / "helpers"


@pytest.fixture(scope="module")
def client() -> Iterator[RosClient]:
    with RosClient() as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return pickable_folder(tmp_path / "images" / "a")


@contextmanager
def running(client: RosClient, log: Path, parameters: dict[str, Any], module: str | Path = MODULE) -> Iterator[Any]:
    quick = {"diagnostics_rate_hz": 10.0, "fault_hold_s": 3.0}
    process = NodeProcess(module, log, {**quick, **parameters})
    try:
        client.wait(lambda: client.values(NODE).get("pid") == str(process.process.pid), "diagnostics of the node")
        yield process
    finally:
        assert process.stop() == 0, process.log


def test_a_folder_becomes_the_topics_of_a_registered_camera(client: RosClient, folder: Path, tmp_path: Path) -> None:
    parameters = {"source": "folder", "path": folder.parent, "folder.rate_hz": 10.0}
    with running(client, tmp_path / "log.txt", parameters) as process:
        assert client.change(NODE, "configure"), process.log
        received = {
            name: client.listen(kind, topic, SENSOR_RELIABLE)
            for name, kind, topic in (
                ("color", Image, TOPICS.color),
                ("depth", Image, TOPICS.depth),
                ("info", CameraInfo, TOPICS.info),
            )
        }
        client.spin(0.5)
        assert not any(received.values())  # inactive
        assert client.change(NODE, "activate")
        client.wait(lambda: all(received.values()), "images")
        frame = load_frame(folder)
        color, depth, info = (received[name][0] for name in ("color", "depth", "info"))
        np.testing.assert_array_equal(image_from_msg(color), frame.rgb)
        np.testing.assert_allclose(depth_from_msg(depth).metres(), frame.depth, atol=0.0005)
        np.testing.assert_allclose(camera_from_msg(info).K, frame.K)
        assert (color.encoding, depth.encoding) == ("rgb8", "16UC1")
        frames = {message.header.frame_id for message in (color, depth, info)}
        assert frames == {"camera_color_optical_frame"}
        client.wait(lambda: float(client.values(NODE).get("frames.rate_hz", 0)) > 0, "rate")
        assert client.set(NODE, max_rate_hz=0.5)[0]
        client.wait_counted(NODE, "dropped.rate_limit")
        assert client.set(NODE, max_rate_hz=30.0)[0]
        assert client.change(NODE, "deactivate")
        ended_s = time.time()
        client.spin(0.5)
        assert all(stamp_to_s(message.header.stamp) <= ended_s for message in received["color"])


def test_a_camera_that_is_unplugged_is_told_and_taken_back(
    client: RosClient, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plug = tmp_path / "plug"
    monkeypatch.setenv("FLAKY_PLUG", str(plug))
    plug.touch()
    parameters = {"folder.path": folder, "folder.rate_hz": 20.0, "reconnect_first_s": 0.1, "reconnect_max_s": 0.2}
    with running(client, tmp_path / "log.txt", parameters, HERE / "ros_flaky_camera.py") as process:
        assert client.change(NODE, "configure") and client.change(NODE, "activate")  # it may still come
        attempts = client.wait_counted(NODE, "fault.E111_CAMERA_NOT_FOUND", 10)
        assert process.log.count("E111 CAMERA_NOT_FOUND") <= attempts // 2, "one line for many attempts"
        plug.unlink()
        seen = client.wait_counted(NODE, "frames")
        plug.touch()
        client.wait_counted(NODE, "fault.E112_CAMERA_UNPLUGGED")
        client.wait_diagnosed(NODE, "E111 CAMERA_NOT_FOUND")
        assert client.state(NODE) == "active"
        plug.unlink()
        client.wait_counted(NODE, "frames", seen + 5)
        client.wait_counted(NODE, "opened", 2)
        client.wait(lambda: client.messages()[NODE] == "active", "a sound state again")
        client.wait(lambda: process.log.count("camera back after") == 2, "two lines about its return")
        plug.touch()
        client.wait_diagnosed(NODE, "E11")
        assert client.change(NODE, "deactivate")  # ends while it waits for the camera
        assert process.running


def test_a_realsense_that_is_unplugged_is_told_and_taken_back(
    client: RosClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above with the vendor's SDK: its context says that the device went and came."""
    pytest.importorskip("pyrealsense2", reason="pyrealsense2 is not installed")
    from helpers.realsense_software import COLOR_SIZE, DEPTH_SIZE, record

    color = np.full((COLOR_SIZE[1], COLOR_SIZE[0], 3), 90, np.uint8)
    depth = np.full((DEPTH_SIZE[1], DEPTH_SIZE[0]), 900, np.uint16)
    depth[:20] = 905  # depth of one value is refused
    recording, plug = tmp_path / "camera.db3", tmp_path / "plug"
    record(recording, lambda number: (color, depth), 60)
    monkeypatch.setenv("USB_RECORDING", str(recording))
    monkeypatch.setenv("USB_PLUG", str(plug))
    section = {"color_width": 640, "color_height": 480, "depth_width": 424, "depth_height": 240, "warm_up_frames": 1}
    parameters = {f"realsense.{key}": value for key, value in section.items()}
    parameters |= {"camera_pose_xyzw": [1.0, 0.0, 0.0, 0.0], "reconnect_first_s": 0.1, "reconnect_max_s": 0.2}
    with running(client, tmp_path / "log.txt", parameters, HERE / "ros_usb_camera.py"):
        assert client.change(NODE, "configure") and client.change(NODE, "activate")
        client.wait_diagnosed(NODE, "E111 CAMERA_NOT_FOUND")
        plug.touch()
        seen = client.wait_counted(NODE, "frames")
        plug.unlink()
        client.wait_counted(NODE, "fault.E112_CAMERA_UNPLUGGED")
        plug.touch()
        client.wait_counted(NODE, "opened", 2)
        client.wait_counted(NODE, "frames", seen + 1)
        assert client.state(NODE) == "active"


def test_a_damaged_image_costs_that_frame_and_a_missing_folder_is_waited_for(
    client: RosClient, folder: Path, tmp_path: Path
) -> None:
    parameters = {
        "source": "folder",
        "path": folder.parent,
        "folder.rate_hz": 20.0,
        "reconnect_first_s": 0.1,
        "reconnect_max_s": 0.2,
        "reopen_after_failures": 2,
    }
    with running(client, tmp_path / "log.txt", parameters):
        assert client.change(NODE, "configure") and client.change(NODE, "activate")
        seen = client.wait_counted(NODE, "frames")
        image = (folder / COLOR_FILE).read_bytes()
        (folder / COLOR_FILE).write_bytes(image[: len(image) // 2])
        client.wait_diagnosed(NODE, "E102 INPUT_UNREADABLE")
        shutil.move(folder.parent, tmp_path / "away")
        client.wait_diagnosed(NODE, "E101 INPUT_MISSING")
        (tmp_path / "away/a" / COLOR_FILE).write_bytes(image)
        shutil.move(tmp_path / "away", folder.parent)
        client.wait_counted(NODE, "frames", seen + 3)


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"source": "folder", "path": "/nowhere/at/all"}, "E101 INPUT_MISSING: cannot configure: /nowhere/at/all"),
        ({"source": "bag", "path": "/nowhere/at/all.mcap"}, "E101 INPUT_MISSING"),
        ({"source": "realsense", "path": "x"}, "E405 OPTION_INVALID"),
        ({"source": "folder", "camera_pose_xyzw": [1.0, 1.0, 0.0, 0.0]}, "E107 POSE_INVALID"),
        ({"source": "webcam"}, "E403 CONFIG_OUT_OF_RANGE: parameters of camera: 'source'"),
    ],
)
def test_what_can_never_work_is_refused_at_configure(
    client: RosClient, tmp_path: Path, parameters: dict[str, Any], text: str
) -> None:
    with running(client, tmp_path / "log.txt", parameters) as process:
        assert not client.change(NODE, "configure")
        client.wait_diagnosed(NODE, text)
        assert client.state(NODE) == "unconfigured" and process.running


def test_in_one_process_frames_need_no_topics(client: RosClient, folder: Path, tmp_path: Path) -> None:
    model = colours(tmp_path / "model")
    script = tmp_path / "both.py"
    script.write_text(
        "import sys\n"
        "from robin_perception.nodes.camera_node import CameraNode\n"
        "from robin_perception.nodes.frame_bus import FrameBus\n"
        "from robin_perception.nodes.run import run_nodes\n"
        "from robin_perception.nodes.segmentation_node import SegmentationNode\n"
        "bus = FrameBus()\n"
        "sys.exit(run_nodes(lambda: [CameraNode(bus), SegmentationNode(bus)]))\n"
    )
    file = tmp_path / "parameters.yaml"
    file.write_text(
        f"/**:\n  ros__parameters: {{autostart: true}}\n"
        f"/one/camera:\n  ros__parameters: {{source: folder, path: {folder}, folder.rate_hz: 30}}\n"
        f"/one/segmentation:\n  ros__parameters: {{model: {model}}}\n"
    )
    scenes = client.listen(SegmentedScene, "/one/scene")
    process = NodeProcess(script, tmp_path / "log.txt", None, "-r", "__ns:=/one", "--params-file", str(file))
    try:
        client.wait(lambda: scenes, "scene")
        assert len(scenes[0].instances) == 12
        client.wait(lambda: client.values("/one/segmentation").get("input") == "process", "diagnostics")
        color = camera_topics("/one/camera").color
        client.wait(lambda: client.node.count_publishers(color) == 1, "publisher of images")
        assert client.node.count_subscribers(color) == 0  # no image crosses a socket
    finally:
        assert process.stop() == 0
