"""Typed parameter sets of the nodes, and all nodes by name. No ROS in here: documentation and checks need none.

A room registers its nodes where their configurations stand, in ``<room>/node_config.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robin_perception.cameras.bag import BagConfig
from robin_perception.cameras.folder import FolderConfig
from robin_perception.cameras.realsense_config import RealSenseBagConfig, RealSenseConfig
from robin_perception.core.config import StrictConfig
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.gate import GateConfig
from robin_perception.core.pose import pose_matrix
from robin_perception.engines import EngineConfig
from robin_perception.monitors.config import MonitorsConfig
from robin_perception.node_parameters import DYNAMIC, FIXED
from robin_perception.novelty.watch import WatchConfig
from robin_perception.segmentation.segmenter import SegmenterConfig
from robin_perception.supervision import SupervisionConfig

ROOMS_WITH_NODES = ("robin_perception", "robin_grasp", "edge_adapt", "robin_sim", "robin_bringup")


class NodeConfig(StrictConfig):
    """Parameters that every node has."""

    autostart: bool = Field(
        False,
        description="Configure and activate at once, without a lifecycle manager.",
        json_schema_extra=FIXED,
    )
    diagnostics_rate_hz: float = Field(
        1.0, ge=0.1, le=10, description="How often /diagnostics is published, Hz.", json_schema_extra=FIXED
    )
    fault_hold_s: float = Field(
        5.0,
        ge=0.5,
        le=600,
        description="How long a fault decides the level in /diagnostics, s.",
        json_schema_extra=DYNAMIC,
    )
    log_period_s: float = Field(
        30.0, ge=1, le=3600, description="How often the counters are logged, s.", json_schema_extra=DYNAMIC
    )
    disk_path: Path = Field(Path("."), description="Folder whose file system is watched for free space.")
    min_disk_free_gb: float = Field(
        1.0,
        ge=0,
        le=10_000,
        description="Less free space than this, in 1e9 bytes, is a warning.",
        json_schema_extra=DYNAMIC,
    )


NodeConfigT = TypeVar("NodeConfigT", bound=NodeConfig)
_ConfigClass = TypeVar("_ConfigClass", bound=type[NodeConfig])
_CONFIGS: dict[str, type[NodeConfig]] = {}


def register_node(name: str) -> Callable[[_ConfigClass], _ConfigClass]:
    """Class decorator: the parameter set of the node called ``name``. A second one of that name takes its place where
    it extends the first, as a node of a later room does; else ValueError."""

    def register(cls: _ConfigClass) -> _ConfigClass:
        if not issubclass(cls, _CONFIGS.get(name, NodeConfig)):
            raise ValueError(f"node {name!r} is already registered")
        _CONFIGS[name] = cls
        return cls

    return register


def node_configs() -> dict[str, type[NodeConfig]]:
    """Node name -> parameter set, of every room that is installed, in the order of the pick."""
    for room in ROOMS_WITH_NODES:
        if find_spec(room) is not None and find_spec(f"{room}.node_config") is not None:
            import_module(f"{room}.node_config")
    return dict(_CONFIGS)


class CameraPoseConfig(StrictConfig):
    """Where the camera is. An all-zero quaternion means that no pose is given."""

    camera_pose_xyz_m: tuple[float, float, float] = Field(
        (0.0, 0.0, 0.0), description="Position of the colour camera's optical frame in base_link, m."
    )
    camera_pose_xyzw: tuple[float, float, float, float] = Field(
        (0.0, 0.0, 0.0, 0.0),
        description="Rotation of the optical frame (x right, y down, z forward) in base_link; all zero = not given.",
    )

    def camera_pose(self) -> NDArray[np.float64] | None:
        """float64 [4, 4], None where none is given. Raises RobinError POSE_INVALID."""
        if not any(self.camera_pose_xyzw):
            return None
        return pose_matrix(self.camera_pose_xyz_m, self.camera_pose_xyzw)

    def required_camera_pose(self) -> NDArray[np.float64]:
        """As ``camera_pose``; raises RobinError POSE_INVALID where none is given: frames from topics carry none."""
        pose = self.camera_pose()
        if pose is None:
            text = "camera_pose_xyzw is not given, and frames from topics carry no camera pose"
            raise RobinError(Code.POSE_INVALID, text)
        return pose


class FrameInputConfig(CameraPoseConfig):
    """How a node that looks at frames gets them."""

    input: Literal["auto", "topics", "process"] = Field(
        "auto",
        description="Frames from topics, or from a camera in the same process; auto = the latter where there is one.",
    )
    camera_driver: Literal["robin", "realsense", "orbbec", "zivid"] = Field(
        "robin", description="Whose names the camera's topics have; robin: those of the node camera."
    )
    camera_prefix: str = Field("", description="What the camera's topics begin with; empty = the driver's own.")
    image_qos: Literal["auto", "reliable", "best_effort"] = Field(
        "auto",
        description="Of the subscriptions to images; auto = reliable, and best_effort where the camera offers no more.",
    )
    pair_tolerance_ms: float = Field(
        5.0,
        ge=0,
        le=1000,
        description="Colour and depth belong together if their stamps differ by no more, ms.",
        json_schema_extra=DYNAMIC,
    )
    gate: GateConfig = Field(GateConfig(), json_schema_extra=DYNAMIC)
    use_tf: bool = Field(False, description="Take the camera's pose from TF (needs tf2_ros) instead.")
    base_frame: str = Field("base_link", min_length=1, description="TF frame that grasps are given in.")


@register_node("camera")
class CameraNodeConfig(NodeConfig, CameraPoseConfig):
    """RGB-D camera, image folders or a recording, as the topics of a registered camera."""

    source: Literal["realsense", "realsense_bag", "folder", "bag"] = Field(
        "realsense", description="Where frames come from."
    )
    path: str = Field("", description="Folder or file of the sources that read one; empty = that of their section.")
    camera_prefix: str = Field("camera", min_length=1, description="What the camera's topics begin with.")
    frame_id: str = Field(
        "camera_color_optical_frame", min_length=1, description="Name of the colour camera's optical frame."
    )
    max_rate_hz: float = Field(
        0.0,
        ge=0,
        le=240,
        description="Frames beyond this rate are dropped and counted, Hz; 0 = all are published.",
        json_schema_extra=DYNAMIC,
    )
    read_timeout_s: float = Field(
        2.0,
        ge=0.1,
        le=60,
        description="A camera that gives no frame for so long is a fault, s.",
        json_schema_extra=DYNAMIC,
    )
    reconnect_first_s: float = Field(
        0.5,
        ge=0.05,
        le=60,
        description="Pause before a lost camera is opened again, s; doubles with every failure.",
        json_schema_extra=DYNAMIC,
    )
    reconnect_max_s: float = Field(
        10.0, ge=0.05, le=600, description="Longest pause between two attempts, s.", json_schema_extra=DYNAMIC
    )
    reopen_after_failures: int = Field(
        5,
        ge=1,
        le=10_000,
        description="So many damaged or missing frames in a row, and the source is opened again.",
        json_schema_extra=DYNAMIC,
    )
    realsense: RealSenseConfig = RealSenseConfig()
    realsense_bag: RealSenseBagConfig = RealSenseBagConfig()
    folder: FolderConfig = FolderConfig(rate_hz=15.0)
    bag: BagConfig = BagConfig(speed=1.0, restamp=True)


@register_node("segmentation")
class SegmentationNodeConfig(NodeConfig, FrameInputConfig):
    """Frames in, segmented scenes out."""

    model: Path = Field(Path("models/base"), description="Folder of the model bundle.")
    models_folder: Path | None = Field(
        None,
        description="`load_model` takes `model` and bundles below this folder; empty = the folder that holds `model`.",
    )
    engine: str = Field("auto", min_length=1, description="Inference engine; auto = the best one this machine has.")
    engine_options: EngineConfig = EngineConfig()
    supervision: SupervisionConfig = SupervisionConfig()
    input_timeout_s: float = Field(
        3.0, ge=0.1, le=600, description="No usable frame for so long is a fault, s.", json_schema_extra=DYNAMIC
    )
    publish_boundary: bool = Field(
        True,
        description="Send the boundary map with the scene; without it a planner sees merged parcels less well.",
        json_schema_extra=DYNAMIC,
    )
    overlay_rate_hz: float = Field(
        6.0,
        ge=0,
        le=60,
        description="Most pictures on `overlay`, Hz; 0 = none. Drawn only if someone listens.",
        json_schema_extra=DYNAMIC,
    )
    planning_first: bool = Field(
        True,
        description="Begin no frame while the planner of the same process works. Off: more plans, each of them older.",
        json_schema_extra=DYNAMIC,
    )
    waited_share: float = Field(
        0.2,
        ge=0,
        le=1,
        description="A frame that has waited for more than this share of the camera's period makes room for the next, "
        "if that comes in time; 1 = never.",
        json_schema_extra=DYNAMIC,
    )
    segmenter: SegmenterConfig = Field(SegmenterConfig(), json_schema_extra=DYNAMIC)
    monitors: MonitorsConfig = MonitorsConfig()
    goods_watch: WatchConfig = WatchConfig()
