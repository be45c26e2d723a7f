"""Recorded decisions made again by two models: which picks would change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_adapt.bag.compare import MachineTolerances, machine_differences
from edge_adapt.bag.messages import plan_message
from edge_adapt.bag.picture import draw_difference
from edge_adapt.bag.pipeline import PipelineRecord, start_planner, start_segmenter
from edge_adapt.bag.replay import ReplayedPlan
from edge_adapt.store.sample import StoredSample
from robin_fleet.ledger.samples import FAILED
from robin_grasp.picks.plan_server import IssuedPlan
from robin_grasp.plan import Plan
from robin_perception.core.frame import Frame
from robin_perception.core.helper_thread import HelperThread
from robin_perception.core.scene import Scene

SHOWN = 6
"""Changed picks of which a picture is made."""


@dataclass(frozen=True)
class Changed:
    """A pick that would be another one. result: what became of the recorded one. text: the first difference. picture:
    RGB uint8, the running model's on the left; None beyond the first SHOWN."""

    decision: str
    result: str
    text: str
    picture: NDArray[np.uint8] | None = None


@dataclass
class Replayed:
    """of: decisions that were made again."""

    of: int = 0
    changed: list[Changed] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        failed = sum(one.result in FAILED for one in self.changed)
        rows = [{"decision": one.decision, "result": one.result, "text": one.text} for one in self.changed]
        return {"of": self.of, "changed": len(self.changed), "changed_failed": failed, "decisions": rows}


def replay_decisions(
    samples: Sequence[StoredSample],
    running: Path,
    candidate: Path,
    engine: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
    limits: MachineTolerances | None = None,
) -> Replayed:
    """Both models see and plan every sample's frame, with the planner and the tolerances of ``robin replay``. Raises
    RobinError MODEL_*, ENGINE_*, and what ``StoredSample.frame`` raises."""
    record, limits = PipelineRecord(engine=engine), limits or MachineTolerances()
    sides = [_plans(samples, record, bundle, half, progress) for half, bundle in enumerate((running, candidate))]
    found = Replayed(of=len(samples))
    for sample, one, other in zip(samples, *sides, strict=True):
        differences = machine_differences(
            {"plan": _message(one, record)}, {"plan": _message(other, record)}, limits, record.cell.tool
        )
        if not differences:
            continue
        frame, scene, plan = other
        picture = None
        if len(found.changed) < SHOWN:
            shown = ReplayedPlan(0, "", 0, tuple(differences), frame, scene, one[2].best, plan.best)
            picture = draw_difference(shown, record.cell.tool)
        found.changed.append(Changed(sample.record.decision_id, sample.record.result, str(differences[0]), picture))
    return found


def _plans(
    samples: Sequence[StoredSample],
    record: PipelineRecord,
    bundle: Path,
    half: int,
    progress: Callable[[int, int], None],
) -> list[tuple[Frame, Scene, Plan]]:
    helper = HelperThread()
    segmenter, planner = start_segmenter(record, bundle, helper), start_planner(record, helper=helper)
    found = []
    try:
        for done, sample in enumerate(samples, 1):
            frame = sample.frame()
            scene = segmenter.segment(frame)
            found.append((frame, scene, planner.plan(frame, scene)))
            progress(half * len(samples) + done, 2 * len(samples))
    finally:
        segmenter.close()
    return found


def _message(seen: tuple[Frame, Scene, Plan], record: PipelineRecord) -> dict[str, Any]:
    frame, scene, plan = seen
    return dict(plan_message(IssuedPlan("", True, plan, frame, scene), record.cell))
