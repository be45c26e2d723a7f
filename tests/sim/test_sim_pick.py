"""Picks with known answers: force against weight, peeling lever, leaks, two boxes at once, faults, neighbours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.physics_boxes import box, pile_of, tool_down
from scipy.spatial.transform import Rotation

from robin_grasp.picks.outcome import PickResult
from robin_grasp.tool import CellConfig, MotionConfig, WorkspaceConfig
from robin_sim.faults import NO_FAULTS, Faults
from robin_sim.model import Pile
from robin_sim.pick import PickResultSim, execute_pick
from robin_sim.pick_config import PickConfig
from robin_sim.piles import make_pile, settle_pile

CELL = CellConfig()
STAYING = CellConfig(motion=MotionConfig(follow_m=0.0))
GENTLE = CellConfig(
    motion=MotionConfig(
        lift_m=0.12,
        lift_accel_mps2=0.4,
        lift_speed_mps=0.2,
        transfer_m=0.2,
        transfer_accel_mps2=0.4,
        transfer_speed_mps=0.3,
    )
)
CREEP = CellConfig(
    motion=MotionConfig(
        lift_m=0.12,
        lift_accel_mps2=0.15,
        lift_speed_mps=0.08,
        transfer_m=0.1,
        transfer_accel_mps2=0.2,
        transfer_speed_mps=0.2,
    )
)
V = CELL.tool.cup_force_n
G = 9.81
CUP = CELL.tool.cups_m[0]
FLAT = (0.5, 0.3, 0.02)


def one_cup(pile: Pile, x: float, cell: CellConfig, top: float, faults: Faults = NO_FAULTS) -> PickResultSim:
    """Cup 0 alone, at x along the box; the other valves are closed."""
    return execute_pick(pile, tool_down(x - CUP[0], CUP[1], top), 0b1, 0, cell, faults)


def all_cups(pile: Pile, cell: CellConfig = CELL, faults: Faults = NO_FAULTS) -> PickResultSim:
    return execute_pick(pile, tool_down(0, 0, pile.parcels[0].size_m[2]), 255, 0, cell, faults)


@pytest.mark.parametrize(("share", "lifts"), [(0.96, True), (1.03, False)])
def test_one_cup_lifts_a_mass_up_to_vacuum_force_over_g_plus_a(share: float, lifts: bool) -> None:
    mass = share * V / (G + GENTLE.motion.lift_accel_mps2)
    result = one_cup(pile_of((box(FLAT, mass), (0, 0, 0))), 0.0, GENTLE, FLAT[2])
    assert (result.outcome.result is not PickResult.MISS) == lifts
    if lifts:
        assert result.outcome.lifted_weight_n == pytest.approx(mass * G, rel=0.03)
        assert result.outcome.vacuum_pa[0] == pytest.approx(CELL.tool.vacuum_pa, rel=0.01)


@pytest.mark.parametrize(("mass", "lifts"), [(0.96 * 8, True), (1.03 * 8, False)])
def test_eight_cups_share_the_weight(mass: float, lifts: bool) -> None:
    unit = V / (G + GENTLE.motion.lift_accel_mps2)
    result = all_cups(pile_of((box(mass_kg=mass * unit), (0, 0, 0))), GENTLE)
    assert (result.outcome.result is PickResult.CLEAN) == lifts


@pytest.mark.parametrize("tilt_rad", [0.06, 0.10])
def test_cups_share_the_weight_under_a_tilted_tool(tilt_rad: float) -> None:
    """The face cannot follow the tool, so bellows are drawn unequally far; none keeps a pull that others could take.

    Stiff bellows would hang the weight on the row that is drawn up furthest and lose it at well below 8 V.
    """
    pile = pile_of((box(mass_kg=0.7 * 8 * V / (G + GENTLE.motion.lift_accel_mps2)), (0, 0, 0)))
    pose = tool_down(0, 0, pile.parcels[0].size_m[2])
    pose[:3, :3] = pose[:3, :3] @ Rotation.from_euler("y", tilt_rad).as_matrix()
    assert execute_pick(pile, pose, 255, 0, GENTLE).outcome.result is PickResult.CLEAN


@pytest.mark.parametrize("tilt_rad", [0.04, 0.08])
def test_weak_vacuum_draws_no_harder_than_it_is(tilt_rad: float) -> None:
    """On porous card V is small against what a closing bellows could pull: the cups must not tear themselves off."""
    weak = 60  # newtons, all cups: about a sixth of a perfect seal's
    porous = replace(box(mass_kg=0.4 * weak / (G + GENTLE.motion.lift_accel_mps2)), porosity=0.44)
    pile = pile_of((porous, (0, 0, 0)))
    pose = tool_down(0, 0, porous.size_m[2])
    pose[:3, :3] = pose[:3, :3] @ Rotation.from_euler("y", tilt_rad).as_matrix()
    outcome = execute_pick(pile, pose, 255, 0, GENTLE).outcome
    limits = [seal["pressure_pa"] * CELL.tool.cup_area_m2 for seal in outcome.truth["seals"]]  # type: ignore[attr-defined]
    assert sum(limits) == pytest.approx(weak, rel=0.3)
    assert outcome.truth["releases"] == []
    assert outcome.result is PickResult.CLEAN


@pytest.mark.parametrize("mass", [0.8, 1.6])
@pytest.mark.parametrize(("share", "holds"), [(0.93, True), (1.08, False)])
def test_off_centre_cup_peels_at_the_computed_lever(mass: float, share: float, holds: bool) -> None:
    """W L = r (V - W): the bending moment of the weight against the normal force left at the lip's edge.

    Lifted slowly: faster, the box swings as it leaves the belt and peels a little earlier.
    """
    weight = mass * (G + CREEP.motion.lift_accel_mps2)
    lever = CELL.tool.cup_radius_m * (V - weight) / weight
    result = one_cup(pile_of((box(FLAT, mass), (0, 0, 0))), -share * lever, CREEP, FLAT[2])
    reasons = [release["reason"] for release in result.outcome.truth["releases"]]  # type: ignore[attr-defined]
    assert (result.outcome.result is PickResult.CLEAN) == holds
    assert reasons == ([] if holds else ["peel"])


def test_a_leaking_cup_holds_less() -> None:
    mass = 0.75 * V / (G + GENTLE.motion.lift_accel_mps2)
    outcomes = {
        porosity: one_cup(pile_of((replace(box(FLAT, mass), porosity=porosity), (0, 0, 0))), 0.0, GENTLE, 0.02).outcome
        for porosity in (0.0, 0.02, 0.3)
    }
    assert outcomes[0.0].result is PickResult.CLEAN
    assert outcomes[0.02].result is PickResult.CLEAN
    assert outcomes[0.3].result is PickResult.MISS
    assert outcomes[0.0].vacuum_pa[0] > outcomes[0.02].vacuum_pa[0] > outcomes[0.3].vacuum_pa[0]


def test_blocked_cups_hold_nothing_and_torn_cups_hold_less() -> None:
    pile = pile_of((box(mass_kg=6.0), (0, 0, 0)))
    assert all_cups(pile).outcome.result is PickResult.CLEAN
    blocked = all_cups(pile, faults=Faults(blocked_cups=tuple(range(8))))
    assert blocked.outcome.result is PickResult.MISS
    assert blocked.outcome.vacuum_pa == (0.0,) * 8
    light = pile_of((box(mass_kg=1.0), (0, 0, 0)))
    half = all_cups(light, faults=Faults(blocked_cups=(0, 4), torn_cups=(3,)))
    assert half.outcome.vacuum_pa[0] == half.outcome.vacuum_pa[4] == 0.0
    assert 0 < half.outcome.vacuum_pa[3] < 0.5 * half.outcome.vacuum_pa[1]


def test_subset_over_two_flush_boxes_lifts_both() -> None:
    boxes = ((box(mass_kg=0.5), (-0.1503, 0, 0)), (box(mass_kg=0.5), (0.1503, 0, 0)))
    both = execute_pick(pile_of(*boxes), tool_down(0, 0, 0.1), 255, 0, CELL)
    assert both.outcome.result is PickResult.MULTI
    assert both.outcome.truth["lifted"] == [0, 1]
    assert not both.pile.parcels
    left_cups = 0b00110011
    left = execute_pick(pile_of(*boxes), tool_down(0, 0, 0.1), left_cups, 0, CELL)
    assert left.outcome.result is PickResult.CLEAN
    assert len(left.pile.parcels) == 1


def test_a_single_cup_across_the_gap_lifts_both() -> None:
    boxes = ((box((0.1, 0.3, 0.1), 0.1), (-0.05015, 0, 0)), (box((0.1, 0.3, 0.1), 0.1), (0.05015, 0, 0)))
    result = one_cup(pile_of(*boxes), 0.0, GENTLE, 0.1)
    assert result.outcome.result is PickResult.MULTI


def test_violent_transfer_drops_what_a_gentle_one_carries() -> None:
    mass = 0.55 * V / G
    pile = pile_of((box(FLAT, mass), (0, 0, 0)))
    assert one_cup(pile, 0.0, GENTLE, 0.02).outcome.result is PickResult.CLEAN
    violent = CellConfig(
        motion=GENTLE.motion.model_copy(
            update={"transfer_m": 0.9, "transfer_accel_mps2": 12.0, "transfer_speed_mps": 2.5}
        )
    )
    result = one_cup(pile, 0.0, violent, 0.02)
    assert result.outcome.result is PickResult.DROP
    assert [release["phase"] for release in result.outcome.truth["releases"]] == ["transfer"]  # type: ignore[attr-defined]


def test_contact_beside_the_box_is_a_miss_and_the_pile_stays() -> None:
    pile = pile_of((box(), (0, 0, 0)), (box(), (-0.6, 0, 0)))
    result = execute_pick(pile, tool_down(0.5, 0.4, 0.02), 255, 0, CELL)
    assert result.outcome.result is PickResult.MISS
    assert result.outcome.truth["moved"] == []
    np.testing.assert_allclose(result.pile.poses, pile.poses, atol=0.002)


@pytest.mark.parametrize(("gap_m", "reached"), [(0.012, True), (0.03, False)])
def test_the_tool_follows_a_parcel_that_gave_way_a_little(gap_m: float, reached: bool) -> None:
    pile = pile_of((box(), (0, 0, 0)))
    contact = tool_down(0, 0, pile.parcels[0].size_m[2] + gap_m)
    result = execute_pick(pile, contact, 255, 0, CELL)
    assert (result.outcome.result is PickResult.CLEAN) == reached
    stays = execute_pick(pile, contact, 255, 0, STAYING)
    assert stays.outcome.result is PickResult.MISS


def test_vacuum_holds_from_the_first_touch_what_would_tip_away() -> None:
    plank = (box((0.5, 0.3, 0.02), 0.3), (0.045, 0, 0.1))  # 5 mm short of tipping off its plinth by itself
    pile = pile_of((box((0.1, 0.3, 0.1), 3.0), (0, 0, 0)), plank)
    contact = tool_down(0.045 + 0.14, 0, 0.12)
    assert execute_pick(pile, contact, 255, 1, CELL).outcome.result is PickResult.CLEAN
    pressed_first = PickConfig(touch_steps=100)  # no look at the seals before the tool stands
    assert execute_pick(pile, contact, 255, 1, STAYING, config=pressed_first).outcome.result is PickResult.MISS


@pytest.mark.parametrize(("lead_m", "result"), [(0.02, PickResult.CLEAN), (0.0, PickResult.MISS)])
def test_the_valves_open_as_far_before_the_contact_as_the_motion_says(lead_m: float, result: PickResult) -> None:
    plank = (box((0.5, 0.3, 0.02), 0.3), (0.045, 0, 0.1))
    pile = pile_of((box((0.1, 0.3, 0.1), 3.0), (0, 0, 0)), plank)
    contact = tool_down(0.045 + 0.14, 0, 0.12 - 0.008)  # it is 8 mm higher than the planner thought
    motion = MotionConfig(vacuum_lead_m=lead_m, press_m=0.0, follow_m=0.0)
    assert execute_pick(pile, contact, 255, 1, CellConfig(motion=motion)).outcome.result is result


def test_wrong_parcel_is_not_clean() -> None:
    pile = pile_of((box(), (0, 0, 0)), (box(), (-0.6, 0, 0)))
    assert execute_pick(pile, tool_down(0, 0, 0.1), 255, 1, CELL).outcome.result is PickResult.WRONG
    assert execute_pick(pile, tool_down(0, 0, 0.1), 255, None, CELL).outcome.result is PickResult.WRONG


def test_a_plank_leaning_on_the_target_falls_and_the_pick_is_clean() -> None:
    plank = box((0.3, 0.1, 0.02), 0.2, friction=0.9)
    pile = pile_of((box((0.24, 0.24, 0.12), 1.0, friction=0.9), (0, 0, 0)), (plank, (0.25, 0, 0.063)))
    angle = 0.47
    c, s = np.cos(angle), np.sin(angle)
    pile.poses[1, :3, :3] = [[c, 0, s], [0, 1, 0], [-s, 0, c]]
    pile = settle_pile(pile)
    assert pile.poses[1, 2, 3] > 0.04, "the plank must lean on the box before the pick"
    result = execute_pick(pile, tool_down(0, 0, 0.12), 0b00110011, 0, CELL)
    assert result.outcome.result is PickResult.CLEAN
    assert result.outcome.truth["moved"] == [1]
    assert result.pile.poses[0, 2, 3] == pytest.approx(0.01, abs=0.003)


def test_carrying_the_box_below_another_lifts_two() -> None:
    pile = pile_of((box((0.4, 0.4, 0.1), 1.0), (0, 0, 0)), (box((0.15, 0.15, 0.05), 0.2), (0.12, 0.12, 0.1)))
    result = execute_pick(pile, tool_down(-0.1, -0.14, 0.1), 255, 0, GENTLE)
    assert result.outcome.result is PickResult.MULTI
    assert result.outcome.truth["lifted"] == [0, 1]


def test_light_parcel_is_stable() -> None:
    result = all_cups(pile_of((box((0.25, 0.2, 0.01), 0.03), (0, 0, 0))))
    assert result.outcome.result is PickResult.CLEAN
    assert result.outcome.lifted_weight_n == pytest.approx(0.03 * G, abs=0.15)


def test_same_seed_same_outcome_to_the_bit() -> None:
    def one() -> PickResultSim:
        rng = np.random.default_rng(5)
        parcels = tuple(box((0.15, 0.12, 0.1), float(m)) for m in rng.uniform(0.2, 2, 8))
        pile = make_pile(rng, parcels, WorkspaceConfig(), "stacked")
        top = int(np.argmax(pile.poses[:, 2, 3]))
        x, y, z = pile.poses[top, :3, 3]
        return execute_pick(pile, tool_down(x - 0.75, y, z + 0.05), 0b01100110, top, CELL, NO_FAULTS, rng)

    first, second = one(), one()
    assert first.outcome == second.outcome
    np.testing.assert_array_equal(first.pile.poses, second.pile.poses)
