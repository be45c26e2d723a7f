"""Scores that mean what they say: isotonic tables and a class temperature, fitted on scenes the network never saw.

Isotonic regression (pool adjacent violators; Zadrozny & Elkan 2002) for P(detection), expected mask IoU and visible
fraction; temperature scaling (Guo et al. 2017) for the classes; one factor for the predicted edge uncertainty.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_perception.core.image_folder import load_frame, load_labels, load_scene_info, scene_folders
from robin_perception.evaluation.metrics import Overlap, boundary_map, overlap
from robin_perception.model.bundle import CalibrationTables, IsotonicTable
from robin_perception.segmentation.decode import Decoded
from robin_perception.segmentation.segmenter import Segmenter

_MAX_KNOTS = 48
_BINS = 10
_MATCH_IOU = 0.5
_EDGE_ERROR_LIMIT_PX = 12.0
_RAW_THRESHOLD = 0.03
_SHIFT_IOU = 0.85
_SHIFT_SAMPLES = 100


@dataclass(frozen=True)
class Samples:
    """One row per candidate: raw scores and what turned out to be true. NaN (or class -1) where truth is not known.

    detection, quality, visible, hit, iou, true_visible, edge_ratio: float64 [N]; classes float64 [N, C]; true_class
    int64 [N]; scene int64 [N]. edge_ratio: measured over predicted edge error of matched masks. shift_px: float64
    [N, 2], how far a good mask stands to the right of and below the truth, network pixels.
    """

    detection: NDArray[np.float64]
    quality: NDArray[np.float64]
    visible: NDArray[np.float64]
    classes: NDArray[np.float64]
    hit: NDArray[np.float64]
    iou: NDArray[np.float64]
    true_visible: NDArray[np.float64]
    true_class: NDArray[np.int64]
    edge_ratio: NDArray[np.float64]
    shift_px: NDArray[np.float64]
    scene: NDArray[np.int64]

    def where(self, rows: NDArray[np.bool_]) -> Samples:
        return Samples(**{key: value[rows] for key, value in self.__dict__.items()})


def fit_calibration(
    segmenter: Segmenter,
    data: Path,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CalibrationTables:
    """Tables for ``segmenter``'s bundle from the labelled scenes under ``data`` (not those it was trained on).

    ``reliability`` holds the expected calibration error of each score before and after, measured on the half of the
    scenes that the tables under test were not fitted on; the tables returned are fitted on all. Raises RobinError for
    bad data.
    """
    folders = scene_folders(data)[:limit]
    rows = []
    for index, folder in enumerate(folders):
        rows.append(collect(segmenter, folder, index))
        if progress is not None:
            progress(index + 1, len(folders))
    return fit_tables(joined(rows), f"{data.name}: {len(folders)} scenes")


def joined(rows: Sequence[Samples]) -> Samples:
    """The samples of several scenes, at least one."""
    return Samples(**{key: np.concatenate([getattr(r, key) for r in rows]) for key in Samples.__annotations__})


def fit_tables(samples: Samples, fitted_on: str) -> CalibrationTables:
    """Tables from samples, with cross-fitted reliability (even scenes against odd ones)."""
    even = samples.scene % 2 == 0
    folds = [(even, ~even), (~even, even)] if even.any() and (~even).any() else []
    before, after = [], []
    for fit_rows, test_rows in folds:
        test = samples.where(test_rows)
        before.append(reliability(test, CalibrationTables()))
        after.append(reliability(test, _fit(samples.where(fit_rows))))
    figures = {f"{key}_before": float(np.mean([b[key] for b in before])) for key in (before[0] if before else ())}
    figures |= {f"{key}_after": float(np.mean([a[key] for a in after])) for key in (after[0] if after else ())}
    return _fit(samples).model_copy(update={"fitted_on": fitted_on, "reliability": figures})


def collect(segmenter: Segmenter, folder: Path, index: int = 0) -> Samples:
    """Candidates of one scene above a very low raw score, after duplicates are gone, against its labels."""
    frame, truth, info = load_frame(folder), load_labels(folder), load_scene_info(folder)
    view = segmenter.view(frame)
    raw = segmenter.engine.run(view.inputs)
    config = segmenter.config.decode.model_copy(update={"detection_threshold": _RAW_THRESHOLD})
    decoded = segmenter.decode(view, raw, segmenter.guide(view), config, CalibrationTables())
    table = overlap(decoded.labels, truth)
    names = segmenter.bundle.manifest.classes
    return _samples(raw, decoded, table, truth, info, names, view.box.scale, index)


def _samples(
    raw: dict[str, NDArray[Any]],
    decoded: Decoded,
    table: Overlap,
    truth: NDArray[np.uint16],
    info: dict[str, Any],
    names: tuple[str, ...],
    scale: NDArray[np.float64],
    index: int,
) -> Samples:
    known = {int(i["id"]): i for i in info.get("instances", ())}
    kept = np.flatnonzero(~table.ignored)
    rows = np.array([decoded.candidates[int(i) - 1] for i in table.pred_ids[kept]], dtype=np.intp)
    iou = table.iou[kept].max(axis=1, initial=0.0) if table.iou.size else np.zeros(len(kept))
    hit = iou > _MATCH_IOU
    owners = [known.get(int(table.true_ids[o]), {}) if o >= 0 else {} for o in table.owner[kept]]
    visible = np.array([float(o.get("visible_fraction", np.nan)) for o in owners])
    classes = np.array([names.index(o["kind"]) if o.get("kind") in names else -1 for o in owners], dtype=np.int64)
    ratio, shift = np.full(len(kept), np.nan), np.full((len(kept), 2), np.nan)
    for n in np.flatnonzero(hit):
        pred_id, owner = int(table.pred_ids[kept[n]]), int(table.owner[kept[n]])
        sigma = decoded.instances[pred_id - 1].boundary_uncertainty_px
        box = decoded.instances[pred_id - 1].bbox
        ratio[n] = edge_error_px(decoded.labels, pred_id, truth, int(table.true_ids[owner]), box) / sigma
        if iou[n] > _SHIFT_IOU:
            centres = [_centre(decoded.labels, pred_id), _centre(truth, int(table.true_ids[owner]))]
            shift[n] = (centres[0] - centres[1]) * scale
    return Samples(
        raw["detection"][rows].astype(np.float64),
        raw["mask_quality"][rows].astype(np.float64),
        raw["visible_fraction"][rows].astype(np.float64),
        raw["class_probabilities"][rows].astype(np.float64),
        hit.astype(np.float64),
        iou,
        np.where(hit, visible, np.nan),
        np.where(hit, classes, -1),
        ratio,
        shift,
        np.full(len(kept), index, dtype=np.int64),
    )


def edge_error_px(
    labels: NDArray[np.uint16], label: int, truth: NDArray[np.uint16], true_label: int, box: tuple[int, int, int, int]
) -> float:
    """RMS distance of a mask's edge from the true edge, pixels; single pixels count as at most 12 (a wrong shape is
    not an uncertain edge).
    """
    margin = int(_EDGE_ERROR_LIMIT_PX) + 1
    h, w = labels.shape
    window = (
        slice(max(box[1] - margin, 0), min(box[3] + margin, h)),
        slice(max(box[0] - margin, 0), min(box[2] + margin, w)),
    )
    mine, other = boundary_map(labels[window] == label), boundary_map(truth[window] == true_label)
    if not mine.any() or not other.any():
        return _EDGE_ERROR_LIMIT_PX
    distance = cv2.distanceTransform((~other).view(np.uint8), cv2.DIST_L2, 5)
    return float(np.sqrt(np.mean(np.minimum(distance[mine], _EDGE_ERROR_LIMIT_PX) ** 2)))


def reliability(samples: Samples, tables: CalibrationTables) -> dict[str, float]:
    """Expected calibration error of each score under ``tables``, ten equal bins; NaN-free, 0 where nothing is known."""
    shares = _tempered(samples.classes, tables.class_temperature)
    seen = samples.true_class >= 0
    best = shares[seen].argmax(axis=1)
    matched = samples.hit > 0
    with_truth = ~np.isnan(samples.true_visible)
    return {
        "detection_ece": expected_calibration_error(_apply(tables.detection, samples.detection), samples.hit),
        "mask_quality_ece": expected_calibration_error(
            _apply(tables.mask_quality, samples.quality[matched]), samples.iou[matched]
        ),
        "visible_fraction_ece": expected_calibration_error(
            _apply(tables.visible_fraction, samples.visible[with_truth]), samples.true_visible[with_truth]
        ),
        "class_ece": expected_calibration_error(
            shares[seen].max(axis=1, initial=0.0), (best == samples.true_class[seen]).astype(np.float64)
        ),
    }


def expected_calibration_error(predicted: NDArray[np.float64], actual: NDArray[np.float64]) -> float:
    """Mean |mean predicted - mean actual| over ten equal bins of ``predicted`` in [0, 1], weighted by their counts."""
    if not len(predicted):
        return 0.0
    bins = np.minimum((predicted * _BINS).astype(np.int64), _BINS - 1)
    gap = np.bincount(bins, predicted - actual, minlength=_BINS)
    return float(np.abs(gap).sum() / len(predicted))


def isotonic_table(raw: NDArray[np.float64], actual: NDArray[np.float64]) -> IsotonicTable:
    """Monotone table from raw scores to the mean of ``actual``; the identity where there are fewer than 20 samples."""
    from sklearn.isotonic import IsotonicRegression

    if len(raw) < 20:
        return IsotonicTable()
    fitted = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(raw, actual)
    x, y = fitted.X_thresholds_, fitted.y_thresholds_
    if len(x) > _MAX_KNOTS:
        pick = np.unique(np.rint(np.linspace(0, len(x) - 1, _MAX_KNOTS)).astype(int))
        x, y = x[pick], y[pick]
    return IsotonicTable(x=tuple(float(v) for v in x), y=tuple(float(v) for v in y))


def _fit(samples: Samples) -> CalibrationTables:
    matched, with_truth = samples.hit > 0, ~np.isnan(samples.true_visible)
    ratio = samples.edge_ratio[np.isfinite(samples.edge_ratio)]
    return CalibrationTables(
        detection=isotonic_table(samples.detection, samples.hit),
        mask_quality=isotonic_table(samples.quality[matched], samples.iou[matched]),
        visible_fraction=isotonic_table(samples.visible[with_truth], samples.true_visible[with_truth]),
        class_temperature=_temperature(samples),
        boundary_scale=float(np.clip(np.median(ratio), 0.02, 50)) if len(ratio) else 1.0,
        mask_shift_px=_mask_shift(samples.shift_px),
    )


def _mask_shift(shift_px: NDArray[np.float64]) -> tuple[float, float]:
    """Median displacement of well matched masks; nothing where there are too few to tell a fraction of a pixel."""
    known = shift_px[np.isfinite(shift_px).all(axis=1)]
    if len(known) < _SHIFT_SAMPLES:
        return 0.0, 0.0
    x, y = np.clip(np.median(known, axis=0), -2, 2).tolist()
    return x, y


def _centre(labels: NDArray[np.uint16], label: int) -> NDArray[np.float64]:
    """Centroid (x, y) of a label, pixels."""
    ys, xs = np.nonzero(labels == label)
    return np.array([xs.mean(), ys.mean()])


def _temperature(samples: Samples) -> float:
    """Temperature of least negative log likelihood, from a grid of 60 between 0.2 and 5."""
    seen = samples.true_class >= 0
    if seen.sum() < 20:
        return 1.0
    grid = np.geomspace(0.2, 5.0, 61)
    rows, truth = samples.classes[seen], samples.true_class[seen]
    losses = [-np.log(_tempered(rows, float(t))[np.arange(len(truth)), truth]).mean() for t in grid]
    return float(grid[int(np.argmin(losses))])


def _tempered(classes: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    powered = np.power(np.maximum(classes, 1e-9), 1.0 / temperature)
    return np.asarray(powered / powered.sum(axis=1, keepdims=True))


def _apply(table: IsotonicTable, values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.interp(values, table.x, table.y), dtype=np.float64)
