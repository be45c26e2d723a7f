"""Two parcels at once: cups that may touch a neighbour, and masks that may hold two parcels."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from robin_grasp.planner.candidates import Footprints, Poses
from robin_grasp.planner.config import PlannerConfig
from robin_grasp.planner.fit import MultiPickFit
from robin_grasp.planner.parcels_seen import Parcels
from robin_grasp.planner.rows import Rows
from robin_grasp.planner.surface import Floats, View
from robin_grasp.tool import ToolConfig

PROVEN_MERGED = 0.9
RIDGE_MERGED = 0.4


@dataclass(frozen=True)
class Merges:
    """probability [I]: P(the mask holds two parcels), by a ridge or by its outline. ridged: bool [I], a ridge cuts the
    mask. part: int32 [h, w], which part of its mask a pixel belongs to, 0 on the ridge between two parts; all zero
    where a mask has one part only."""

    probability: Floats
    ridged: NDArray[np.bool_]
    part: NDArray[np.int32]


def find_merges(
    view: View, parcels: Parcels, background: Floats, fit: MultiPickFit
) -> tuple[NDArray[np.float32], Merges]:
    """Masks that a ridge of boundary probability cuts into parts. ``view`` is labelled by instances; background [I]:
    ``Order.background``. Also returns ``other_px`` with the ridges counted as contacts with another parcel, so that
    cups keep their distance from them."""
    band_px = fit.merge_edge_band_m * view.fx / max(_median_depth(view), 0.1)
    ridge = (view.boundary > fit.merge_boundary) & (view.edge_px > band_px) & (view.labels > 0)
    probability = np.minimum(fit.background_merged * background, RIDGE_MERGED)
    ridged = np.zeros(parcels.count, dtype=bool)
    part = np.zeros(view.shape, dtype=np.int32)
    if not ridge.any():
        return view.other_px, Merges(probability, ridged, part)
    other_px = view.other_px.copy()
    for label, size in zip(*np.unique(view.labels[ridge], return_counts=True), strict=True):
        row = np.flatnonzero(parcels.ids == label)
        if len(row) == 0 or size < 6:
            continue
        x, y, width, height = cv2.boundingRect((view.labels == label).view(np.uint8))
        box = (slice(y, y + height), slice(x, x + width))
        pieces = _pieces(view, box, int(label), fit)
        if pieces is None:
            continue
        mask = view.labels[box] == label
        part[box][mask] = pieces[mask]
        to_ridge = cv2.distanceTransform((~(mask & (pieces == 0)) | (view.edge_px[box] < 2)).astype(np.uint8), 2, 5)
        other_px[box][mask] = np.minimum(other_px[box], to_ridge)[mask]
        proven = _step_m(view, box, pieces, parcels.plane[row[0]]) > fit.merge_step_m
        probability[row] = PROVEN_MERGED if proven else RIDGE_MERGED
        ridged[row] = True
    return other_px, Merges(probability, ridged, part)


def _median_depth(view: View) -> float:
    sampled = view.inverse_depth[::8, ::8]
    seen = sampled[sampled > 0]
    return float(1.0 / np.median(seen)) if len(seen) else 1.0


def _pieces(view: View, box: tuple[slice, slice], label: int, fit: MultiPickFit) -> NDArray[np.int32] | None:
    """Parts of a mask between its ridges, numbered from 1, or None when fewer than two are large enough."""
    mask = view.labels[box] == label
    open_area = (mask & (view.boundary[box] < fit.merge_boundary)).astype(np.uint8)
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(open_area, connectivity=4)
    large = [k for k in range(1, count) if stats[k, cv2.CC_STAT_AREA] >= fit.merge_least_part * mask.sum()]
    if len(large) < 2:
        return None
    number = np.zeros(count, dtype=np.int32)
    number[large] = np.arange(1, len(large) + 1)
    return np.asarray(number[pieces])


def _step_m(view: View, box: tuple[slice, slice], pieces: NDArray[np.int32], plane: Floats) -> float:
    """Largest height difference between two parts, both measured against the mask's one plane."""
    ys, xs = np.mgrid[box]
    q = view.inverse_depth[box]
    flat = plane[0] * xs + plane[1] * ys + plane[2]
    offsets = []
    for k in range(1, int(pieces.max()) + 1):
        inside = (pieces == k) & (q > 0)
        if inside.sum() >= 10:
            offsets.append(float(np.median((1.0 / q[inside]) - 1.0 / np.maximum(flat[inside], 0.05))))
    return max(offsets) - min(offsets) if len(offsets) > 1 else 0.0


@dataclass(frozen=True)
class Risks(Rows):
    """Of N poses' K cups, each [N, K]. touch: P(the lip touches a neighbour). vetoed: too near a neighbour, or on
    another part of a mask that may be two parcels. split: cups vetoed for the latter. boundary: interior boundary
    probability under the lip."""

    touch: Floats
    vetoed: NDArray[np.bool_]
    split: NDArray[np.bool_]
    boundary: Floats


def cup_risks(
    view: View,
    poses: Poses,
    parcels: Parcels,
    footprints: Footprints,
    merges: Merges,
    tool: ToolConfig,
    config: PlannerConfig,
) -> Risks:
    """How likely each cup is to take hold of a neighbour; sigma joins the mask's edge and the calibration."""
    sigma = np.hypot(parcels.edge_sigma_m[poses.parcel], config.multi.calibration_sigma_m)[:, None]
    touch = ndtr((tool.cup_radius_m - footprints.other_m) / sigma)
    near = footprints.on_target & (footprints.other_m < tool.cup_radius_m + config.multi.veto_sigmas * sigma)
    split = np.zeros_like(near)
    suspect = merges.ridged[poses.parcel]
    flat, _ = view.pixel(footprints.u, footprints.v)
    if suspect.any():
        part = np.where(footprints.on_target, merges.part.ravel()[flat], 0)[suspect]
        votes = np.stack([(part == k).sum(axis=1) for k in range(1, int(merges.part.max()) + 1)], axis=1)
        split[suspect] = footprints.on_target[suspect] & (part != votes.argmax(axis=1)[:, None] + 1)
    inner = footprints.on_target & (footprints.edge_m > config.fit.multi.merge_edge_band_m)
    boundary = np.where(inner, view.boundary.ravel()[flat], 0.0)
    return Risks(np.asarray(touch * footprints.on_target), near | split, split, boundary)
