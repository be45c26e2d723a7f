"""Masks from clicks: one mask cut into several, several joined, a new one grown.

Where a cut runs is a matter of distance. Each pixel costs a little to cross, and an edge that the network, the depth or
the colour shows costs much. A pixel belongs to the click that is nearest by such ways (a geodesic Voronoi partition,
as in Bai and Sapiro, "Geodesic matting", 2009). Unlike a least cut it does not shrink to the shortest outline.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_view.annotate.hints import Found, Hints

Mask = NDArray[np.bool_]
Click = tuple[int, int]
"""x, y of a pixel."""
SEAM_PX = 7
_RIM_PX = 3.0
_EDGE = 15.0  # cost from which on a pixel is an edge
_EDGE_PX = 5  # by which what they enclose is too small
_MOST_OF_PICTURE, _DISC = 0.2, 0.04  # of a click without a proposal; radius as a share of the picture's width
_DIAGONAL = float(np.sqrt(2.0))
_NEIGHBOURS = ((0, 1, 1.0), (1, 0, 1.0), (1, 1, _DIAGONAL), (1, -1, _DIAGONAL))
_CORE = 0.5  # share of a proposal's largest inner distance from which on its pixels are certain
_LEAST_PART, _MOST_PART = 0.02, 0.9  # share of the cut mask that a proposal for a part of it takes
_SURE = 0.15  # of a proposal's score, below which it is no better than the click alone


def split(hints: Hints, mask: Mask, clicks: Sequence[Click]) -> list[Mask]:
    """Parts of ``mask`` bool [H, W], one for each click, in their order. One click alone cuts off the parcel that the
    network proposes there, or what lies around it; the rest is the second part. Clicks beside the mask count for the
    nearest pixel of it."""
    if not mask.any() or not clicks:
        return []
    clicks = [_onto(mask, click) for click in clicks]
    if len(clicks) == 1:
        return _cut_off(hints, mask, clicks[0])
    cores = [_core(hints, mask, click, [c for c in clicks if c != click]) for click in clicks]
    owner = _nearest(hints.cost, mask, cores)
    return [owner == number for number in range(1, len(cores) + 1)]


def join(masks: Sequence[Mask], free: Mask) -> Mask:
    """All of them as one. The seam between them is closed where it is ``free``, of no other mask."""
    union = np.logical_or.reduce(masks)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (SEAM_PX, SEAM_PX))
    closed = cv2.morphologyEx(union.astype(np.uint8), cv2.MORPH_CLOSE, kernel) > 0
    return np.asarray(union | (closed & free))


def grow(hints: Hints, free: Mask, click: Click) -> tuple[Mask, Found | None]:
    """A new mask around a click, of what is ``free``, and the proposal that it is made of: the network's likeliest one
    there. Without one it is what no edge parts from the click."""
    click = _onto(free, click)
    found = _best(hints, free, click, ())
    if found is not None:
        return _piece_at(found.mask & free, click), found
    return _enclosed(hints, free, click), None


def _enclosed(hints: Hints, free: Mask, click: Click) -> Mask:
    """What no edge parts from the click; where that is much of the picture, edges have gaps: a disc, then."""
    wall = cv2.dilate((hints.cost >= _EDGE).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    piece = _piece_at(_smooth(free & ~wall) | _spot(free.shape, click), click)
    if piece.mean() > _MOST_OF_PICTURE:
        disc = cv2.circle(np.zeros(free.shape, np.uint8), click, round(_DISC * free.shape[1]), 1, -1)
        return _piece_at((disc > 0) & free, click)
    wider = cv2.dilate(piece.astype(np.uint8), np.ones((_EDGE_PX, _EDGE_PX), np.uint8))
    return _piece_at((wider > 0) & free, click)


def _cut_off(hints: Hints, mask: Mask, click: Click) -> list[Mask]:
    found = _best(hints, mask, click, ())
    if found is not None:
        part = _piece_at(found.mask & mask, click)
        return [part, mask & ~part]
    spot = _spot(mask.shape, click)
    owner = _nearest(hints.cost, mask, [spot, _far_from(hints, mask, spot)])
    return [owner == 1, owner == 2]


def _onto(mask: Mask, click: Click) -> Click:
    x, y = (min(max(value, 0), size - 1) for value, size in zip(click, mask.shape[::-1], strict=True))
    if mask[y, x] or not mask.any():
        return x, y
    rows, columns = np.nonzero(mask)
    nearest = int(((columns - x) ** 2 + (rows - y) ** 2).argmin())
    return int(columns[nearest]), int(rows[nearest])


def _spot(shape: tuple[int, ...], click: Click) -> Mask:
    spot = np.zeros(shape, dtype=bool)
    spot[click[1], click[0]] = True
    return spot


def _core(hints: Hints, mask: Mask, click: Click, others: Sequence[Click]) -> Mask:
    """What surely belongs to a click: the middle of the network's proposal there, or the pixel alone."""
    spot = _spot(mask.shape, click)
    found = _best(hints, mask, click, others)
    if found is None:
        return spot
    inner = cv2.distanceTransform((found.mask & mask).astype(np.uint8), cv2.DIST_L2, 3)
    core = _piece_at((inner >= _CORE * inner.max()) | spot, click)
    return core if not any(core[y, x] for x, y in others) else spot


def _best(hints: Hints, mask: Mask, click: Click, others: Sequence[Click]) -> Found | None:
    """The likeliest proposal that holds the click and none of the others, and is a part of the mask."""
    area, best, score = int(mask.sum()), None, _SURE
    for found in hints.at(*click):
        inside = int((found.mask & mask).sum())
        if not _LEAST_PART * area <= inside <= _MOST_PART * area or any(found.mask[y, x] for x, y in others):
            continue
        value = found.score * inside / int(found.mask.sum())
        if value > score:
            best, score = found, value
    return best


def _far_from(hints: Hints, mask: Mask, core: Mask) -> Mask:
    """The pixel of the mask that is hardest to reach; not one of its rim, which is an edge itself."""
    inner = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    deep = mask & (inner > min(_RIM_PX, float(inner.max()) / 2))
    distances = np.where(deep, _distances(hints.cost, mask, [core])[0], -1.0)
    distances[~np.isfinite(distances)] = -1.0
    at = int(distances.argmax())
    return _spot(mask.shape, (at % mask.shape[1], at // mask.shape[1]))


def _nearest(cost: NDArray[np.float32], mask: Mask, cores: Sequence[Mask]) -> NDArray[np.int64]:
    """Number of the core, 1 first, that each pixel of the mask is nearest to; what no way leads to goes to the one that
    is nearest in the picture. 0 outside."""
    distances = _distances(cost, mask, cores)
    apart = ~np.isfinite(distances).any(axis=0) & mask
    if apart.any():
        for layer, core in zip(distances, cores, strict=True):
            straight = cv2.distanceTransform((~core).astype(np.uint8), cv2.DIST_L2, 3)
            layer[apart] = straight[apart]
    return np.where(mask, distances.argmin(axis=0) + 1, 0)


def _distances(cost: NDArray[np.float32], mask: Mask, cores: Sequence[Mask]) -> NDArray[np.float64]:
    """Cheapest way [cores, H, W] from each core to each pixel inside the mask; inf where there is none."""
    from scipy.sparse import coo_matrix  # 40 MB that a page without cuts does without
    from scipy.sparse.csgraph import dijkstra

    y0, y1, x0, x1 = _window(mask)
    inside, here = mask[y0:y1, x0:x1], cost[y0:y1, x0:x1]
    numbers = np.full(inside.shape, -1, dtype=np.int64)
    numbers[inside] = np.arange(int(inside.sum()))
    rows, columns, weights = [], [], []
    for dy, dx, length in _NEIGHBOURS:
        one, other = _shifted(numbers, dy, dx)
        both = (one >= 0) & (other >= 0)
        price = np.maximum(*_shifted(here, dy, dx)) * length
        rows.append(one[both])
        columns.append(other[both])
        weights.append(price[both])
    count = int(inside.sum())
    joined = (np.concatenate(rows), np.concatenate(columns))
    graph = coo_matrix((np.concatenate(weights), joined), shape=(count, count)).tocsr()
    found = np.full((len(cores), *mask.shape), np.inf)
    for layer, core in zip(found, cores, strict=True):
        starts = numbers[core[y0:y1, x0:x1] & inside]
        if len(starts):
            layer[y0:y1, x0:x1][inside] = dijkstra(graph, directed=False, indices=starts, min_only=True)
    return found


def _shifted(values: NDArray[Any], dy: int, dx: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Each pixel and its neighbour at (dy, dx)."""
    height, width = values.shape
    left, right = (slice(0, width - dx), slice(dx, width)) if dx >= 0 else (slice(-dx, width), slice(0, width + dx))
    return values[: height - dy, left], values[dy:, right]


def _window(mask: Mask) -> tuple[int, int, int, int]:
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return y, y + height, x, x + width


def _piece_at(mask: Mask, click: Click) -> Mask:
    """The connected piece that the click lies in."""
    _, pieces = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    number = pieces[click[1], click[0]]
    return np.asarray(pieces == number) if number else mask


def _smooth(mask: Mask) -> Mask:
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    return np.asarray(cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, kernel) > 0)
