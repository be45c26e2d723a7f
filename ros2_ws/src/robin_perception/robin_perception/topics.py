"""Names of the topics, relative, so that a namespace moves all of them. No ROS in here."""

from __future__ import annotations

from dataclasses import dataclass

SCENE = "scene"
PLAN = "plan"
OUTCOME = "outcome"
DECISION = "decision"
OVERLAY = "overlay"
GRASPS = "grasps"


@dataclass(frozen=True)
class CameraTopics:
    """A registered RGB-D camera's topics, as realsense2_camera names them."""

    color: str
    depth: str
    info: str


def camera_topics(prefix: str) -> CameraTopics:
    """Topics under ``prefix`` ("camera"; "/camera/camera" for realsense2_camera's own name)."""
    head = prefix.rstrip("/")
    return CameraTopics(
        f"{head}/color/image_raw", f"{head}/aligned_depth_to_color/image_raw", f"{head}/color/camera_info"
    )
