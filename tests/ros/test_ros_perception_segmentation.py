"""The segmentation node as a process over DDS: scenes of good frames, and a number for everything else."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cli_helpers import colours, pickable_folder
from helpers.perception_graphs import colour_bundle
from helpers.ros_client import NodeProcess, RosClient  # skips the module where ROS is not installed
from helpers.ros_driver import PERIOD_S, Driver
from robin_msgs.msg import SegmentedScene
from robin_msgs.srv import ListCodes, LoadModel, SegmentFrame
from sensor_msgs.msg import CameraInfo, Image

from robin_perception.core.errors import Code
from robin_perception.core.frame import Frame
from robin_perception.core.image_folder import load_frame
from robin_perception.model.bundle import HEAD_FILE
from robin_perception.nodes.convert import frame_to_msgs, image_to_msg, pose_to_msg, scene_from_msg, stamp_to_s
from robin_perception.nodes.qos import SENSOR
from robin_perception.segmentation.segmenter import load_segmenter

pytestmark = pytest.mark.slow
NODE = "/segmentation"
MODULE = "robin_perception.nodes.segmentation_node"
POSE = {"camera_pose_xyz_m": [0.0, 0.0, 1.2], "camera_pose_xyzw": [1.0, 0.0, 0.0, 0.0]}


@pytest.fixture(scope="module")
def client() -> Iterator[RosClient]:
    with RosClient() as made:
        yield made


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colours(tmp_path_factory.mktemp("models") / "colours")


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> Frame:
    return load_frame(pickable_folder(tmp_path_factory.mktemp("frame") / "a"))


@pytest.fixture(scope="module")
def process(client: RosClient, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    everything = tmp_path_factory.getbasetemp()
    parameters = {"model": model, "diagnostics_rate_hz": 10, "fault_hold_s": 3.0, "overlay_rate_hz": 5, **POSE}
    parameters["models_folder"] = everything
    made = NodeProcess(MODULE, tmp_path_factory.mktemp("node") / "log.txt", parameters)
    client.wait(lambda: client.status(NODE), "diagnostics of the node")
    yield made
    assert made.stop() == 0, made.log


@pytest.fixture
def active(client: RosClient, process: NodeProcess) -> Iterator[None]:
    assert client.change(NODE, "configure"), process.log
    assert client.change(NODE, "activate"), process.log
    yield
    assert client.change(NODE, "deactivate") and client.change(NODE, "cleanup")


@pytest.fixture
def driver(client: RosClient, frame: Frame, active: None) -> Iterator[Driver]:
    made = Driver(client, frame)
    made.wait_for_listener()
    yield made
    made.close()


@pytest.fixture(scope="module")
def all_scenes(client: RosClient) -> list[SegmentedScene]:
    return client.listen(SegmentedScene, "/scene")


@pytest.fixture
def scenes(all_scenes: list[SegmentedScene], active: None) -> list[SegmentedScene]:
    all_scenes.clear()
    return all_scenes


def see(client: RosClient, driver: Driver, scenes: list[SegmentedScene]) -> SegmentedScene:
    """One good frame and its scene; what was seen before is forgotten."""
    scenes.clear()
    client.wait(lambda: driver.show() or client.spin(0.2) or scenes, "scene of a good frame")
    return scenes[-1]


def test_scene_of_a_frame_is_that_of_a_direct_call(
    client: RosClient, driver: Driver, scenes: list[SegmentedScene], frame: Frame, model: Path
) -> None:
    message = see(client, driver, scenes)
    segmenter = load_segmenter(model)
    direct = segmenter.segment(frame)
    scene = scene_from_msg(message)
    assert len(scene.instances) == len(direct.instances) == 12
    np.testing.assert_array_equal(scene.labels, direct.labels)
    assert message.model_id == segmenter.model_id
    assert message.header.frame_id == "camera_color_optical_frame"
    assert any(abs(stamp_to_s(message.header.stamp) - driver.stamp_s) < i * PERIOD_S + 1e-6 for i in range(9))
    client.wait(lambda: "segment.p95_ms" in client.values(NODE), "latency in diagnostics")
    client.wait(lambda: client.status(f"{NODE}: camera_moved") is not None, "a status of each cause")
    assert client.values(f"{NODE}: dark")["unit"] == "stops"
    values = client.values(NODE)
    assert values["engine"] == "onnxruntime" and values["model_id"] == segmenter.model_id


def since(scenes: list[SegmentedScene], stamp_s: float) -> list[SegmentedScene]:
    """Scenes of frames after ``stamp_s``: those before may still be on their way."""
    return [scene for scene in scenes if stamp_to_s(scene.header.stamp) > stamp_s + 1e-6]


def wrong_encoding(color: Image, depth: Image, info: CameraInfo) -> None:
    color.encoding = "yuv422"


def wrong_size(color: Image, depth: Image, info: CameraInfo) -> None:
    small = image_to_msg(np.full((240, 320), 900, np.uint16), "16UC1", depth.header)
    depth.height, depth.width, depth.step, depth.data = small.height, small.width, small.step, small.data


def wrong_frame(color: Image, depth: Image, info: CameraInfo) -> None:
    depth.header.frame_id = "camera_depth_optical_frame"


def cut_short(color: Image, depth: Image, info: CameraInfo) -> None:
    color.data = color.data[: len(color.data) // 2]


def not_calibrated(color: Image, depth: Image, info: CameraInfo) -> None:
    info.k = np.zeros(9)


def all_zero(color: Image, depth: Image, info: CameraInfo) -> None:
    depth.data = type(depth.data)("B", bytes(len(depth.data)))


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (wrong_encoding, Code.INPUT_ENCODING_MISMATCH),
        (wrong_size, Code.INPUT_SIZE_MISMATCH),
        (wrong_frame, Code.FRAME_ID_MISMATCH),
        (cut_short, Code.INPUT_UNREADABLE),
        (not_calibrated, Code.INTRINSICS_INVALID),
        (all_zero, Code.DEPTH_EMPTY),
    ],
)
def test_a_frame_that_does_not_fit_gives_a_number_and_no_scene(
    client: RosClient, driver: Driver, scenes: list[SegmentedScene], process: NodeProcess, spoil: Any, code: Code
) -> None:
    see(client, driver, scenes)
    last_good = driver.stamp_s
    for _ in range(3):
        messages = driver.messages()
        spoil(*messages)
        driver.publish(*messages)
        client.spin(0.1)
    client.wait_diagnosed(NODE, f"E{int(code)} {code.name}")
    assert since(scenes, last_good) == []
    see(client, driver, scenes)  # and it goes on with the next good one
    assert process.running


def test_nan_depth_is_no_measurement_and_counted(
    client: RosClient, driver: Driver, scenes: list[SegmentedScene], frame: Frame
) -> None:
    depth = frame.depth.copy()
    depth[:20] = np.nan
    nothing = np.full_like(depth, np.nan)

    def show(metres: np.ndarray) -> None:
        color, millimetres, info = driver.messages()
        driver.publish(color, image_to_msg(metres, "32FC1", millimetres.header), info)

    client.wait(lambda: show(depth) or client.spin(0.2) or scenes, "scene of a frame with some NaN")
    client.wait_counted(NODE, "frames_with_depth_not_finite")
    assert client.values(NODE)["depth_removed_px.not_finite"] == str(20 * frame.width)
    last_good = driver.stamp_s
    show(nothing)
    client.wait_diagnosed(NODE, "E104 DEPTH_EMPTY")
    assert since(scenes, last_good) == []


def test_a_frozen_camera_is_refused_until_its_picture_changes(
    client: RosClient, driver: Driver, scenes: list[SegmentedScene]
) -> None:
    see(client, driver, scenes)
    driver.noise = False
    assert client.set(NODE, **{"gate.frozen_after": 3})[0]

    def refused() -> bool:
        driver.show()
        client.spin(0.1)
        return "E125 PICTURE_FROZEN" in str(client.status(NODE))

    client.wait(refused, "a frozen picture is refused")
    driver.noise = True
    see(client, driver, scenes)
    assert client.set(NODE, **{"gate.frozen_after": 10})[0]


@pytest.mark.parametrize("missing", ["depth", "color"])
def test_one_image_without_the_other_is_counted_by_its_name(
    client: RosClient, driver: Driver, scenes: list[SegmentedScene], missing: str
) -> None:
    see(client, driver, scenes)
    there = "color" if missing == "depth" else "depth"
    key = f"dropped.{there}_without_{missing}"
    before = int(client.values(NODE).get(key, "0"))
    last_good = driver.stamp_s
    for _ in range(15):
        color, depth, info = driver.messages()
        driver.publish(color if there == "color" else None, depth if there == "depth" else None, info)
        client.spin(0.03)
    client.wait_counted(NODE, key, before + 3)
    client.wait_diagnosed(NODE, "E118 FRAME_UNPAIRED")
    assert since(scenes, last_good) == []


def test_stamps_that_jump_back_are_told_and_the_new_time_is_taken(
    client: RosClient, driver: Driver, scenes: list[SegmentedScene]
) -> None:
    see(client, driver, scenes)
    driver.stamp_s -= 30.0
    driver.show()
    client.wait_diagnosed(NODE, "E119 STAMP_JUMPED_BACK")

    def of_the_new_time() -> bool:
        driver.show()
        client.spin(0.2)
        return any(abs(stamp_to_s(scene.header.stamp) - driver.stamp_s) < 5.0 for scene in scenes)

    client.wait(of_the_new_time, "scene of the new time")


def test_without_camera_info_there_is_no_scene(client: RosClient, driver: Driver, scenes: list[SegmentedScene]) -> None:
    for _ in range(3):
        color, depth, _ = driver.messages()
        driver.publish(color, depth, None)
        client.spin(0.1)
    client.wait_diagnosed(NODE, "E120 CAMERA_INFO_MISSING")
    assert scenes == []
    see(client, driver, scenes)


def test_silence_is_told(client: RosClient, driver: Driver) -> None:
    assert client.set(NODE, input_timeout_s=0.5)[0]
    client.wait_diagnosed(NODE, "E113 FRAME_TIMEOUT: no usable frame")
    assert client.set(NODE, input_timeout_s=30.0)[0]


def test_a_busy_node_works_on_the_newest_and_counts_the_rest(
    client: RosClient, driver: Driver, scenes: list[SegmentedScene]
) -> None:
    see(client, driver, scenes)
    keys = ("frames", "scenes", "dropped.busy", "dropped.refused")

    def settled() -> dict[str, int] | None:
        """The counts, once all that came was either seen or dropped."""
        found = {key: int(client.values(NODE).get(key, "0")) for key in keys}
        return found if found["frames"] == sum(found[key] for key in keys[1:]) else None

    before = client.wait(settled, "settled counts")
    last_seen, shown = driver.stamp_s, 0

    def busy() -> bool:
        """Frames far faster than any network; again where this process was the one that had to wait."""
        nonlocal shown
        for _ in range(40):
            driver.show()
        shown += 40
        client.spin(0.5)
        return int(client.values(NODE).get("dropped.busy", "0")) > before["dropped.busy"]

    client.wait(busy, "frames that came while the node was busy")
    last = driver.stamp_s
    client.wait(lambda: any(abs(stamp_to_s(s.header.stamp) - last) < 1e-5 for s in scenes), "scene of the last frame")
    after = client.wait(lambda: (now := settled()) and now["frames"] > before["frames"] and now, "counts")
    assert after["dropped.busy"] > before["dropped.busy"]
    assert after["frames"] - before["frames"] <= shown + 5  # a few of ``see`` may have been on their way
    stamps = [stamp_to_s(scene.header.stamp) for scene in since(scenes, last_seen)]
    assert stamps == sorted(stamps) and len(stamps) < shown


def test_a_driver_that_offers_best_effort_is_understood_too(
    client: RosClient, active: None, scenes: list[SegmentedScene], frame: Frame, process: NodeProcess
) -> None:
    K = np.diag((0.25, 0.25, 1.0)) @ frame.K
    depth = frame.depth[::4, ::4].copy()
    depth[0, 0] += 0.01  # no sensor measures one value everywhere
    driver = Driver(client, replace(frame, rgb=frame.rgb[::4, ::4], depth=depth, K=K), qos=SENSOR)
    try:
        see(client, driver, scenes)
        assert "offered as best effort only" in process.log
    finally:
        driver.close()


def test_overlay_is_drawn_only_for_listeners_and_at_a_bounded_rate(
    client: RosClient, driver: Driver, scenes: list[SegmentedScene]
) -> None:
    pictures = client.listen(Image, "/overlay")
    begin = time.monotonic()
    client.wait(lambda: driver.show() or client.spin(0.05) or len(pictures) >= 4, "pictures")
    assert (len(pictures) - 1) / (time.monotonic() - begin) <= 5.5
    assert (pictures[0].encoding, pictures[0].width, pictures[0].height) == ("rgb8", 640, 480)


def test_a_model_is_exchanged_between_two_frames_or_not_at_all(
    client: RosClient, driver: Driver, scenes: list[SegmentedScene], model: Path, tmp_path: Path
) -> None:
    first = see(client, driver, scenes).model_id
    reply = client.call(LoadModel, "/load_model", LoadModel.Request(path=str(tmp_path / "none")))
    assert reply.code == Code.MODEL_MISSING and str(tmp_path / "none") in reply.text
    damaged = shutil.copytree(model, tmp_path / "damaged")
    (damaged / HEAD_FILE).write_bytes((damaged / HEAD_FILE).read_bytes()[:-1] + b"\x7f")
    reply = client.call(LoadModel, "/load_model", LoadModel.Request(path=str(damaged)))
    assert reply.code == Code.MODEL_HASH_MISMATCH
    assert see(client, driver, scenes).model_id == first
    other = colour_bundle(tmp_path / "other", count=21).directory
    reply = client.call(LoadModel, "/load_model", LoadModel.Request(path=str(other)))
    assert (reply.code, reply.text, reply.how) == (0, "", "engine") and reply.model_id != first
    seen = see(client, driver, scenes)
    assert (seen.model_id, seen.model_version) == (reply.model_id, "")


def test_a_picture_of_another_camera_is_segmented_between_two_frames(
    client: RosClient, driver: Driver, scenes: list[SegmentedScene], frame: Frame
) -> None:
    see(client, driver, scenes)
    color, depth, info = frame_to_msgs(replace(frame, camera_id="load_camera"), "load_camera")
    request = SegmentFrame.Request(color=color, depth=depth, info=info, camera=pose_to_msg(frame.T_base_camera))
    reply = client.call(SegmentFrame, "/segment_frame", request)
    assert (reply.code, reply.text) == (0, "") and reply.scene.header.frame_id == "load_camera"
    seen = scene_from_msg(reply.scene)
    assert seen.instances and (seen.labels > 0).any() and seen.boundary.size > 1
    see(client, driver, scenes)
    assert "load_camera" not in {scene.header.frame_id for scene in scenes}  # it is for who asked alone
    request.depth.encoding = "rgb8"
    assert client.call(SegmentFrame, "/segment_frame", request).code == Code.INPUT_ENCODING_MISMATCH


def test_a_model_outside_the_folder_of_models_is_refused(
    client: RosClient, driver: Driver, scenes: list[SegmentedScene], tmp_path: Path
) -> None:
    first = see(client, driver, scenes).model_id
    (tmp_path / "link").symlink_to("/etc")
    for path in ("/etc", str(tmp_path / "link"), f"{tmp_path}/../../../../etc", "", "models/base", "a" * 5000):
        reply = client.call(LoadModel, "/load_model", LoadModel.Request(path=path))
        assert reply.code == Code.PATH_REFUSED and not reply.model_id
    assert see(client, driver, scenes).model_id == first


@pytest.mark.parametrize("case", ["missing", "damaged", "no_pose"])
def test_configure_without_a_sound_model_or_pose_fails_and_the_node_stays(
    client: RosClient, process: NodeProcess, model: Path, tmp_path: Path, case: str
) -> None:
    damaged = shutil.copytree(model, tmp_path / "damaged")
    (damaged / HEAD_FILE).write_bytes(b"")
    changes: dict[str, Any] = {
        "missing": {"model": str(tmp_path / "none")},
        "damaged": {"model": str(damaged)},
        "no_pose": {"camera_pose_xyzw": [0.0] * 4},
    }[case]
    text = {"missing": "E201 MODEL_MISSING", "damaged": "E202 MODEL_HASH_MISMATCH", "no_pose": "E107 POSE_INVALID"}[
        case
    ]
    assert client.set(NODE, **changes)[0]
    for _ in range(2):
        assert not client.change(NODE, "configure")
        client.wait_diagnosed(NODE, text)
        assert client.state(NODE) == "unconfigured" and process.running
    reply = client.call(LoadModel, "/load_model", LoadModel.Request(path=str(model)))
    assert reply.code == Code.NODE_NOT_ACTIVE
    assert client.set(NODE, model=str(model), **POSE)[0]
    assert client.change(NODE, "configure") and client.change(NODE, "cleanup")


def test_codes_are_listed_in_any_state(client: RosClient, process: NodeProcess) -> None:
    reply = client.call(ListCodes, "/list_codes")
    assert [(c.code, c.name) for c in reply.codes] == [(int(c), c.name) for c in sorted(Code)]
    assert all(c.text for c in reply.codes)


def test_killed_and_started_again_in_a_namespace_it_sees_again(
    client: RosClient, model: Path, frame: Frame, tmp_path: Path
) -> None:
    parameters = {"model": model, "autostart": True, "diagnostics_rate_hz": 10, **POSE}
    driver = Driver(client, frame, "/station/camera")
    scenes = client.listen(SegmentedScene, "/station/scene")
    for name in ("first", "second"):
        process = NodeProcess(MODULE, tmp_path / f"{name}.txt", parameters, "-r", "__ns:=/station")
        try:
            see(client, driver, scenes)
        finally:
            process.kill()
