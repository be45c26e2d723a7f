"""Instance tensors of the network to a label image at frame size and its instances.

Order of work: calibrate scores, threshold, clean masks on the coarse grid, leave out those where the picture has no
depth, remove duplicates (one matrix product), drop what better masks cover, then interpolate each mask's logits to
frame pixels inside its box, by way of a filter that brings its edges to those of the image (``refine``), threshold
there, and give each contested pixel to the mask that is surest of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robin_perception.core.config import StrictConfig
from robin_perception.core.scene import Instance
from robin_perception.model.bundle import CalibrationTables
from robin_perception.segmentation.mask_grid import MaskGrid, Window, mask_grid, paint
from robin_perception.segmentation.refine import Guide, RefineConfig, refined
from robin_perception.segmentation.view import Box, Letterbox

# A logit that is linear across an edge with slope g per pixel is a logistic distribution of the edge's place with scale
# 1/g, whose standard deviation is pi / (sqrt(3) g).
_LOGISTIC_SIGMA = float(np.pi / np.sqrt(3.0))
_NO_DEPTH = 0.1  # valid share of a mask that counts as none
_NO_DEPTH_AROUND = 0.05  # valid share of its surroundings that counts as none
_AROUND_CELLS = 2  # of the mask grid


class DecodeConfig(StrictConfig):
    """What counts as an instance."""

    detection_threshold: float | None = Field(
        None, ge=0, le=1, description="Least calibrated probability of an instance; unset takes the bundle's."
    )
    duplicate_iou: float = Field(
        0.55,
        gt=0,
        le=1,
        description="Of two masks that overlap more than this, the one with the lower detection x quality goes.",
    )
    min_kept_fraction: float = Field(
        0.4, ge=0, le=1, description="Share of its own mask an instance must keep against better ones."
    )
    min_fragment_fraction: float = Field(
        0.2, ge=0, le=1, description="Pieces smaller than this share of the largest piece are cut off."
    )
    min_area_px: float = Field(60.0, ge=0, le=100_000, description="Least area of a mask, network pixels.")
    refine: RefineConfig = RefineConfig()
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
    """labels uint16 [H, W]; instances by falling rank; candidates: index of each instance's row in the network's
    tensors; truncated: every candidate is above the threshold; depthless: how many masks that function left out.
    """

    labels: NDArray[np.uint16]
    instances: tuple[Instance, ...]
    candidates: tuple[int, ...]
    truncated: bool
    depthless: int = 0


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
    raw: dict[str, NDArray[Any]],
    box: Letterbox,
    tables: CalibrationTables,
    threshold: float,
    config: DecodeConfig,
    guide: Guide | None = None,
    depth: NDArray[np.float32] | None = None,
) -> Decoded:
    """Instances of one frame.

    ``raw``: the network's instance tensors. ``threshold`` is used where the config has none. guide: of the frame;
    without it masks keep the edges of the network's grid. depth: the network's; without it no mask is ``depthless``.
    """
    scores = calibrated(raw, tables)
    grid = mask_grid(box, box.network_size[1] // raw["mask_logits"].shape[1], tables.mask_shift_px)
    threshold = threshold if config.detection_threshold is None else config.detection_threshold
    found = np.flatnonzero(scores.detection >= threshold)
    truncated = len(found) == len(scores.detection)
    order = found[np.argsort(-scores.rank[found], kind="stable")]
    logits = raw["mask_logits"][order]
    large = clean_fragments(logits, config.min_fragment_fraction) * grid.stride**2 >= config.min_area_px
    order, logits = order[large], logits[large]
    there = np.ones(len(logits), dtype=bool) if depth is None else ~depthless(logits, depth)
    if there.any():  # else all stay, so that the plan says why nothing can be picked
        order, logits = order[there], logits[there]
    keep = distinct(logits, scores.rank[order], config)
    order, logits = order[keep], logits[keep]
    rank = scores.rank[order]
    labels, boxes, areas = painted(logits, rank, grid, guide)
    min_area = max(1.0, config.min_area_px / float(box.scale.prod()))
    kept = [i for i, area in enumerate(areas) if area >= min_area]
    labels = _renumbered(labels, kept, len(areas))
    sigma = edge_uncertainty(logits[kept], grid, tables.boundary_scale, config.min_boundary_uncertainty_px)
    instances = tuple(
        _instance(new_id + 1, boxes[i], areas[i], int(order[i]), scores, raw["embedding"], sigma[new_id])
        for new_id, i in enumerate(kept)
    )
    dropped = int(np.count_nonzero(~there)) if there.any() else 0
    return Decoded(labels, instances, tuple(int(order[i]) for i in kept), truncated, dropped)


def windows(masks: NDArray[np.bool_]) -> list[Window]:
    """Windows of masks [n, h, w] with one cell of margin; empty masks give zeros."""
    (h, w), found = masks.shape[1:], []
    for mask in masks.view(np.uint8):
        x, y, width, height = cv2.boundingRect(mask)
        inside = max(y - 1, 0), min(y + height + 1, h), max(x - 1, 0), min(x + width + 1, w)
        found.append(inside if width else (0, 0, 0, 0))
    return found


def clean_fragments(logits: NDArray[np.float32], min_fraction: float) -> NDArray[np.int64]:
    """Turn pieces below ``min_fraction`` of a mask's largest piece to background, in place. Returns areas in cells [n].

    Several pieces may stay: a tube across a carton cuts it in two.
    """
    masks = logits > 0
    areas = np.zeros(len(logits), dtype=np.int64)
    for i, (y0, y1, x0, x1) in enumerate(windows(masks)):
        if y1 == 0:
            continue
        mask = masks[i, y0:y1, x0:x1]
        count, pieces = cv2.connectedComponents(mask.view(np.uint8), connectivity=4)
        areas[i] = np.count_nonzero(mask)
        if count > 2:
            sizes = np.bincount(pieces.ravel(), minlength=count)
            small = sizes < min_fraction * sizes[1:].max()
            small[0] = False
            cells = logits[i, y0:y1, x0:x1]
            np.negative(cells, out=cells, where=small.take(pieces))
            areas[i] -= sizes[small].sum()
    return areas


def depthless(logits: NDArray[np.float32], depth: NDArray[np.float32]) -> NDArray[np.bool_]:
    """bool [n]: masks [n, h, w] with no depth in them and none around them. The sensor saw nothing there, while film
    and glass have depth beside them. depth: the network's image, metres, 0 = invalid."""
    stride = depth.shape[0] // logits.shape[1]
    valid = depth[stride // 2 :: stride, stride // 2 :: stride] > 0
    thinned = logits[:, ::2, ::2] > 0
    found = (thinned & valid[::2, ::2]).sum(axis=(1, 2)) <= _NO_DEPTH * thinned.sum(axis=(1, 2))
    near = np.ones((2 * _AROUND_CELLS + 1,) * 2, np.uint8)
    for i in np.flatnonzero(found):
        mask = logits[i] > 0
        around = (cv2.dilate(mask.view(np.uint8), near) > 0) & ~mask
        found[i] = not around.any() or valid[around].mean() < _NO_DEPTH_AROUND
    return np.asarray(found)


def distinct(logits: NDArray[np.float32], rank: NDArray[np.float32], config: DecodeConfig) -> NDArray[np.intp]:
    """Rows to keep of ``logits`` [n, h, w], ordered by falling ``rank``: no duplicates, nothing that better masks
    cover.

    Cells of a single mask say nothing about overlaps, so that the matrix product runs over contested cells only.
    """
    flat = logits.reshape(len(logits), logits.shape[1] * logits.shape[2])
    masks = flat > 0
    area = masks.sum(axis=1).astype(np.float32)
    contested = np.flatnonzero(np.add.reduce(masks.view(np.uint8), axis=0, dtype=np.uint8) > 1)
    claims = masks[:, contested]
    shared = claims.astype(np.float32) @ claims.T.astype(np.float32)
    iou = shared / np.maximum(area[:, None] + area[None, :] - shared, 1.0)
    alive = np.ones(len(logits), dtype=bool)
    for i in range(len(logits)):
        if alive[i]:
            alive[i + 1 :] &= iou[i, i + 1 :] <= config.duplicate_iou
    kept = np.flatnonzero(alive)
    if not len(kept) or not len(contested):
        return kept
    claims = claims[kept]
    odds = np.where(claims, flat[np.ix_(kept, contested)] + _bonus(rank[kept])[:, None], -np.inf)
    claimed = claims.any(axis=0)
    won = np.bincount(odds.argmax(axis=0)[claimed], minlength=len(kept))
    held = area[kept] - claims.sum(axis=1) + won
    return np.asarray(kept[held >= config.min_kept_fraction * area[kept]])


def painted(
    logits: NDArray[np.float32], rank: NDArray[np.float32], grid: MaskGrid, guide: Guide | None = None
) -> tuple[NDArray[np.uint16], list[Box], list[int]]:
    """``paint`` of masks [n, h, w] of the whole grid, by way of the filter where there is a guide: contested pixels go
    to the best product of odds and rank."""
    masks = [(mask[w[0] : w[1], w[2] : w[3]], w) for mask, w in zip(logits, windows(logits > 0), strict=True)]
    if guide is not None:
        masks, grid = refined(guide, masks, grid), mask_grid(grid.box, 1)
    return paint(masks, _bonus(rank), grid)


def edge_uncertainty(
    logits: NDArray[np.float32], grid: MaskGrid, boundary_scale: float, floor_px: float
) -> NDArray[np.float32]:
    """1-sigma of each mask's edge in frame pixels, float32 [n], from the slope of the logits across it.

    ``boundary_scale`` is the calibration's measured factor; ``floor_px`` is in network pixels.
    """
    masks = logits > 0
    inner = masks.copy()
    inner[:, 1:] &= masks[:, :-1]
    inner[:, :-1] &= masks[:, 1:]
    inner[:, :, 1:] &= masks[:, :, :-1]
    inner[:, :, :-1] &= masks[:, :, 1:]
    (n, h, w), at = logits.shape, np.flatnonzero(masks ^ inner)
    owner, y, x = at // (h * w), at // w % h, at % w
    # Sobel's slope at edge cells alone; beyond the grid it goes on as its mirror image.
    left, right = np.where(x > 0, -1, 1), np.where(x < w - 1, 1, -1)
    above, below = np.where(y > 0, -w, w), np.where(y < h - 1, w, -w)
    flat = logits.ravel()
    corners = [[flat[at + rows + columns] for columns in (left, 0, right)] for rows in (above, 0, below)]
    (a, b, c), (d, _, e), (f, g, k) = corners
    slope = np.hypot(c + 2 * e + k - a - 2 * d - f, f + 2 * g + k - a - 2 * b - c) / 8
    count, total = np.bincount(owner, minlength=n), np.bincount(owner, slope, minlength=n)
    mean = np.maximum(total / np.maximum(count, 1), 1e-3)
    sigma = np.where(count > 0, _LOGISTIC_SIGMA * grid.stride / mean, 0.0).astype(np.float32)
    network_px = np.maximum(sigma * np.float32(boundary_scale), np.float32(floor_px))
    return np.asarray(network_px / np.sqrt(grid.box.scale.prod()), dtype=np.float32)


def _bonus(rank: NDArray[np.float32]) -> NDArray[np.float32]:
    """What its rank adds to a mask's logits in a contest."""
    return np.log(np.maximum(rank, 1e-4)).astype(np.float32)


def _renumbered(labels: NDArray[np.uint16], kept: list[int], count: int) -> NDArray[np.uint16]:
    if len(kept) == count:
        return labels
    table = np.zeros(count + 1, dtype=np.uint16)
    table[np.array(kept, dtype=np.intp) + 1] = np.arange(1, len(kept) + 1)
    return np.asarray(table[labels])


def _instance(
    instance_id: int,
    bbox: Box,
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
