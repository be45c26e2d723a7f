"""The learned judge of picks: calibrated boosted trees on the named features of ``pick_features``.

There is a set of trees for each combination of what a judgement can do without (traces, the frame after, a look at the
load, the network's look at it), each trained without what it lacks. In a set each of the five results has an ensemble
of its own, calibrated by itself; their probabilities are then scaled to a sum of one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robin_grasp.boosted_trees import Trees, load_trees, save_trees
from robin_grasp.picks.outcome import PickResult
from robin_grasp.picks.pick_features import FEATURE_GROUPS, FEATURE_NAMES

Floats = NDArray[np.float64]
FORMAT = "robin-pick-judge-1"
SHIPPED_JUDGE = Path(__file__).parent / "data" / "pick_judge.npz"
RESULTS = tuple(PickResult)
LEAST_PROBABILITY = 1e-6


def judge_set(present: Iterable[str]) -> str:
    """Name of the set for these groups of features."""
    known = set(present)
    return "+".join(group for group in FEATURE_GROUPS if group in known)


JUDGE_SETS = tuple(
    judge_set(("tool", *traces, *change, *load))
    for load, change, traces in product(((), ("load",), ("load", "segmented")), ((), ("change",)), ((), ("traces",)))
)


@dataclass(frozen=True)
class JudgedPicks:
    """N picks. features: float64 [N, F] in the order of FEATURE_NAMES, NaN where not known. result: PickResult values
    [N]. group: int [N], which pile each is from."""

    features: Floats
    result: NDArray[np.str_]
    group: NDArray[np.int64]

    def has(self, name: str) -> NDArray[np.bool_]:
        """Which picks have a group of features: of the tool's own all."""
        columns = [FEATURE_NAMES.index(feature) for feature in FEATURE_GROUPS[name]]
        return np.asarray(np.isfinite(self.features[:, columns]).any(axis=1))


class PickJudge:
    """models: set -> result -> trees. digest: of the file that it came from."""

    def __init__(
        self, models: dict[str, dict[PickResult, Trees]], provenance: dict[str, Any], digest: str = ""
    ) -> None:
        self.models = models
        self.provenance = provenance
        self.digest = digest

    def probabilities(self, chosen: str, features: Floats) -> Floats:
        """float64 [N, 5] in the order of RESULTS, each row with sum 1. chosen: one of JUDGE_SETS. features: float64
        [N, F] in the order of FEATURE_NAMES."""
        models = self.models[chosen]
        single = np.stack([models[result].probability(features) for result in RESULTS], axis=1)
        single = np.maximum(single, LEAST_PROBABILITY)
        return np.asarray(single / single.sum(axis=1, keepdims=True))

    def pull(self, chosen: str, row: Floats, typical: Floats, result: PickResult) -> Floats:
        """How far each feature's figure, in place of its typical one, moves the trees' score towards ``result``:
        float64 [F], logits. row, typical: float64 [F]."""
        without = np.repeat(row[None], len(row) + 1, axis=0)
        places = np.arange(len(row))
        without[places, places] = typical
        score = self.models[chosen][result].raw(without)
        return np.asarray(score[-1] - score[:-1])

    @property
    def typical(self) -> Floats:
        """Median of each feature over clean picks, float64 [F]; NaN where it was not told."""
        told = self.provenance.get("typical", {})
        return np.array([float(told.get(name, np.nan)) for name in FEATURE_NAMES])


def save_judge(judge: PickJudge, path: Path) -> None:
    """Write atomically. Raises RobinError DISK_FULL or OPTION_INVALID naming the file."""
    models = {f"{name}.{result.value}": trees for name, of in judge.models.items() for result, trees in of.items()}
    save_trees(path, FORMAT, FEATURE_NAMES, models, judge.provenance)


def load_judge(path: Path) -> PickJudge:
    """Read and verify. Raises RobinError MODEL_MISSING, MODEL_MANIFEST_INVALID, MODEL_TENSOR_MISSING or
    MODEL_HASH_MISMATCH, naming the file."""
    names = [f"{name}.{result.value}" for name in JUDGE_SETS for result in RESULTS]
    found = load_trees(path, FORMAT, "pick judge", FEATURE_NAMES, names)
    models = {name: {result: found.models[f"{name}.{result.value}"] for result in RESULTS} for name in JUDGE_SETS}
    return PickJudge(models, found.provenance, found.digest)


@lru_cache(maxsize=1)
def shipped_judge() -> PickJudge:
    return load_judge(SHIPPED_JUDGE)
