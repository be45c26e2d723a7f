"""Learns the judge of picks from simulated ones: monotone boosted trees for each result and each combination of what a
judgement can do without, calibrated on picks of other piles.

It needs scikit-learn and writes plain arrays that ``robin_grasp.picks.pick_judge`` reads with numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edge_adapt.boosting import BoostingConfig, boosted, fit_calibrated
from robin_grasp.boosted_trees import Trees
from robin_grasp.picks.outcome import PickResult
from robin_grasp.picks.pick_features import FEATURE_GROUPS, FEATURE_NAMES
from robin_grasp.picks.pick_judge import JUDGE_SETS, RESULTS, JudgedPicks, PickJudge, save_judge
from robin_perception.core.errors import Code, RobinError

Floats = NDArray[np.float64]

_TWO_THINGS = (
    *("outside_share", "outside_dm2", "other_under", "other_gone_under", "whole_area_ratio", "notch_m"),
    *("blobs", "second_blob_share", "second_part_share", "second_face_share", "off_plane_share"),
    *("load_instances", "second_instance_share", "second_instance_detection"),
    *("held_beside_load", "held_beside_first", "boundary_line", "boundary_part_share"),
    *("log_load", "load_sigmas", "shed_n", "fall_n", "gone_ratio"),
    *("held_share", "neighbour_changed", "neighbours_gone_dm2", "touching_changed", "touching_gone_dm2"),
)
MORE: Mapping[PickResult, tuple[str, ...]] = {
    PickResult.CLEAN: (
        *("target_changed", "overlap", "held_share", "held_at_end_share", "arrive_share"),
        *("rectangularity", "solidity", "first_instance_share"),
    ),
    PickResult.MISS: (),
    PickResult.DROP: ("lost_in_transfer", "fall_n"),
    PickResult.MULTI: _TWO_THINGS,
    PickResult.WRONG: ("missing_share", "held_share"),
}
"""More of these never makes a result less likely."""
LESS: Mapping[PickResult, tuple[str, ...]] = {
    PickResult.CLEAN: (
        *("outside_share", "missing_share", "other_under", "other_gone_under", "notch_m", "shed_n", "target_kept"),
        *("blobs", "second_blob_share", "second_part_share", "second_face_share"),
        *("load_instances", "second_instance_share", "neighbours_gone_dm2"),
        *("held_beside_load", "held_beside_first", "boundary_line", "boundary_part_share"),
    ),
    PickResult.MISS: ("held_share", "weight_n", "held_at_end_share", "arrive_n"),
    PickResult.DROP: ("held_at_end_share", "arrive_n"),
    PickResult.MULTI: ("rectangularity", "solidity", "overlap", "first_instance_share"),
    PickResult.WRONG: ("target_changed", "overlap"),
}
"""More of these never makes a result more likely."""


class JudgeTrainingConfig(BoostingConfig):
    """Of each ensemble."""

    rounds: int = Field(100, ge=5, le=2000)
    leaves: int = Field(8, ge=2, le=64)
    least_per_leaf: int = Field(8, ge=1, le=1000)
    learning_rate: float = Field(0.07, gt=0, le=1)
    l2: float = Field(1.0, ge=0, le=1000)
    least_picks: int = Field(200, ge=20)


def train_judge(
    picks: JudgedPicks,
    out_path: Path,
    seed: int,
    config: JudgeTrainingConfig | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> dict[str, dict[str, dict[str, int]]]:
    """Fit, calibrate, write the file. Returns the cross-validated confusion of each set: set -> truth -> judged ->
    picks; it stands in the file's provenance too. Raises RobinError OPTION_INVALID for too few picks."""
    config = config or JudgeTrainingConfig()
    if len(picks.result) < config.least_picks:
        text = f"a judge needs at least {config.least_picks} picks, got {len(picks.result)}"
        raise RobinError(Code.OPTION_INVALID, text)
    models: dict[str, dict[PickResult, Trees]] = {}
    confusion: dict[str, dict[str, dict[str, int]]] = {}
    for name in JUDGE_SETS:
        models[name], confusion[name] = _fit_set(picks, name, config, seed)
    clean = picks.features[picks.result == PickResult.CLEAN.value]
    facts = {
        **(provenance or {}),
        "seed": seed,
        "picks": {result.value: int((picks.result == result.value).sum()) for result in RESULTS},
        "config": config.model_dump(),
        "typical": _medians(clean),
        "cross_validation": confusion,
    }
    save_judge(PickJudge(models, facts), out_path)
    return confusion


def _fit_set(
    picks: JudgedPicks, name: str, config: JudgeTrainingConfig, seed: int
) -> tuple[dict[PickResult, Trees], dict[str, dict[str, int]]]:
    """Trees of one set, from the picks that have its features, with those of other groups taken away."""
    groups = name.split("+")
    rows = np.all([picks.has(group) for group in groups], axis=0)
    features = picks.features[rows].copy()
    for other in set(FEATURE_GROUPS) - set(groups):
        features[:, [FEATURE_NAMES.index(feature) for feature in FEATURE_GROUPS[other]]] = 0.0  # never split at
    result, pile = picks.result[rows], picks.group[rows]
    models, single = {}, []
    for wanted in RESULTS:
        constraints = _constraints(wanted)
        target = np.asarray(result == wanted.value)
        models[wanted], held_out = fit_calibrated(
            partial(boosted, config, constraints, seed), features, target, pile, config.folds
        )
        single.append(held_out)
    judged = np.array([r.value for r in RESULTS])[np.argmax(np.stack(single, axis=1), axis=1)]
    return models, confusion_of(result, judged)


def confusion_of(truth: NDArray[np.str_], judged: NDArray[np.str_]) -> dict[str, dict[str, int]]:
    """truth -> judged -> picks."""
    return {a.value: {b.value: int(((truth == a.value) & (judged == b.value)).sum()) for b in RESULTS} for a in RESULTS}


def _constraints(result: PickResult) -> list[int]:
    return [1 if name in MORE[result] else -1 if name in LESS[result] else 0 for name in FEATURE_NAMES]


def _medians(features: Floats) -> dict[str, float]:
    found = {}
    for k, name in enumerate(FEATURE_NAMES):
        known = features[np.isfinite(features[:, k]), k]
        if len(known):
            found[name] = round(float(np.median(known)), 5)
    return found
