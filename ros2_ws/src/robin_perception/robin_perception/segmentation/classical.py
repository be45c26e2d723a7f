"""The baseline without a network: region growing on surface normals, height steps and colour edges.

Foreground is what stands above the belt. Pixels where the surface bends, the height jumps or the colour changes are
walls; what the walls enclose are seeds, and a watershed on the wall strength gives every foreground pixel to a seed.
"""

from __future__ import annotations

import time

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from robin_perception.core.config import StrictConfig
from robin_perception.core.frame import Frame
from robin_perception.core.scene import CLASSES, Instance, Scene
from robin_perception.segmentation.view import letterbox


class ClassicalConfig(StrictConfig):
    """Lengths in metres, areas and distances in pixels of the working image (512 wide at most)."""

    belt_z_m: float = Field(0.0, ge=-5, le=5)
    min_height_m: float = Field(0.008, ge=0, le=0.2, description="lower than this is belt")
    smooth_px: float = Field(2.0, ge=0, le=20, description="sigma of the depth filter")
    baseline_px: int = Field(3, ge=1, le=20, description="distance over which bend and step are measured")
    step_m: float = Field(0.02, gt=0, le=0.2, description="height step that counts as a full edge")
    bend_rad: float = Field(1.1, gt=0, le=3, description="change of normal that counts as a full edge")
    colour_step: float = Field(60.0, gt=0, le=442, description="change of colour that counts as a full edge")
    colour_weight: float = Field(0.7, ge=0, le=1)
    wall: float = Field(0.5, gt=0, le=3, description="edge strength above which a pixel is a wall")
    seed_px: float = Field(4.0, ge=0, le=100, description="a seed is at least this far from its walls")
    merge_below: float = Field(0.7, ge=0, le=3, description="regions whose shared edge is weaker on average become one")
    min_area_px: float = Field(150.0, ge=0, le=100_000)


class ClassicalSegmenter:
    """Same interface as ``Segmenter.segment``. Scores are heuristics: how solid and how filled a region is."""

    model_id = "classical-region-growing"

    def __init__(self, config: ClassicalConfig | None = None) -> None:
        self.config = config or ClassicalConfig()

    def segment(self, frame: Frame) -> Scene:
        """Frame to Scene. Raises RobinError for a frame that cannot be used."""
        start = time.perf_counter()
        frame = frame.validated()
        box = letterbox((frame.width, frame.height), (512, max(1, round(512 * frame.height / frame.width))))
        rgb, depth, k = box.rgb(frame.rgb), box.depth(frame.depth), box.intrinsics(frame.K)
        points, valid = _points(_filled(depth), k), depth > 0
        height = _blurred(points @ frame.belt_plane(self.config.belt_z_m)[:3], self.config.smooth_px)
        height = height + frame.belt_plane(self.config.belt_z_m)[3]
        strength = self._edges(points, height, rgb)
        small = self._regions(height, strength, valid)
        labels = np.asarray(cv2.resize(small, (frame.width, frame.height), interpolation=cv2.INTER_NEAREST), np.uint16)
        instances = _instances(labels, strength, small)
        boundary = np.clip(strength, 0, 1).astype(np.float32)
        elapsed = (time.perf_counter() - start) * 1e3
        return Scene(frame.stamp_s, self.model_id, labels, instances, boundary, frame.gate.flags, {"segment": elapsed})

    def _edges(
        self, points: NDArray[np.float32], height: NDArray[np.float32], rgb: NDArray[np.uint8]
    ) -> NDArray[np.float32]:
        """Edge strength [h, w]; 1 is a full edge of one kind."""
        config = self.config
        normals = _normals(np.dstack([_blurred(points[..., i], config.smooth_px) for i in range(3)]))
        bend, step = np.zeros(height.shape, dtype=np.float32), np.zeros(height.shape, dtype=np.float32)
        half = (config.baseline_px + 1) // 2
        for axis in (0, 1):
            before, after = np.roll(normals, half, axis), np.roll(normals, -half, axis)
            bend = np.maximum(bend, np.arccos((before * after).sum(axis=2).clip(-1, 1)))
            step = np.maximum(step, np.abs(np.roll(height, half, axis) - np.roll(height, -half, axis)))
        lab = np.asarray(cv2.GaussianBlur(cv2.cvtColor(rgb, cv2.COLOR_RGB2Lab), (0, 0), 1.2), dtype=np.float32)
        colour = np.zeros(height.shape, dtype=np.float32)
        for i in range(3):
            colour = np.maximum(colour, _gradient(lab[..., i]) * 2)
        solid = np.maximum(step / config.step_m, bend / config.bend_rad)
        return np.asarray(solid + config.colour_weight * np.minimum(colour / config.colour_step, 1), dtype=np.float32)

    def _regions(
        self, height: NDArray[np.float32], strength: NDArray[np.float32], valid: NDArray[np.bool_]
    ) -> NDArray[np.uint16]:
        config = self.config
        near_depth = cv2.dilate(valid.view(np.uint8), np.ones((5, 5), np.uint8)) > 0
        above = np.asarray((height > config.min_height_m) & near_depth, dtype=np.bool_)
        inside = above & (strength < config.wall)
        clear = cv2.distanceTransform(inside.view(np.uint8), cv2.DIST_L2, 5)
        count, seeds = cv2.connectedComponents((clear > config.seed_px).view(np.uint8))
        if count < 2:
            return np.zeros(height.shape, dtype=np.uint16)
        markers = np.where(above, seeds, count).astype(np.int32)
        level = (np.clip(strength, 0, 2) * 127).astype(np.uint8)
        grown = cv2.watershed(np.dstack([level] * 3), markers)
        grown = np.where(grown == count, 0, grown)
        # Watershed leaves lines of -1 between regions: they go to a neighbour.
        grown = np.where(grown < 0, ndimage.grey_dilation(grown, size=3), grown)
        regions = _merged(np.where(above, grown, 0), strength, config.merge_below)
        areas = np.bincount(regions.ravel())
        keep = (areas >= config.min_area_px) & (np.arange(len(areas)) > 0)
        table: NDArray[np.uint16] = np.where(keep, np.cumsum(keep), 0).astype(np.uint16)
        return np.asarray(table[regions])


def _merged(regions: NDArray[np.int64], strength: NDArray[np.float32], below: float) -> NDArray[np.int64]:
    """Regions [h, w] with neighbours joined whose shared edge has a mean strength under ``below``."""
    count = int(regions.max()) + 1
    pairs, weights = [], []
    for axis in (0, 1):
        n = regions.shape[axis]
        a, b = np.take(regions, range(n - 1), axis), np.take(regions, range(1, n), axis)
        edge = np.maximum(np.take(strength, range(n - 1), axis), np.take(strength, range(1, n), axis))
        meet = (a != b) & (a > 0) & (b > 0)
        pairs.append(np.minimum(a, b)[meet] * count + np.maximum(a, b)[meet])
        weights.append(edge[meet])
    pair, index = np.unique(np.concatenate(pairs), return_inverse=True)
    mean = np.bincount(index, np.concatenate(weights)) / np.maximum(np.bincount(index), 1)
    weak = pair[mean < below]
    graph = coo_matrix((np.ones(len(weak)), (weak // count, weak % count)), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1][regions], dtype=np.int64)


def _filled(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Depth with each hole given its nearest valid value."""
    if (depth > 0).all():
        return depth
    index = ndimage.distance_transform_edt(depth <= 0, return_distances=False, return_indices=True)
    return np.asarray(depth[tuple(index)])


def _points(depth: NDArray[np.float32], k: NDArray[np.float32]) -> NDArray[np.float32]:
    v, u = np.mgrid[: depth.shape[0], : depth.shape[1]].astype(np.float32)
    return np.dstack([(u - k[2]) / k[0] * depth, (v - k[3]) / k[1] * depth, depth]).astype(np.float32)


def _blurred(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Smoothed, with a median first that takes out single outliers."""
    clean = cv2.medianBlur(np.ascontiguousarray(image, dtype=np.float32), 5)
    return np.asarray(cv2.GaussianBlur(clean, (0, 0), sigma) if sigma > 0 else clean)


def _normals(points: NDArray[np.float32]) -> NDArray[np.float32]:
    across = np.roll(points, -2, 1) - np.roll(points, 2, 1)
    down = np.roll(points, -2, 0) - np.roll(points, 2, 0)
    normals = np.cross(across, down)
    return np.asarray(normals / np.maximum(np.linalg.norm(normals, axis=2, keepdims=True), 1e-12), dtype=np.float32)


def _gradient(image: NDArray[np.float32]) -> NDArray[np.float32]:
    gx = cv2.Sobel(image, cv2.CV_32F, 1, 0, ksize=3, scale=0.125)
    gy = cv2.Sobel(image, cv2.CV_32F, 0, 1, ksize=3, scale=0.125)
    return np.asarray(cv2.magnitude(gx, gy))


def _instances(
    labels: NDArray[np.uint16], strength: NDArray[np.float32], small: NDArray[np.uint16]
) -> tuple[Instance, ...]:
    """Instances with heuristic scores: convex regions that are quiet inside are likely whole parcels."""
    uniform = np.full(len(CLASSES), 1 / len(CLASSES), dtype=np.float32)
    scale = labels.shape[1] / small.shape[1]
    found = []
    for index, place in enumerate(ndimage.find_objects(labels.astype(np.int32)), start=1):
        mask = labels[place] == index
        contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        outline = np.concatenate(contours)
        area = int(mask.sum())
        solidity = min(1.0, area / max(cv2.contourArea(cv2.convexHull(outline)), 1.0))
        quiet = 1.0 - float(np.clip(strength[small == index], 0, 1).mean())
        score = float(np.clip(solidity * quiet, 0.01, 0.99))
        rows, columns = place
        box = (columns.start, rows.start, columns.stop, rows.stop)
        embedding = np.full(16, 0.25, dtype=np.float32)
        found.append(Instance(index, box, area, uniform, score, score, 1.0, 2.0 * scale, embedding))
    return tuple(found)
