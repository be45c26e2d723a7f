"""Boxes seen from an angle show two or three faces: a mask is split into planes so that no tool is laid across an edge.

Planes are found one after another: hypotheses are least-squares planes of small windows, the one that explains most
of the mask's samples is refined by Tukey-weighted least squares, what it explains is set aside, and the rest is tried
again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_grasp.planner_config import FacetConfig, SurfaceConfig
from robin_grasp.surface import Floats, Ints, View, edge_distance
from robin_perception.scene import CLASSES, Scene

CARTON = CLASSES.index("carton")
HYPOTHESES = 16
REFINEMENTS = 3


@dataclass(frozen=True)
class Facets:
    """Faces of a scene's parcels, R rows. instance [R]: index into ``Scene.instances``; plane [R, 3]: q = a u + b v +
    c, 1/m over working pixels; rms_pm [R]: residual, 1/m. The row of a pixel is its value in ``View.labels`` minus
    one."""

    instance: Ints
    plane: Floats
    rms_pm: Floats


@dataclass(frozen=True)
class _Samples:
    """Up to K valid pixels per instance: u, v, q [I, K]; given [I, K] bool; centre [I, 2]."""

    u: Floats
    v: Floats
    q: Floats
    given: NDArray[np.bool_]
    centre: Floats

    def take(self, rows: Ints) -> _Samples:
        return _Samples(self.u[rows], self.v[rows], self.q[rows], self.given[rows], self.centre[rows])


def split_faces(view: View, scene: Scene, surface: SurfaceConfig, config: FacetConfig) -> tuple[View, Facets]:
    """The view with ``labels`` numbering faces instead of instances, edges between faces counted as edges, and the
    faces."""
    samples = _sample(view, scene, surface.plane_samples)
    cartons = np.array([instance.class_probabilities[CARTON] for instance in scene.instances])
    planes, rms, accepted = _find_planes(view, samples, cartons >= config.least_carton_probability, surface, config)
    instance, number = np.nonzero(accepted)
    row = np.full(accepted.shape, -1)
    row[instance, number] = np.arange(len(instance))
    facets = Facets(instance, planes[instance, number], rms[instance, number])
    ids = np.array([i.id for i in scene.instances])
    index_of = np.full(int(view.labels.max(initial=0)) + 1, -1)
    index_of[ids[ids < len(index_of)]] = np.flatnonzero(ids < len(index_of))
    labels = np.where(view.labels > 0, row[index_of[view.labels], 0] + 1, 0).astype(np.int32)
    for i in np.flatnonzero(accepted[:, 1:].any(axis=1)):
        _assign(view, scene, int(i), row[i], facets, config, labels)
    for i in np.flatnonzero(cartons >= config.least_carton_probability):
        _trim(view, scene, int(i), facets, config, labels)
    return replace(view, labels=labels, edge_px=edge_distance(labels)), facets


def _sample(view: View, scene: Scene, keep: int) -> _Samples:
    count = len(scene.instances)
    u, v, q = (np.zeros((count, keep)) for _ in range(3))
    given = np.zeros((count, keep), dtype=bool)
    centre = np.zeros((count, 2))
    for i, instance in enumerate(scene.instances):
        x0, y0, x1, y1 = view.box(instance.bbox)
        mask = (view.labels[y0:y1, x0:x1] == instance.id) & (view.inverse_depth[y0:y1, x0:x1] > 0)
        area = int(np.count_nonzero(mask))
        if area < 4:
            continue
        step = max(1, int(np.ceil(np.sqrt(area / keep))))
        ys, xs = np.nonzero(mask[step // 2 :: step, step // 2 :: step])
        xs, ys = xs[:keep] * step + step // 2 + x0, ys[:keep] * step + step // 2 + y0
        n = len(xs)
        u[i, :n], v[i, :n], given[i, :n] = xs, ys, True
        q[i, :n] = view.inverse_depth[ys, xs]
        centre[i] = (xs.mean(), ys.mean()) if n else (0.0, 0.0)
    return _Samples(u, v, q, given, centre)


def _find_planes(
    view: View, samples: _Samples, may_split: NDArray[np.bool_], surface: SurfaceConfig, config: FacetConfig
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Up to three planes per instance: planes [I, 3, 3], rms [I, 3], accepted [I, 3] (the first always is)."""
    count = len(samples.u)
    planes, rms = np.zeros((count, 3, 3)), np.zeros((count, 3))
    accepted = np.zeros((count, 3), dtype=bool)
    left = samples.given.copy()
    total = np.maximum(samples.given.sum(axis=1), 1)
    axes = np.zeros((count, 3, 3))
    rows = np.arange(count)
    for number in range(3):
        some, some_left = samples.take(rows), left[rows]
        guess = _best_hypothesis(view, some, some_left, surface, config)
        plane, scale = _refine(view, some, some_left, guess, config)
        near = some_left & (
            np.abs(_residual(some, plane)) < config.inlier_sigmas * np.maximum(scale, view.noise_pm)[:, None]
        )
        axis = view.plane_axes(plane)
        planes[rows, number], rms[rows, number], axes[rows, number] = plane, scale, axis
        if number == 0:
            accepted[:, 0] = True
        else:
            apart = np.ones(len(rows), dtype=bool)
            for before in range(number):
                cosine = np.einsum("ik,ik->i", axis, axes[rows, before])
                apart &= ~accepted[rows, before] | (cosine < np.cos(config.least_angle_rad))
            large = near.sum(axis=1) >= np.maximum(config.least_share * total[rows], config.least_samples)
            accepted[rows, number] = apart & large
        left[rows] = some_left & ~near
        rows = np.flatnonzero(may_split & (left.sum(axis=1) >= config.least_samples))
        if not len(rows):
            break
    return planes, rms, accepted


def _residual(samples: _Samples, plane: Floats) -> Floats:
    return np.asarray(samples.q - plane[:, :1] * samples.u - plane[:, 1:2] * samples.v - plane[:, 2:])


def _best_hypothesis(
    view: View, samples: _Samples, left: NDArray[np.bool_], surface: SurfaceConfig, config: FacetConfig
) -> Floats:
    """[I, 3]: the window plane that most of the samples in ``left`` agree with."""
    count = len(samples.u)
    order = np.argsort(~left, axis=1, kind="stable")
    amount = left.sum(axis=1)
    spread = np.floor((np.arange(HYPOTHESES) + 0.5) / HYPOTHESES * amount[:, None]).astype(np.int64)
    picked = np.take_along_axis(order, np.minimum(spread, samples.u.shape[1] - 1), axis=1)
    u, v = np.take_along_axis(samples.u, picked, axis=1), np.take_along_axis(samples.v, picked, axis=1)
    q = np.take_along_axis(samples.q, picked, axis=1)
    flat, _ = view.pixel(u, v)
    half = np.minimum(0.7 * view.edge_px.ravel()[flat], config.window_m * q * view.fx)
    fits = view.fit(u, v, np.maximum(half, 3.0))
    c = fits.q - fits.a * fits.u - fits.b * fits.v
    # The mask's least-squares plane is a hypothesis too: on curved parcels no window's plane fits better.
    whole = _weighted(samples, left.astype(np.float64))
    a = np.concatenate([fits.a, whole[:, :1]], axis=1)
    b = np.concatenate([fits.b, whole[:, 1:2]], axis=1)
    c = np.concatenate([c, whole[:, 2:]], axis=1)
    # Single precision is enough to compare hypotheses; coordinates are taken from the mask's middle for it.
    du = (samples.u - samples.centre[:, :1]).astype(np.float32)[:, None]
    dv = (samples.v - samples.centre[:, 1:]).astype(np.float32)[:, None]
    middle = a * samples.centre[:, :1] + b * samples.centre[:, 1:] + c
    residual = a.astype(np.float32)[..., None] * du
    residual += b.astype(np.float32)[..., None] * dv
    residual -= (samples.q[:, None] - middle[..., None]).astype(np.float32)
    residual *= np.float32(1.0 / (config.inlier_sigmas * view.noise_pm))
    np.square(residual, out=residual)
    agreement = np.maximum(np.float32(1.0) - residual, np.float32(0.0))
    best = np.einsum("ihk,ik->ih", agreement, left.astype(np.float32)).argmax(axis=1)
    rows = np.arange(count)
    return np.stack([a[rows, best], b[rows, best], c[rows, best]], axis=1)


def _weighted(samples: _Samples, weight: Floats) -> Floats:
    """Weighted least-squares planes [I, 3]."""
    du, dv = samples.u - samples.centre[:, :1], samples.v - samples.centre[:, 1:]
    rows = np.stack([du, dv, np.ones_like(du)], axis=-1)
    weighted = (rows * weight[..., None]).transpose(0, 2, 1)
    solved = np.linalg.solve(weighted @ rows + np.diag([1e-6, 1e-6, 1e-9]), weighted @ samples.q[..., None])[..., 0]
    solved[:, 2] -= solved[:, 0] * samples.centre[:, 0] + solved[:, 1] * samples.centre[:, 1]
    return np.asarray(solved)


def _refine(
    view: View, samples: _Samples, left: NDArray[np.bool_], plane: Floats, config: FacetConfig
) -> tuple[Floats, Floats]:
    """Tukey-weighted refinement from a start near the answer: planes [I, 3] and the residual's scale [I], 1/m."""
    scale = np.full(len(plane), 1.5 * view.noise_pm)
    for _ in range(REFINEMENTS):
        residual = np.where(left, np.abs(_residual(samples, plane)), np.inf)
        ratio = np.minimum(residual / (config.inlier_sigmas * 1.3 * scale[:, None]), 1.0)
        weight = left * (1.0 - ratio**2) ** 2
        plane = np.where(weight.sum(axis=1, keepdims=True) > 6.0, _weighted(samples, weight), plane)
        residual = np.where(left, np.abs(_residual(samples, plane)), np.inf)
        near = np.minimum(residual, config.inlier_sigmas * scale[:, None])
        inside = left & (residual < config.inlier_sigmas * scale[:, None])
        spread = np.sqrt((np.where(inside, near, 0.0) ** 2).sum(axis=1) / np.maximum(inside.sum(axis=1), 1))
        scale = np.clip(spread, 0.7 * view.noise_pm, 4.0 * view.noise_pm)
    return plane, scale


def _assign(
    view: View, scene: Scene, i: int, rows: Ints, facets: Facets, config: FacetConfig, labels: NDArray[np.int32]
) -> None:
    """Give every pixel of instance ``i`` to its nearest plane; pixels without depth go with their neighbours."""
    x0, y0, x1, y1 = view.box(scene.instances[i].bbox)
    mask = view.labels[y0:y1, x0:x1] == scene.instances[i].id
    q = view.inverse_depth[y0:y1, x0:x1]
    used = rows[rows >= 0]
    u, v = np.arange(x0, x1)[None, :], np.arange(y0, y1)[:, None]
    distance = np.stack([np.abs(q - p[0] * u - p[1] * v - p[2]) for p in facets.plane[used]])
    nearest = distance.argmin(axis=0).astype(np.uint8)
    known = mask & (q > 0)
    if not known.any():
        return
    _, source = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    value_of = np.zeros(int(source.max()) + 1, dtype=np.uint8)
    value_of[source[known]] = nearest[known]
    smooth = cv2.medianBlur(value_of[source], config.smooth_px)
    labels[y0:y1, x0:x1][mask] = (used[smooth] + 1)[mask]


def _trim(view: View, scene: Scene, i: int, facets: Facets, config: FacetConfig, labels: NDArray[np.int32]) -> None:
    """Take from the faces of instance ``i`` what lies below their planes, and missing depth along the mask's edge: a
    side seen at a grazing angle has few pixels and little depth, too little for a face of its own. Edits ``labels``."""
    x0, y0, x1, y1 = view.box(scene.instances[i].bbox)
    box = (slice(y0, y1), slice(x0, x1))
    mask = view.labels[box] == scene.instances[i].id
    area = int(np.count_nonzero(mask))
    if area == 0:
        return
    q, faces = view.inverse_depth[box], labels[box]
    u = np.arange(x0, x1, dtype=np.float32)[None, :]
    v = np.arange(y0, y1, dtype=np.float32)[:, None]
    below = np.zeros(mask.shape, dtype=np.bool_)
    for row in np.flatnonzero(facets.instance == i):
        a, b, c = facets.plane[row].astype(np.float32)
        middle = float(a * (x0 + x1) / 2 + b * (y0 + y1) / 2 + c)
        tolerance = max(config.trim_sigmas * view.noise_pm, config.trim_m * middle**2)
        below |= (faces == row + 1) & (a * u + (b * v + np.float32(c - tolerance)) > q)
    missing = mask & (q == 0)
    below &= ~missing
    off = below.astype(np.uint8)
    if below.any():
        off = np.asarray(cv2.medianBlur(off, config.smooth_px), dtype=np.uint8)
    rim = missing & (view.edge_px[box] < 2.0)
    if rim.any():
        count, hole, stats, _ = cv2.connectedComponentsWithStats(missing.astype(np.uint8), connectivity=4)
        at_edge = np.zeros(count, dtype=np.uint8)
        at_edge[hole[rim]] = 1
        at_edge[stats[:, cv2.CC_STAT_AREA] < config.trim_hole_px] = 0
        at_edge[0] = 0
        off |= at_edge[hole]
    # Stereo smears an edge by its window: what is beside a side is not trusted either.
    taken = mask & (cv2.dilate(off, np.ones((config.smooth_px, config.smooth_px), dtype=np.uint8)) > 0)
    if np.count_nonzero(taken) <= config.trim_most * area:
        faces[taken] = 0
