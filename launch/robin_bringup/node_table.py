"""All nodes of the stations: name, package, executable, class. The one table of stations, benchmarks and tests."""

from __future__ import annotations

from dataclasses import dataclass

MANAGER = "lifecycle_manager"
ACCEPTANCE = "acceptance"
ADAPTATION = "adaptation"
UPLINK = "uplink"


@dataclass(frozen=True)
class NodeSpec:
    """One program. ``module`` holds the ``main`` that the executable calls.

    class_name: of a lifecycle node, which ``workcell`` can host beside others and the manager brings up; empty for a
    program that is started as it is.
    """

    name: str
    package: str
    executable: str
    class_name: str = ""

    @property
    def module(self) -> str:
        return f"{self.package}.nodes.{self.executable}"

    @property
    def managed(self) -> bool:
        return bool(self.class_name)


NODES = {
    spec.name: spec
    for spec in (
        NodeSpec("camera", "robin_perception", "camera_node", "CameraNode"),
        NodeSpec("sim_cell", "robin_sim", "sim_cell_node", "SimCellNode"),
        NodeSpec("segmentation", "robin_perception", "segmentation_node", "SegmentationNode"),
        NodeSpec("planning", "edge_adapt", "learning_planning_node", "LearningPlanningNode"),
        NodeSpec("pick_check", "robin_grasp", "pick_check_node", "PickCheckNode"),
        NodeSpec("recorder", "edge_adapt", "recorder_node", "RecorderNode"),
        NodeSpec(ADAPTATION, "edge_adapt", "adaptation_node", "AdaptationNode"),
        NodeSpec(UPLINK, "edge_adapt", "uplink_node", "UplinkNode"),
        NodeSpec(MANAGER, "robin_bringup", "lifecycle_manager"),
        NodeSpec(ACCEPTANCE, "robin_bringup", "acceptance"),
    )
}
"""In the order of the pick."""

LIFECYCLE_NODES = {name: spec for name, spec in NODES.items() if spec.managed}

WORKCELL = NodeSpec("workcell", "robin_bringup", "workcell")
"""Hosts several lifecycle nodes in one process; ``--nodes`` names them."""
