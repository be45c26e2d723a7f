"""A tool of four cups and a bundle with a sixth class over real DDS: every node a process of its own."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
from helpers.other_cells import FEW_PARCELS, FOUR_CUPS, SIXTH, six_class_bundle
from helpers.ros_client import NodeProcess, RosClient
from helpers.ros_environment import LONG_S, SIMULATED_NODES, cell_parameters
from robin_msgs.msg import Decision, GraspPlan, PickOutcome, SegmentedScene

from edge_adapt.nodes.convert import decision_from_msg
from robin_bringup.node_table import NODES
from robin_grasp.nodes.convert import outcome_from_msg, plan_from_msg
from robin_grasp.tool import CellConfig
from robin_perception.core.config import load_config
from robin_perception.core.scene import CLASSES
from robin_perception.nodes.convert import scene_from_msg


@pytest.mark.slow
def test_four_cups_and_six_classes_through_every_node(tmp_path: Path) -> None:
    cell = load_config(CellConfig, FOUR_CUPS)
    values = cell_parameters(tmp_path)
    Path(values["sim_cell:scenario"]).write_text(FEW_PARCELS)
    values["segmentation:model"] = str(six_class_bundle(tmp_path / "six"))
    values |= {f"{node}:cell_file": str(FOUR_CUPS) for node in ("sim_cell", "planning", "pick_check", "recorder")}
    with RosClient() as client, ExitStack() as stack:
        scenes = client.listen(SegmentedScene, "scene")
        plans = client.listen(GraspPlan, "plan")
        outcomes = client.listen(PickOutcome, "outcome")
        decisions = client.listen(Decision, "decision")
        for node in SIMULATED_NODES:
            process = NodeProcess(NODES[node].module, tmp_path / f"{node}.log", values)
            stack.callback(process.stop)
        client.wait(lambda: sum(bool(d.result != "infeasible") for d in decisions) >= 2, "two picks", LONG_S)

    assert all(scene_from_msg(scene).class_names == (*CLASSES, SIXTH) for scene in scenes)
    notices = [plan_from_msg(plan) for plan in plans if plan.grasps]
    assert notices and all(notice.motion == cell.motion for notice in notices)
    assert {tuple((p.x, p.y) for p in plan.cup_centres) for plan in plans} == {cell.tool.cup_centres_m}
    assert outcomes and {len(outcome_from_msg(outcome).vacuum_pa) for outcome in outcomes} == {4}
    records = [decision_from_msg(decision) for decision in decisions]
    assert {record.class_names for record in records} == {(*CLASSES, SIXTH)}
    assert SIXTH in {instance.class_name for record in records for instance in record.instances}
    assert any(record.result == "clean" for record in records)
