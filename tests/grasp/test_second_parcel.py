"""Which cups hold a second parcel."""

from __future__ import annotations

import numpy as np
from helpers.grasp_scenes import Box, box_scene

from robin_grasp.picks.outcome import PickOutcome, PickResult
from robin_grasp.plan import Grasp
from robin_grasp.recovery.machine import PickTarget
from robin_grasp.recovery.second_parcel import cups_on_another
from robin_grasp.tool import CellConfig

TOOL = CellConfig().tool
FRAME, SCENE = box_scene([Box(0.65, 0.0, 0.2, 0.2, 0.1), Box(0.86, 0.0, 0.2, 0.2, 0.1)])
LEFT, RIGHT = 0b00110011, 0b11001100  # cups at -x and at +x of the tool


def hangs_on(cups: int, vacuum: int, instance_id: int = 1) -> int:
    """The tool's middle stands over the gap between the two."""
    pose = np.diag([1.0, -1.0, -1.0, 1.0])
    pose[:3, 3] = (0.755, 0.0, 0.1)
    holds = tuple(0.8 * TOOL.vacuum_pa * (vacuum >> cup & 1) for cup in range(8))
    outcome = PickOutcome(PickResult.MULTI, holds, 9.0, 3.0)
    return cups_on_another(PickTarget(Grasp(pose, cups, instance_id, 0.9), FRAME, SCENE), outcome, TOOL)


def test_cups_beside_the_target_hold_the_second_one() -> None:
    assert hangs_on(255, 255) == RIGHT
    assert hangs_on(255, 255, instance_id=2) == LEFT


def test_only_cups_that_hold_count() -> None:
    assert hangs_on(255, LEFT | 0b100) == 0b100
    assert hangs_on(LEFT, LEFT) == 0


def test_where_no_cup_holds_the_target_nothing_is_known() -> None:
    assert hangs_on(255, RIGHT) == 0
