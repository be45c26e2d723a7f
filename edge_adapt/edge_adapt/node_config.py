"""Parameters of the nodes of this room."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from edge_adapt.learn.hold import HoldConfig
from edge_adapt.models.watch import WatchConfig
from edge_adapt.picture_keeper import PictureRules
from edge_adapt.releases.config import ReleasesConfig
from edge_adapt.store.config import StoreConfig
from edge_adapt.uplink.config import UplinkConfig
from robin_grasp.node_config import CELL_FILE, PlanningNodeConfig
from robin_perception.core.ids import ID_PATTERN
from robin_perception.node_config import FrameInputConfig, NodeConfig, register_node
from robin_perception.node_parameters import DYNAMIC


@register_node("recorder")
class RecorderNodeConfig(NodeConfig, FrameInputConfig):
    """Joins frame, scene, plan and outcome of every pick into one decision record on disk."""

    folder: Path = Field(Path("decisions"), description="Folder of decisions.jsonl and the images; records are added.")
    cell_file: Path | None = Field(None, description=CELL_FILE)
    run_id: str = Field(
        "",
        pattern=f"^$|{ID_PATTERN}",
        description="Name of the run in the records' context; empty: made from the time at configure.",
    )
    source: str = Field("robot", min_length=1, description="Where the picks come from: 'robot', or a scenario's name.")
    keep_images: bool = Field(True, description="Keep frame, labels and the frame after each pick beside its record.")
    pictures: PictureRules = PictureRules()
    store_folder: Path | None = Field(
        None, description="Store of samples (robin store) that takes the images in place of the folder; empty: none."
    )
    store: StoreConfig = StoreConfig()
    after_wait_s: float = Field(
        1.0,
        ge=0,
        le=10,
        description="How long a record waits for the frame after its pick, s.",
        json_schema_extra=DYNAMIC,
    )
    queue_limit: int = Field(
        8, ge=1, le=100, description="Picks that may wait to be written; what comes beyond is dropped and counted."
    )
    infeasible_period_s: float = Field(
        0.5,
        ge=0,
        le=3600,
        description="Plans without a grasp are recorded at most this often, s.",
        json_schema_extra=DYNAMIC,
    )


@register_node("bag_recorder")
class BagRecorderNodeConfig(NodeConfig):
    """Writes what the cell sees and decides into a bag, as serialized messages."""

    bag: Path = Field(Path("bag"), description="Folder of the new bag; where it exists, the time is added to its name.")
    camera_driver: Literal["robin", "realsense", "orbbec", "zivid"] = Field(
        "robin", description="Whose names the camera's topics have; robin: those of the node camera."
    )
    camera_prefix: str = Field("", description="What the camera's topics begin with; empty = the driver's own.")
    record_images: bool = Field(True, description="Record colour, depth and camera_info; replay needs them.")
    segmentation_node: str = Field(
        "segmentation", description="Node whose parameters say how scenes are made; empty: not asked."
    )
    planning_node: str = Field(
        "planning",
        description="Node whose parameters say how plans are made, and where the camera is; empty: not asked.",
    )
    pick_check_node: str = Field(
        "pick_check", description="Node whose parameters say how loads are judged; empty: not asked."
    )
    queue_mb: int = Field(
        256, ge=16, le=16_384, description="Memory for messages that wait to be written, 1e6 bytes; more is dropped."
    )
    zstd_level: int = Field(1, ge=1, le=19, description="Compression: 1 fast, 19 small.")


@register_node("planning")
class LearningPlanningNodeConfig(PlanningNodeConfig):
    """Ranked grasps for the newest segmented frame; learns from its picks how goods are held."""

    hold_file: Path | None = Field(
        None, description="File of what is learned of holding, from pick to pick; empty: nothing is learned."
    )
    hold: HoldConfig = HoldConfig()


@register_node("adaptation")
class AdaptationNodeConfig(NodeConfig):
    """Has the segmentation node run the version of the model that the registry names, takes back one that picks
    worse, and fetches what the fleet releases."""

    models: Path = Field(Path("models/learned"), description="Folder of the versions of the model (robin adapt).")
    factory: Path = Field(Path("models/base"), description="Bundle that everything began with, version 0.")
    watch: WatchConfig = WatchConfig()
    releases: ReleasesConfig = ReleasesConfig()


@register_node("uplink")
class UplinkNodeConfig(NodeConfig, UplinkConfig):
    """Has a process of its own send what the store holds to the fleet."""

    def uplink(self) -> UplinkConfig:
        """What that process is told."""
        return UplinkConfig(**{name: getattr(self, name) for name in UplinkConfig.model_fields})
