"""A camera driver for tests: what a frame looks like on the topics of a real one."""

from __future__ import annotations

import time
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image

from helpers.ros_client import RosClient
from robin_perception.core.frame import Frame
from robin_perception.nodes.convert import frame_to_msgs, image_to_msg
from robin_perception.nodes.qos import SENSOR_OUT
from robin_perception.topics import DRIVERS, camera_topics

PERIOD_S = 0.05


class Driver:
    """A camera driver: publishes what it is given, with stamps that go on from one call to the next.

    driver: as which one of ``DRIVERS``, with its topics, encodings and frame.
    """

    def __init__(
        self, client: RosClient, frame: Frame, prefix: str = "", qos: QoSProfile = SENSOR_OUT, driver: str = "robin"
    ) -> None:
        topics = camera_topics(prefix, driver)
        self._driver = DRIVERS[driver]
        self._client, self.frame = client, frame
        self.stamp_s = time.time()
        self.noise = True  # of a real sensor: no two pictures are the same to the bit
        self._rng = np.random.default_rng(0)
        self.color = client.node.create_publisher(Image, topics.color, qos)
        self.depth = client.node.create_publisher(Image, topics.depth, qos)
        self.info = client.node.create_publisher(CameraInfo, topics.info, qos)

    def wait_for_listener(self) -> None:
        publishers = (self.color, self.depth, self.info)
        self._client.wait(lambda: all(p.get_subscription_count() for p in publishers), "subscriptions to the camera")

    def messages(self, **changes: Any) -> tuple[Image, Image, CameraInfo]:
        self.stamp_s += PERIOD_S
        rgb = self.frame.rgb.copy()
        if self.noise:
            rgb[0, 0, 2] = self._rng.integers(0, 256)
        frame = replace(self.frame, **{"rgb": rgb, **changes}, stamp_s=self.stamp_s)
        made = self._encoded(frame, *frame_to_msgs(frame, self._driver.frame_id))
        for message in made:
            message.header = deepcopy(message.header)  # one may be spoiled without the others
        return made

    def _encoded(self, frame: Frame, color: Image, depth: Image, info: CameraInfo) -> tuple[Image, Image, CameraInfo]:
        if self._driver.color_encoding == "rgba8":
            color = image_to_msg(np.dstack([frame.rgb, np.full_like(frame.rgb[..., :1], 255)]), "rgba8", color.header)
        if self._driver.depth_encoding == "32FC1":  # metres, and NaN where nothing was measured
            metres = np.where(frame.depth > 0, frame.depth, np.float32(np.nan))
            depth = image_to_msg(metres, "32FC1", depth.header)
        return color, depth, info

    def close(self) -> None:
        for publisher in (self.color, self.depth, self.info):
            self._client.node.destroy_publisher(publisher)

    def publish(self, color: Image | None, depth: Image | None, info: CameraInfo | None) -> None:
        for publisher, message in ((self.info, info), (self.color, color), (self.depth, depth)):
            if message is not None:
                publisher.publish(message)

    def show(self, **changes: Any) -> None:
        self.publish(*self.messages(**changes))
