"""Who rests on whom: a directed graph from height steps across shared boundaries. Parcels with nothing on them come
first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from robin_grasp.planner_config import OrderConfig
from robin_grasp.surface import Floats, Ints, View
from robin_perception.scene import Scene

STEP = 2
WHOLE = 0.99  # P(free) of a parcel that is seen as a whole
MOST_STEP_M = 0.5  # deeper steps are all alike: a hole or the belt's edge


@dataclass(frozen=True)
class Order:
    """Over the I instances of a scene. above: bool [I, I], above[i, j] when i is higher than j where they touch.
    cover [I]: length of boundary with higher neighbours over the mask's outline. free [I]: P(nothing rests on it).
    height_rank [I]: share of touching neighbours that are lower (1: the highest around). support_m [I]: how far the
    surface of what it seems to rest on lies below its own, inf where it seems to rest on no other parcel."""

    above: np.ndarray
    cover: Floats
    free: Floats
    height_rank: Floats
    support_m: Floats

    def take(self, index: Ints) -> Order:
        """For other rows, given the instance that each belongs to."""
        return Order(
            self.above[np.ix_(index, index)],
            self.cover[index],
            self.free[index],
            self.height_rank[index],
            self.support_m[index],
        )

    @property
    def source(self) -> np.ndarray:
        """bool [I]: no neighbour is higher across a shared boundary."""
        return np.asarray(~self.above.any(axis=0))


def pick_order(view: View, scene: Scene, config: OrderConfig) -> Order:
    """Compare heights on both sides of every shared boundary."""
    count = len(scene.instances)
    visible = np.array([instance.visible_fraction for instance in scene.instances])
    # Every second pixel is enough for means over a boundary.
    labels, height = view.labels[::STEP, ::STEP], view.height[::STEP, ::STEP]
    metres = STEP * float(np.median(view.metres_per_px(_inverse_at_tops(view)))) if count else 0.002
    reach = max(2, round(2 * config.reach_m / metres))
    row_of = np.full(int(labels.max(initial=0)) + 1, count, dtype=np.int64)
    ids = np.array([instance.id for instance in scene.instances])
    row_of[ids[ids < len(row_of)]] = np.flatnonzero(ids < len(row_of))
    length = np.zeros((count + 1, count + 1))
    rise = np.zeros((count + 1, count + 1))
    rows = row_of[labels]
    for first, second, z_first, z_second in (
        (rows[:, :-reach], rows[:, reach:], height[:, :-reach], height[:, reach:]),
        (rows[:-reach, :], rows[reach:, :], height[:-reach, :], height[reach:, :]),
    ):
        pair = (first != second) & (first < count) & (second < count) & (z_first != 0) & (z_second != 0)
        code = first[pair] * (count + 1) + second[pair]
        step = np.clip(z_first[pair] - z_second[pair], -MOST_STEP_M, MOST_STEP_M)
        size = (count + 1) ** 2
        length += np.bincount(code, minlength=size).reshape(count + 1, -1)
        rise += np.bincount(code, weights=step, minlength=size).reshape(count + 1, -1)
    length, rise = length[:count, :count], rise[:count, :count]
    pixels = length + length.T
    step_m = (rise - rise.T) / np.maximum(pixels, 1)
    # `reach` pixels of each row or column that crosses the boundary are counted, so length in pixels is the count /
    # reach.
    shared_m = pixels / reach * metres
    sigma = view.noise_pm * _depth_squared(view, count) / np.sqrt(np.maximum(shared_m / config.reach_m, 1.0))[0:count]
    threshold = np.maximum(config.sigmas * sigma, config.step_m)
    above = (step_m > threshold) & (shared_m >= config.least_boundary_m)
    boxes = np.array([instance.bbox for instance in scene.instances], dtype=np.float64)
    outline = 2.0 * (boxes[:, 2:] - boxes[:, :2]).sum(axis=1) / view.stride * metres / STEP
    cover = np.minimum((shared_m * above).sum(axis=0) / np.maximum(outline, 1e-3), 1.0)
    touching = shared_m >= config.least_boundary_m
    lower = (touching & (step_m > 0)).sum(axis=1)
    rank = np.where(touching.any(axis=1), lower / np.maximum(touching.sum(axis=1), 1), 1.0)
    # What lies under a parcel is partly hidden by it; a lower neighbour that is seen as a whole just stands beside it.
    under = above & (visible < config.free_visible_fraction)[None, :]
    support = np.where(under, step_m, np.inf).min(axis=1, initial=np.inf)
    if not config.enabled:
        return Order(np.zeros_like(above), np.zeros(count), np.ones(count), np.ones(count), support)
    return Order(above, cover, _free(visible, cover, config), rank, support)


def _inverse_at_tops(view: View) -> Floats:
    sampled = view.inverse_depth[::8, ::8][view.labels[::8, ::8] > 0]
    sampled = sampled[sampled > 0]
    return sampled.astype(np.float64) if len(sampled) else np.ones(1)


def _depth_squared(view: View, count: int) -> Floats:
    z = 1.0 / np.maximum(np.median(_inverse_at_tops(view)), 0.1)
    return np.full((count, 1), z * z)


def _free(visible: Floats, cover: Floats, config: OrderConfig) -> Floats:
    """P(nothing rests on it): high for what is seen as a whole, whatever stands beside it; else it falls with the
    hidden part, and with the length of the boundary to higher neighbours, which may be what hides it."""
    hidden = np.maximum(config.free_visible_fraction - visible, 0.0)
    logit = config.cover_logit - config.cover_slope * hidden - config.cover_length_logit * np.minimum(cover, 0.4)
    return np.asarray(np.where(hidden > 0, expit(logit), WHOLE))
