"""Names of the topics, relative, so that a namespace moves all of them. No ROS in here."""

from __future__ import annotations

from dataclasses import dataclass

SCENE = "scene"
PLAN = "plan"
OUTCOME = "outcome"
DECISION = "decision"
HELP = "help"
OVERLAY = "overlay"
GRASPS = "grasps"
CUP_HEALTH = "cup_health"


@dataclass(frozen=True)
class CameraTopics:
    """A registered RGB-D camera's topics: colour, depth aligned to it, and the intrinsics of both."""

    color: str
    depth: str
    info: str


@dataclass(frozen=True)
class CameraDriver:
    """What a camera driver publishes. topics: under ``prefix``, its default. frame_id: of colour and aligned depth, by
    default. node: its full name, by default. needs: what must be set in it. source: where this is from."""

    package: str
    prefix: str
    topics: CameraTopics
    color_encoding: str
    depth_encoding: str
    frame_id: str
    node: str
    needs: str
    source: str


_REALSENSE_TOPICS = CameraTopics("color/image_raw", "aligned_depth_to_color/image_raw", "color/camera_info")

DRIVERS = {
    "robin": CameraDriver(
        "robin_perception", "camera", _REALSENSE_TOPICS, "rgb8", "16UC1", "camera_color_optical_frame", "/camera", "",
        "camera_node of this project",
    ),
    "realsense": CameraDriver(
        "realsense2_camera", "/camera/camera", _REALSENSE_TOPICS, "rgb8", "16UC1", "camera_color_optical_frame",
        "/camera/camera", "align_depth.enable:=true", "realsense-ros 4.55: README.md, src/rs_node_setup.cpp",
    ),
    "orbbec": CameraDriver(
        "orbbec_camera", "/camera", CameraTopics("color/image_raw", "depth/image_raw", "color/camera_info"), "rgb8",
        "16UC1", "camera_color_optical_frame", "/camera/camera", "depth_registration:=true",
        "OrbbecSDK_ROS2 2.6: src/ob_camera_node.cpp, launch/gemini_330_series.launch.py",
    ),
    "zivid": CameraDriver(
        "zivid_camera", "", CameraTopics("color/image_color", "depth/image", "color/camera_info"), "rgba8", "32FC1",
        "zivid_optical_frame", "/zivid_camera", "a call of its service capture for each frame",
        "zivid-ros 3.4: README.md, src/zivid_camera.cpp",
    ),
}  # fmt: skip


def camera_topics(prefix: str = "", driver: str = "robin") -> CameraTopics:
    """Topics of one of ``DRIVERS`` under ``prefix``; empty = its own."""
    known = DRIVERS[driver]
    head, topics = (prefix or known.prefix).rstrip("/"), known.topics
    return CameraTopics(f"{head}/{topics.color}", f"{head}/{topics.depth}", f"{head}/{topics.info}")
