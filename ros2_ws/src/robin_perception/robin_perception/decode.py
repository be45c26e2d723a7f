"""Instance tensors of the network to a label image at frame size and its instances.

Order of work: calibrate scores, threshold, clean masks on the coarse grid, remove duplicates (one matrix product), drop
what better masks cover, then interpolate each mask's logits to frame pixels inside its box, threshold there, and give
each contested pixel to the mask that is surest of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robin_perception.bundle import CalibrationTables
from robin_perception.config import StrictConfig
from robin_perception.letterbox import Letterbox
from robin_perception.scene import Instance

# A logit that is linear across an edge with slope g per pixel is a logistic distribution of the edge's place with scale
# 1/g, whose standard deviation is pi / (sqrt(3) g).
_LOGISTIC_SIGMA = float(np.pi / np.sqrt(3.0))


class DecodeConfig(StrictConfig):
    """What counts as an instance.

    detection_threshold: calibrated probability; None takes the bundle's.
    duplicate_iou: of two masks that overlap more than this the one with the lower detection x quality goes.
    min_kept_fraction: share of its own mask an instance must keep against better ones.
    min_fragment_fraction: pieces smaller than this share of the largest piece are cut off.
    min_area_px: network pixels.
    """

    detection_threshold: float | None = Field(None, ge=0, le=1)
    duplicate_iou: float = Field(0.55, gt=0, le=1)
    min_kept_fraction: float = Field(0.4, ge=0, le=1)
    min_fragment_fraction: float = Field(0.2, ge=0, le=1)
    min_area_px: float = Field(60.0, ge=0, le=100_000)
    min_boundary_uncertainty_px: float = Field(0.3, ge=0, le=20, description="network pixels; grid and label noise")


@dataclass(frozen=True)
class Scores:
    """Calibrated scores of all K candidates, float32 [K] and [K, classes]."""

    detection: NDArray[np.float32]
    mask_quality: NDArray[np.float32]
    visible_fraction: NDArray[np.float32]
    class_probabilities: NDArray[np.float32]

    @property
    def rank(self) -> NDArray[np.float32]:
        """What candidates are ordered by: P(there is one parcel) x expected IoU of its mask."""
        return self.detection * self.mask_quality


@dataclass(frozen=True)
class Decoded:
    """labels uint16 [H, W]; instances by falling rank; candidates: index of each instance's row in the network's tensors."""

    labels: NDArray[np.uint16]
    instances: tuple[Instance, ...]
    candidates: tuple[int, ...]
    truncated: bool


def calibrated(raw: dict[str, NDArray[Any]], tables: CalibrationTables) -> Scores:
    """Apply the manifest's calibration to the network's scores."""
    classes = np.power(np.maximum(raw["class_probabilities"], 1e-9), 1.0 / tables.class_temperature)
    return Scores(
        tables.detection.apply(raw["detection"]),
        tables.mask_quality.apply(raw["mask_quality"]),
        tables.visible_fraction.apply(raw["visible_fraction"]),
        (classes / classes.sum(axis=1, keepdims=True)).astype(np.float32),
    )


def decode(
    raw: dict[str, NDArray[Any]], box: Letterbox, tables: CalibrationTables, threshold: float, config: DecodeConfig
) -> Decoded:
    """Instances of one frame. ``raw``: the network's instance tensors. ``threshold`` is used where the config has none."""
    scores = calibrated(raw, tables)
    threshold = threshold if config.detection_threshold is None else config.detection_threshold
    found = np.flatnonzero(scores.detection >= threshold)
    truncated = len(found) == len(scores.detection)
    order = found[np.argsort(-scores.rank[found], kind="stable")]
    logits = raw["mask_logits"][order]
    keep = clean_fragments(logits, config.min_fragment_fraction) * box.stride**2 >= config.min_area_px
    order, logits = order[keep], logits[keep]
    rank = scores.rank[order]
    keep = distinct(logits, rank, config)
    order, logits, rank = order[keep], logits[keep], rank[keep]
    labels, boxes, areas = paint(logits, rank, box)
    min_area = config.min_area_px / float(box.scale.prod())
    kept = [i for i, area in enumerate(areas) if area >= min_area]
    labels = _renumbered(labels, kept, len(areas))
    sigma = box_scaled_uncertainty(logits[kept], box, tables.boundary_scale, config.min_boundary_uncertainty_px)
    instances = tuple(
        _instance(new_id + 1, boxes[i], areas[i], int(order[i]), scores, raw["embedding"], sigma[new_id])
        for new_id, i in enumerate(kept)
    )
    return Decoded(labels, instances, tuple(int(order[i]) for i in kept), truncated)


def clean_fragments(logits: NDArray[np.float32], min_fraction: float) -> NDArray[np.int64]:
    """Turn pieces below ``min_fraction`` of a mask's largest piece to background, in place. Returns areas in cells [n].

    Several pieces may stay: a tube across a carton cuts it in two.
    """
    areas = np.zeros(len(logits), dtype=np.int64)
    for i, grid in enumerate(logits):
        count, pieces, stats, _ = cv2.connectedComponentsWithStats((grid > 0).view(np.uint8), connectivity=4)
        sizes = stats[1:, cv2.CC_STAT_AREA]
        if count > 2:
            small = np.flatnonzero(sizes < min_fraction * sizes.max()) + 1
            if len(small):
                np.negative(grid, out=grid, where=np.isin(pieces, small))
                sizes = np.delete(sizes, small - 1)
        areas[i] = sizes.sum()
    return areas


def distinct(logits: NDArray[np.float32], rank: NDArray[np.float32], config: DecodeConfig) -> NDArray[np.intp]:
    """Rows to keep of ``logits`` [n, h, w], ordered by falling ``rank``: no duplicates, nothing that better masks cover."""
    flat = logits.reshape(len(logits), -1)
    masks = (flat > 0).astype(np.float32)
    shared = masks @ masks.T
    area = np.diag(shared)
    iou = shared / np.maximum(area[:, None] + area[None, :] - shared, 1.0)
    alive = np.ones(len(logits), dtype=bool)
    for i in range(len(logits)):
        if alive[i]:
            alive[i + 1 :] &= iou[i, i + 1 :] <= config.duplicate_iou
    kept = np.flatnonzero(alive)
    if not len(kept):
        return kept
    # Who holds a cell: only masks that overlap another need to be compared.
    sure = np.where(masks[kept] > 0, flat[kept] + _bias(rank[kept])[:, None], -np.inf)
    holder = sure.argmax(axis=0)
    held = np.bincount(holder[masks[kept].any(axis=0)], minlength=len(kept))
    return kept[held >= config.min_kept_fraction * area[kept]]


def paint(
    logits: NDArray[np.float32], rank: NDArray[np.float32], box: Letterbox
) -> tuple[NDArray[np.uint16], list[tuple[int, int, int, int]], list[int]]:
    """Label image uint16 [H, W] (row i of ``logits`` has label i + 1), tight boxes and areas, in frame pixels.

    Logits are interpolated before they are thresholded; a contested pixel goes to the highest logit + log(rank), that is
    to the best product of odds and rank.
    """
    width, height = box.frame_size
    labels = np.zeros((height, width), dtype=np.uint16)
    best = np.full((height, width), -np.inf, dtype=np.float32)
    windows = []
    for i, (grid, bias) in enumerate(zip(logits, _bias(rank), strict=True)):
        cells, pixels = _window(grid, box)
        windows.append(pixels)
        fine = (box.rows[pixels[0], cells[0]] @ grid[cells]) @ box.columns[pixels[1], cells[1]].T
        inside = fine > 0
        fine += bias
        inside &= fine > best[pixels]
        np.copyto(best[pixels], fine, where=inside)
        np.copyto(labels[pixels], np.uint16(i + 1), where=inside)
    boxes, areas = [], []
    for i, pixels in enumerate(windows):
        tight, area = _extent(labels[pixels] == i + 1, pixels)
        boxes.append(tight)
        areas.append(area)
    return labels, boxes, areas


def box_scaled_uncertainty(
    logits: NDArray[np.float32], box: Letterbox, boundary_scale: float, floor_px: float
) -> NDArray[np.float32]:
    """1-sigma of each mask's edge in frame pixels, float32 [n], from the slope of the logits across it.

    ``boundary_scale`` is the calibration's measured factor; ``floor_px`` is in network pixels.
    """
    per_network_px = 1.0 / float(np.sqrt(box.scale.prod()))
    sigma = np.zeros(len(logits), dtype=np.float32)
    for i, grid in enumerate(logits):
        mask = (grid > 0).view(np.uint8)
        edge = mask != cv2.erode(mask, None, borderType=cv2.BORDER_CONSTANT, borderValue=1)
        if not edge.any():
            continue
        gx = cv2.Sobel(grid, cv2.CV_32F, 1, 0, ksize=3, scale=0.125)
        gy = cv2.Sobel(grid, cv2.CV_32F, 0, 1, ksize=3, scale=0.125)
        slope = float(np.median(np.hypot(gx[edge], gy[edge])))
        sigma[i] = _LOGISTIC_SIGMA * box.stride / max(slope, 1e-3)
    return np.maximum(sigma * boundary_scale, floor_px) * np.float32(per_network_px)


def _bias(rank: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.log(np.maximum(rank, 1e-4)).astype(np.float32)


def _window(grid: NDArray[np.float32], box: Letterbox) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Cells around a mask with one cell of margin, and the frame pixels they cover."""
    mask = grid > 0
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    cells, pixels = [], []
    for axis, hits in ((1, ys), (0, xs)):
        low, high = max(int(hits[0]) - 1, 0), min(int(hits[-1]) + 2, grid.shape[1 - axis])
        # Pixels that interpolate between the outermost cells of the window, and nothing beyond them.
        first, last = ((np.array([low, high - 1]) + 0.5) * box.stride - box.pad[axis]) / box.scale[axis] - 0.5
        size = box.frame_size[axis]
        start = 0 if low == 0 else int(np.clip(np.ceil(first), 0, size))
        stop = size if high == grid.shape[1 - axis] else int(np.clip(np.floor(last) + 1, start, size))
        cells.append(slice(low, high))
        pixels.append(slice(start, stop))
    return (cells[0], cells[1]), (pixels[0], pixels[1])


def _extent(mask: NDArray[np.bool_], window: tuple[slice, slice]) -> tuple[tuple[int, int, int, int], int]:
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    y, x = window[0].start, window[1].start
    if not len(ys):
        return (x, y, x, y), 0
    return (x + int(xs[0]), y + int(ys[0]), x + int(xs[-1]) + 1, y + int(ys[-1]) + 1), int(np.count_nonzero(mask))


def _renumbered(labels: NDArray[np.uint16], kept: list[int], count: int) -> NDArray[np.uint16]:
    if len(kept) == count:
        return labels
    table = np.zeros(count + 1, dtype=np.uint16)
    table[np.array(kept, dtype=np.intp) + 1] = np.arange(1, len(kept) + 1)
    return np.asarray(table[labels])


def _instance(
    instance_id: int,
    bbox: tuple[int, int, int, int],
    area: int,
    row: int,
    scores: Scores,
    embeddings: NDArray[np.float32],
    sigma: float,
) -> Instance:
    embedding = embeddings[row]
    return Instance(
        id=instance_id,
        bbox=bbox,
        area_px=area,
        class_probabilities=scores.class_probabilities[row],
        detection=float(scores.detection[row]),
        mask_quality=float(scores.mask_quality[row]),
        visible_fraction=float(scores.visible_fraction[row]),
        boundary_uncertainty_px=float(sigma),
        embedding=(embedding / max(float(np.linalg.norm(embedding)), 1e-9)).astype(np.float32),
    )
