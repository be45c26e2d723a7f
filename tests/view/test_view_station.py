"""The camera of a ROS station on the page: the topic of masks on colour, over real DDS."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from helpers.ros_client import DOMAIN, RosClient  # skips the module where ROS is not installed
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from edge_adapt.live_picture import LiveReader, drawn
from robin_perception.nodes.convert import image_to_msg
from robin_view.live.station import listening

pytestmark = pytest.mark.slow


def test_the_overlay_of_a_station_becomes_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(DOMAIN))
    picture = np.full((360, 640, 3), (200, 30, 30), dtype=np.uint8)
    with RosClient() as client, listening("/cell/overlay") as folder:
        publisher = client.node.create_publisher(Image, "/cell/overlay", 1)
        reader: LiveReader = LiveReader(folder)

        def shown() -> bool:
            publisher.publish(image_to_msg(picture, "rgb8", Header()))
            client.spin(0.1)
            return reader.stamp() != 0

        client.wait(shown, "picture of the overlay")
        assert reader.read() == drawn(picture, None)
        publisher.publish(image_to_msg(picture[:, :, 0], "mono8", Header()))  # is told, and changes nothing
        stamps = {reader.stamp()}
        for level in range(20):
            publisher.publish(image_to_msg(picture - level, "rgb8", Header()))
            client.spin(0.1)
            stamps.add(reader.stamp())
        assert len(stamps) > 5
        end = time.monotonic() + 20
        while (data := reader.read()) != drawn(picture - 19, None):
            assert time.monotonic() < end, "the last picture is not shown"
            client.spin(0.1)
        assert data
    assert not Path(folder).exists()
