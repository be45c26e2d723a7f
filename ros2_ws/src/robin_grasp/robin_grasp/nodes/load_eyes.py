"""The segmentation node's network, for loads that hang on the tool: one network on a robot sees everything."""

from __future__ import annotations

import threading
from typing import Any

from robin_msgs.srv import SegmentFrame

from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene
from robin_perception.nodes.base import RobinNode
from robin_perception.nodes.convert import frame_to_msgs, pose_to_msg, scene_from_msg


class LoadEyes:
    """Make it in a node's ``__init__``; call it from any thread but the executor's."""

    def __init__(self, node: RobinNode[Any]) -> None:
        self._node = node
        self._client = node.create_client(SegmentFrame, "segment_frame")

    def see(self, frame: Frame, timeout_s: float) -> Scene:
        """What the network sees. Raises RobinError SERVICE_UNAVAILABLE where the segmentation node does not answer in
        time, or with a number; INPUT_* where its scene contradicts itself."""
        if not self._client.service_is_ready():
            raise RobinError(Code.SERVICE_UNAVAILABLE, "nobody offers segment_frame")
        color, depth, info = frame_to_msgs(frame, frame.camera_id)
        request = SegmentFrame.Request(color=color, depth=depth, info=info, camera=pose_to_msg(frame.T_base_camera))
        answered = threading.Event()
        future = self._client.call_async(request)
        future.add_done_callback(lambda _: answered.set())
        if not answered.wait(timeout_s):
            self._client.remove_pending_request(future)
            raise RobinError(Code.SERVICE_UNAVAILABLE, f"segment_frame did not answer within {timeout_s:g} s")
        reply = future.result()
        if reply.code:
            raise RobinError(Code.SERVICE_UNAVAILABLE, f"segment_frame answers E{reply.code} {reply.text}")
        return scene_from_msg(reply.scene)
