"""Where the camera of a frame was: a fixed pose from parameters, or TF where tf2_ros is installed."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.time import Time

from robin_perception.core.errors import Code, RobinError
from robin_perception.core.pose import pose_matrix


class CameraPose(Protocol):
    """pose_of(message) -> float64 [4, 4], pose of the message's frame_id in base_link at its stamp."""

    def pose_of(self, message: Any) -> NDArray[np.float64]: ...

    def close(self) -> None: ...


class FixedPose:
    """The same pose for every frame."""

    def __init__(self, pose: NDArray[np.float64]) -> None:
        self._pose = pose

    def pose_of(self, message: Any) -> NDArray[np.float64]:
        return self._pose

    def close(self) -> None:
        return None


class TfPose:
    """The pose that TF has for the frame's stamp; it waits for nothing, so a late transform costs that frame.

    Raises RobinError DEPENDENCY_MISSING without tf2_ros; ``pose_of`` raises POSE_INVALID where TF has no such pose.
    """

    def __init__(self, node: Node, base_frame: str) -> None:
        try:
            import tf2_ros
        except ImportError:
            text = "use_tf needs tf2_ros, which is not installed; give camera_pose_xyz_m and camera_pose_xyzw"
            raise RobinError(Code.DEPENDENCY_MISSING, text) from None
        self._errors = tf2_ros.TransformException
        self._base_frame = base_frame
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self._buffer, node)

    def pose_of(self, message: Any) -> NDArray[np.float64]:
        header = message.header
        try:
            found = self._buffer.lookup_transform(self._base_frame, header.frame_id, Time.from_msg(header.stamp))
        except self._errors as exc:
            text = f"no transform from {header.frame_id} to {self._base_frame}: {str(exc).splitlines()[0]}"
            raise RobinError(Code.POSE_INVALID, text) from None
        t, q = found.transform.translation, found.transform.rotation
        return pose_matrix((t.x, t.y, t.z), (q.x, q.y, q.z, q.w))

    def close(self) -> None:
        self._listener.unregister()
