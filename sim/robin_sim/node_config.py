"""Parameters of the simulated cell node."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from robin_grasp.node_config import CELL_FILE
from robin_perception.node_config import CameraPoseConfig, NodeConfig, register_node
from robin_perception.node_parameters import DYNAMIC


@register_node("sim_cell")
class SimCellNodeConfig(NodeConfig, CameraPoseConfig):
    """The simulated cell: camera and arm at once."""

    scenario: str = Field("mixed", min_length=1, description="Scenario by name, or a YAML file of one.")
    seed: int = Field(1, ge=0, le=2**31, description="Piles, goods, light and noise follow from it.")
    cell_file: Path | None = Field(None, description=CELL_FILE)
    width: int = Field(640, ge=160, le=4096, description="Width of the images, pixels.")
    height: int = Field(480, ge=120, le=4096, description="Height of the images, pixels.")
    rate_hz: float = Field(15.0, ge=0.2, le=90, description="Frames per second while the arm is out of the image, Hz.")
    camera_pose_xyz_m: tuple[float, float, float] = Field(
        (0.75, 0.0, 1.3), description="Position of the colour camera's optical frame in base_link, m."
    )
    camera_pose_xyzw: tuple[float, float, float, float] = Field(
        (1.0, 0.0, 0.0, 0.0),
        description="Rotation of the optical frame (x right, y down, z forward) in base_link; (1, 0, 0, 0) looks down.",
    )
    camera_prefix: str = Field("camera", min_length=1, description="What the camera's topics begin with.")
    frame_id: str = Field(
        "camera_color_optical_frame", min_length=1, description="Name of the colour camera's optical frame."
    )
    auto: bool = Field(
        True, description="Pick by itself: plan_pick, execute, report_outcome, next; else on the service pick_once."
    )
    picks: int = Field(0, ge=0, le=1_000_000, description="Picks in auto mode, then the arm rests; 0: no end.")
    load_camera: bool = Field(True, description="Look at each load at the place station.")
    person_answers_s: float = Field(
        5.0,
        ge=0,
        le=3600,
        description="The simulated person answers requests for help with `done` after so long, s; 0: real ones only.",
        json_schema_extra=DYNAMIC,
    )
    reply_timeout_s: float = Field(
        3.0,
        ge=0.2,
        le=120,
        description="Longest wait for one reply, s; then the request is sent again, for a killed node never answers.",
        json_schema_extra=DYNAMIC,
    )
    give_up_s: float = Field(
        30.0,
        ge=0.2,
        le=3600,
        description="A plan or the taking of an outcome is tried for so long before it is given up, s.",
        json_schema_extra=DYNAMIC,
    )
    retry_s: float = Field(
        0.05, ge=0.01, le=10, description="Wait before a refused plan is asked for again, s.", json_schema_extra=DYNAMIC
    )
