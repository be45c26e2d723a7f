"""The way in: straight along the tool's axis, shorter in a crowd, and told when something stands in it."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.physics_boxes import box, pile_of, tool_down
from scipy.spatial.transform import Rotation

from robin_grasp.picks.outcome import PickResult
from robin_grasp.tool import CellConfig, ToolConfig
from robin_sim.pick import execute_pick
from robin_sim.pick_config import PickConfig
from robin_sim.reasons import failure_reason

CELL = CellConfig()
LOW = box((0.3, 0.3, 0.1), 1.0)


def test_a_neighbour_under_the_plate_blocks_and_is_named() -> None:
    """The plate reaches 98 mm from the tool's middle: a box 20 cm taller than the target stands 50 mm beside it."""
    pile = pile_of((LOW, (0.0, 0.0, 0.0)), (box((0.1, 0.3, 0.3), 5.0), (0.21, 0.0, 0.0)))
    outcome = execute_pick(pile, tool_down(0.11, 0.0, 0.1), 0b11, 0, CELL).outcome
    assert outcome.result is PickResult.MISS
    blocked = outcome.truth["blocked"]
    assert isinstance(blocked, dict)
    assert blocked["by"] == "parcel1"
    assert blocked["phase"] == "descend"
    assert "blocked by parcel1" in failure_reason(outcome)


def test_a_tilted_tool_takes_a_shorter_approach_beside_a_wall() -> None:
    """Tilted by 0.2 rad the plate's upper edge reaches 115 mm aside at contact, 122 mm when 35 mm back, 135 mm when
    100 mm back; the stem's upper end 103 mm at contact.

    A tall box 126 mm away leaves room for the first two only, and none for a tool as wide as its plate all the way up.
    """
    pile = pile_of((box((0.24, 0.3, 0.1), 1.0), (0.0, 0.0, 0.0)), (box((0.1, 0.3, 0.6), 8.0), (0.176, 0.0, 0.0)))
    contact = tool_down(0.0, 0.0, 0.115)  # the row's lower end just reaches the box
    contact[:3, :3] = Rotation.from_euler("y", 0.2).as_matrix() @ contact[:3, :3]
    free = execute_pick(pile, contact, 0b10001, 0, CELL)
    assert free.outcome.truth["blocked"] == {}
    assert free.outcome.truth["moved"] == []
    wide = CellConfig(tool=ToolConfig(plate_thickness_m=0.25))
    for cell, config in ((CELL, PickConfig(short_approaches=())), (wide, PickConfig())):
        stubborn = execute_pick(pile, contact, 0b10001, 0, cell, config=config)
        blocked = stubborn.outcome.truth["blocked"]
        moved = stubborn.outcome.truth["moved"]
        assert (isinstance(blocked, dict) and blocked.get("by") == "parcel1") or moved == [1]


def test_nothing_in_the_way_is_not_blocked() -> None:
    outcome = execute_pick(pile_of((LOW, (0.0, 0.0, 0.0))), tool_down(0.0, 0.0, 0.1), 255, 0, CELL).outcome
    assert outcome.result is PickResult.CLEAN
    assert outcome.truth["blocked"] == {}
    assert np.count_nonzero(outcome.vacuum_pa) == 8


def test_a_heavy_load_is_carried_gently() -> None:
    motion = CELL.motion
    assert motion.transfer_accel_of(0.5 * motion.full_accel_weight_n) == motion.transfer_accel_mps2
    assert motion.transfer_accel_of(2.0 * motion.full_accel_weight_n) == 0.5 * motion.transfer_accel_mps2
    light, heavy = (
        execute_pick(pile_of((box((0.3, 0.3, 0.1), mass), (0.0, 0.0, 0.0))), tool_down(0.0, 0.0, 0.1), 255, 0, CELL)
        for mass in (1.0, 5.0)
    )
    assert light.outcome.result is heavy.outcome.result is PickResult.CLEAN
    assert heavy.outcome.duration_s > light.outcome.duration_s + 0.2


@pytest.mark.parametrize(("tries", "holding"), [(0, 6), (2, 8)])
def test_open_cups_take_hold_once_the_parcel_is_drawn_to_them(tries: int, holding: int) -> None:
    # Tilted by 0.13 rad and pressed 6 mm, the last pair's lips end 3.4 mm above the lid: out of reach, until the other
    # six have drawn the light box up to the tool.
    pose, angle = tool_down(0, 0, 0.1), 0.13
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    pose[:3, :3] = turn @ pose[:3, :3]
    config = PickConfig(late_seals=tries)
    result = execute_pick(pile_of((box(mass_kg=0.3), (0, 0, 0))), pose, 255, 0, CellConfig(), config=config)
    seals = result.outcome.truth["seals"]
    assert isinstance(seals, list)
    assert sum(seal["pressure_pa"] > 0 for seal in seals) == holding
