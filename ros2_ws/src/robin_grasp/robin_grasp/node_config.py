"""Parameters of the planning and the pick check node."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from robin_grasp.cup_health import CupHealthConfig
from robin_grasp.picks.pick_check import PickCheckConfig
from robin_grasp.planner.registry import DEFAULT_PLANNER
from robin_grasp.recovery.config import RecoveryConfig
from robin_perception.node_config import FrameInputConfig, NodeConfig, register_node
from robin_perception.node_parameters import DYNAMIC

CELL_FILE = "YAML file of the cell's geometry (robin_grasp.tool.CellConfig); empty: the one that is shipped."


@register_node("planning")
class PlanningNodeConfig(NodeConfig, FrameInputConfig):
    """Ranked grasps for the newest segmented frame."""

    planner: str = Field(DEFAULT_PLANNER, description="Planner by name, as `robin sim run --planner` takes it.")
    cell_file: Path | None = Field(None, description=CELL_FILE)
    planner_file: Path | None = Field(
        None, description="YAML file of the planner's settings (PlannerConfig); empty: defaults."
    )
    cups_file: Path | None = Field(
        None, description="File that keeps the health of the cups over restarts; empty: it is forgotten."
    )
    cups: CupHealthConfig = CupHealthConfig()
    frame_age_limit_s: float = Field(
        1.0,
        gt=0,
        le=60,
        description="Oldest frame a pick is planned on, s; a request may ask for less, not for more.",
        json_schema_extra=DYNAMIC,
    )
    plan_every_scene: bool = Field(
        False, description="Plan on every scene and publish it, without a request.", json_schema_extra=DYNAMIC
    )
    slow_factor: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Speed of a plan's motion while a condition of the station asks to slow down; 1 as it is.",
        json_schema_extra=DYNAMIC,
    )
    markers_rate_hz: float = Field(
        2.0, ge=0, le=30, description="Most often that `grasps` is published, Hz; 0: never.", json_schema_extra=DYNAMIC
    )
    markers_shown: int = Field(
        5, ge=1, le=50, description="Grasps shown in `grasps`, best first.", json_schema_extra=DYNAMIC
    )


@register_node("pick_check")
class PickCheckNodeConfig(NodeConfig, FrameInputConfig):
    """Was it a clean pick? Judged from the tool's sensors and the frames before and after."""

    cell_file: Path | None = Field(None, description=CELL_FILE)
    judge: PickCheckConfig = PickCheckConfig()
    recover: bool = Field(
        True, description="Say what to do with loads and after picks, and ask a person where need be."
    )
    recovery: RecoveryConfig = RecoveryConfig()
    help_folder: Path = Field(Path("help"), description="Folder of the help desk: `robin help list --desk FOLDER`.")
    after_wait_s: float = Field(
        0.5,
        ge=0,
        le=10,
        description="How long an outcome waits for the frame after the pick, s; then the tool's sensors decide alone.",
        json_schema_extra=DYNAMIC,
    )
    load_wait_s: float = Field(
        2.0,
        ge=0,
        le=10,
        description="How long a load waits for the segmentation node to look at it, s; 0 = it is not asked.",
    )
