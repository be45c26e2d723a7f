"""What the segmentation node tells about an engine in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Callable

from robin_perception.core.errors import Code
from robin_perception.segmentation.segmenter import Segmenter
from robin_perception.supervision import SupervisedEngine

_START_GRACE_S = 5.0  # a start that is quicker is no fault


class EngineWatch:
    """Any thread may call. report: the node's (code, text, warning); a warning where a fallback answers meanwhile."""

    def __init__(self, report: Callable[[Code, str, bool], object]) -> None:
        self._report = report
        self._without_s: float | None = None  # since when there is no child that answers

    def tell_faults(self, segmenter: Segmenter | None) -> None:
        """Report what happened to the engine since the last call, each fault once."""
        if segmenter is not None and isinstance(segmenter.engine, SupervisedEngine):
            for fault in segmenter.engine.take_faults():
                self._report(fault.code, fault.text, segmenter.engine.has_fallback)

    def tell_standing(self, segmenter: Segmenter | None) -> None:
        """Report what lasts: an engine that stays off, or is long in starting."""
        if segmenter is None or not isinstance(segmenter.engine, SupervisedEngine):
            return
        standing = segmenter.engine.standing_fault()
        now = time.monotonic()
        if standing is None:
            self._without_s = None
            return
        if self._without_s is None:
            self._without_s = now
        if standing.code == Code.ENGINE_GIVEN_UP or now - self._without_s > _START_GRACE_S:
            self._report(standing.code, standing.text, segmenter.engine.has_fallback)

    def values(self, segmenter: Segmenter) -> dict[str, str]:
        """For /diagnostics."""
        engine = segmenter.engine
        return engine.status().values() if isinstance(engine, SupervisedEngine) else {}

    def answers(self, segmenter: Segmenter) -> bool:
        """Whether it is its own engine that answers now, no fallback."""
        engine = segmenter.engine
        return not isinstance(engine, SupervisedEngine) or engine.standing_fault() is None

    def wait(self, segmenter: Segmenter, seconds: float) -> None:
        """Until an engine that is to take another's place can do so: its fallback need not, while that one works."""
        if isinstance(segmenter.engine, SupervisedEngine):
            segmenter.engine.wait_ready(seconds)
