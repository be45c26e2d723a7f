"""Piles: at rest, not interpenetrating, reproducible, inside the workspace."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
from helpers.physics_boxes import box, pile_of

from robin_grasp.tool import WorkspaceConfig, tote_workspace
from robin_perception.core.errors import Code, RobinError
from robin_sim.model import Parcel
from robin_sim.motion import Move
from robin_sim.physics import PhysicsConfig, build_world, outside, settle
from robin_sim.piles import ARRANGEMENTS, axis_up, make_pile, settle_pile


def some_boxes(rng: np.random.Generator, count: int) -> tuple[Parcel, ...]:
    sizes = rng.uniform(0.06, 0.2, size=(count, 3))
    return tuple(box((float(a), float(b), float(c)), float(rng.uniform(0.05, 3.0))) for a, b, c in sizes)


@pytest.mark.parametrize("arrangement", sorted(ARRANGEMENTS))
@pytest.mark.parametrize("workspace", [WorkspaceConfig(), tote_workspace()], ids=["belt", "tote"])
def test_pile_rests_without_penetration(arrangement: str, workspace: WorkspaceConfig) -> None:
    rng = np.random.default_rng(3)
    pile = make_pile(rng, some_boxes(rng, 12), workspace, arrangement)
    assert 3 <= len(pile.parcels) <= 12
    world = build_world(pile.parcels, pile.poses, workspace, PhysicsConfig())
    assert not outside(world).any()
    mujoco.mj_forward(world.model, world.data)
    assert world.data.contact.dist.min() > -0.003
    before = world.positions()
    mujoco.mj_step(world.model, world.data, 100)
    moved = np.linalg.norm(world.positions() - before, axis=1)
    assert np.median(moved) < 0.001
    assert moved.max() < 0.02


def test_same_seed_same_pile_to_the_bit() -> None:
    def one() -> np.ndarray:
        rng = np.random.default_rng(11)
        return make_pile(rng, some_boxes(rng, 10), WorkspaceConfig(), "tumbled").poses

    np.testing.assert_array_equal(one(), one())


def test_resting_stack_stays_and_hovering_box_falls() -> None:
    pile = pile_of((box(mass_kg=4.0), (0, 0, 0)), (box(mass_kg=0.1), (0, 0, 0.1)), (box(), (0.4, 0, 0.2)))
    rest = settle_pile(pile)
    np.testing.assert_allclose(rest.poses[:2, :3, 3], pile.poses[:2, :3, 3], atol=0.0015)
    assert rest.poses[2, 2, 3] == pytest.approx(0.05, abs=0.0015)


def test_friction_holds_on_a_slope_below_its_angle_only() -> None:
    slope = axis_up(2)
    angle = np.arctan(0.35)
    slope = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]) @ slope
    for friction, slides in ((0.45, False), (0.25, True)):
        pile = pile_of((box((0.1, 0.1, 0.05), friction=friction), (0, 0, 0)))
        world = build_world(pile.parcels, pile.poses, pile.workspace, PhysicsConfig())
        world.model.opt.gravity[:] = slope.T @ np.array([0, 0, -9.81])
        mujoco.mj_step(world.model, world.data, 200)
        assert (np.linalg.norm(world.positions()[0, :2] - pile.poses[0, :2, 3]) > 0.02) == slides


def test_parcels_outside_the_workspace_are_dropped() -> None:
    pile = pile_of((box((0.1, 0.1, 0.1)), (0, 0, 0)), (box((0.1, 0.1, 0.1)), (0.95, 0, 0)))
    rest = settle_pile(pile)
    assert len(rest.parcels) == 1
    assert rest.poses[0, 0, 3] == pytest.approx(0.75, abs=0.002)


def test_settle_retires_what_leans_on_nothing_that_stays() -> None:
    """The support of a plank leaves the workspace's edge: the plank must come down, not hover."""
    plank = box((0.5, 0.1, 0.02))
    pile = pile_of((box((0.1, 0.1, 0.1)), (-0.2, 0, 0)), (box((0.1, 0.1, 0.1)), (0.2, 0, 0)), (plank, (0, 0, 0.1)))
    world = build_world(pile.parcels, pile.poses, pile.workspace, PhysicsConfig())
    alive = np.array([True, False, True])
    world.retire(1)
    settle(world, alive, fall=False)
    assert world.positions()[2, 2] < 0.09


def test_flush_boxes_touch() -> None:
    rng = np.random.default_rng(0)
    pile = make_pile(rng, tuple(box((0.12, 0.12, 0.1)) for _ in range(9)), WorkspaceConfig(), "flush")
    world = build_world(pile.parcels, pile.poses, pile.workspace, PhysicsConfig())
    xy = world.positions()[:, :2]
    gap = np.linalg.norm(xy[:, None] - xy[None], axis=2) + np.eye(len(xy))
    assert np.sum(gap.min(axis=1) < 0.12 + 0.003) >= 6
    assert np.ptp(world.positions()[:, 2]) < 0.012


def test_unknown_arrangement_is_refused() -> None:
    with pytest.raises(RobinError) as caught:
        make_pile(np.random.default_rng(0), (), WorkspaceConfig(), "heap")
    assert caught.value.code is Code.OPTION_INVALID


@pytest.mark.parametrize("distance", [0.01, 0.35, 0.9])
def test_move_keeps_its_bounds_and_arrives(distance: float) -> None:
    move = Move(np.array([0.0, 0.0, 1.0]), distance, 0.8, 3.0)
    times = np.linspace(0.0, move.duration_s, 2001)
    path, speed, accel = np.array([move.at(float(t)) for t in times]).T
    assert path[0] == 0.0
    assert path[-1] == pytest.approx(distance, abs=1e-9)
    assert speed.max() <= 0.8 + 1e-9
    assert np.abs(accel).max() <= 3.0 + 1e-9
    np.testing.assert_allclose(np.gradient(path, times), speed, atol=1e-3)
