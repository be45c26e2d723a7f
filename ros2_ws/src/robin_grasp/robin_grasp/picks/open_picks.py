"""Joins a plan with the frame it was made on and with the frame after the pick, however they arrive. No ROS in here."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from robin_grasp.plan import FailedPick, Plan
from robin_grasp.tool import MotionConfig
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene

SAME_STAMP_S = 5e-4  # a stamp loses up to 0.3 us between seconds and nanoseconds; frames are milliseconds apart
KEPT_FRAMES = 10  # how far a plan may lag behind its frame
KEPT_PICKS = 4
STANDSTILL_S = 10.0  # a wait takes so much longer at most, where its clock stands still
_LOOK_S = 0.05  # how often a clock is looked at that nobody announces


@dataclass(frozen=True)
class PlanNotice:
    """A plan that was handed out for a pick, as its message tells. stamp_s: of the frame that was planned on. motion:
    what the cell does with its grasps."""

    plan_id: str
    stamp_s: float
    plan: Plan
    failed: tuple[FailedPick, ...] = ()
    excluded: tuple[int, ...] = ()
    flags: tuple[str, ...] = ()
    motion: MotionConfig = field(default_factory=MotionConfig)


@dataclass(frozen=True)
class OpenPick:
    """A plan with what it was made on."""

    notice: PlanNotice
    frame: Frame
    scene: Scene


def same_stamp(a_s: float, b_s: float) -> bool:
    return abs(a_s - b_s) <= SAME_STAMP_S


class OpenPicks:
    """Plans waiting for their outcome. Thread-safe; keeps the last KEPT_FRAMES frames and KEPT_PICKS plans.

    on_open: called, in the thread that completed it, when a plan has found its frame and scene. clock: that waits are
    told in, s; it may stand still, as the one of a paused recording.
    """

    def __init__(
        self,
        on_open: Callable[[OpenPick], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_open, self._clock = on_open, clock
        self._changed = threading.Condition()
        self._segmented: deque[tuple[Frame, Scene]] = deque(maxlen=KEPT_FRAMES)
        self._waiting: OrderedDict[str, PlanNotice] = OrderedDict()
        self._open: OrderedDict[str, OpenPick] = OrderedDict()
        self._newest: tuple[float, Callable[[], Frame]] | None = None

    def see(self, stamp_s: float, load: Callable[[], Frame]) -> None:
        """A frame came from the camera: it may be the one after a pick. load: makes it, called only for that one."""
        with self._changed:
            self._newest = stamp_s, load
            self._changed.notify_all()

    def offer(self, frame: Frame, scene: Scene) -> None:
        """A segmented frame: a plan may have been made on it, or will be."""
        with self._changed:
            self._segmented.append((frame, scene))
            found = [n for n in self._waiting.values() if same_stamp(n.stamp_s, frame.stamp_s)]
            opened = [self._opened(notice, frame, scene) for notice in found]
        self._tell(opened)

    def note_plan(self, notice: PlanNotice) -> None:
        """A plan was handed out; its frame may be here already or still on its way."""
        with self._changed:
            seen = next((s for s in reversed(self._segmented) if same_stamp(s[0].stamp_s, notice.stamp_s)), None)
            opened = [] if seen is None else [self._opened(notice, *seen)]
            if seen is None:
                self._waiting[notice.plan_id] = notice
                while len(self._waiting) > KEPT_PICKS:
                    self._waiting.popitem(last=False)
        self._tell(opened)

    def knows(self, plan_id: str) -> bool:
        """Whether that plan is open or waits for its frame."""
        with self._changed:
            return plan_id in self._open or plan_id in self._waiting

    def wait(self, plan_id: str, timeout_s: float) -> OpenPick | None:
        """The open pick, as soon as its frame is here; None when it did not come in time."""
        with self._changed:
            self._wait_for(lambda: plan_id in self._open, timeout_s)
            return self._open.get(plan_id)

    def after(self, ended_s: float, timeout_s: float) -> Frame | None:
        """A frame that was taken at or after ``ended_s``; None when none came in time."""
        with self._changed:
            self._wait_for(lambda: self._taken_after(ended_s), timeout_s)
            found = self._newest[1] if self._newest is not None and self._taken_after(ended_s) else None
        return None if found is None else found()

    def close(self, plan_id: str) -> None:
        """The pick is done with."""
        with self._changed:
            self._open.pop(plan_id, None)
            self._waiting.pop(plan_id, None)

    def _wait_for(self, ready: Callable[[], bool], timeout_s: float) -> None:
        end, bound = self._clock() + timeout_s, time.monotonic() + timeout_s + STANDSTILL_S
        while not ready() and (left_s := min(end - self._clock(), bound - time.monotonic())) > 0:
            self._changed.wait(min(left_s, _LOOK_S))

    def _taken_after(self, ended_s: float) -> bool:
        return self._newest is not None and self._newest[0] >= ended_s - SAME_STAMP_S

    def _opened(self, notice: PlanNotice, frame: Frame, scene: Scene) -> OpenPick:
        self._waiting.pop(notice.plan_id, None)
        self._open[notice.plan_id] = OpenPick(notice, frame, scene)
        while len(self._open) > KEPT_PICKS:
            self._open.popitem(last=False)
        self._changed.notify_all()
        return self._open[notice.plan_id]

    def _tell(self, opened: list[OpenPick]) -> None:
        if self._on_open is not None:
            for pick in opened:
                self._on_open(pick)
