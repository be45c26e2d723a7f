"""Piles of hand-made parcels that are picked one by one, as the samples of a store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from edge_adapt.decision import DecisionContext, build_decision
from edge_adapt.record_build import judgement_record
from edge_adapt.store.sample import Sample, sample_of
from edge_adapt.store.store import SampleStore
from helpers.decision_samples import sample_outcome, tool_pose
from helpers.label_samples import Block, judgement, picture, scene
from robin_grasp.picks.outcome import PickResult
from robin_grasp.plan import Grasp, Plan
from robin_perception.core.condition import Condition, Family, PickingEffect
from robin_perception.core.errors import Code

PARCELS = (
    Block(30, 30, 60, 45, 0.08, (190, 150, 100), 1),
    Block(130, 25, 55, 50, 0.06, (90, 120, 190), 2),
    Block(60, 105, 70, 40, 0.05, (160, 60, 80), 3),
)
DARK = Condition(Code.LIGHT_LOW, "dark", Family.ENVIRONMENT, 3.0, 1.0, "", 0.0, PickingEffect.GO_ON, "dark")


def pile_samples(pile: int, *, judged: PickResult = PickResult.CLEAN, dark: bool = False) -> Iterator[Sample]:
    """One sample for each of PARCELS, taken in order, a little farther to the right than in the pile before."""
    blocks = [block.shifted(6 * (pile % 4)) for block in PARCELS]
    for pick in range(len(blocks)):
        left = blocks[pick:]
        before, after = picture(left, 100 * pile + pick + 1), picture(left[1:], 100 * pile + pick + 51)
        seen = replace(scene([b.mask for b in left], before.stamp_s), conditions=(DARK,) if dark else ())
        grasp = Grasp(tool_pose(0.7, 0.1), 0b00000110, 1, 0.9, {"p_clean": 0.9})
        plan = Plan(Code.OK, "1 grasp", (grasp,), (), "by hand")
        context = DecisionContext(run_id="piles", pile=pile, pick=pick)
        decision = build_decision(
            context, before, seen, plan, sample_outcome("clean"), judgement=judgement_record(judgement(judged))
        )
        yield sample_of(decision, before, seen, after, sample_outcome("clean"))


def fill(folder: Path, piles: int, first: int = 0, **how: object) -> None:
    """Add that many piles to the store."""
    with SampleStore(folder, seed=1) as store:
        for pile in range(first, first + piles):
            for sample in pile_samples(pile, **how):  # type: ignore[arg-type]
                store.add(sample)


def truth(pile: int, pick: int) -> np.ndarray:
    """uint16 [H, W]: 1, 2, ... for the parcels that are left, in the order in which they go."""
    found = np.zeros(PARCELS[0].mask.shape, dtype=np.uint16)
    for number, block in enumerate(PARCELS[pick:], start=1):
        found[block.shifted(6 * (pile % 4)).mask] = number
    return found
