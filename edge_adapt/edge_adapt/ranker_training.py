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
from sklearn.metrics import log_loss, roc_auc_score

from edge_adapt.boosting import BoostingConfig, boosted, fit_calibrated
from edge_adapt.decision import Decision
from robin_grasp.boosted_trees import Trees
from robin_grasp.picks.outcome import PickResult
from robin_grasp.planner.learned_ranker import LearnedRanker, save_ranker
from robin_grasp.planner.ranker import CLASS_PREFIX, FEATURE_NAMES
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


class RankerTrainingConfig(BoostingConfig):
    """Small trees, many of them, and few: outcomes are costly."""

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
    return fit_calibrated(
        lambda: boosted(config, constraints, seed), outcomes.features, target, outcomes.group, config.folds
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
