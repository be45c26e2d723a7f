"""What the gate found in a node's frames, for its counters, faults and diagnostics."""

from __future__ import annotations

from typing import Any

from robin_perception.core.frame import Frame, GateReport
from robin_perception.nodes.base import RobinNode


class GateCounts:
    """``note`` is called in the one thread that takes the frames; ``values`` in any."""

    def __init__(self, node: RobinNode[Any]) -> None:
        self._node = node
        self._last = GateReport()

    def note(self, frame: Frame) -> None:
        """Count a frame by the causes for which it lost depth, and report its warnings."""
        self._last = frame.gate
        for cause in frame.gate.depth_removed:
            self._node.counters.count(f"frames_with_depth_{cause}")
        for code, text in frame.gate.warnings:
            self._node.report(code, text, True)

    def values(self) -> dict[str, str]:
        """Pixels that the last frame lost, by cause."""
        return {f"depth_removed_px.{cause}": str(count) for cause, count in self._last.depth_removed.items()}
