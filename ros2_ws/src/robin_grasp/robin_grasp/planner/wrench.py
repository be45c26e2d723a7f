"""Which subsets of the tool's cups can hold a parcel: least-energy split of a load over the cups against Dex-Net 3.0's
limits.

Tool frame, +z into the parcel. A load w = (F, M) acts on the parcel at the tool's origin. Each active cup i at c_i
gives a force f_i and a moment m_i; balance is w = sum (f_i, c_i x f_i + m_i) for the force the parcel puts on the
tool. The split that minimises sum (f / V)^2 + (m / (V r))^2 is linear, T = A+ w, and A+ depends on the tool and the
subset only.

Limits per cup with pull t = f_z, holding force V, radius r, friction mu (after Dex-Net 3.0, arXiv 1709.06670, with its
inscribed boxes of sqrt(3) and sqrt(2) as the cones they stand for, and the lip lifting at its edge in place of its
material term): t <= V; |(f_x, f_y)| <= mu (V - t); |m_z| <= r mu (V - t); |(m_x, m_y)| <= s r (V - t), s <= 1. All are
homogeneous in load over V, so one number per subset says it all: the utilisation, the factor by which the load must
shrink (> 1) or may grow (< 1) until the first limit is met.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from robin_grasp.planner.surface import Floats, Ints
from robin_grasp.tool import GRAVITY_MPS2, MotionConfig, ToolConfig

UNHOLDABLE = 1e6
POSES_AT_ONCE = 8  # as many as keep a product with all subsets inside the cache


@cache
def subset_members(cups: int) -> NDArray[np.bool_]:
    """Which cups each subset of a tool with K cups holds: bool [2^K, K], the subset's number is its cup mask."""
    return (np.arange(1 << cups)[:, None] >> np.arange(cups) & 1).astype(bool)


@dataclass(frozen=True)
class SubsetTable:
    """A+ of every subset, stacked. split: float32 [6, R, 6], component (fx fy fz mx my mz) of the R (subset, cup)
    pairs per unit of each load component; starts [2^K - 1]: first row of subset s at starts[s - 1]. members:
    ``subset_members`` of the tool."""

    split: NDArray[np.float32]
    starts: Ints
    friction: float
    radius_m: float
    peel_share: float
    members: NDArray[np.bool_]

    @cached_property
    def _shares(self) -> NDArray[np.float32]:
        """float32 [6, 6, R]: ``split`` transposed, every component over its own limit per unit of V - t."""
        peel_m, twist_m = self.peel_share * self.radius_m, self.radius_m * self.friction
        limits = np.array([self.friction, self.friction, 1.0, peel_m, peel_m, twist_m], dtype=np.float32)
        return np.ascontiguousarray((self.split / limits[:, None, None]).transpose(0, 2, 1))

    def utilisation(self, loads: Floats) -> Floats:
        """Loads [N, L, 6] in units of one cup's V (N/V and Nm/V) -> [N, 2^K], the worst of the L load cases; row 0
        (no cup) is UNHOLDABLE. limit / load is its inverse."""
        n, cases, _ = loads.shape
        result = np.full((n, len(self.members)), UNHOLDABLE)
        for first in range(0, n, POSES_AT_ONCE):
            some = loads[first : first + POSES_AT_ONCE].reshape(-1, 6).astype(np.float32)
            fx, fy, t, mx, my, mz = some @ self._shares
            # The squares of sideways force, bending and twist, each of which may use all of V - t, in place.
            fx *= fx
            fy *= fy
            fx += fy
            mx *= mx
            my *= my
            mx += my
            mz *= mz
            worst = t + np.sqrt(np.maximum(np.maximum(fx, mx), mz))
            worst = worst.reshape(-1, cases, worst.shape[1]).max(axis=1)
            result[first : first + POSES_AT_ONCE, 1:] = np.maximum.reduceat(worst, self.starts, axis=1)
        result[:, 1:] = np.maximum(result[:, 1:], 1e-6)
        return result


def cup_map(cups: Floats, radius_m: float) -> Floats:
    """A scaled: [6, 6 k], the wrench at the tool's origin of k cups' forces (units of V) and moments (units of V r)."""
    blocks = []
    for x, y, z in cups:
        lever = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
        blocks.append(np.block([[np.eye(3), np.zeros((3, 3))], [lever, radius_m * np.eye(3)]]))
    return np.concatenate(blocks, axis=1)


def subset_table(tool: ToolConfig, peel_moment_share: float) -> SubsetTable:
    """Pre-compute A+ for all subsets of the tool's cups. peel_moment_share: s above."""
    members = subset_members(tool.cup_count)
    whole = cup_map(tool.cups_m, tool.cup_radius_m).reshape(6, -1, 6)
    rows: list[NDArray[np.floating]] = []
    for held in members[1:]:
        inverse = np.linalg.pinv(whole[:, held].reshape(6, -1)).reshape(-1, 6, 6)
        inverse[:, 3:] *= tool.cup_radius_m
        rows.append(inverse)
    split = np.ascontiguousarray(np.concatenate(rows).transpose(1, 0, 2), dtype=np.float32)
    starts = np.cumsum([0, *(len(inverse) for inverse in rows[:-1])])
    return SubsetTable(split, starts, tool.friction, tool.cup_radius_m, peel_moment_share, members)


def load_cases(
    rotation: Floats,
    position: Floats,
    com: Floats,
    com_sigma_m: Floats,
    mass_kg: Floats,
    motion: MotionConfig,
) -> Floats:
    """Loads per kilogram on the tool's origin, float64 [N, 4, 6] (case, component), N/kg and Nm/kg, tool frame.

    rotation [N, 3, 3], position [N, 3]: tool poses; com [N, 3]: expected centre of mass, base_link; com_sigma_m [N];
    mass_kg [N]: expected, as heavy loads are carried with less acceleration. Cases: lift with the COM in its place,
    and one sigma further from the tool's axis; speeding up and braking along the transfer axis, each with the COM one
    sigma off in the direction that makes it worse.
    """
    n = len(position)
    lever = com - position
    sideways = lever - np.einsum("ni,ni->n", lever, rotation[:, :, 2])[:, None] * rotation[:, :, 2]
    outward = sideways / np.maximum(np.linalg.norm(sideways, axis=1, keepdims=True), 1e-6)
    lift = np.array([0.0, 0.0, -GRAVITY_MPS2 - motion.lift_accel_mps2])
    hang = np.array([0.0, 0.0, -GRAVITY_MPS2])
    axis = np.array([*motion.transfer_axis_xy, 0.0]) / np.linalg.norm(motion.transfer_axis_xy)
    accel = np.array([motion.transfer_accel_of(GRAVITY_MPS2 * float(mass)) for mass in mass_kg])
    push = accel[:, None] * axis
    forces = np.empty((n, 4, 3))
    forces[:, 0], forces[:, 1], forces[:, 2], forces[:, 3] = lift, lift, hang + push, hang - push
    levers = np.repeat(lever[:, None, :], 4, axis=1)
    levers[:, 1] += outward * com_sigma_m[:, None]
    # Below the lips, a push along +axis and a COM shifted along -axis turn the parcel the same way.
    levers[:, 2] -= axis * com_sigma_m[:, None]
    levers[:, 3] += axis * com_sigma_m[:, None]
    moments = np.cross(levers, forces)
    return np.concatenate([forces @ rotation, moments @ rotation], axis=2)


def hold_probability(utilisation: Floats, log_sigma: Floats | float) -> Floats:
    """P(load stays within the limits) when ln(load / limit) is Gaussian about ln(utilisation)."""
    return np.asarray(ndtr(-np.log(np.maximum(utilisation, 1e-9)) / log_sigma))


def over_random_seals(held: Floats, seal: Floats) -> Floats:
    """E[held(sealed part of S)] for every subset S when cup i seals independently with probability seal[:, i].

    held [N, 2^K]: P(hold) by the set of cups that did seal; seal [N, K]. Exact, in K passes:
    f(S) <- p_i f(S) + (1 - p_i) f(S without i) for every S that holds i.
    """
    expected = held.copy()
    n, subsets = held.shape
    for cup in range(seal.shape[1]):
        pairs = expected.reshape(n, subsets >> (cup + 1), 2, 1 << cup)
        p = seal[:, cup, None, None]
        pairs[:, :, 1] = p * pairs[:, :, 1] + (1.0 - p) * pairs[:, :, 0]
    return expected
