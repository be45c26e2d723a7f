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

from robin_grasp.planner.fit import FacetFit, PlannerFit
from robin_grasp.planner.rows import Rows
from robin_grasp.planner.surface import Floats, Ints, View, edge_distance
from robin_perception.core.scene import Scene

HYPOTHESES = 16
REFINEMENTS = 3


@dataclass(frozen=True)
class Facets:
    """Faces of a scene's parcels, R rows. instance [R]: index into ``Scene.instances``; plane [R, 3]: q = a u + b v +
    c, 1/m over working pixels; inverse_depth_rms [R]: its residual, 1/m. The row of a pixel is its value in
    ``View.labels`` minus one."""

    instance: Ints
    plane: Floats
    inverse_depth_rms: Floats


@dataclass(frozen=True)
class _Samples(Rows):
    """Up to K valid pixels per instance: u, v, q [I, K]; given [I, K] bool. products [I, K, 9]: of
    (du, dv, 1) with one another and with q, whose weighted sums make a least-squares plane. offsets: float32 [I, 4, K],
    du, dv, 1 and dq; du, dv and dq are u, v and q less those of ``centre`` [I, 3]."""

    u: Floats
    v: Floats
    q: Floats
    given: NDArray[np.bool_]
    centre: Floats
    products: Floats
    offsets: NDArray[np.float32]


def split_faces(view: View, scene: Scene, fit: PlannerFit) -> tuple[View, Facets]:
    """The view with ``labels`` numbering faces instead of instances, edges between faces counted as edges, and the
    faces. Parcels of the view that are not in ``scene`` have the number after the last face."""
    samples = _sample(view, scene, fit.surface.plane_samples)
    may_split = _box_probability(scene, fit) >= fit.facets.least_box_probability
    planes, rms, accepted = _find_planes(view, samples, may_split, fit.facets)
    instance, number = np.nonzero(accepted)
    row = np.full(accepted.shape, -1)
    row[instance, number] = np.arange(len(instance))
    facets = Facets(instance, planes[instance, number], rms[instance, number])
    ids = np.array([i.id for i in scene.instances], dtype=np.int64)
    face_of = np.full(int(view.labels.max(initial=0)) + 1, len(instance) + 1, dtype=np.int32)
    face_of[0] = 0
    face_of[ids[ids < len(face_of)]] = row[ids < len(face_of), 0] + 1
    labels = face_of.take(view.labels)
    for i in np.flatnonzero(accepted[:, 1:].any(axis=1)):
        _assign(view, scene, int(i), row[i], facets, fit.facets, labels)
    for i in np.flatnonzero(may_split):
        _trim(view, scene, int(i), facets, fit.facets, labels)
    return replace(view, labels=labels, edge_px=edge_distance(labels)), facets


def _box_probability(scene: Scene, fit: PlannerFit) -> NDArray[np.float32]:
    """P(a parcel is of a box-shaped class), [I]."""
    box = fit.of_classes(scene.class_names).box
    classes = np.array([instance.class_probabilities for instance in scene.instances]).reshape(-1, len(box))
    return np.asarray(classes[:, box].sum(axis=1))


def _sample(view: View, scene: Scene, keep: int) -> _Samples:
    count = len(scene.instances)
    u, v, q = (np.zeros((count, keep)) for _ in range(3))
    given = np.zeros((count, keep), dtype=bool)
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
    centre = np.stack([u.sum(axis=1), v.sum(axis=1), q.sum(axis=1)], axis=1) / np.maximum(given.sum(axis=1), 1)[:, None]
    du, dv, dq = u - centre[:, :1], v - centre[:, 1:2], q - centre[:, 2:]
    products = np.empty((count, keep, 9))
    for k, product in enumerate((du * du, du * dv, dv * dv, du, dv, 1.0, du * q, dv * q, q)):
        products[..., k] = product
    offsets = np.stack([du, dv, np.ones_like(du), dq], axis=1).astype(np.float32)
    return _Samples(u, v, q, given, centre, products, offsets)


def _find_planes(
    view: View, samples: _Samples, may_split: NDArray[np.bool_], fit: FacetFit
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
        guess = _best_hypothesis(view, some, some_left, fit)
        plane, scale = _refine(view, some, some_left, guess, fit)
        near = some_left & (
            np.abs(_residual(some, plane)) < fit.inlier_sigmas * np.maximum(scale, view.inverse_depth_noise)[:, None]
        )
        axis = view.plane_axes(plane)
        planes[rows, number], rms[rows, number], axes[rows, number] = plane, scale, axis
        if number == 0:
            accepted[:, 0] = True
        else:
            apart = np.ones(len(rows), dtype=bool)
            for before in range(number):
                cosine = np.einsum("ik,ik->i", axis, axes[rows, before])
                apart &= ~accepted[rows, before] | (cosine < np.cos(fit.least_angle_rad))
            large = near.sum(axis=1) >= np.maximum(fit.least_share * total[rows], fit.least_samples)
            accepted[rows, number] = apart & large
        left[rows] = some_left & ~near
        rows = np.flatnonzero(may_split & (left.sum(axis=1) >= fit.least_samples))
        if not len(rows):
            break
    return planes, rms, accepted


def _residual(samples: _Samples, plane: Floats) -> Floats:
    return np.asarray(samples.q - plane[:, :1] * samples.u - plane[:, 1:2] * samples.v - plane[:, 2:])


def _best_hypothesis(view: View, samples: _Samples, left: NDArray[np.bool_], fit: FacetFit) -> Floats:
    """[I, 3]: the window plane that most of the samples in ``left`` agree with."""
    count = len(samples.u)
    order = np.argsort(~left, axis=1, kind="stable")
    amount = left.sum(axis=1)
    spread = np.floor((np.arange(HYPOTHESES) + 0.5) / HYPOTHESES * amount[:, None]).astype(np.int64)
    picked = np.take_along_axis(order, np.minimum(spread, samples.u.shape[1] - 1), axis=1)
    u, v = np.take_along_axis(samples.u, picked, axis=1), np.take_along_axis(samples.v, picked, axis=1)
    q = np.take_along_axis(samples.q, picked, axis=1)
    flat, _ = view.pixel(u, v)
    half = np.minimum(0.7 * view.edge_px.ravel()[flat], fit.window_m * q * view.fx)
    fits = view.fit(u, v, np.maximum(half, 3.0))
    c = fits.q - fits.a * fits.u - fits.b * fits.v
    # The mask's least-squares plane is a hypothesis too: on curved parcels no window's plane fits better.
    whole = _weighted(samples, left.astype(np.float64))
    a = np.concatenate([fits.a, whole[:, :1]], axis=1)
    b = np.concatenate([fits.b, whole[:, 1:2]], axis=1)
    c = np.concatenate([c, whole[:, 2:]], axis=1)
    # Single precision is enough to compare hypotheses; coordinates are taken from the mask's middle for it.
    tolerance = fit.inlier_sigmas * view.inverse_depth_noise
    middle = a * samples.centre[:, :1] + b * samples.centre[:, 1:2] + c - samples.centre[:, 2:]
    planes = (np.stack([a, b, middle, np.full_like(a, -1.0)], axis=2) / tolerance).astype(np.float32)
    residual = planes @ samples.offsets
    np.square(residual, out=residual)
    agreement = np.maximum(np.float32(1.0) - residual, np.float32(0.0))
    best = (agreement @ left.astype(np.float32)[..., None])[..., 0].argmax(axis=1)
    rows = np.arange(count)
    return np.stack([a[rows, best], b[rows, best], c[rows, best]], axis=1)


def _weighted(samples: _Samples, weight: Floats) -> Floats:
    """Weighted least-squares planes [I, 3]."""
    sums = (weight[:, None] @ samples.products)[:, 0]
    normal = sums[:, [[0, 1, 3], [1, 2, 4], [3, 4, 5]]] + np.diag([1e-6, 1e-6, 1e-9])
    solved = np.linalg.solve(normal, sums[:, 6:, None])[..., 0]
    solved[:, 2] -= solved[:, 0] * samples.centre[:, 0] + solved[:, 1] * samples.centre[:, 1]
    return np.asarray(solved)


def _refine(
    view: View, samples: _Samples, left: NDArray[np.bool_], plane: Floats, fit: FacetFit
) -> tuple[Floats, Floats]:
    """Tukey-weighted refinement from a start near the answer: planes [I, 3] and the residual's scale [I], 1/m."""
    scale = np.full(len(plane), 1.5 * view.inverse_depth_noise)
    residual = np.where(left, np.abs(_residual(samples, plane)), np.inf)
    for _ in range(REFINEMENTS):
        ratio = np.minimum(residual / (fit.inlier_sigmas * 1.3 * scale[:, None]), 1.0)
        weight = left * (1.0 - ratio**2) ** 2
        plane = np.where(weight.sum(axis=1, keepdims=True) > 6.0, _weighted(samples, weight), plane)
        residual = np.where(left, np.abs(_residual(samples, plane)), np.inf)
        inside = residual < fit.inlier_sigmas * scale[:, None]
        spread = np.sqrt((np.where(inside, residual, 0.0) ** 2).sum(axis=1) / np.maximum(inside.sum(axis=1), 1))
        scale = np.clip(spread, 0.7 * view.inverse_depth_noise, 4.0 * view.inverse_depth_noise)
    return plane, scale


def _assign(
    view: View, scene: Scene, i: int, rows: Ints, facets: Facets, fit: FacetFit, labels: NDArray[np.int32]
) -> None:
    """Give every pixel of instance ``i`` to its nearest plane; pixels without depth go with their neighbours."""
    x0, y0, x1, y1 = view.box(scene.instances[i].bbox)
    mask = view.labels[y0:y1, x0:x1] == scene.instances[i].id
    q = view.inverse_depth[y0:y1, x0:x1]
    used = rows[rows >= 0]
    known = mask & (q > 0)
    if not known.any():
        return
    _, source = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    known_px = np.flatnonzero(known)
    value_of = np.zeros(int(source.max()) + 1, dtype=np.uint8)
    value_of[source.take(known_px)] = _nearest(q, (x0, y0), facets.plane[used]).take(known_px)
    number = np.asarray(value_of.take(source), dtype=np.uint8)
    smooth = _median(number, fit.smooth_px)
    np.copyto(labels[y0:y1, x0:x1], (used + 1).astype(np.int32).take(smooth), where=mask)


def _nearest(q: NDArray[np.float32], corner: tuple[int, int], planes: Floats) -> NDArray[np.uint8]:
    """Which of the planes [n, 3] lies nearest to each pixel of a crop whose first pixel is ``corner``: uint8 [h, w]."""
    u, v = np.arange(q.shape[1]) + corner[0], (np.arange(q.shape[0]) + corner[1])[:, None]
    nearest, least = np.zeros(q.shape, dtype=np.uint8), np.full(q.shape, np.inf)
    for number, (a, b, c) in enumerate(planes):
        distance = q - a * u
        distance -= b * v
        distance -= c
        np.abs(distance, out=distance)
        nearest[distance < least] = number
        np.minimum(least, distance, out=least)
    return nearest


def _median(numbers: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Median filter; of an image of zeros and ones it is a count, several times as fast."""
    if numbers.max() > 1:
        return np.asarray(cv2.medianBlur(numbers, size), dtype=np.uint8)
    count = cv2.boxFilter(numbers, -1, (size, size), normalize=False, borderType=cv2.BORDER_REPLICATE)
    return (count > size * size // 2).view(np.uint8)


def _trim(view: View, scene: Scene, i: int, facets: Facets, fit: FacetFit, labels: NDArray[np.int32]) -> None:
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
        tolerance = max(fit.trim_sigmas * view.inverse_depth_noise, fit.trim_m * middle**2)
        below |= (faces == row + 1) & (a * u + (b * v + np.float32(c - tolerance)) > q)
    missing = mask & (q == 0)
    below &= ~missing
    off = _median(below.view(np.uint8), fit.smooth_px)
    rim = np.flatnonzero(missing & (view.edge_px[box] < 2.0))
    if len(rim):
        count, hole = cv2.connectedComponents(missing.view(np.uint8), connectivity=4)
        at_edge = np.zeros(count, dtype=np.uint8)
        at_edge[hole.take(rim)] = 1
        at_edge[np.bincount(hole.ravel(), minlength=count) < fit.trim_hole_px] = 0
        at_edge[0] = 0
        off |= at_edge.take(hole)
    # Stereo smears an edge by its window: what is beside a side is not trusted either.
    taken = mask & (cv2.dilate(off, np.ones((fit.smooth_px, fit.smooth_px), dtype=np.uint8)) > 0)
    if np.count_nonzero(taken) <= fit.trim_most * area:
        faces[taken] = 0
