"""A candidate model beside the current one, on the frames that the recorder kept of the picks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_adapt.decision import Decision
from robin_bringup.acceptance import FrameComparison
from robin_grasp.plan import FailedPick, Plan, Planner
from robin_grasp.planner.config import PlannerConfig
from robin_grasp.planner.registry import make_planner
from robin_grasp.tool import CellConfig, cups_to_mask
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.image_folder import load_frame
from robin_perception.core.scene import Scene
from robin_perception.evaluation.metrics import agreement, f_score
from robin_perception.segmentation.segmenter import Segmenter

SAME_PARCEL_IOU = 0.5


@dataclass(frozen=True)
class PlannerFiles:
    """How the station plans: planner by name, and its files (None: what is shipped)."""

    planner: str
    cell: CellConfig
    config: PlannerConfig

    def make(self) -> Planner:
        return make_planner(self.planner, self.cell, self.config)


class SideBySide:
    """Two loaded segmenters and the station's way to plan."""

    def __init__(self, current: Segmenter, candidate: Segmenter, planning: PlannerFiles) -> None:
        self._current, self._candidate, self._planning = current, candidate, planning
        self._compared = 0

    @property
    def model_id(self) -> str:
        """Of the candidate."""
        return self._candidate.model_id

    def compare(self, decision: Decision, record: Path) -> FrameComparison:
        """One pick's frame, as kept beside its record, through both models and the station's planner.

        record: the file that holds the decision. A frame that cannot be read, or that a model fails on, is a failure
        in the result, never an exception.
        """
        try:
            frame = kept_frame(decision, record)
            failed = failed_picks(decision)
            (current, current_plan), (candidate, candidate_plan) = self._both(frame, failed)
        except RobinError as exc:
            return FrameComparison(decision.decision_id, failure=str(exc))
        return FrameComparison(
            decision_id=decision.decision_id,
            mask_overlap_f=mask_overlap_f(candidate, current),
            current_instances=len(current.instances),
            candidate_instances=len(candidate.instances),
            current_has_grasp=current_plan.best is not None,
            candidate_has_grasp=candidate_plan.best is not None,
            same_parcel=same_parcel(current, current_plan, candidate, candidate_plan),
            current_segment_ms=current.timings_ms["segment"],
            candidate_segment_ms=candidate.timings_ms["segment"],
        )

    def _both(self, frame: Frame, failed: tuple[FailedPick, ...]) -> list[tuple[Scene, Plan]]:
        """Current and candidate. Who goes first changes with every frame, so that neither always finds warm caches."""
        order = (0, 1) if self._compared % 2 == 0 else (1, 0)
        self._compared += 1
        models = (self._current, self._candidate)
        seen = {index: self._see(models[index], frame, failed) for index in order}
        return [seen[0], seen[1]]

    def _see(self, segmenter: Segmenter, frame: Frame, failed: tuple[FailedPick, ...]) -> tuple[Scene, Plan]:
        scene = segmenter.segment(frame)
        return scene, self._planning.make().plan(frame, scene, failed)

    def close(self) -> None:
        self._current.close()
        self._candidate.close()


def kept_frame(decision: Decision, record: Path) -> Frame:
    """The frame that the decision was made on. Raises RobinError INPUT_MISSING where no image was kept."""
    color = decision.images.get("color")
    if color is None:
        raise RobinError(Code.INPUT_MISSING, f"{decision.decision_id}: no image was kept beside its record")
    return load_frame((record.parent / color).parent)


def failed_picks(decision: Decision) -> tuple[FailedPick, ...]:
    """What the planner was told of failures before this pick."""
    return tuple(FailedPick(f.position_m, cups_to_mask(f.cups), f.times) for f in decision.failed_before)


def mask_overlap_f(candidate: Scene, current: Scene) -> float:
    """Overlap F of two segmentations of one frame, masks paired one to one; 1 where neither sees a parcel."""
    if not candidate.instances and not current.instances:
        return 1.0
    found = agreement(candidate.labels, current.labels)
    hit = float(found.pred_hit.sum())
    return f_score(hit / max(1, int(found.pred_area.sum())), hit / max(1, int(found.true_area.sum())))


def same_parcel(current: Scene, current_plan: Plan, candidate: Scene, candidate_plan: Plan) -> bool | None:
    """Whether the masks of the two best grasps overlap by more than half; None where a grasp is missing."""
    if current_plan.best is None or candidate_plan.best is None:
        return None
    a = current.labels == current_plan.best.instance_id
    b = candidate.labels == candidate_plan.best.instance_id
    union = int(np.count_nonzero(a | b))
    return union > 0 and int(np.count_nonzero(a & b)) > SAME_PARCEL_IOU * union
