"""Camera drivers of other packages: their topics, encodings and frames by a preset, over real DDS."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.cli_helpers import colours, pickable_folder
from helpers.ros_client import NodeProcess, RosClient  # skips the module where ROS is not installed
from helpers.ros_driver import Driver
from robin_msgs.msg import SegmentedScene

from robin_perception.core.image_folder import load_frame
from robin_perception.topics import DRIVERS

NODE = "/segmentation"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def client() -> Iterator[RosClient]:
    with RosClient() as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("name", DRIVERS)
def test_a_drivers_topics_become_scenes(client: RosClient, tmp_path: Path, name: str) -> None:
    frame = load_frame(pickable_folder(tmp_path / "frame"))
    depth = frame.depth.copy()
    depth[:20] = 0.0  # a driver's frames have holes
    values = {
        "autostart": True,
        "camera_driver": name,
        "model": colours(tmp_path / "model"),
        "input_timeout_s": 0.5,
        "camera_pose_xyz_m": [0.0, 0.0, 1.2],
        "camera_pose_xyzw": [1.0, 0.0, 0.0, 0.0],
    }
    process = NodeProcess("robin_perception.nodes.segmentation_node", tmp_path / "log", values)
    driver = Driver(client, replace(frame, depth=depth), driver=name)
    try:
        late = client.wait_diagnosed(NODE, "E113 FRAME_TIMEOUT").message
        assert DRIVERS[name].topics.depth in late and DRIVERS[name].needs in late, (
            "what is waited for, and how to get it"
        )
        scenes = client.listen(SegmentedScene, "/scene")
        driver.wait_for_listener()
        client.wait(lambda: driver.show() or client.spin(0.2) or scenes, "scene")
        assert len(scenes[0].instances) == 12
        assert scenes[0].header.frame_id == DRIVERS[name].frame_id
    finally:
        assert process.stop() == 0
    assert "frames back after" in process.log


def test_presets_are_what_the_page_says() -> None:
    page = (ROOT / "docs" / "ros.md").read_text()
    for name, driver in DRIVERS.items():
        if name == "robin":
            continue
        names = (driver.topics.color, driver.topics.depth, driver.topics.info)
        topics = ", ".join(f"`{driver.prefix}/{topic}`" for topic in names)
        encodings = f"{driver.color_encoding}, {driver.depth_encoding}"
        cells = (f"`{name}`", driver.package, topics, encodings, f"`{driver.frame_id}`", driver.needs)
        assert f"| {' | '.join(cells)} |" in page
        assert driver.source in page


def test_four_channels_become_three() -> None:
    convert = pytest.importorskip("robin_perception.nodes.convert")
    pixels = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    header = convert.Header()
    rgba, bgra = (convert.rgb_from_msg(convert.image_to_msg(pixels, kind, header)) for kind in ("rgba8", "bgra8"))
    np.testing.assert_array_equal(rgba, pixels[..., :3])
    np.testing.assert_array_equal(bgra, pixels[..., 2::-1])
