"""A camera's topics as frames: subscriptions, pairing, pose and conversion, for every node that looks at frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from sensor_msgs.msg import CameraInfo, Image

from robin_perception.core.errors import Code
from robin_perception.core.frame import Frame
from robin_perception.core.gate import FrozenWatch
from robin_perception.node_config import FrameInputConfig
from robin_perception.nodes.base import RobinNode
from robin_perception.nodes.camera_pose import CameraPose, FixedPose, TfPose
from robin_perception.nodes.convert import frame_from_msgs
from robin_perception.nodes.pairing import FrameMessages, FramePairer
from robin_perception.nodes.qos import SENSOR, SENSOR_RELIABLE
from robin_perception.topics import DRIVERS, camera_topics


class FrameSubscriber:
    """Made in a node's ``setup``. ``on_messages`` is called in the executor's thread with every pair, in order of
    stamps and only while the node is active; ``to_frame`` may be called in any thread.

    wanted: the topics in words, for the line that says that nothing comes.
    What is not used is counted as a drop by its cause and reported with its number.
    Raises RobinError POSE_INVALID or DEPENDENCY_MISSING.
    """

    def __init__(
        self, node: RobinNode[Any], config: FrameInputConfig, on_messages: Callable[[FrameMessages], None]
    ) -> None:
        self._node = node
        self._on_messages = on_messages
        self._pose: CameraPose = (
            TfPose(node, config.base_frame) if config.use_tf else FixedPose(config.required_camera_pose())
        )
        self._pairer = FramePairer(config.pair_tolerance_ms / 1e3, self._unusable)
        self._frozen = FrozenWatch(config.gate)
        self._qos = config.image_qos
        topics = camera_topics(config.camera_prefix, config.camera_driver)
        needs = DRIVERS[config.camera_driver].needs
        self.wanted = f"{topics.color}, {topics.depth} and {topics.info}{f' (needs {needs})' if needs else ''}"
        self._subscribe(CameraInfo, topics.info, self._pairer.info)
        self._subscribe(Image, topics.color, lambda m: self._pass_on(self._pairer.color(m)))
        self._subscribe(Image, topics.depth, lambda m: self._pass_on(self._pairer.depth(m)))

    def retune(self, config: FrameInputConfig) -> None:
        """Take over what may change while the node runs."""
        self._pairer.tolerance_s = config.pair_tolerance_ms / 1e3
        self._frozen.config = config.gate

    def clear(self) -> None:
        """Forget what waits for its partner: call it when the node is activated."""
        self._pairer.clear()

    def close(self) -> None:
        """In the node's ``teardown``; the subscriptions are the node's and end with it."""
        self._pose.close()

    def to_frame(self, messages: FrameMessages) -> Frame:
        """Convert and check. Raises RobinError POSE_INVALID, PICTURE_FROZEN, and what ``frame_from_msgs`` raises."""
        pose = self._pose.pose_of(messages.color)
        frame = frame_from_msgs(messages.color, messages.depth, messages.info, pose, self._frozen.config)
        self._frozen.check(frame)
        return frame

    def _subscribe(self, kind: type[Any], topic: str, callback: Callable[[Any], None]) -> None:
        if self._qos == "best_effort":
            self._node.add_subscription(kind, topic, callback, SENSOR)
            return

        def settle_for_less() -> None:
            self._node.destroy_subscription(subscription)
            self._node.add_subscription(kind, topic, callback, SENSOR)
            self._node.get_logger().info(f"{topic} is offered as best effort only")

        def incompatible(_: Any) -> None:
            executor = self._node.executor
            if self._qos == "auto" and executor is not None:
                executor.create_task(settle_for_less)  # not within the subscription's own event
                return
            text = f"{topic} is offered as best effort only, and image_qos is reliable"
            self._node.report(Code.FRAME_TIMEOUT, text)

        events = SubscriptionEventCallbacks(incompatible_qos=incompatible)
        subscription = self._node.add_subscription(kind, topic, callback, SENSOR_RELIABLE, event_callbacks=events)

    def _pass_on(self, messages: FrameMessages | None) -> None:
        if messages is not None:
            self._on_messages(messages)

    def _unusable(self, code: Code, text: str, cause: str) -> None:
        self._node.counters.drop(cause)
        self._node.report(code, text, warning=True)
