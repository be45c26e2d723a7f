"""The planner's learned ranker: boosted trees for P(clean) and P(multi), read from one .npz file
(``robin_grasp.boosted_trees``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robin_grasp.boosted_trees import Trees, load_trees, save_trees
from robin_grasp.planner.ranker import FEATURE_NAMES, Odds, feature_matrix
from robin_perception.core.errors import Code, RobinError

Floats = NDArray[np.float64]
FORMAT = "robin-ranker-1"
MODELS = ("clean", "multi")
SHIPPED_RANKER = Path(__file__).parent / "data" / "ranker.npz"


class LearnedRanker:
    """P(clean) and P(multi) from trees that were fitted to outcomes of the simulated cell."""

    name = "learned"

    def __init__(self, clean: Trees, multi: Trees, provenance: dict[str, Any]) -> None:
        self.clean = clean
        self.multi = multi
        self.provenance = provenance

    def odds(self, terms: dict[str, Floats]) -> Odds:
        features = feature_matrix(terms)
        if len(features) == 0:
            return Odds(np.zeros(0), np.zeros(0))
        clean = self.clean.probability(features)
        return Odds(clean, np.minimum(self.multi.probability(features), 1.0 - clean))


def save_ranker(ranker: LearnedRanker, path: Path) -> None:
    """Write atomically. Raises RobinError DISK_FULL or OPTION_INVALID naming the file."""
    models = {"clean": ranker.clean, "multi": ranker.multi}
    save_trees(path, FORMAT, FEATURE_NAMES, models, ranker.provenance)


def load_ranker(path: Path) -> LearnedRanker:
    """Read and verify. Raises RobinError MODEL_MISSING, MODEL_MANIFEST_INVALID, MODEL_TENSOR_MISSING or
    MODEL_HASH_MISMATCH, naming the file."""
    found = load_trees(path, FORMAT, "ranker", FEATURE_NAMES, MODELS)
    return LearnedRanker(found.models["clean"], found.models["multi"], found.provenance)


def load_ranker_or_none(path: Path | None) -> tuple[LearnedRanker | None, tuple[str, ...]]:
    """The ranker, or None with a flag that says why: "ranker_missing" or "ranker_damaged"."""
    try:
        return load_ranker(path or SHIPPED_RANKER), ()
    except RobinError as exc:
        return None, ("ranker_missing" if exc.code is Code.MODEL_MISSING else "ranker_damaged",)
