"""Who rests on whom: a directed graph from height steps across shared boundaries. Parcels with nothing on them come
first."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from robin_grasp.planner.config import PlannerConfig
from robin_grasp.planner.fit import OrderFit
from robin_grasp.planner.surface import Floats, Ints, View
from robin_perception.core.scene import Scene

STEP = 2
RECTANGLES = 4  # sides of an outline that are tried for the parcel's direction
LEAST_OUTLINE_PX = 40
WHOLE = 0.99  # P(free) of a parcel that is seen as a whole
COVERED = 0.02  # share of the outline with higher neighbours from which on a parcel lies under them
MOST_STEP_M = 0.5  # deeper steps are all alike: a hole or the belt's edge


@dataclass(frozen=True)
class Order:
    """Over the I instances of a scene. above: bool [I, I], above[i, j] when i is higher than j where they touch.
    cover [I]: length of boundary with higher neighbours over the mask's outline. overlap [I]: share of the smallest
    rectangle around the mask that shows other parcels; background [I]: that shows background, as around a mask of two
    parcels. buried: bool [I], so little is seen of it under others that it is not picked; it has no overlap and no
    background. free [I]: P(nothing rests on it).
    height_rank [I]: share of touching neighbours that are lower (1: the highest around). support_m [I]: how far the
    surface of what it seems to rest on lies below its own, inf where it seems to rest on no other parcel."""

    above: np.ndarray
    cover: Floats
    overlap: Floats
    background: Floats
    buried: np.ndarray
    free: Floats
    height_rank: Floats
    support_m: Floats

    def take(self, index: Ints) -> Order:
        """For other rows, given the instance that each belongs to."""
        return Order(
            self.above[np.ix_(index, index)],
            self.cover[index],
            self.overlap[index],
            self.background[index],
            self.buried[index],
            self.free[index],
            self.height_rank[index],
            self.support_m[index],
        )


def pick_order(view: View, scene: Scene, config: PlannerConfig) -> Order:
    """Compare heights on both sides of every shared boundary."""
    fit = config.fit.order
    count = len(scene.instances)
    visible = np.array([instance.visible_fraction for instance in scene.instances])
    # Every second pixel is enough for means over a boundary.
    labels, height = view.labels[::STEP, ::STEP], view.height[::STEP, ::STEP]
    inverse_tops = _inverse_at_tops(view)
    metres = STEP * float(np.median(view.metres_per_px(inverse_tops))) if count else 0.002
    reach = max(2, round(2 * fit.reach_m / metres))
    row_of = np.full(int(labels.max(initial=0)) + 1, count, dtype=np.int32)
    ids = np.array([instance.id for instance in scene.instances])
    row_of[ids[ids < len(row_of)]] = np.flatnonzero(ids < len(row_of))
    length = np.zeros((count + 1, count + 1))
    rise = np.zeros((count + 1, count + 1))
    rows = row_of[labels]
    seen = (rows < count) & (height != 0)
    size = (count + 1) ** 2
    for before, behind in ((np.s_[:, :-reach], np.s_[:, reach:]), (np.s_[:-reach, :], np.s_[reach:, :])):
        pair = (rows[before] != rows[behind]) & seen[before] & seen[behind]
        code = rows[before][pair] * (count + 1) + rows[behind][pair]
        step = np.clip(height[before][pair] - height[behind][pair], -MOST_STEP_M, MOST_STEP_M)
        length += np.bincount(code, minlength=size).reshape(count + 1, -1)
        rise += np.bincount(code, weights=step, minlength=size).reshape(count + 1, -1)
    length, rise = length[:count, :count], rise[:count, :count]
    pixels = length + length.T
    step_m = (rise - rise.T) / np.maximum(pixels, 1)
    # `reach` pixels of each row or column that crosses the boundary are counted, so length in pixels is the count /
    # reach.
    shared_m = pixels / reach * metres
    depth_m = 1.0 / max(float(np.median(inverse_tops)), 0.1)
    sigma = view.inverse_depth_noise * depth_m**2 / np.sqrt(np.maximum(shared_m / fit.reach_m, 1.0))
    threshold = np.maximum(fit.sigmas * sigma, fit.step_m)
    above = (step_m > threshold) & (shared_m >= fit.least_boundary_m)
    boxes = np.array([instance.bbox for instance in scene.instances], dtype=np.float64)
    outline = 2.0 * (boxes[:, 2:] - boxes[:, :2]).sum(axis=1) / view.stride * metres / STEP
    cover = np.minimum((shared_m * above).sum(axis=0) / np.maximum(outline, 1e-3), 1.0)
    touching = shared_m >= fit.least_boundary_m
    touched = (shared_m * touching).sum(axis=1) / np.maximum(outline, 1e-3)
    lower = (touching & (step_m > 0)).sum(axis=1)
    rank = np.where(touching.any(axis=1), lower / np.maximum(touching.sum(axis=1), 1), 1.0)
    # What lies under a parcel is partly hidden by it; a lower neighbour that is seen as a whole just stands beside it.
    under = above & (visible < fit.free_visible_fraction)[None, :]
    support = np.where(under, step_m, np.inf).min(axis=1, initial=np.inf)
    if not config.order.enabled:
        nothing, all_free = np.zeros(count), np.ones(count)
        none = np.zeros(count, dtype=bool)
        return Order(np.zeros_like(above), nothing, nothing, nothing, none, all_free, all_free, support)
    buried = (visible < config.order.ban_visible_fraction) & (cover > COVERED)
    boxes = boxes / (view.stride * STEP) - np.array([view.left, view.top] * 2) / STEP
    overlap, background = _rectangles(rows, boxes, ~buried, fit)
    return Order(above, cover, overlap, background, buried, _free(visible, cover, overlap, touched, fit), rank, support)


def _rectangles(
    rows: NDArray[np.int32], boxes: Floats, wanted: NDArray[np.bool_], fit: OrderFit
) -> tuple[Floats, Floats]:
    """Parcels are rectangles, nearly: where another one shows inside the rectangle that a mask is part of, it lies on
    top, however flat it is; and a mask that leaves much of its rectangle to the background may be two parcels. Shares
    of each rectangle, [I] and [I], that show other parcels and background, beyond what rounded corners and side faces
    make.

    Of the rectangles along the outline's sides that one counts in which least background shows: a corner that another
    parcel hides is explained, one that is simply not there is not. rows: instance of each pixel; boxes [I, 4] of the
    masks in these pixels; wanted [I]: 0 for others.
    """
    h, w = rows.shape
    count = len(boxes)
    overlap, background = np.zeros(count), np.zeros(count)
    # A hidden corner lies outside of the mask's box, by up to a third of its sides.
    rim = 2 + np.ceil((boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True, initial=0.0) / 3)
    corners = np.concatenate([boxes[:, :2] - rim, boxes[:, 2:] + rim], axis=1)
    for i in np.flatnonzero(wanted).tolist():
        left, top, right, bottom = corners[i].astype(np.int64).tolist()
        x0, y0, x1, y1 = max(0, left), max(0, top), min(w, right), min(h, bottom)
        part = rows[y0:y1, x0:x1]
        mask = (part == i).view(np.uint8)
        area = cv2.countNonZero(mask)
        if area < LEAST_OUTLINE_PX:
            continue
        hulls, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        outline = cv2.convexHull(np.concatenate(hulls)).astype(np.float32)
        if area > fit.whole_fill * float(np.prod(cv2.minAreaRect(outline)[1])):
            continue
        others = (part < count).view(np.uint8) - mask
        overlap[i], background[i] = _best_rectangle(outline, others, area)
    return np.maximum(overlap - fit.overlap_free, 0.0), np.maximum(background - fit.background_free, 0.0)


def _best_rectangle(outline: NDArray[np.float32], others: NDArray[np.uint8], area: int) -> tuple[float, float]:
    """Shares of the best rectangle around the convex ``outline`` [K, 1, 2] that show ``others`` and background."""
    sides = cv2.approxPolyDP(outline, 0.02 * cv2.arcLength(outline, True), True)[:, 0]
    edges = np.concatenate([sides[1:], sides[:1]]) - sides
    length = np.sqrt((edges * edges).sum(axis=1))
    longest = np.argsort(-length)[:RECTANGLES]
    along = edges[longest] / np.maximum(length[longest, None], np.float32(1e-6))
    across = along[:, ::-1] * np.array([-1.0, 1.0], dtype=np.float32)
    u, v = (outline[:, 0] @ directions[..., None] for directions in (along, across))
    left, right, low, high = u.min(axis=1), u.max(axis=1), v.min(axis=1), v.max(axis=1)
    ends = np.concatenate([left, right, low, high], axis=1)[..., None]
    corners = ends.take([0, 1, 1, 0], axis=1) * along[:, None] + ends.take([2, 2, 3, 3], axis=1) * across[:, None]
    most = cv2.countNonZero(others)
    best, hidden, size_of_best = np.inf, 0.0, 1.0
    sizes = np.maximum((right - left + 1) * (high - low + 1), 1.0)[:, 0].tolist()
    for rectangle, size in zip(np.rint(corners).astype(np.int32), sizes, strict=True):
        if size - area - most >= best:  # even if all of the others stood in it
            continue
        inside = np.zeros(others.shape, dtype=np.uint8)
        cv2.fillConvexPoly(inside, rectangle, 1)
        shown = cv2.countNonZero(cv2.bitwise_and(inside, others))
        empty = size - area - shown
        if empty < best:
            best, hidden, size_of_best = empty, shown / size, size
    return hidden, max(best, 0.0) / size_of_best


def _inverse_at_tops(view: View) -> Floats:
    sampled = view.inverse_depth[::8, ::8][view.labels[::8, ::8] > 0]
    sampled = sampled[sampled > 0]
    return sampled.astype(np.float64) if len(sampled) else np.ones(1)


def _free(visible: Floats, cover: Floats, overlap: Floats, touched: Floats, fit: OrderFit) -> Floats:
    """P(nothing rests on it): high for what is seen as a whole, whatever stands beside it; else it falls with the
    hidden part, as the segmenter tells it and as the outline does, and with the length of the boundary to higher
    neighbours, which may be what hides it. A mask that touches no other is hardly freer: what hides a part of it was
    not found, or is in the mask. But it may be a tote's wall, so that it is worth a try in the end."""
    hidden = np.sqrt(np.maximum(fit.free_visible_fraction - visible, 0.0))
    logit = fit.free_logit - fit.hidden_logit * hidden - fit.overlap_logit * overlap
    logit = logit - fit.cover_length_logit * np.minimum(cover, 0.4)
    least = np.where(touched < fit.lone_touch, fit.lone_free, 0.0)
    return np.asarray(np.where(visible >= fit.free_visible_fraction, WHOLE, np.maximum(expit(logit), least)))
