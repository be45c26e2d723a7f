"""Seals on meshes whose answer is known."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from helpers.physics_boxes import box, pile_of, tool_down

from robin_grasp.tool import ToolConfig
from robin_sim.faults import NO_FAULTS, Faults
from robin_sim.model import Mesh, Parcel, Pile
from robin_sim.suction import CupSeal, SuctionConfig, pressure_from_leak, seal_cups

TOOL = ToolConfig()
CUP = TOOL.cups_m[0]


def seal(pile: Pile, x: float, y: float, z: float, faults: Faults = NO_FAULTS) -> CupSeal:
    """Cup 0 straight down with its centre at (x, y), its lip pressed to height z."""
    pose = tool_down(x - CUP[0], y + CUP[1], z)
    return seal_cups(pile.parcels, pile.poses, pose, 0b1, TOOL, faults)[0]


def tube(radius_m: float) -> Parcel:
    """A box whose mesh is a horizontal cylinder along x."""
    angle = np.linspace(0, 2 * math.pi, 181)[:-1]
    ring = np.stack([np.zeros_like(angle), radius_m * np.cos(angle), radius_m * np.sin(angle)], axis=1)
    vertices = np.concatenate([ring - np.array([0.2, 0, 0]), ring + np.array([0.2, 0, 0])]).astype(np.float32)
    i = np.arange(180)
    j = (i + 1) % 180
    triangles = np.concatenate([np.stack([i, j, i + 180], 1), np.stack([j, j + 180, i + 180], 1)]).astype(np.int32)
    mesh = Mesh(vertices, triangles, np.zeros((360, 3, 2), np.float32))
    return replace(box((0.4, 2 * radius_m, 2 * radius_m)), mesh=mesh)


def test_flat_face_gives_full_vacuum() -> None:
    result = seal(pile_of((box(), (0, 0, 0))), 0, 0, 0.096)
    assert result.pressure_pa == pytest.approx(TOOL.vacuum_pa)
    assert result.held == ((0, 1.0),)


@pytest.mark.parametrize(("inset_m", "seals"), [(0.020, True), (0.0152, True), (0.013, False), (0.0, False)])
def test_cup_over_an_edge_does_not_seal(inset_m: float, seals: bool) -> None:
    result = seal(pile_of((box(), (0, 0, 0))), 0.15 - inset_m, 0, 0.096)
    assert (result.pressure_pa > 0.5 * TOOL.vacuum_pa) == seals


def test_lip_above_the_face_grabs_only_within_reach() -> None:
    pile = pile_of((box(), (0, 0, 0)))
    assert seal(pile, 0, 0, 0.102).pressure_pa > 0
    assert seal(pile, 0, 0, 0.108).pressure_pa == 0


@pytest.mark.parametrize(("tilt_rad", "seals"), [(0.1, True), (0.24, True), (0.45, False)])
def test_bellows_follow_a_tilted_face_up_to_their_limit(tilt_rad: float, seals: bool) -> None:
    pile = pile_of((box(), (0, 0, 0)))
    c, s = math.cos(tilt_rad), math.sin(tilt_rad)
    pile.poses[0, :3, :3] = [[c, 0, s], [0, 1, 0], [-s, 0, c]]
    top = pile.poses[0, 2, 3] + 0.05 / c
    result = seal(pile, 0, 0, top - 0.004)
    assert (result.pressure_pa > 0.5 * TOOL.vacuum_pa) == seals
    if seals:
        assert result.tilt_rad == pytest.approx(tilt_rad, abs=0.01)


def test_curvature_costs_pressure_monotonically() -> None:
    pressures = [
        seal(pile_of((tube(r), (0, 0, 0))), 0, 0, 2 * r - 0.003).pressure_pa for r in (0.3, 0.03, 0.022, 0.017)
    ]
    assert pressures[0] == pytest.approx(TOOL.vacuum_pa, rel=0.02)
    assert sorted(pressures, reverse=True) == pressures
    assert pressures[-1] == 0


def test_porosity_roughness_and_a_torn_lip_cost_pressure_monotonically() -> None:
    def at(**skin: float) -> float:
        return seal(pile_of((replace(box(), **skin), (0, 0, 0))), 0, 0, 0.096).pressure_pa

    for name, values in (("porosity", (0.0, 0.05, 0.2, 0.6)), ("surface_roughness_m", (0.0, 1e-4, 4e-4, 1e-3))):
        pressures = [at(**{name: value}) for value in values]
        assert all(a > b for a, b in itertools.pairwise(pressures)), name
    torn = seal(pile_of((box(), (0, 0, 0))), 0, 0, 0.096, Faults(torn_cups=(0,)))
    assert 0 < torn.pressure_pa < 0.5 * TOOL.vacuum_pa


def test_blocked_cup_has_no_vacuum_on_a_perfect_face() -> None:
    blocked = seal(pile_of((box(), (0, 0, 0))), 0, 0, 0.096, Faults(blocked_cups=(0,)))
    assert blocked.pressure_pa == 0
    assert seal(pile_of((box(), (0, 0, 0))), 0, 0, 0.096, Faults(blocked_cups=(3,))).pressure_pa > 0


def test_cup_across_two_flush_boxes_holds_both_and_leaks_with_the_gap() -> None:
    def across(gap_m: float) -> CupSeal:
        side = (0.15 + gap_m / 2, 0.0, 0.0)
        return seal(pile_of((box(), side), (box(), (-side[0], 0.0, 0.0))), 0, 0, 0.096)

    tight = across(0.0004)
    assert {index for index, _ in tight.held} == {0, 1}
    assert sum(share for _, share in tight.held) == pytest.approx(1.0)
    assert tight.pressure_pa > 0.3 * TOOL.vacuum_pa
    pressures = [across(gap).pressure_pa for gap in (0.0, 0.001, 0.0025, 0.008)]
    assert sorted(pressures, reverse=True) == pressures
    assert pressures[-1] == 0


def test_pump_curve() -> None:
    config = SuctionConfig()
    assert pressure_from_leak(60_000, 0.0, config) == 60_000
    assert pressure_from_leak(60_000, config.leak_reference_mm2, config) == pytest.approx(30_000)
    assert pressure_from_leak(60_000, 1e6, config) == 0
