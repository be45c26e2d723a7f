"""A load at the place station: what the sensors told, what the load camera sees, and that it can go back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.physics_boxes import CENTRE, pile_of, tool_down
from helpers.physics_boxes import box as black_box

from robin_grasp.picks.outcome import PickResult
from robin_grasp.picks.traces import PHASES
from robin_grasp.tool import CellConfig
from robin_sim.in_hand import let_go, set_down
from robin_sim.load_camera import LoadCameraConfig, look_at_load
from robin_sim.model import Material, Parcel
from robin_sim.pick import PickResultSim, execute_pick
from robin_sim.sensor import SensorModelConfig

CELL = CellConfig()
SIZE = (0.20, 0.16, 0.08)
APART_M = 0.201  # two boxes side by side along x, under the two halves of the tool
CONTACT = tool_down(0, 0, SIZE[2])
G = 9.81


def box(size_m: tuple[float, float, float], mass_kg: float) -> Parcel:
    grey = Material(np.full((2, 2, 3), 150, np.uint8), 1.0, 0.0)
    return replace(black_box(size_m, mass_kg), material=grey)


def two_boxes() -> PickResultSim:
    pile = pile_of((box(SIZE, 0.5), (-APART_M / 2, 0, 0)), (box(SIZE, 0.3), (APART_M / 2, 0, 0)))
    return execute_pick(pile, CONTACT, 255, 0, CELL)


def one_box(mass_kg: float = 0.5) -> PickResultSim:
    return execute_pick(pile_of((box(SIZE, mass_kg), (0, 0, 0))), CONTACT, 255, 0, CELL)


def test_traces_tell_every_phase_and_the_weight_in_it() -> None:
    traces = one_box().outcome.traces
    assert traces is not None and tuple(traces.marks) == PHASES
    assert traces.vacuum_pa.shape == (len(traces.weight_n), 8)
    weigh = slice(traces.marks["weigh"], traces.marks["transfer"])
    assert traces.weight_n[weigh].mean() == pytest.approx(0.5 * G, rel=0.05)
    assert np.allclose(traces.vacuum_pa[weigh], CELL.tool.vacuum_pa, rtol=0.05)
    assert traces.weight_n[traces.marks["lift"] + 5 : traces.marks["weigh"]].max() > 1.1 * 0.5 * G  # it accelerates


def test_traces_of_a_lost_load_end_with_no_vacuum_and_no_weight() -> None:
    traces = execute_pick(pile_of((box(SIZE, 9.0), (0, 0, 0))), CONTACT, 0b1, 0, CELL).outcome.traces
    assert traces is not None and "transfer" not in traces.marks
    assert abs(traces.weight_n[-1]) < 0.5
    assert traces.vacuum_pa[-1].max() < 2_000.0 < traces.vacuum_pa.max()


def test_noise_of_the_traces_leaves_all_else_as_it_was() -> None:
    pile = pile_of((box(SIZE, 0.5), (0, 0, 0)))
    plain = execute_pick(pile, CONTACT, 255, 0, CELL, rng=np.random.default_rng(1))
    noisy = execute_pick(pile, CONTACT, 255, 0, CELL, rng=np.random.default_rng(1), sensor_rng=np.random.default_rng(2))
    assert noisy.outcome == plain.outcome
    assert plain.outcome.traces is not None and noisy.outcome.traces is not None
    assert not np.array_equal(noisy.outcome.traces.weight_n, plain.outcome.traces.weight_n)


def test_a_load_that_is_set_down_lies_where_it_lay() -> None:
    held = one_box()
    assert held.pile.parcels == () and held.load.indices == (0,)
    done = set_down(held, CONTACT, CELL)
    assert len(done.pile.parcels) == 1
    assert np.allclose(done.pile.poses[0, :3, 3], (CENTRE, 0, SIZE[2] / 2), atol=0.01)
    assert done.duration_s > 2.0


def test_two_lifted_boxes_go_back_side_by_side() -> None:
    held = two_boxes()
    assert held.outcome.result is PickResult.MULTI and len(held.load.parcels) == 2
    done = set_down(held, CONTACT, CELL)
    x = sorted(done.pile.poses[:, 0, 3])
    assert np.allclose(x, (CENTRE - APART_M / 2, CENTRE + APART_M / 2), atol=0.02)


def test_letting_go_of_the_second_box_leaves_a_clean_pick() -> None:
    held = two_boxes()
    second = sum(1 << seal.cup for seal in held.load.seals if seal.held[0][0] == 1)
    rest, before = let_go(held, second, CONTACT, 0, CELL)
    assert rest.outcome.result is PickResult.CLEAN
    assert len(rest.load.parcels) == 1 and rest.load.parcels[0].mass_kg == 0.5
    assert len(before.parcels) == 2 and len(rest.pile.parcels) == 1 and rest.pile.parcels[0].mass_kg == 0.3
    assert rest.outcome.lifted_weight_n == pytest.approx(0.5 * G, rel=0.05)
    assert rest.outcome.traces is not None and tuple(rest.outcome.traces.marks) == PHASES


def test_letting_go_of_all_cups_leaves_nothing_on_the_tool() -> None:
    rest, _ = let_go(one_box(), 255, CONTACT, 0, CELL)
    assert rest.load.parcels == () and len(rest.pile.parcels) == 1


@pytest.mark.parametrize("boxes", [1, 2])
def test_the_load_camera_sees_the_underside_of_what_hangs(boxes: int) -> None:
    held = one_box() if boxes == 1 else two_boxes()
    view = look_at_load(held.load, CELL, np.random.default_rng(3), SensorModelConfig(), LoadCameraConfig())
    depth, K = view.frame.depth, view.frame.K
    camera = view.frame.T_base_camera[:3, 3]
    underside_m = view.T_base_tool[2, 3] - SIZE[2] - camera[2]
    near = np.abs(depth - underside_m) < 0.02
    area_m2 = near.sum() * underside_m**2 / (K[0, 0] * K[1, 1])
    assert 0.75 < area_m2 / (boxes * SIZE[0] * SIZE[1]) < 1.05  # the sensor loses outlines
    rows, columns = np.nonzero(near)
    x = camera[0] + (columns.mean() - K[0, 2]) / K[0, 0] * underside_m
    y = camera[1] + (rows.mean() - K[1, 2]) / K[1, 1] * underside_m
    assert np.allclose((x, y), held.load.poses[:, :2, 3].mean(axis=0), atol=0.01)


def test_the_load_camera_sees_the_bare_tool() -> None:
    held = execute_pick(pile_of((box(SIZE, 0.5), (0, 0, 0))), tool_down(0, 0.6, SIZE[2]), 255, 0, CELL)
    view = look_at_load(held.load, CELL, np.random.default_rng(3), SensorModelConfig(), LoadCameraConfig())
    assert held.load.parcels == () and np.count_nonzero(view.frame.depth) > 0
