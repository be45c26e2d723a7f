"""Hand-over of frames and scenes between nodes that one process hosts, so that images cross no socket."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene

T = TypeVar("T")


@dataclass(frozen=True)
class SegmentedFrame:
    """A frame and what the segmenter says about it; ``scene.stamp_s`` is the frame's."""

    frame: Frame
    scene: Scene


class InProcessTopic(Generic[T]):
    """Newest value and its listeners. ``publish`` calls the listeners in the publisher's own thread: they must only
    take the value over (``LatestWorker.offer``) and return.

    has_source: a node of this process will publish here; it says so when it is made (``announce``), so that others
    know at configure whether to listen here or to topics.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: list[Callable[[T], None]] = []
        self._latest: T | None = None
        self.has_source = False

    def announce(self) -> None:
        """Said once by the node that publishes here, in its ``__init__``."""
        self.has_source = True

    @property
    def latest(self) -> T | None:
        """The last value published, None before the first."""
        with self._lock:
            return self._latest

    def publish(self, value: T) -> None:
        with self._lock:
            self._latest = value
            listeners = tuple(self._listeners)
        for listener in listeners:
            listener(value)

    def subscribe(self, listener: Callable[[T], None]) -> Callable[[], None]:
        """Call ``listener`` with every value from now on; returns what ends it (harmless when called twice)."""
        with self._lock:
            self._listeners.append(listener)

        def unsubscribe() -> None:
            with self._lock:
                if listener in self._listeners:
                    self._listeners.remove(listener)

        return unsubscribe


class PriorityWork:
    """Work that goes first: while some is under way or about to begin, others of the process put theirs off, since two
    at once on the same cores, and on Python's one interpreter, would both be late.

    ended: called in the worker's thread when nothing is under way any more.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun_s: list[float] = []
        self._ended: list[Callable[[], None]] = []

    def begin(self) -> None:
        """Said once for each piece of work, as soon as it is certain."""
        with self._lock:
            self._begun_s.append(time.monotonic())

    def end(self) -> None:
        """Said once for each ``begin``: the work is done, or will not be done."""
        with self._lock:
            self._begun_s.pop(0)
            ended = () if self._begun_s else tuple(self._ended)
        for listener in ended:
            listener()

    def left_s(self, limit_s: float) -> float:
        """0: nothing is under way, or it has been for ``limit_s``; else the rest of that time."""
        with self._lock:
            return max(0.0, self._begun_s[0] + limit_s - time.monotonic()) if self._begun_s else 0.0

    def when_ended(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener`` from now on; returns what ends it."""
        with self._lock:
            self._ended.append(listener)

        def forget() -> None:
            with self._lock:
                if listener in self._ended:
                    self._ended.remove(listener)

        return forget


class FrameBus:
    """frames: what the camera saw. scenes: each frame that was segmented, with its scene. Values are never changed
    by who receives them. planning: plans under way, which go before the next frame."""

    def __init__(self) -> None:
        self.planning = PriorityWork()
        self.frames: InProcessTopic[Frame] = InProcessTopic()
        self.scenes: InProcessTopic[SegmentedFrame] = InProcessTopic()
