"""What the camera of a station sees, for the page: the topic ``overlay`` as one small picture in a folder.

A process of its own beside the page, started by it: ``python -m robin_view.nodes.eyes TOPIC FOLDER``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image

from edge_adapt.live_picture import LivePicture
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.parent_death import end_with_parent
from robin_perception.nodes.convert import rgb_from_msg
from robin_perception.nodes.qos import SENSOR_RELIABLE
from robin_perception.nodes.run import Ending, init_ros, leave, make_node

_WAKE_S = 0.2


def listen(topic: str, folder: Path) -> None:
    """Until SIGTERM or SIGINT. Raises RobinError OPTION_INVALID."""
    init_ros([])
    ending, picture = Ending(), LivePicture(folder)
    node = make_node(lambda: Node("robin_view_eyes"))
    executor = SingleThreadedExecutor()
    executor.add_node(node)

    def seen(message: Image) -> None:
        try:
            picture.offer(rgb_from_msg(message))
        except RobinError as exc:
            node.get_logger().warning(str(exc), throttle_duration_sec=10.0)

    try:
        node.create_subscription(Image, topic, seen, SENSOR_RELIABLE)
        while not ending.asked:
            executor.spin_once(timeout_sec=_WAKE_S)
    except rclpy.exceptions.InvalidTopicNameException as exc:
        raise RobinError(Code.OPTION_INVALID, f"--overlay: {exc}") from None
    finally:
        picture.close()
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()


def main() -> int:
    end_with_parent(os.getppid())
    try:
        listen(sys.argv[1], Path(sys.argv[2]))
    except RobinError as exc:
        print(f"error {exc}", file=sys.stderr)
        return 1
    leave(0)


if __name__ == "__main__":
    sys.exit(main())
