"""Instance segmentation against labels, one scene at a time. Both sides are label images, so masks never overlap.

Overlap and boundary precision, recall, F and the share of objects found at F > .75 follow the UOIS and UCN papers
(Xie et al. 2020, 2021; Xiang et al. 2020): pairs by Hungarian assignment on overlap F, sums over pixels, so that large
objects weigh more; boundaries match within 0.3 % of the image's diagonal. Average precision follows COCO.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from robin_perception.core.errors import Code, RobinError
from robin_perception.core.image_folder import IGNORE_LABEL

AP_THRESHOLDS = np.round(np.arange(0.5, 1.0, 0.05), 2)
_BOUNDARY_TOLERANCE = 0.003
_MERGE_COVER = 0.5
_SPLIT_INSIDE = 0.5
_SPLIT_COVER = 0.1


@dataclass(frozen=True)
class Overlap:
    """Shared pixels of P predicted and T true instances. Pixels labelled 65535 count on neither side.

    pred_ids [P], true_ids [T]: label values. shared int64 [P, T], pred_area [P], true_area [T], pixels.
    ignored bool [P]: more than half of the predicted mask lies on ignored pixels.
    """

    pred_ids: NDArray[np.int64]
    true_ids: NDArray[np.int64]
    shared: NDArray[np.int64]
    pred_area: NDArray[np.int64]
    true_area: NDArray[np.int64]
    ignored: NDArray[np.bool_]

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of every pair, [P, T]."""
        union = self.pred_area[:, None] + self.true_area[None, :] - self.shared
        return np.asarray(self.shared / np.maximum(union, 1))

    @property
    def owner(self) -> NDArray[np.int64]:
        """Index of the truth each prediction shares most pixels with, -1 for none, int64 [P]."""
        if self.shared.size == 0:
            return np.full(len(self.pred_ids), -1, dtype=np.int64)
        return np.where(self.shared.any(axis=1), self.shared.argmax(axis=1), -1)

    @property
    def merged(self) -> NDArray[np.bool_]:
        """bool [P]: the mask covers more than half of the visible pixels of two or more parcels."""
        return np.asarray((self.shared > _MERGE_COVER * self.true_area[None, :]).sum(axis=1) >= 2)

    @property
    def split(self) -> NDArray[np.bool_]:
        """bool [T]: two or more masks lie more than half inside the parcel, each covering more than a tenth of it."""
        inside = self.shared > _SPLIT_INSIDE * self.pred_area[:, None]
        covers = self.shared > _SPLIT_COVER * self.true_area[None, :]
        return np.asarray((inside & covers).sum(axis=0) >= 2)


def overlap(predicted: NDArray[np.uint16], truth: NDArray[np.uint16]) -> Overlap:
    """Compare two label images [H, W]. Raises RobinError when their sizes differ."""
    if predicted.shape != truth.shape:
        raise RobinError(Code.INPUT_SIZE_MISMATCH, f"labels are {truth.shape}, the prediction is {predicted.shape}")
    p_index, p_ids = _dense(predicted)
    t_index, t_ids = _dense(truth)
    table = np.bincount((p_index * len(t_ids) + t_index).ravel(), minlength=len(p_ids) * len(t_ids))
    table = table.reshape(len(p_ids), len(t_ids))
    on_ignore = table[:, t_ids == IGNORE_LABEL].sum(axis=1)
    real_p, real_t = p_ids != 0, (t_ids != 0) & (t_ids != IGNORE_LABEL)
    total = table.sum(axis=1)
    return Overlap(
        p_ids[real_p],
        t_ids[real_t],
        table[np.ix_(real_p, real_t)],
        (total - on_ignore)[real_p],
        table[:, real_t].sum(axis=0),
        (on_ignore > 0.5 * total)[real_p],
    )


def _dense(labels: NDArray[np.uint16]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Label image with values 0..n-1, and the ids they stand for (0 is always among them)."""
    present = np.zeros(1 << 16, dtype=bool)
    present[labels.ravel()] = True
    present[0] = True
    ids = np.flatnonzero(present)
    table = np.zeros(1 << 16, dtype=np.int64)
    table[ids] = np.arange(len(ids))
    return table[labels], ids


@dataclass(frozen=True)
class Agreement:
    """Per predicted (P) and true (T) instance: sizes and matched parts, of areas and of boundaries, pixels.

    owner int64 [P]: the matched truth, or else the one it shares most with, or -1. f [T]: overlap F of the match.
    Predictions mostly on ignored pixels are left out.
    """

    owner: NDArray[np.int64]
    pred_area: NDArray[np.int64]
    pred_hit: NDArray[np.int64]
    pred_edge: NDArray[np.int64]
    pred_edge_hit: NDArray[np.int64]
    true_area: NDArray[np.int64]
    true_hit: NDArray[np.int64]
    true_edge: NDArray[np.int64]
    true_edge_hit: NDArray[np.int64]
    f: NDArray[np.float64]
    merged: NDArray[np.bool_]
    split: NDArray[np.bool_]

    @property
    def detected75(self) -> int:
        """How many parcels were found with an overlap F above .75."""
        return int(np.count_nonzero(self.f > 0.75))


def agreement(predicted: NDArray[np.uint16], truth: NDArray[np.uint16], table: Overlap | None = None) -> Agreement:
    """Match masks of two label images [H, W] and measure what the overlap and boundary figures are made of."""
    table = table or overlap(predicted, truth)
    kept = np.flatnonzero(~table.ignored)
    pairs_f = 2 * table.shared[kept] / np.maximum(table.pred_area[kept][:, None] + table.true_area[None, :], 1)
    rows, columns = linear_sum_assignment(-pairs_f) if pairs_f.size else (np.zeros(0, int), np.zeros(0, int))
    touching = pairs_f[rows, columns] > 0
    rows, columns = rows[touching], columns[touching]
    p_count, t_count = len(kept), len(table.true_ids)
    owner = table.owner[kept]
    owner[rows] = columns
    pred_hit, true_hit = np.zeros(p_count, dtype=np.int64), np.zeros(t_count, dtype=np.int64)
    pred_hit[rows] = true_hit[columns] = table.shared[kept[rows], columns]
    f = np.zeros(t_count)
    f[columns] = pairs_f[rows, columns]
    partner = dict(zip(rows.tolist(), columns.tolist(), strict=True))
    edges = _edge_counts(predicted, truth, table.pred_ids[kept], table.true_ids, partner)
    return Agreement(
        owner, table.pred_area[kept], pred_hit, edges[0], edges[1], table.true_area, true_hit, edges[2], edges[3], f,
        table.merged[kept], table.split,
    )  # fmt: skip


def _edge_counts(
    predicted: NDArray[np.uint16],
    truth: NDArray[np.uint16],
    pred_ids: NDArray[np.int64],
    true_ids: NDArray[np.int64],
    partner: dict[int, int],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Boundary pixels and matched boundary pixels of each prediction and each truth.

    Ignored pixels bear
    no boundary.
    """
    radius = int(np.ceil(_BOUNDARY_TOLERANCE * np.hypot(*predicted.shape)))
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    # An edge is marked one pixel to the left of or above the change, so that edges of ignored regions reach out by one.
    known = cv2.dilate((truth == IGNORE_LABEL).view(np.uint8), np.ones((3, 3), np.uint8)) == 0
    p_boxes, t_boxes = _boxes(predicted, pred_ids, radius + 1), _boxes(truth, true_ids, radius + 1)
    pred_edge, pred_hit = np.zeros(len(pred_ids), dtype=np.int64), np.zeros(len(pred_ids), dtype=np.int64)
    true_edge, true_hit = np.zeros(len(true_ids), dtype=np.int64), np.zeros(len(true_ids), dtype=np.int64)
    for i, pred_id in enumerate(pred_ids):
        j = partner.get(i)
        box = p_boxes[i] if j is None else _union(p_boxes[i], t_boxes[j])
        p_edge = boundary_map(predicted[box] == pred_id) & known[box]
        pred_edge[i] = np.count_nonzero(p_edge)
        if j is None:
            continue
        t_edge = boundary_map(truth[box] == true_ids[j]) & known[box]
        true_edge[j] = np.count_nonzero(t_edge)
        pred_hit[i] = np.count_nonzero(p_edge & (cv2.dilate(t_edge.view(np.uint8), disk) > 0))
        true_hit[j] = np.count_nonzero(t_edge & (cv2.dilate(p_edge.view(np.uint8), disk) > 0))
    for j in sorted(set(range(len(true_ids))) - set(partner.values())):
        true_edge[j] = np.count_nonzero(boundary_map(truth[t_boxes[j]] == true_ids[j]) & known[t_boxes[j]])
    return pred_edge, pred_hit, true_edge, true_hit


def boundary_map(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels [h, w] that differ from a neighbour to the right, below or both (Martin's seg2bmap); the rim is no
    edge.
    """
    edge = np.zeros(mask.shape, dtype=bool)
    edge[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    edge[:-1] |= mask[:-1] != mask[1:]
    edge[:-1, :-1] |= mask[:-1, :-1] != mask[1:, 1:]
    return edge


def _boxes(labels: NDArray[np.uint16], ids: NDArray[np.int64], margin: int) -> list[tuple[slice, slice]]:
    index, present = _dense(labels)
    found = ndimage.find_objects(index.astype(np.int32))
    h, w = labels.shape
    grown = []
    for place in np.searchsorted(present, ids).tolist():
        rows, columns = found[place - 1]
        grown.append(
            (
                slice(max(rows.start - margin, 0), min(rows.stop + margin, h)),
                slice(max(columns.start - margin, 0), min(columns.stop + margin, w)),
            )
        )
    return grown


def _union(a: tuple[slice, slice], b: tuple[slice, slice]) -> tuple[slice, slice]:
    rows = slice(min(a[0].start, b[0].start), max(a[0].stop, b[0].stop))
    return rows, slice(min(a[1].start, b[1].start), max(a[1].stop, b[1].stop))


def average_precision(
    scores: NDArray[np.float64],
    hits: NDArray[np.bool_],
    truths: float,
    weights: NDArray[np.float64] | None = None,
    recall_points: int = 101,
) -> float:
    """COCO's area under the interpolated precision-recall curve, at 101 recall points. NaN without truths.

    scores [N], hits bool [N] (matched a truth), truths: how many there are; weights [N]: how often each counts
    (bootstrap). recall_points: with COCO's 101 a parcel more or less moves the figure by a whole point at the last one.
    """
    if truths <= 0:
        return float("nan")
    if not len(scores):
        return 0.0
    order = np.argsort(-scores, kind="stable")
    weight = np.ones(len(scores)) if weights is None else weights[order]
    found = np.cumsum(weight * hits[order])
    seen = np.cumsum(weight)
    precision = np.maximum.accumulate((found / np.maximum(seen, 1e-12))[::-1])[::-1]
    at = np.searchsorted(found / truths, np.linspace(0, 1, recall_points) - 1e-12, side="left")
    return float(np.where(at < len(precision), precision[np.minimum(at, len(precision) - 1)], 0.0).mean())


def f_score(precision: float, recall: float) -> float:
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)
