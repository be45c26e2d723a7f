"""A camera driver for tests: what a frame looks like on the topics of a real one."""

from __future__ import annotations

import time
from copy import deepcopy
from dataclasses import replace
from typing import Any

from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image

from helpers.ros_client import RosClient
from robin_perception.core.frame import Frame
from robin_perception.nodes.convert import frame_to_msgs
from robin_perception.nodes.qos import SENSOR_OUT
from robin_perception.topics import camera_topics

PERIOD_S = 0.05


class Driver:
    """A camera driver: publishes what it is given, with stamps that go on from one call to the next."""

    def __init__(self, client: RosClient, frame: Frame, prefix: str = "camera", qos: QoSProfile = SENSOR_OUT) -> None:
        topics = camera_topics(prefix)
        self._client, self.frame = client, frame
        self.stamp_s = time.time()
        self.color = client.node.create_publisher(Image, topics.color, qos)
        self.depth = client.node.create_publisher(Image, topics.depth, qos)
        self.info = client.node.create_publisher(CameraInfo, topics.info, qos)

    def wait_for_listener(self) -> None:
        publishers = (self.color, self.depth, self.info)
        self._client.wait(lambda: all(p.get_subscription_count() for p in publishers), "subscriptions to the camera")

    def messages(self, **changes: Any) -> tuple[Image, Image, CameraInfo]:
        self.stamp_s += PERIOD_S
        made = frame_to_msgs(replace(self.frame, stamp_s=self.stamp_s, **changes))
        for message in made:
            message.header = deepcopy(message.header)  # one may be spoiled without the others
        return made

    def close(self) -> None:
        for publisher in (self.color, self.depth, self.info):
            self._client.node.destroy_publisher(publisher)

    def publish(self, color: Image | None, depth: Image | None, info: CameraInfo | None) -> None:
        for publisher, message in ((self.info, info), (self.color, color), (self.depth, depth)):
            if message is not None:
                publisher.publish(message)

    def show(self, **changes: Any) -> None:
        self.publish(*self.messages(**changes))
