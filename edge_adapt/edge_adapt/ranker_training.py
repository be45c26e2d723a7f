"""Learns the planner's ranker from outcomes: monotone boosted trees for P(clean) and P(multi), isotonic calibration.

It needs scikit-learn and writes plain arrays that ``robin_grasp.planner.learned_ranker`` reads with numpy.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import GroupKFold

from edge_adapt.decision import Decision
from robin_grasp.picks.outcome import PickResult
from robin_grasp.planner.learned_ranker import LEAF, LearnedRanker, Trees, save_ranker
from robin_grasp.planner.ranker import CLASS_PREFIX, FEATURE_NAMES
from robin_perception.core.config import StrictConfig
from robin_perception.core.errors import Code, RobinError

Floats = NDArray[np.float64]

BETTER = [
    "seal_min",
    "seal_mean",
    "seal_sum",
    "hold_probability",
    "wrench_margin",
    "edge_min_m",
    "other_min_m",
    "depth_share",
    "visible_fraction",
    "mask_quality",
    "detection",
    "free_probability",
    "p_clean_geometric",
    "carry_room_m",
    "headroom_m",
]
"""More of these never makes a clean pick less likely."""
WORSE = [
    "lever_m",
    "touch_sum",
    "boundary_max",
    "gap_max_m",
    "cup_tilt_max_rad",
    "rough_max_m",
    "holes_max",
    "tool_tilt_rad",
    "plane_rms_m",
    "cover",
    "merged_probability",
    "push_m",
    "mass_kg",
    "failed_near",
]
RISKIER = ["touch_sum", "boundary_max", "cover", "merged_probability"]
SAFER = ["other_min_m", "visible_fraction", "free_probability", "p_clean_geometric"]


class RankerTrainingConfig(StrictConfig):
    """Small trees, many of them, and few: outcomes are costly."""

    rounds: int = Field(100, ge=5, le=2000)
    learning_rate: float = Field(0.05, gt=0, le=1)
    leaves: int = Field(6, ge=2, le=64)
    least_per_leaf: int = Field(25, ge=1, le=1000)
    l2: float = Field(3.0, ge=0, le=1000)
    folds: int = Field(5, ge=2, le=20)
    least_outcomes: int = Field(200, ge=20)


@dataclass(frozen=True)
class Outcomes:
    """N executed picks. features: float64 [N, F] in the order of FEATURE_NAMES; clean, multi: bool [N]; group: int
    [N], which pile each is from, so that no pile is on both sides of a fold; geometric: float64 [N], P(clean) of the
    geometric ranker."""

    features: Floats
    clean: NDArray[np.bool_]
    multi: NDArray[np.bool_]
    group: NDArray[np.int64]
    geometric: Floats


@dataclass(frozen=True)
class RankerReport:
    """Cross-validated figures of P(clean), the geometric ranker's on the same picks beside them."""

    picks: int
    clean_rate: float
    log_loss: float
    log_loss_geometric: float
    auc: float
    auc_geometric: float


def outcomes_from_rows(rows: Iterable[tuple[dict[str, float], str, int]]) -> Outcomes:
    """From (terms of the executed grasp, result, pile number). Rows that lack a feature are refused: they were made
    by another version of the planner. A class that a row does not know is 0. Raises RobinError RECORD_INVALID naming
    the feature."""
    features, results, groups, geometric = [], [], [], []
    for terms, result, group in rows:
        missing = [name for name in FEATURE_NAMES if name not in terms and not name.startswith(CLASS_PREFIX)]
        if missing:
            raise RobinError(Code.RECORD_INVALID, f"outcome without the term '{missing[0]}': made by another planner")
        features.append([terms.get(name, 0.0) for name in FEATURE_NAMES])
        results.append(result)
        groups.append(group)
        geometric.append(terms.get("p_clean_geometric", terms.get("p_clean", 0.5)))
    found = np.array(results, dtype=object)
    return Outcomes(
        np.array(features, dtype=np.float64).reshape(-1, len(FEATURE_NAMES)),
        np.asarray(found == PickResult.CLEAN.value, dtype=bool),
        np.asarray(found == PickResult.MULTI.value, dtype=bool),
        np.array(groups, dtype=np.int64),
        np.array(geometric, dtype=np.float64),
    )


def outcomes_from_decisions(decisions: Iterable[Decision]) -> Outcomes:
    """From decision records; records without an executed grasp are left out."""
    piles: dict[tuple[str, int], int] = {}

    def rows() -> Iterable[tuple[dict[str, float], str, int]]:
        for decision in decisions:
            if decision.chosen is None or decision.outcome is None:
                continue
            pile = piles.setdefault((decision.context.run_id, decision.context.pile), len(piles))
            yield decision.chosen.terms, decision.result, pile

    return outcomes_from_rows(rows())


def train_ranker(
    outcomes: Outcomes,
    out_path: Path,
    seed: int,
    config: RankerTrainingConfig | None = None,
    provenance: dict[str, Any] | None = None,
) -> RankerReport:
    """Fit, calibrate on out-of-fold scores, write the file. The report stands in the file's provenance too.

    Raises RobinError OPTION_INVALID when there are too few outcomes, or no failure or no success among them.
    """
    config = config or RankerTrainingConfig()
    count = len(outcomes.clean)
    if count < config.least_outcomes:
        raise RobinError(Code.OPTION_INVALID, f"a ranker needs at least {config.least_outcomes} outcomes, got {count}")
    if outcomes.clean.all() or not outcomes.clean.any():
        raise RobinError(Code.OPTION_INVALID, "a ranker needs clean picks and failures; all outcomes are alike")
    clean, held_out = _fit(outcomes, outcomes.clean, _constraints(BETTER, WORSE), config, seed)
    multi, _ = _fit(outcomes, outcomes.multi, _constraints(RISKIER, SAFER), config, seed)
    report = _report(outcomes, held_out)
    facts = {**(provenance or {}), "seed": seed, "config": config.model_dump(), "cross_validation": report.__dict__}
    save_ranker(LearnedRanker(clean, multi, facts), out_path)
    return report


def _constraints(rising: list[str], falling: list[str]) -> list[int]:
    return [1 if name in rising else -1 if name in falling else 0 for name in FEATURE_NAMES]


def _fit(
    outcomes: Outcomes, target: NDArray[np.bool_], constraints: list[int], config: RankerTrainingConfig, seed: int
) -> tuple[Trees, Floats]:
    """Trees on all outcomes, calibrated on the out-of-fold scores, which are returned too (calibrated)."""
    if not target.any():
        return _never(), np.zeros(len(target))

    def model() -> HistGradientBoostingClassifier:
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

    raw = np.full(len(target), float(target.mean()))
    folds = min(config.folds, len(np.unique(outcomes.group)))
    if folds >= 2:
        for train, test in GroupKFold(folds).split(outcomes.features, target, outcomes.group):
            if target[train].any() and not target[train].all():
                fitted = model().fit(outcomes.features[train], target[train])
                raw[test] = fitted.predict_proba(outcomes.features[test])[:, 1]
    isotonic = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(raw, target)
    x, y = _smoothed(isotonic, target)
    trees = _export(model().fit(outcomes.features, target), x, y)
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


def _export(model: HistGradientBoostingClassifier, x: Floats, y: Floats) -> Trees:
    """Node tables of all trees in one, children behind their parents (scikit-learn fills them so)."""
    tables, roots, start = [], [], 0
    for stage in model._predictors:
        nodes = stage[0].nodes
        roots.append(start)
        leaf = nodes["is_leaf"].astype(bool)
        tables.append(
            (
                np.where(leaf, LEAF, nodes["feature_idx"].astype(np.int64)),
                np.where(leaf, 0.0, nodes["num_threshold"]),
                np.where(leaf, 0, nodes["left"].astype(np.int64) + start),
                np.where(leaf, 0, nodes["right"].astype(np.int64) + start),
                np.where(leaf, nodes["value"], 0.0),
            )
        )
        start += len(nodes)
    feature, threshold, left, right, value = (np.concatenate([t[k] for t in tables]) for k in range(5))
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
    )


def _report(outcomes: Outcomes, held_out: Floats) -> RankerReport:
    ours = np.clip(held_out, 1e-4, 1 - 1e-4)
    geometric = np.clip(outcomes.geometric, 1e-4, 1 - 1e-4)
    return RankerReport(
        picks=len(outcomes.clean),
        clean_rate=float(outcomes.clean.mean()),
        log_loss=float(log_loss(outcomes.clean, ours)),
        log_loss_geometric=float(log_loss(outcomes.clean, geometric)),
        auc=float(roc_auc_score(outcomes.clean, ours)),
        auc_geometric=float(roc_auc_score(outcomes.clean, geometric)),
    )
