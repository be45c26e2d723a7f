"""Was it a clean pick? A calibrated judgement from what a robot can measure: the tool's sensors, the frames before and
after, and a look at the load where the cell has one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from pydantic import Field

from robin_grasp.picks.load_features import LoadSegmenter
from robin_grasp.picks.outcome import PickOutcome, PickResult
from robin_grasp.picks.pick_features import FEATURES, PLACE, Lack, PickEvidence, pick_evidence
from robin_grasp.picks.pick_judge import RESULTS, PickJudge, judge_set, load_judge, shipped_judge
from robin_grasp.plan import Grasp
from robin_grasp.tool import CellConfig, mask_to_cups
from robin_perception.core.config import StrictConfig
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene

REASONS = 4  # features that are told, of those that speak for the judgement
LEAST_PULL = 0.3  # logits


class PickCheckConfig(StrictConfig):
    """Which judge is asked."""

    judge_file: Path | None = Field(None, description="file of `robin pickcheck fit`; empty: the judge that is shipped")


@dataclass(frozen=True)
class PickJudgement:
    """result: the likeliest, and its probability. probabilities: of all five results, sum 1. reasons: short texts, the
    strongest first. lacks: what it had to do without; the probabilities are those of a judge trained without it.
    features: every figure it knew, by name. target_gone, target_changed: shares of the target's mask that sank, and
    that sank or shows another colour; NaN: unknown. neighbours_gone: ids of other masks that changed as a whole.
    after_s: stamp of the frame after, None without one."""

    result: PickResult
    probability: float
    reasons: tuple[str, ...]
    target_gone: float
    neighbours_gone: tuple[int, ...]
    target_changed: float = math.nan
    probabilities: Mapping[PickResult, float] = field(default_factory=dict)
    features: Mapping[str, float] = field(default_factory=dict)
    lacks: tuple[Lack, ...] = ()
    after_s: float | None = None


class PickChecker:
    """Judges the picks of one cell. see_load: runs the network on the look at the load; None: it is not asked.

    Raises RobinError MODEL_* where the judge's file is missing or damaged.
    """

    def __init__(
        self, cell: CellConfig, config: PickCheckConfig | None = None, see_load: LoadSegmenter | None = None
    ) -> None:
        self.cell = cell
        self.config = config or PickCheckConfig()
        self.judge = shipped_judge() if self.config.judge_file is None else load_judge(self.config.judge_file)
        self._see_load = see_load

    def check(
        self, grasp: Grasp, scene: Scene, before: Frame, after: Frame | None, outcome: PickOutcome
    ) -> PickJudgement:
        """Judge one pick from what ``outcome`` measured, never from its result or truth. scene: of ``before``. after:
        None where no frame could be taken. Raises RobinError OUTCOME_INVALID for figures of another tool."""
        evidence = pick_evidence(grasp, scene, before, after, outcome, self.cell, self._see_load)
        found = judged(self.judge, evidence, mask_to_cups(grasp.cups))
        return found if after is None else replace(found, after_s=after.stamp_s)


def judge_pick(
    grasp: Grasp,
    scene: Scene,
    before: Frame,
    after: Frame | None,
    outcome: PickOutcome,
    cell: CellConfig,
    config: PickCheckConfig | None = None,
    see_load: LoadSegmenter | None = None,
) -> PickJudgement:
    """``PickChecker.check`` for a single pick."""
    return PickChecker(cell, config, see_load).check(grasp, scene, before, after, outcome)


def judged(judge: PickJudge, evidence: PickEvidence, cups: tuple[int, ...]) -> PickJudgement:
    """What the judge makes of the evidence. cups: those that were open."""
    row, chosen = evidence.row(), judge_set(evidence.groups)
    odds = judge.probabilities(chosen, row[None])[0]
    result = RESULTS[int(np.argmax(odds))]
    values = evidence.values
    return PickJudgement(
        result=result,
        probability=float(odds.max()),
        reasons=(*_facts(values, cups), *_for(judge, chosen, evidence, result), *map(str, evidence.lacks)),
        target_gone=values["target_sunk"],
        neighbours_gone=evidence.neighbours_gone,
        target_changed=values["target_changed"],
        probabilities={result: float(p) for result, p in zip(RESULTS, odds, strict=True)},
        features={name: value for name, value in values.items() if not math.isnan(value)},
        lacks=evidence.lacks,
    )


def _facts(values: dict[str, float], cups: tuple[int, ...]) -> list[str]:
    held, weight_n = round(values["held_share"] * len(cups)), values["weight_n"]
    load = values["log_load"]
    ratio = "" if math.isnan(load) else f", {math.exp(load):.1f} times what was expected"
    return [f"{held} of {len(cups)} cups hold", f"{weight_n:.1f} N on the tool{ratio}"]


def _for(judge: PickJudge, chosen: str, evidence: PickEvidence, result: PickResult) -> list[str]:
    """What speaks most for the result, against what clean picks show; for a clean one nothing needs to be said."""
    if result is PickResult.CLEAN:
        return []
    row = evidence.row()
    pull = judge.pull(chosen, row, judge.typical, result)
    told = [name for name in FEATURES if pull[PLACE[name]] > LEAST_PULL and not math.isnan(row[PLACE[name]])]
    told.sort(key=lambda name: -pull[PLACE[name]])
    return [f"{FEATURES[name]}: {row[PLACE[name]]:.3g}" for name in told[:REASONS]]
