"""Tool poses worth a look: cup groups centred on contact points, along the parcel's sides, then cut by cheap terms."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from robin_grasp.planner.fit import SamplingFit
from robin_grasp.planner.parcels_seen import Contacts, Parcels
from robin_grasp.planner.rows import Rows
from robin_grasp.planner.surface import Floats, Ints, View
from robin_grasp.tool import ToolConfig

MAIN_YAWS_RAD = (0.0, np.pi / 2, np.pi / 4, 3 * np.pi / 4)
OTHER_YAWS_RAD = (0.0, np.pi / 2)
TIE_DECIMALS = 6


@dataclass(frozen=True)
class Poses(Rows):
    """N tool poses. parcel [N]: row of Parcels; contact [N]: row of Contacts; position [N, 3] and rotation [N, 3, 3]
    of the tool frame in base_link."""

    parcel: Ints
    contact: Ints
    position: Floats
    rotation: Floats

    @property
    def count(self) -> int:
        return len(self.parcel)

    def cups(self, tool: ToolConfig) -> Floats:
        """Centres of the K lips in base_link, float64 [N, K, 3]."""
        # One large product in place of one for each pose.
        offset = (self.rotation.reshape(-1, 3) @ tool.cups_m.T).reshape(-1, 3, len(tool.cups_m))
        return np.asarray(self.position[:, None, :] + offset.transpose(0, 2, 1))

    def to_tool_plane(self, points: Floats) -> Floats:
        """Points [N, 3] in base_link, one per pose, in the lip plane of that pose: float64 [N, 2]."""
        return np.asarray(np.einsum("nji,nj->ni", self.rotation, points - self.position)[:, :2])

    def matrices(self) -> Floats:
        """T_base_tool, float64 [N, 4, 4]."""
        T = np.tile(np.eye(4), (self.count, 1, 1))
        T[:, :3, :3] = self.rotation
        T[:, :3, 3] = self.position
        return T


def group_centres(tool: ToolConfig) -> Floats:
    """Centres of all blocks of neighbouring rows and columns of cups, tool frame, float64 [G, 2] metres, the middle
    first.

    Putting such a centre on a parcel's middle balances that block; the rest of the tool hangs over to one side.
    """
    return _group_centres(tool.cup_centres_m)


@lru_cache(maxsize=8)
def _group_centres(cup_centres_m: tuple[tuple[float, float], ...]) -> Floats:
    cups = np.asarray(cup_centres_m, dtype=np.float64)
    centres = {(0.0, 0.0)}
    xs, ys = np.unique(cups[:, 0].round(6)), np.unique(cups[:, 1].round(6))
    for x0, x1 in ((a, b) for a in xs for b in xs if a <= b):
        for y0, y1 in ((a, b) for a in ys for b in ys if a <= b):
            inside = (cups[:, 0] >= x0 - 1e-6) & (cups[:, 0] <= x1 + 1e-6)
            inside &= (cups[:, 1] >= y0 - 1e-6) & (cups[:, 1] <= y1 + 1e-6)
            if inside.any():
                x, y = cups[inside].mean(axis=0)
                centres.add((round(float(x), 5), round(float(y), 5)))
    return np.array(sorted(centres, key=lambda c: (c[0] ** 2 + c[1] ** 2, c)))


def tool_rotations(axis: Floats, along: Floats, yaw_rad: Floats) -> Floats:
    """Rotations [N, 3, 3] whose z is ``axis`` (unit, [N, 3]) and whose x is ``along`` laid onto the face, turned by
    yaw.
    """
    x = along - np.einsum("nk,nk->n", along, axis)[:, None] * axis
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)
    y = axis[:, [1, 2, 0]] * x[:, [2, 0, 1]] - axis[:, [2, 0, 1]] * x[:, [1, 2, 0]]  # the cross product
    c, s = np.cos(yaw_rad)[:, None], np.sin(yaw_rad)[:, None]
    return np.stack([c * x + s * y, -s * x + c * y, axis], axis=2)


def sample_poses(parcels: Parcels, contacts: Contacts, tool: ToolConfig) -> Poses:
    """Every block of cups on the main contacts, the whole tool and one row on the others."""
    groups = group_centres(tool)
    few = groups[np.abs(groups[:, 0]) < 1e-6]
    yaw_of, offset_of, row_of = [], [], []
    for rows, yaws, offsets in (
        (np.flatnonzero(contacts.main), MAIN_YAWS_RAD[:2], groups),
        (np.flatnonzero(contacts.main), MAIN_YAWS_RAD[2:], few),
        (np.flatnonzero(~contacts.main), OTHER_YAWS_RAD, few),
    ):
        row, yaw, offset = np.meshgrid(rows, np.array(yaws), np.arange(len(offsets)), indexing="ij")
        row_of.append(row.ravel())
        yaw_of.append(yaw.ravel())
        offset_of.append(offsets[offset.ravel()].reshape(-1, 2))
    contact, yaw_rad = np.concatenate(row_of), np.concatenate(yaw_of)
    offset_xy = np.concatenate(offset_of)
    parcel = contacts.parcel[contact]
    rotation = tool_rotations(contacts.axis[contact], parcels.long_axis[parcel], yaw_rad)
    shift = np.einsum("nij,nj->ni", rotation[:, :, :2], offset_xy)
    return Poses(parcel, contact, contacts.point[contact] - shift, rotation)


@dataclass(frozen=True)
class Footprints(Rows):
    """Where the K cups of N poses meet the image, each [N, K]. u, v: working pixels; on_target: bool; edge_m, other_m:
    distance of the lip's centre from the mask's edge and from the nearest contact with another parcel, metres (0 off
    target)."""

    u: Floats
    v: Floats
    on_target: NDArray[np.bool_]
    edge_m: Floats
    other_m: Floats


def project_cups(view: View, parcels: Parcels, poses: Poses, tool: ToolConfig) -> Footprints:
    """Project the cups into the label image."""
    u, v, z = view.project(poses.cups(tool))
    flat, inside = view.pixel(u, v)
    on_target = inside & (view.labels.take(flat) == parcels.face[poses.parcel][:, None])
    metres = view.metres_per_px(1.0 / np.maximum(z, 0.05))
    edge = np.where(on_target, (view.edge_px.take(flat) + 0.5) * metres, 0.0)
    other = np.where(on_target, (view.other_px.take(flat) + 0.5) * metres, 0.0)
    return Footprints(u, v, on_target, edge, other)


def holding_estimate(
    poses: Poses, parcels: Parcels, footprints: Footprints, tool: ToolConfig, weight: Floats
) -> Floats:
    """Cheap stand-in for the holding margin, [N], from the weight of each cup ([N, K], 0..1: how sure it is to hold).

    n cups with radius of gyration rho hold a weight with lever l as long as F / n + F l / (n rho) stays below V, so it
    is n rho / (rho + l). A small bonus goes to cups far from the edge.
    """
    count = weight.sum(axis=1)
    cups = tool.cups_m[:, :2]
    share = weight / np.maximum(count, 1e-6)[:, None]
    middle = share @ cups
    spread = share @ (cups**2).sum(axis=1) - (middle**2).sum(axis=1)
    gyration = np.sqrt(np.maximum(spread, 0.0)) + 0.5 * tool.cup_radius_m
    lever = np.linalg.norm(poses.to_tool_plane(parcels.centre[poses.parcel]) - middle, axis=1)
    inside = (share * np.minimum(footprints.edge_m / tool.cup_radius_m, 3.0)).sum(axis=1)
    return np.asarray(np.where(count > 1e-6, count * gyration / (gyration + lever) + 0.3 * inside, 0.0))


def tie(value: Floats) -> Floats:
    """Values for comparison: the symmetric tool makes many exact ties, which rounding errors must not decide."""
    return np.asarray(np.round(value, TIE_DECIMALS))


def best_rows(group: Ints, value: Floats, keep: int) -> Ints:
    """Rows of the ``keep`` highest values in each group, ties by row, ascending within the result."""
    order = np.lexsort((-tie(value), group))
    sorted_group = group[order]
    starts = np.r_[True, sorted_group[1:] != sorted_group[:-1]] if len(order) else np.zeros(0, bool)
    first = np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0)) if len(order) else np.zeros(0, np.int64)
    return np.sort(order[np.arange(len(order)) - first < keep])


def shortlist(
    poses: Poses, parcels: Parcels, footprints: Footprints, tool: ToolConfig, fit: SamplingFit, lip_margin_m: float
) -> tuple[Ints, NDArray[np.bool_]]:
    """Rows that go on to the full evaluation: the best estimates per contact, then per parcel. Also bool [N]: the
    poses with a cup inside the mask, among which they were chosen."""
    inside = (footprints.on_target & (footprints.edge_m > lip_margin_m)).astype(np.float64)
    value = holding_estimate(poses, parcels, footprints, tool, inside)
    on_mask = value > 0
    rows = np.flatnonzero(on_mask)
    rows = rows[best_rows(poses.contact[rows], value[rows], fit.poses_per_contact)]
    return rows[best_rows(parcels.index[poses.parcel[rows]], value[rows], fit.poses_per_instance)], on_mask
