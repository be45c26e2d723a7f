"""A candidate beside the running model, on the same frames, before it is used: it is compared, and nothing is done with
what it says."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field

from robin_perception.core.config import StrictConfig
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.scene import Scene
from robin_perception.core.stats import rate
from robin_perception.evaluation.metrics import overlap


class ShadowConfig(StrictConfig):
    """What a candidate must do on the next frames."""

    frames: int = Field(50, ge=1, description="Frames that both see.")
    found: float = Field(
        0.9, ge=0, le=1, description="Share of cleanly picked parcels that the candidate must have seen as one."
    )
    fewest: float = Field(0.5, ge=0, le=1, description="Parcels that it sees, as a share of what the other one sees.")
    least_iou: float = Field(0.5, gt=0, lt=1, description="Of its mask with the one that was picked by.")


class Shadow:
    """Counts over frames. A parcel that was picked cleanly was one: a candidate that did not see it as one is wrong,
    wherever else the two differ. Not thread-safe."""

    def __init__(self, config: ShadowConfig | None = None) -> None:
        self.config = config or ShadowConfig()
        self.frames = self.picked = self.seen = 0
        self.running_parcels = self.candidate_parcels = 0
        self.failure: RobinError | None = None

    def note(self, running: Scene, candidate: Scene | RobinError, picked: int = 0) -> None:
        """One frame. candidate: its scene, or why it has none. picked: id in ``running`` of the parcel that was picked
        cleanly from this frame; 0: none was. Raises RobinError INPUT_SIZE_MISMATCH for scenes of different frames."""
        self.frames += 1
        if isinstance(candidate, RobinError):
            self.failure = self.failure or candidate
            return
        self.running_parcels += len(running.instances)
        self.candidate_parcels += len(candidate.instances)
        if picked:
            table = overlap(candidate.labels, running.labels)
            column = np.flatnonzero(table.true_ids == picked)
            self.picked += 1
            self.seen += bool(column.size and table.iou[:, column].max(initial=0.0) >= self.config.least_iou)

    @property
    def done(self) -> bool:
        """Whether enough was seen, or one failure was."""
        return self.failure is not None or self.frames >= self.config.frames

    def error(self) -> RobinError | None:
        """Why the candidate must not be used; None where nothing speaks against it so far."""
        found = rate(self.seen, self.picked)
        why = None
        if self.failure is not None:
            why = f"it failed on frame {self.frames}: {self.failure}"
        elif found["high"] < self.config.found:
            why = f"it saw {self.seen} of {self.picked} cleanly picked parcels as one"
        elif self.done and self.candidate_parcels < self.config.fewest * self.running_parcels:
            why = f"it saw {self.candidate_parcels} parcels where the running model saw {self.running_parcels}"
        return None if why is None else RobinError(Code.SHADOW_REFUSED, why)

    def to_json(self) -> dict[str, Any]:
        """For the journal."""
        names = ("frames", "picked", "seen", "running_parcels", "candidate_parcels")
        error = self.error()
        return {**{name: getattr(self, name) for name in names}, "error": None if error is None else str(error)}
