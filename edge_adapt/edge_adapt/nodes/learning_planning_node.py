"""The planning node of a station that learns to hold: planning knows who learns by its interface alone."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from edge_adapt.learn.hold_file import HoldKeeper
from edge_adapt.node_config import LearningPlanningNodeConfig
from robin_grasp.hold_learning import HoldLearning
from robin_grasp.nodes.planning_node import PlanningNode
from robin_grasp.tool import CellConfig
from robin_perception.nodes.frame_bus import FrameBus
from robin_perception.nodes.run import run_nodes


class LearningPlanningNode(PlanningNode):
    """``PlanningNode`` with what ``HoldKeeper`` learns."""

    def __init__(self, bus: FrameBus | None = None, **ros: Any) -> None:
        super().__init__(bus, LearningPlanningNodeConfig, **ros)

    def make_holding(self, cell: CellConfig) -> HoldLearning | None:
        config = self.config
        assert isinstance(config, LearningPlanningNodeConfig)
        return None if config.hold_file is None else HoldKeeper(cell, config.hold_file, config.hold)


def main(args: Sequence[str] | None = None) -> int:
    """``ros2 run edge_adapt learning_planning_node``"""
    return run_nodes(lambda: [LearningPlanningNode()], args)


if __name__ == "__main__":
    sys.exit(main())
