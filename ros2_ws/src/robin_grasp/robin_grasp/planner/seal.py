"""P(seal) of every cup of a pose, from the depth under and around its lip. Penalties and slopes: ``SealFit``."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from robin_grasp.planner.candidates import Footprints, Poses
from robin_grasp.planner.config import PlannerConfig
from robin_grasp.planner.parcels_seen import Parcels
from robin_grasp.planner.rows import Rows
from robin_grasp.planner.surface import Floats, Ints, View
from robin_grasp.tool import ToolConfig

SQUARE_OF_DISC = 0.886  # half side of the square with a disc's area, per radius


@dataclass(frozen=True)
class Seals(Rows):
    """Of N poses' K cups, each [N, K]. probability: P(seal), 0 off the target. sound: the same if the cup were sound.
    factory: probability without what was learned of such goods.
    gap_m: height of the surface above the lip plane (towards the tool). tilt_rad: local slope against the tool.
    excess_rms_m: roughness beyond the depth noise. holes: share of missing depth under the lip."""

    probability: Floats
    sound: Floats
    factory: Floats
    gap_m: Floats
    tilt_rad: Floats
    excess_rms_m: Floats
    holes: Floats


@dataclass(frozen=True)
class _Lips:
    """Fits under the M cups that lie on their target. where: (row, cup) of each."""

    where: tuple[Ints, Ints]
    point: Floats
    axis: Floats
    rms_m: Floats
    share: Floats
    noise_m: Floats
    gap_noise_m: Floats
    slope_noise_rad: Floats


def seat(
    view: View,
    poses: Poses,
    parcels: Parcels,
    footprints: Footprints,
    tool: ToolConfig,
    config: PlannerConfig,
    shares: Floats,
) -> tuple[Poses, Seals]:
    """Move each tool along its axis until its lips meet the surface (the median over its cups on the target), and
    judge the seal of each cup there. shares [K]: of the vacuum that each cup reaches."""
    lips = _fit_lips(view, poses, parcels, footprints, tool, config)
    row, cup = lips.where
    above = np.full(footprints.u.shape, np.nan)
    lip = poses.cups(tool)[row, cup]
    axis = poses.rotation[row, :, 2]
    above[row, cup] = -np.einsum("mk,mk->m", lips.point - lip, axis)
    reliable = footprints.on_target & (footprints.edge_m > tool.cup_radius_m)
    chosen = np.where(reliable.any(axis=1, keepdims=True), reliable, footprints.on_target) & ~np.isnan(above)
    offset = np.zeros(poses.count)
    known = chosen.any(axis=1)
    offset[known] = _median(above[known], chosen[known])
    moved = replace(poses, position=poses.position - offset[:, None] * poses.rotation[:, :, 2])
    seals = _judge(lips, above - offset[:, None], poses, parcels, footprints, tool, config)
    probability = seals.sound * shares
    return moved, replace(seals, probability=probability, factory=probability)


def _median(values: Floats, given: NDArray[np.bool_]) -> Floats:
    """Median of the given values of each row, of which there is one at least: [N]."""
    ordered = np.sort(np.where(given, values, np.inf), axis=1)
    count = given.sum(axis=1)
    rows = np.arange(len(values))
    return np.asarray(0.5 * (ordered[rows, (count - 1) // 2] + ordered[rows, count // 2]))


def _fit_lips(
    view: View, poses: Poses, parcels: Parcels, footprints: Footprints, tool: ToolConfig, config: PlannerConfig
) -> _Lips:
    """Planes under the lips. Where a box's depth is missing (dark print), its face's plane stands in."""
    surface, seal = config.fit.surface, config.fit.seal
    flat, _ = view.pixel(footprints.u, footprints.v)
    inverse = view.inverse_depth.ravel()[flat]
    row, cup = np.nonzero(footprints.on_target & (footprints.edge_m > 0.4 * tool.cup_radius_m))
    u, v = footprints.u[row, cup], footprints.v[row, cup]
    edge_px = view.edge_px.ravel()[flat[row, cup]]
    near = inverse[row, cup]
    fallback = float(np.median(near[near > 0])) if (near > 0).any() else 1.0
    px_per_m = np.where(near > 0, near, fallback) * view.fx
    small = view.fit(u, v, np.maximum(SQUARE_OF_DISC * tool.cup_radius_m * px_per_m, 1.0))
    wide_half = np.minimum(0.7 * edge_px, surface.wide_window_m * px_per_m)
    wide_half = np.maximum(wide_half, SQUARE_OF_DISC * tool.cup_radius_m * px_per_m)
    wide = view.fit(u, v, wide_half)
    seen = (small.share >= 1.0 - seal.most_holes) & (small.q > 0.05) & (wide.q > 0.05)
    parcel = poses.parcel[row]
    bridged = ~seen & (parcels.box_probability[parcel] >= seal.bridge_box_probability)
    bridged &= parcels.depth_share[parcel] >= seal.bridge_depth_share
    plane = parcels.plane[parcel]
    face_q = np.maximum(plane[:, 0] * u + plane[:, 1] * v + plane[:, 2], 0.05)
    face_rms = parcels.plane_rms_m[parcel] * face_q**2
    small = replace(small, q=np.where(bridged, face_q, small.q), rms=np.where(bridged, face_rms, small.rms))
    wide = replace(
        wide,
        u=np.where(bridged, u, wide.u),
        v=np.where(bridged, v, wide.v),
        a=np.where(bridged, plane[:, 0], wide.a),
        b=np.where(bridged, plane[:, 1], wide.b),
        q=np.where(bridged, face_q, wide.q),
    )
    seen |= bridged
    row, cup, wide_half, px_per_m = row[seen], cup[seen], wide_half[seen], px_per_m[seen]
    q = small.q[seen]
    noise_m = view.inverse_depth_noise / q**2
    half_m = np.maximum(wide_half / px_per_m, 1e-3)
    return _Lips(
        where=(row, cup),
        point=view.points(wide.u[seen], wide.v[seen], wide.q[seen]),
        axis=view.axes(wide)[seen],
        rms_m=small.rms[seen] / q**2,
        share=small.share[seen],
        noise_m=noise_m,
        # A window narrower than the wide one averages less: its height is noisier by the square root of the ratio.
        gap_noise_m=surface.offset_noise * noise_m * np.sqrt(surface.wide_window_m / half_m),
        slope_noise_rad=surface.slope_noise * noise_m / half_m,
    )


def _judge(
    lips: _Lips,
    above: Floats,
    poses: Poses,
    parcels: Parcels,
    footprints: Footprints,
    tool: ToolConfig,
    config: PlannerConfig,
) -> Seals:
    seal = config.fit.seal
    row, cup = lips.where
    shape = footprints.u.shape
    tilt = np.arccos(np.clip(np.einsum("mk,mk->m", lips.axis, poses.rotation[row, :, 2]), -1.0, 1.0))
    gap = above[row, cup]
    excess = np.maximum(lips.rms_m - seal.rms_free * lips.noise_m, 0.0)
    holes = np.clip(1.0 - lips.share, 0.0, 1.0)
    logit = parcels.expected(poses.parcel[row], parcels.figures.seal_logit)
    short = np.maximum(tool.cup_radius_m + seal.edge_margin_m - footprints.edge_m[row, cup], 0.0)
    logit = logit - seal.edge_logit_per_m * short - seal.rms_logit_per_m * excess
    # Noise excuses a slope up to what the bellows follow, and no more.
    free = np.minimum(seal.tilt_free * tool.bellows_tilt_rad + 1.5 * lips.slope_noise_rad, tool.bellows_tilt_rad)
    logit -= seal.tilt_logit_per_rad * np.maximum(tilt - free, 0.0)
    logit -= seal.gap_logit_per_m * np.maximum(np.abs(gap) - seal.gap_free_m - 1.5 * lips.gap_noise_m, 0.0)
    logit -= seal.holes_logit * np.maximum(holes - seal.holes_free, 0.0)
    result = [np.zeros(shape) for _ in range(5)]
    for field, value in zip(result, (expit(logit), gap, tilt, excess, holes), strict=True):
        field[row, cup] = value
    return Seals(result[0], result[0], *result)
