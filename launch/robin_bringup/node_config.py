"""Parameters of the manager and of the acceptance."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from robin_bringup.bring_up import BringUpLimits
from robin_grasp.node_config import CELL_FILE
from robin_grasp.planner.registry import DEFAULT_PLANNER
from robin_perception.node_config import NodeConfig, register_node
from robin_perception.node_parameters import FIXED


@register_node("lifecycle_manager")
class LifecycleManagerConfig(NodeConfig):
    """Which nodes are brought up, in which order, within which times."""

    autostart: bool = Field(
        True, description="Bring the nodes up at once; false: wait for the service start.", json_schema_extra=FIXED
    )
    nodes: tuple[str, ...] = Field(
        ("camera", "segmentation", "planning", "pick_check", "recorder"),
        description="Lifecycle nodes in the order of bring-up, relative to the manager's namespace.",
        json_schema_extra=FIXED,
    )
    limits: BringUpLimits = Field(BringUpLimits(), json_schema_extra=FIXED)
    status_file: Path | None = Field(
        None,
        description="JSON file that says in which state each node is, for programs that do not speak ROS.",
        json_schema_extra=FIXED,
    )


@register_node("acceptance")
class AcceptanceConfig(NodeConfig):
    """What an acceptance counts, compares and writes."""

    thresholds_file: Path | None = Field(
        None, description="YAML file of the thresholds; empty: the one that is shipped.", json_schema_extra=FIXED
    )
    picks: int = Field(
        0, ge=0, le=100_000, description="Attempts to wait for; 0: as in the thresholds file.", json_schema_extra=FIXED
    )
    model: Path = Field(
        Path("models/base"), description="The current bundle, for the comparison.", json_schema_extra=FIXED
    )
    candidate: Path | None = Field(
        None, description="Bundle to run beside the current one on the frames of the picks.", json_schema_extra=FIXED
    )
    engine: str = Field(
        "auto", min_length=1, description="Inference engine of the comparison.", json_schema_extra=FIXED
    )
    planner: str = Field(DEFAULT_PLANNER, description="Planner of the comparison.", json_schema_extra=FIXED)
    cell_file: Path | None = Field(None, description=CELL_FILE, json_schema_extra=FIXED)
    planner_file: Path | None = Field(
        None,
        description="YAML file of the planner's settings (PlannerConfig); empty: defaults.",
        json_schema_extra=FIXED,
    )
    report_folder: Path = Field(
        Path("acceptance_report"), description="Where the report is written.", json_schema_extra=FIXED
    )
    appear_timeout_s: float = Field(
        120.0, gt=0, le=3600, description="How long the station may take to be active, s.", json_schema_extra=FIXED
    )
    stop_station: bool = Field(
        True,
        description="Have the manager take the nodes down after the last pick, so that the comparison has the "
        "machine for itself.",
        json_schema_extra=FIXED,
    )
