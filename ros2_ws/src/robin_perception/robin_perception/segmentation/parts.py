"""Parts of one parcel that are seen on both sides of another, put together again.

Two masks are one parcel where a nearer one fills what lies between them, the network finds them alike, their outlines
go on along both lines that touch the two, and one plane fits both. Outlines that go on are what people join parts by
(Kellman and Shipley, A theory of visual interpolation in object perception, 1991). Tests run from cheap to dear.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robin_perception.core.config import StrictConfig
from robin_perception.core.scene import Instance
from robin_perception.segmentation.decode import Decoded

Floats = NDArray[np.float64]
_COLUMNS = 320  # what the tests look at is thinned to about so many
_MIN_AREA = 20  # pixels of the thinned picture
_ON_LINE, _FILLED = 32, 0.75  # points of the line between two parts, the share of them that a third one must have
_MIN_POINTS = 15  # with depth
_HYPOTHESES, _SAMPLES = 48, 150  # planes that are tried per pool of points, points of each part they are tried on
_FACE_NOISE_M = (0.003, 0.002)  # a face is flat within a + b z^2 metres, z its depth
_IN_FRONT = 0.85  # share of the cover that must lie before the parts' plane
_TOUCHING = 1.2  # of the smaller part's root area: parts that meet for longer are two parcels or a print


class PartsConfig(StrictConfig):
    """When two masks with a third one between them are one parcel."""

    enabled: bool = Field(True, description="Join the parts of a parcel that another one lies across.")
    min_likeness: float = Field(0.88, ge=-1, le=1, description="Least cosine of the two embeddings.")
    min_covered: float = Field(
        0.8, ge=0, le=1, description="Least share of what lies between the parts that one mask fills."
    )
    min_contact: float = Field(
        0.12,
        ge=0,
        le=2,
        description="How far each outline follows the two lines that touch both, over the smaller part's root area.",
    )
    min_one_plane: float = Field(
        0.95, ge=0, le=1, description="How well one plane fits both parts, over how well its own best fits each."
    )


class _Part:
    """One instance in the thinned picture."""

    def __init__(self, picture: _Picture, instance: Instance) -> None:
        self.instance = instance
        self.picture = picture

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        return np.asarray(self.picture.labels == self.instance.id)

    @cached_property
    def area(self) -> int:
        return int(np.count_nonzero(self.mask))

    @cached_property
    def hull(self) -> NDArray[np.int32]:
        """Corners [n, 2] (x, y)."""
        contours, _ = cv2.findContours(self.mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        return np.asarray(cv2.convexHull(np.concatenate(contours))[:, 0], dtype=np.int32)

    @cached_property
    def near(self) -> NDArray[np.bool_]:
        """The mask and two pixels around it."""
        return cv2.dilate(self.mask.view(np.uint8), np.ones((5, 5), np.uint8)).view(bool)

    @cached_property
    def distance(self) -> NDArray[np.float32]:
        """float32 [h, w]: pixels to the mask."""
        return np.asarray(cv2.distanceTransform((~self.mask).view(np.uint8), cv2.DIST_L2, 3), dtype=np.float32)

    @cached_property
    def points(self) -> Floats:
        """[n, 3], camera coordinates, metres."""
        return self.picture.points(self.mask)


@dataclass(frozen=True)
class _Picture:
    """Every ``step``th pixel of a frame: labels [h, w], depth in metres, K of those pixels."""

    labels: NDArray[np.uint16]
    depth: NDArray[np.float32]
    K: Floats
    step: int

    def points(self, mask: NDArray[np.bool_]) -> Floats:
        """[n, 3], camera coordinates, of the mask's pixels with depth, metres."""
        y, x = np.nonzero(mask & (self.depth > 0))
        z = self.depth[y, x].astype(np.float64)
        return np.stack([(x - self.K[0, 2]) / self.K[0, 0] * z, (y - self.K[1, 2]) / self.K[1, 1] * z, z], axis=1)


def with_parts_joined(
    decoded: Decoded, depth: NDArray[np.float32], K: NDArray[np.float64], config: PartsConfig
) -> Decoded:
    """``decoded`` with the masks of one parcel joined under the better one's scores. depth [H, W] in metres, 0 invalid,
    and K are those of its label image. What is joined is seen in part: its visible fraction counts what covers it."""
    count = len(decoded.instances)
    if not config.enabled or count < 3:
        return decoded
    step = max(1, round(depth.shape[1] / _COLUMNS))
    thinned = np.asarray(K, dtype=np.float64).copy()
    thinned[:2] /= step
    picture = _Picture(decoded.labels[::step, ::step], depth[::step, ::step], thinned, step)
    whole, covered = np.arange(count), np.zeros(count)  # the best part of each one's parcel; pixels, by best part
    for first, second, cover in _pairs([_Part(picture, i) for i in decoded.instances], config):
        best, other = sorted((whole[first], whole[second]))
        whole[whole == other] = best
        covered[best] += covered[other] * (other != best) + cover * step**2
    kept = np.unique(whole)
    if len(kept) == count:
        return decoded
    numbers = np.concatenate([[0], np.searchsorted(kept, whole) + 1]).astype(np.uint16)
    groups = ([decoded.instances[i] for i in np.flatnonzero(whole == best)] for best in kept)
    instances = tuple(_joined(parts, n + 1, covered[kept[n]]) for n, parts in enumerate(groups))
    candidates = tuple(decoded.candidates[i] for i in kept) if decoded.candidates else ()
    return replace(decoded, labels=numbers[decoded.labels], instances=instances, candidates=candidates)


def _joined(parts: list[Instance], number: int, covered: float) -> Instance:
    """The first of the parts, grown by the others. covered: pixels of what lies across them."""
    if len(parts) == 1:
        return replace(parts[0], id=number)
    boxes, area = np.array([part.bbox for part in parts]), sum(part.area_px for part in parts)
    x0, y0, x1, y1 = (int(value) for value in (*boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0)))
    visible = float(area / (area + covered))
    return replace(parts[0], id=number, bbox=(x0, y0, x1, y1), area_px=area, visible_fraction=visible)


def _pairs(parts: list[_Part], config: PartsConfig) -> Iterator[tuple[int, int, int]]:
    """Index of either part of a parcel, and how many pixels another one covers between them."""
    embeddings = np.stack([part.instance.embedding for part in parts])
    alike = np.argwhere(np.triu(embeddings @ embeddings.T >= config.min_likeness, k=1))
    for first, second in alike[_third_between(parts, alike)].tolist():
        a, b = parts[first], parts[second]
        cover = _cover(a, b, config) if min(a.area, b.area) >= _MIN_AREA else None
        if cover is None or np.count_nonzero(a.near & b.mask) > _TOUCHING * np.sqrt(min(a.area, b.area)):
            continue
        if _contact(a, b) >= config.min_contact and _one_plane(a, b, cover, config):
            yield first, second, int(np.count_nonzero(cover))


def _third_between(parts: list[_Part], pairs: NDArray[np.intp]) -> NDArray[np.bool_]:
    """bool [n]: on the line between the middles of the boxes of ``pairs`` [n, 2] lies a third mask, and hardly anything
    else. It leaves few pairs to look at closely."""
    picture = parts[0].picture
    boxes = np.array([part.instance.bbox for part in parts], dtype=np.float64) / picture.step
    ends = (boxes[:, :2] + boxes[:, 2:])[pairs] / 2
    x, y = np.moveaxis(ends[:, :1] + np.linspace(0, 1, _ON_LINE)[:, None] * (ends[:, 1:] - ends[:, :1]), 2, 0)
    (height, width), ids = picture.labels.shape, np.array([part.instance.id for part in parts])[pairs]
    on_line = picture.labels[y.astype(int).clip(0, height - 1), x.astype(int).clip(0, width - 1)]
    between = (on_line != ids[:, :1]) & (on_line != ids[:, 1:])
    there = on_line[:, :, None] == np.array([part.instance.id for part in parts])
    filled = (there & between[:, :, None]).sum(axis=1).max(axis=1, initial=0)
    return np.asarray((filled > 0) & (filled >= _FILLED * between.sum(axis=1)))


def _cover(a: _Part, b: _Part, config: PartsConfig) -> NDArray[np.bool_] | None:
    """Where one mask fills what lies between two others, bool [h, w]; None where no single one does."""
    hull = cv2.convexHull(np.concatenate([a.hull, b.hull]))
    x, y, width, height = cv2.boundingRect(hull)
    window = slice(y, y + height), slice(x, x + width)
    inside = np.zeros((height, width), np.uint8)
    cv2.fillConvexPoly(inside, hull - np.array([x, y], np.int32), (1,))
    labels = a.picture.labels[window]
    counts = np.bincount(labels[inside.view(bool)])
    counts[[a.instance.id, b.instance.id]] = 0
    filling = int(counts[1:].argmax()) + 1
    if counts[filling] < max(1.0, config.min_covered * counts.sum()):
        return None
    cover = np.zeros(a.mask.shape, bool)
    cover[window] = inside.view(bool) & (labels == filling)
    return cover


def _contact(a: _Part, b: _Part) -> float:
    """The shortest way that an outline goes along a line which touches both, over the smaller part's root area; 0 where
    there are not two such lines."""
    hull = cv2.convexHull(np.concatenate([a.hull, b.hull]))[:, 0]
    of_a = a.mask[hull[:, 1], hull[:, 0]]
    bridges = np.flatnonzero(of_a != np.roll(of_a, -1))
    if len(bridges) != 2:
        return 0.0
    unit, (height, width), ways = np.sqrt(min(a.area, b.area)), a.mask.shape, []
    for i in bridges:
        start, end = hull[i].astype(np.float64), hull[(i + 1) % len(hull)].astype(np.float64)
        length = max(float(np.hypot(*(end - start))), 1e-6)
        along = np.arange(-1.5 * unit, length + 1.5 * unit, 0.5)
        x, y = np.rint(start + along[:, None] * (end - start) / length).astype(int).T
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        x, y, slack = x[inside], y[inside], 1.0 + 0.02 * length
        ways += [0.5 * np.count_nonzero(part.distance[y, x] <= slack) / unit for part in (a, b)]
    return float(min(ways))


def _one_plane(a: _Part, b: _Part, cover: NDArray[np.bool_], config: PartsConfig) -> bool:
    """Whether one plane fits both as well as the best plane of each fits its own part, and what covers them lies before
    it. Planes are tried as in RANSAC (Fischler and Bolles 1981), drawn from one part, the other, and from both."""
    rng = np.random.default_rng(0)
    own, other, front = (_sample(part, rng) for part in (a.points, b.points, a.picture.points(cover)))
    if min(len(own), len(other)) < _MIN_POINTS or not len(front):
        return False
    noise = _FACE_NOISE_M[0] + _FACE_NOISE_M[1] * float(np.median(own[:, 2])) ** 2
    drawn = [pool[rng.integers(0, len(pool), (_HYPOTHESES, 3))] for pool in (own, other, np.concatenate([own, other]))]
    corners = np.concatenate(drawn)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    sizes = np.linalg.norm(normals, axis=1)
    wide = sizes > noise**2  # corners that lie too close together say nothing
    if not wide.any():
        return False
    normals = normals[wide] / sizes[wide, None]
    offsets = np.einsum("ij,ij->i", corners[wide, 0], normals)
    on = [(np.abs(points @ normals.T - offsets) < noise).mean(axis=0) for points in (own, other)]
    fit = np.minimum(*(share / max(float(share.max()), 1e-9) for share in on))
    best = int(fit.argmax())
    before = (front @ normals[best] - offsets[best]) * -np.sign(offsets[best]) > noise / 2  # the camera is at 0
    return bool(fit[best] >= config.min_one_plane and before.mean() >= _IN_FRONT)


def _sample(points: Floats, rng: np.random.Generator) -> Floats:
    return points[rng.permutation(len(points))[:_SAMPLES]]
