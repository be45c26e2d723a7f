"""What a replay found, for programs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_adapt.bag.compare import Difference, MachineTolerances
from edge_adapt.bag.pipeline import PipelineRecord


@dataclass
class ReplayReport:
    """What a replay found. without_frame: plans whose frame the bag does not hold, which were not compared. judged:
    judgements of loads, with the actions that followed, that were made again."""

    bag: Path
    tolerance: str
    limits: MachineTolerances
    recorded: PipelineRecord | None
    used: PipelineRecord
    compared: int = 0
    judged: int = 0
    judged_differing: int = 0
    without_frame: int = 0
    differing: list[tuple[str, int, tuple[Difference, ...]]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)

    @property
    def same(self) -> bool:
        """All plans and judgements agree, or across machines as many as must."""
        share = self.limits.differing_share if self.tolerance == "machine" else 0.0
        plans = len(self.differing) - self.judged_differing
        return plans <= share * self.compared and self.judged_differing <= share * self.judged

    def to_json(self) -> dict[str, Any]:
        return {
            "bag": str(self.bag),
            "same": self.same,
            "tolerance": self.tolerance,
            "limits": self.limits.model_dump(mode="json") if self.tolerance == "machine" else None,
            "compared": self.compared,
            "differing": len(self.differing) - self.judged_differing,
            "judged": self.judged,
            "judged_differing": self.judged_differing,
            "without_frame": self.without_frame,
            "model_id": self.used.model_id,
            "changes": self.changes,
            "warnings": self.warnings,
            "decisions": [
                {
                    "name": name,
                    "index": index,
                    "differences": [
                        {"field": d.field, "recorded": d.recorded, "replayed": d.replayed} for d in differences
                    ],
                }
                for name, index, differences in self.differing
            ],
        }
