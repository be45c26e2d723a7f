"""The gate on the fleet's history: no site, stratum or packaging may be worse than a stated margin.

Non-inferiority: the low end of the interval of (candidate - running) must lie above minus the margin. What has too few
parcels or piles for an interval is told as not judged, and is no pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from edge_adapt.models.gate import Check
from robin_perception.core.config import StrictConfig
from robin_perception.evaluation.evaluate import SceneResult, paired_differences


class HistoryConfig(StrictConfig):
    """What "not worse" means. Figures are fractions."""

    figure: Literal["overlap_f", "boundary_f", "ap50", "ap75"] = "overlap_f"
    margin: float = Field(0.02, gt=0, lt=1, description="By how much a group may be worse, at the low end.")
    least_parcels: int = Field(30, ge=1, description="Labelled parcels that a group needs to be judged.")
    least_piles: int = Field(4, ge=2, description="Piles that a group needs to be judged.")
    confidence: float = Field(0.95, gt=0.5, lt=1)
    replicates: int = Field(1000, ge=100, le=100_000)


@dataclass(frozen=True)
class Group:
    """One site, stratum or packaging. check: None where there was too little to judge by; parcels, piles: how much."""

    name: str
    parcels: int
    piles: int
    check: Check | None


def judge_history(
    groups: Mapping[str, Sequence[int]],
    running: Sequence[SceneResult],
    candidate: Sequence[SceneResult],
    piles: Sequence[str],
    rng: np.random.Generator,
    config: HistoryConfig | None = None,
) -> tuple[Group, ...]:
    """groups: name -> rows of the results, which are of the same scenes in the same order. piles: of each scene."""
    config = config or HistoryConfig()
    found = []
    for name, rows in sorted(groups.items()):
        before, after = [running[row] for row in rows], [candidate[row] for row in rows]
        own = [piles[row] for row in rows]
        parcels, count = sum(len(one.tags) for one in before), len(set(own))
        check = None
        if parcels >= config.least_parcels and count >= config.least_piles:
            check = _check(name, before, after, own, rng, config)
        found.append(Group(name, parcels, count, check))
    return tuple(found)


def _check(
    name: str,
    before: Sequence[SceneResult],
    after: Sequence[SceneResult],
    piles: Sequence[str],
    rng: np.random.Generator,
    config: HistoryConfig,
) -> Check:
    differences = paired_differences(
        before,
        after,
        (config.figure,),
        rng,
        blocks=piles,
        confidence=config.confidence,
        replicates=config.replicates,
    )
    one = differences.get(config.figure)
    if one is None:
        return Check(name, False, float("nan"), -config.margin, text="cannot be told from these pictures")
    text = (
        f"{config.figure} {one['before']:.4f} to {one['after']:.4f}, interval [{one['low']:+.4f}, {one['high']:+.4f}], "
        f"may be worse by {config.margin:g}"
    )
    return Check(name, one["low"] > -config.margin, one["value"], -config.margin, one["low"], one["high"], text)
