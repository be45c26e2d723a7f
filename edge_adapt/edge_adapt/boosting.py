"""Boosted trees with isotonic calibration, fitted with scikit-learn and exported as the plain arrays that
``robin_grasp.boosted_trees`` evaluates with numpy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.isotonic import IsotonicRegression
from sklearn.model_selection import GroupKFold

from robin_grasp.boosted_trees import LEAF, Trees
from robin_perception.core.config import StrictConfig

Floats = NDArray[np.float64]


MOST = np.finfo(np.float64).max  # stands for the infinity of a split between known and missing


class BoostingConfig(StrictConfig):
    """Of an ensemble of small trees."""

    rounds: int = Field(100, ge=5, le=2000)
    learning_rate: float = Field(0.05, gt=0, le=1)
    leaves: int = Field(6, ge=2, le=64)
    least_per_leaf: int = Field(25, ge=1, le=1000)
    l2: float = Field(3.0, ge=0, le=1000)
    folds: int = Field(5, ge=2, le=20)


def boosted(config: BoostingConfig, constraints: list[int], seed: int) -> HistGradientBoostingClassifier:
    """constraints: of each feature, 1 where more of it never makes the outcome less likely, -1 the reverse, 0 free."""
    return HistGradientBoostingClassifier(
        max_iter=config.rounds,
        learning_rate=config.learning_rate,
        max_leaf_nodes=config.leaves,
        min_samples_leaf=config.least_per_leaf,
        l2_regularization=config.l2,
        monotonic_cst=constraints,
        early_stopping=False,
        random_state=seed,
    )


def fit_calibrated(
    model: Callable[[], HistGradientBoostingClassifier],
    features: Floats,
    target: NDArray[np.bool_],
    group: NDArray[np.int64],
    folds: int,
) -> tuple[Trees, Floats]:
    """Trees on all rows, calibrated on the out-of-fold scores, which are returned too (calibrated).

    features: [N, F], NaN where missing. target: bool [N]. group: [N]; rows of one are never on both sides of a fold.
    """
    if not target.any():
        return _never(), np.zeros(len(target))
    raw = np.full(len(target), float(target.mean()))
    folds = min(folds, len(np.unique(group)))
    if folds >= 2:
        for train, test in GroupKFold(folds).split(features, target, group):
            if target[train].any() and not target[train].all():
                fitted = model().fit(features[train], target[train])
                raw[test] = fitted.predict_proba(features[test])[:, 1]
    isotonic = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(raw, target)
    x, y = _smoothed(isotonic, target)
    trees = export_trees(model().fit(features, target), x, y, bool(np.isnan(features).any()))
    return trees, np.interp(raw, x, y)


def _smoothed(isotonic: IsotonicRegression, target: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Knots of the isotonic map. Its ends are drawn in by the rule of succession: no finite sample proves 0 or 1, and a
    small slope is kept so that candidates on a step are still told apart."""
    x = np.asarray(isotonic.X_thresholds_, dtype=np.float64)
    y = np.asarray(isotonic.y_thresholds_, dtype=np.float64)
    margin = 1.0 / (len(target) + 2.0)
    y = np.clip(y, margin, 1.0 - margin)
    x, first = np.unique(x, return_index=True)
    y = np.maximum.accumulate(y[first]) * 0.98 + 0.02 * x
    return x, np.clip(y, 0.0, 1.0)


def _never() -> Trees:
    """For an outcome that never occurred: a single leaf that gives (almost) zero."""
    one, none = np.zeros(1), np.full(1, LEAF, dtype=np.int32)
    zero = np.zeros(1, dtype=np.int32)
    return Trees(none, one, zero, zero, one, zero, -12.0, np.array([0.0, 1.0]), np.array([0.0, 1.0]))


def export_trees(model: HistGradientBoostingClassifier, x: Floats, y: Floats, missing: bool = False) -> Trees:
    """Node tables of all trees in one, children behind their parents (scikit-learn fills them so). x, y: the isotonic
    map. missing: features may be NaN."""
    tables, roots, start = [], [], 0
    for stage in model._predictors:
        nodes = stage[0].nodes
        roots.append(start)
        leaf = nodes["is_leaf"].astype(bool)
        tables.append(
            (
                np.where(leaf, LEAF, nodes["feature_idx"].astype(np.int64)),
                np.where(leaf, 0.0, np.minimum(nodes["num_threshold"], MOST)),
                np.where(leaf, 0, nodes["left"].astype(np.int64) + start),
                np.where(leaf, 0, nodes["right"].astype(np.int64) + start),
                np.where(leaf, nodes["value"], 0.0),
                np.where(leaf, 0, nodes["missing_go_to_left"]),
            )
        )
        start += len(nodes)
    feature, threshold, left, right, value, to_left = (np.concatenate([t[k] for t in tables]) for k in range(6))
    return Trees(
        feature.astype(np.int32),
        threshold.astype(np.float64),
        left.astype(np.int32),
        right.astype(np.int32),
        value.astype(np.float64),
        np.array(roots, dtype=np.int32),
        float(np.ravel(model._baseline_prediction)[0]),
        x,
        y,
        to_left.astype(np.bool_) if missing else None,
    )
