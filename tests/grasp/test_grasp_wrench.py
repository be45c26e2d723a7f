"""The wrench model against cases computed by hand, and all 255 subsets against brute force."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from robin_grasp.planner.wrench import (
    GRAVITY_MPS2,
    cup_map,
    hold_probability,
    load_cases,
    over_random_seals,
    subset_members,
    subset_table,
)
from robin_grasp.tool import MotionConfig, ToolConfig, cups_to_mask

TOOL = ToolConfig()
TABLE = subset_table(TOOL, peel_moment_share=1.0)
MEMBERS = subset_members(8)
SUBSETS = len(MEMBERS)
ALL = 255


def load(force: tuple[float, float, float], moment: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
    return np.array([[[*force, *moment]]], dtype=np.float64)


def test_a_pure_pull_is_shared_equally_by_symmetric_cups() -> None:
    utilisation = TABLE.utilisation(load((0, 0, 1.0)))[0]
    assert utilisation[ALL] == pytest.approx(1 / 8, rel=1e-4)
    assert utilisation[cups_to_mask((0, 3, 4, 7))] == pytest.approx(1 / 4, rel=1e-4)


def test_one_cup_off_centre_peels_at_the_computed_lever() -> None:
    """A pull of t V at a lever l from one cup peels when t l = r (1 - t), so it holds 1 / (1 + l / r) of V."""
    for cup in range(8):
        x, y, _ = TOOL.cups_m[cup]
        lever = np.hypot(x, y)
        utilisation = TABLE.utilisation(load((0, 0, 1.0)))[0, 1 << cup]
        assert utilisation == pytest.approx(1.0 + lever / TOOL.cup_radius_m, rel=1e-3)


def test_shear_on_one_cup_is_limited_by_friction() -> None:
    """A sideways push F at the cup itself slips at F = mu V."""
    x, y, _ = TOOL.cups_m[0]
    at_cup = np.cross((x, y, 0.0), (1.0, 0.0, 0.0))
    utilisation = TABLE.utilisation(load((1.0, 0, 0), tuple(at_cup)))[0, 1]
    assert utilisation == pytest.approx(1.0 / TOOL.friction, rel=1e-3)


def test_the_split_balances_the_load_for_every_subset() -> None:
    rng = np.random.default_rng(0)
    wrench = rng.normal(size=6)
    wrench[3:] *= 0.05
    rows = TABLE.split @ wrench.astype(np.float32)
    ends = [*TABLE.starts[1:], TABLE.split.shape[1]]
    for subset in (1, 6, 51, 129, 200, 255):
        part = rows[:, TABLE.starts[subset - 1] : ends[subset - 1]]
        cups = TOOL.cups_m[MEMBERS[subset]]
        force = part[:3].sum(axis=1)
        moment = (np.cross(cups, part[:3].T) + part[3:].T).sum(axis=0)
        assert np.allclose(force, wrench[:3], atol=1e-4)
        assert np.allclose(moment, wrench[3:], atol=1e-5)


def test_cup_map_is_the_wrench_of_each_cup() -> None:
    matrix = cup_map(np.array([[0.1, 0.2, 0.0]]), 0.015)
    assert np.allclose(matrix[3:, 2], np.cross((0.1, 0.2, 0.0), (0, 0, 1)))
    assert np.allclose(matrix[3:, 3:], 0.015 * np.eye(3))


def test_all_255_subsets_agree_with_brute_force() -> None:
    rng = np.random.default_rng(1)
    cases = rng.normal(size=(1, 3, 6)) * (1, 1, 2, 0.05, 0.05, 0.05)
    got = TABLE.utilisation(cases)[0]
    for subset in range(1, SUBSETS):
        cups = TOOL.cups_m[MEMBERS[subset]]
        inverse = np.linalg.pinv(cup_map(cups, TOOL.cup_radius_m))
        worst = 0.0
        for wrench in cases[0]:
            split = (inverse @ wrench).reshape(len(cups), 6)
            for fx, fy, t, mx, my, mz in split * (1, 1, 1, *[TOOL.cup_radius_m] * 3):
                r, mu = TOOL.cup_radius_m, TOOL.friction
                limits = (t, t + np.hypot(fx, fy) / mu, t + abs(mz) / (r * mu), t + np.hypot(mx, my) / r)
                worst = max(worst, *limits)
        assert got[subset] == pytest.approx(max(worst, 1e-6), rel=1e-3)


def test_random_seals_agree_with_enumeration() -> None:
    rng = np.random.default_rng(2)
    held, seal = rng.random((1, SUBSETS)), rng.random((1, 8))
    expected = over_random_seals(held, seal)[0]
    for subset in (0, 1, 5, 77, 255):
        cups = np.flatnonzero(MEMBERS[subset])
        total = 0.0
        for outcome in product((0, 1), repeat=len(cups)):
            p, mask = 1.0, 0
            for cup, sealed in zip(cups, outcome, strict=True):
                p *= seal[0, cup] if sealed else 1 - seal[0, cup]
                mask |= sealed << int(cup)
            total += p * held[0, mask]
        assert expected[subset] == pytest.approx(total)


def test_load_cases_of_a_level_tool() -> None:
    motion = MotionConfig()
    down = np.diag([1.0, -1.0, -1.0])[None]
    com = np.array([[0.5, 0.0, 0.1]])
    loads = load_cases(down, np.array([[0.5, 0.0, 0.2]]), com, np.zeros(1), np.ones(1), motion)[0]
    assert loads[0, 2] == pytest.approx(GRAVITY_MPS2 + motion.lift_accel_mps2)
    assert np.allclose(loads[0, 3:], 0.0)
    # Speeding up: the parcel hangs 0.1 m below the lips, so the moment is 0.1 m times the sideways force.
    assert abs(loads[2, 1]) == pytest.approx(motion.transfer_accel_mps2)
    assert abs(loads[2, 3]) == pytest.approx(0.1 * motion.transfer_accel_mps2)


def test_an_uncertain_centre_of_mass_never_helps() -> None:
    down = np.diag([1.0, -1.0, -1.0])[None]
    position, com = np.array([[0.5, 0.0, 0.2]]), np.array([[0.51, 0.01, 0.1]])
    sure = load_cases(down, position, com, np.zeros(1), np.ones(1), MotionConfig())
    unsure = load_cases(down, position, com, np.full(1, 0.02), np.ones(1), MotionConfig())
    assert (TABLE.utilisation(unsure)[0, 1:] >= TABLE.utilisation(sure)[0, 1:] - 1e-6).mean() > 0.95
    assert TABLE.utilisation(unsure)[0, ALL] > TABLE.utilisation(sure)[0, ALL]


def test_hold_probability_is_half_at_the_limit() -> None:
    p = hold_probability(np.array([0.2, 1.0, 5.0]), 0.5)
    assert p[1] == pytest.approx(0.5)
    assert p[0] > 0.99 and p[2] < 0.01
