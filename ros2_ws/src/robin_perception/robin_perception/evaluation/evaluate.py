"""A segmenter over a folder of labelled scenes: one dictionary of figures with 95 % intervals, overall and by
stratum.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from robin_perception.core.frame import Frame
from robin_perception.core.image_folder import IGNORE_LABEL, load_frame, load_labels, load_scene_info, scene_folders
from robin_perception.core.scene import Scene
from robin_perception.evaluation.metrics import AP_THRESHOLDS, Agreement, agreement, average_precision, f_score, overlap
from robin_perception.segmentation.decode import DecodeConfig
from robin_perception.segmentation.segmenter import Segmenter

_RATES = ("overlap_p", "overlap_r", "overlap_f", "boundary_p", "boundary_r", "boundary_f", "detected75")
_INTERVALS = ("ap50", "ap75", "overlap_f", "boundary_f", "merge_rate", "split_rate")
FINE_RECALL = 1001  # points of recall that two models are compared at


@dataclass(frozen=True)
class Prediction:
    """operating: the scene as the cell would use it. candidates: the same frame down to low scores, for AP only."""

    operating: Scene
    candidates: Scene


Predict = Callable[[Frame], Scene | Prediction]


def segmenter_predictor(segmenter: Segmenter, candidate_threshold: float = 0.0) -> Callable[[Frame], Prediction]:
    """Predictions of a segmenter: one run of the network, decoded at its own threshold, and for AP with all candidates
    (COCO ranks up to 100 of an image, whatever their scores)."""
    low = segmenter.config.decode.model_copy(update={"detection_threshold": candidate_threshold})

    def predict(frame: Frame) -> Prediction:
        return predict_both(segmenter, frame, low)

    return predict


def predict_both(segmenter: Segmenter, frame: Frame, low: DecodeConfig) -> Prediction:
    scene, look = segmenter.analyse(frame)
    decoded = segmenter.decode(look.view, look.tensors, look.guide, low)
    all_of_it = Scene(scene.stamp_s, scene.model_id, decoded.labels, decoded.instances, scene.boundary)
    return Prediction(scene, all_of_it)


@dataclass(frozen=True)
class SceneResult:
    """One scene's share in the figures. scores, detection, iou, owner [N]: of candidate predictions that are not on
    ignored pixels, what they are ranked by, their calibrated detection, the IoU of their match, and the truth that they
    belong to (-1 for none). tags: strata of each truth."""

    scores: NDArray[np.float64]
    detection: NDArray[np.float64]
    iou: NDArray[np.float64]
    owner: NDArray[np.int64]
    tags: tuple[frozenset[str], ...]
    agreement: Agreement
    predict_ms: float


def evaluate(
    predict: Predict,
    data: Path,
    limit: int | None = None,
    rng: np.random.Generator | None = None,
    progress: Callable[[int, int], None] | None = None,
    min_visible: float = 0.0,
) -> dict[str, Any]:
    """Figures of ``predict`` on the scene folders under ``data``.

    Keys: scenes, truths, predictions, ap50, ap75, ap, overlap_p/r/f, boundary_p/r/f, detected75, merge_rate,
    split_rate, intervals {key: [low, high]}, predict_ms {p50, p95}, strata {name: the same}. A stratum's figures are
    those of its true parcels and of the predictions that belong to them (their match, else the parcel they share most
    pixels with). min_visible: parcels of which less is visible count as ignored: too covered to be picked. rng: for the
    bootstrap over scenes. Raises RobinError for folders that cannot be read.
    """
    folders = scene_folders(data)[:limit]
    results = []
    for done, folder in enumerate(folders):
        results.append(evaluate_scene(predict, folder, min_visible))
        if progress is not None:
            progress(done + 1, len(folders))
    return summarise(results, rng or np.random.default_rng(0))


def evaluate_scene(predict: Predict, folder: Path, min_visible: float = 0.0) -> SceneResult:
    """Predict one scene folder and compare it with its labels."""
    frame, truth, info = load_frame(folder), load_labels(folder), load_scene_info(folder)
    truth = _without_covered(truth, info, min_visible)
    start = time.perf_counter()
    prediction = predict(frame)
    elapsed = (time.perf_counter() - start) * 1e3
    if isinstance(prediction, Scene):
        prediction = Prediction(prediction, prediction)
    return compare(prediction, truth, info, elapsed)


def _without_covered(truth: NDArray[np.uint16], info: dict[str, Any], min_visible: float) -> NDArray[np.uint16]:
    """``truth`` with the parcels of which less than ``min_visible`` is seen set to ignore."""
    covered = [i["id"] for i in info.get("instances", ()) if i.get("visible_fraction", 1.0) < min_visible]
    return np.where(np.isin(truth, covered), np.uint16(IGNORE_LABEL), truth) if covered else truth


def compare(
    prediction: Prediction, truth: NDArray[np.uint16], info: dict[str, Any], predict_ms: float = 0.0
) -> SceneResult:
    """One scene's figures; for AP candidates are ranked by detection x mask quality, as the decoder ranks them.
    ``info``: scene.json, whose instances' strata tag the truths."""
    table = overlap(prediction.candidates.labels, truth)
    found = {i.id: (i.detection * i.mask_quality, i.detection) for i in prediction.candidates.instances}
    kept = ~table.ignored
    iou = table.iou[kept].max(axis=1, initial=0.0) if table.iou.size else np.zeros(int(kept.sum()))
    scores = np.array([found.get(int(i), (0.0, 0.0)) for i in table.pred_ids[kept]]).reshape(-1, 2)
    # Masks do not overlap on either side, so that a match above IoU .5 is unique, and it is the largest share.
    same = prediction.candidates is prediction.operating
    result = agreement(prediction.operating.labels, truth, table if same else None)
    own = {int(i["id"]): frozenset(str(s) for s in i.get("strata", ())) for i in info.get("instances", ())}
    tags = tuple(own.get(int(i), frozenset()) for i in table.true_ids)
    return SceneResult(scores[:, 0], scores[:, 1], iou, table.owner[kept], tags, result, predict_ms)


def summarise(results: list[SceneResult], rng: np.random.Generator, replicates: int = 300) -> dict[str, Any]:
    """Figures over scenes, and over each stratum that occurs, with percentile bootstrap intervals over scenes."""
    figures = _figures(results, None, rng, replicates)
    times = np.array([r.predict_ms for r in results]) if results else np.zeros(1)
    figures["predict_ms"] = {"p50": float(np.percentile(times, 50)), "p95": float(np.percentile(times, 95))}
    names = sorted(set().union(*(tags for r in results for tags in r.tags)))
    figures["strata"] = {name: _figures(results, name, rng, replicates) for name in names}
    return figures


class Difference(TypedDict):
    """A figure of two models on the same scenes. value: after less before; low, high: its interval. frames, truths: how
    many stand behind it."""

    before: float
    after: float
    value: float
    low: float
    high: float
    frames: int
    truths: int


def paired_differences(
    before: Sequence[SceneResult],
    after: Sequence[SceneResult],
    keys: Sequence[str],
    rng: np.random.Generator,
    *,
    blocks: Sequence[int] | Sequence[str] | None = None,
    stratum: str | None = None,
    confidence: float = 0.95,
    replicates: int = 1000,
) -> dict[str, Difference]:
    """Two models' results on the same scenes, in the same order, figure by figure, with bootstrap intervals of the
    difference. A replicate draws whole blocks, since scenes of one pile are alike; blocks: of each scene, default one
    each. Few blocks make an interval wider, by the expanded percentiles of T. C. Hesterberg (The American Statistician
    69, 2015). AP is taken at FINE_RECALL points of recall, so that it tells differences below one point. A figure that
    cannot be told is left out: those of the boundary, where the labels ignore every edge."""
    pairs = [(_part(b, stratum), _part(a, stratum), n) for n, (b, a) in enumerate(zip(before, after, strict=True))]
    pairs = [pair for pair in pairs if stratum is None or pair[0].truths > 0]
    columns = _Columns([b for b, _, _ in pairs]), _Columns([a for _, a, _ in pairs])
    block = np.unique([n if blocks is None else blocks[n] for _, _, n in pairs], return_inverse=True)[1]
    count = int(block.max(initial=-1)) + 1
    draws = [np.ones(len(pairs))]
    for _ in range(replicates if count > 1 else 0):
        draws.append(np.bincount(rng.integers(0, count, count), minlength=count).astype(np.float64)[block])
    levels = np.array([0.5, 0.75])
    table = [tuple(side.figures(weights, levels, FINE_RECALL) for side in columns) for weights in draws]
    edges = any(result.agreement.true_edge.any() for result in before)
    found = {}
    for key in keys:
        if key.startswith("boundary") and not edges:
            continue
        values = [(b[key], a[key]) for b, a in table]
        gains = [a - b for b, a in values if a is not None and b is not None]
        first = values[0]
        if first[0] is None or first[1] is None or count < 2:
            continue
        low, high = np.percentile(gains[1:], _expanded(confidence, count))
        found[key] = Difference(
            before=first[0],
            after=first[1],
            value=gains[0],
            low=float(low),
            high=float(high),
            frames=len(pairs),
            truths=int(columns[0].truths.sum()),
        )
    return found


def _expanded(confidence: float, count: int) -> tuple[float, float]:
    """Percentiles of a bootstrap over ``count`` things between which ``confidence`` lies."""
    from scipy.stats import norm, t

    tail = float(norm.cdf(-np.sqrt(count / (count - 1)) * t.ppf(0.5 + confidence / 2, count - 1)))
    return 100 * tail, 100 * (1 - tail)


def _figures(
    results: list[SceneResult], stratum: str | None, rng: np.random.Generator, replicates: int
) -> dict[str, Any]:
    parts = [_part(r, stratum) for r in results]
    parts = [p for p in parts if stratum is None or p.truths > 0]
    columns = _Columns(parts)
    figures: dict[str, Any] = {
        "scenes": len(parts),
        "truths": int(columns.truths.sum()),
        "predictions": int(columns.predictions.sum()),
    }
    figures |= columns.figures(np.ones(len(parts)), AP_THRESHOLDS)
    samples = []
    for _ in range(replicates if parts else 0):
        weights = np.bincount(rng.integers(0, len(parts), len(parts)), minlength=len(parts)).astype(np.float64)
        samples.append(columns.figures(weights, np.array([0.5, 0.75])))
    figures["intervals"] = {key: _interval([s[key] for s in samples]) for key in _INTERVALS}
    return figures


def _interval(values: list[float | None]) -> list[float] | None:
    known = [v for v in values if v is not None]
    return [float(v) for v in np.percentile(known, (2.5, 97.5))] if known else None


@dataclass(frozen=True)
class _Part:
    """A scene's numbers within one stratum. rates: order of _RATES."""

    scores: NDArray[np.float64]
    iou: NDArray[np.float64]
    truths: int
    predictions: int
    merged: int
    split: int
    rates: NDArray[np.float64]


def _part(result: SceneResult, stratum: str | None) -> _Part:
    a = result.agreement
    if stratum is None:
        mine = np.ones(len(result.tags), dtype=bool)
        scored, used = np.ones(len(result.scores), dtype=bool), np.ones(len(a.owner), dtype=bool)
    else:
        mine = np.array([stratum in tags for tags in result.tags], dtype=bool)
        belongs = np.append(mine, False)  # owner -1, background, belongs to no stratum
        scored, used = belongs[result.owner], belongs[a.owner]
    rates = np.array([*_prf(a, used, mine, "area"), *_prf(a, used, mine, "edge"), _share(a.f[mine] > 0.75)])
    return _Part(
        result.scores[scored],
        result.iou[scored],
        int(mine.sum()),
        int(used.sum()),
        int(a.merged[used].sum()),
        int(a.split[mine].sum()),
        rates,
    )


def _prf(a: Agreement, used: NDArray[np.bool_], mine: NDArray[np.bool_], what: str) -> tuple[float, float, float]:
    if what == "area":
        p_hit, p_all, t_hit, t_all = a.pred_hit, a.pred_area, a.true_hit, a.true_area
    else:
        p_hit, p_all, t_hit, t_all = a.pred_edge_hit, a.pred_edge, a.true_edge_hit, a.true_edge
    if not mine.any() and not used.any():
        return 1.0, 1.0, 1.0
    precision = float(p_hit[used].sum() / max(p_all[used].sum(), 1))
    recall = float(t_hit[mine].sum() / max(t_all[mine].sum(), 1))
    return precision, recall, f_score(precision, recall)


def _share(values: NDArray[np.bool_]) -> float:
    return float(values.mean()) if len(values) else 1.0


class _Columns:
    """Scenes side by side, so that a bootstrap replicate is a weighted sum."""

    def __init__(self, parts: list[_Part]) -> None:
        self.truths = np.array([p.truths for p in parts], dtype=np.float64)
        self.predictions = np.array([p.predictions for p in parts], dtype=np.float64)
        self.merged = np.array([p.merged for p in parts], dtype=np.float64)
        self.split = np.array([p.split for p in parts], dtype=np.float64)
        self.rates = np.array([p.rates for p in parts]).reshape(len(parts), len(_RATES))
        scores = np.concatenate([p.scores for p in parts]) if parts else np.zeros(0)
        iou = np.concatenate([p.iou for p in parts]) if parts else np.zeros(0)
        scene = np.repeat(np.arange(len(parts)), [len(p.scores) for p in parts])
        order = np.argsort(-scores, kind="stable")  # once; each replicate finds them sorted, which is quick
        self.scores, self.iou, self.scene = scores[order], iou[order], scene[order]

    def figures(
        self, weights: NDArray[np.float64], thresholds: NDArray[np.float64], recall_points: int = 101
    ) -> dict[str, float | None]:
        """The figures with each scene counted ``weights`` times; None where there is nothing to measure."""
        truths, total = float(self.truths @ weights), float(weights.sum())
        each = weights[self.scene] if len(weights) else np.zeros(0)
        ap = [average_precision(self.scores, self.iou > t, truths, each, recall_points) for t in thresholds]
        at = {float(t): a for t, a in zip(thresholds, ap, strict=True)}
        values = {"ap50": at[0.5], "ap75": at[0.75]}
        if len(thresholds) == len(AP_THRESHOLDS):
            values["ap"] = float(np.mean(ap))
        means = weights @ self.rates / total if total else np.full(len(_RATES), np.nan)
        values |= dict(zip(_RATES, means.tolist(), strict=True))
        values["merge_rate"] = _ratio(float(self.merged @ weights), float(self.predictions @ weights))
        values["split_rate"] = _ratio(float(self.split @ weights), truths)
        return {key: None if np.isnan(value) else float(value) for key, value in values.items()}


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
