"""Frames and segmented scenes for a node, whatever way they come: over the process's bus or over topics."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from robin_msgs.msg import SegmentedScene

from robin_grasp.picks.open_picks import same_stamp
from robin_perception.core.errors import RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene
from robin_perception.node_config import FrameInputConfig
from robin_perception.nodes.base import RobinNode
from robin_perception.nodes.convert import scene_from_msg, stamp_to_s
from robin_perception.nodes.frame_bus import FrameBus, SegmentedFrame
from robin_perception.nodes.frame_subscriber import FrameSubscriber
from robin_perception.nodes.pairing import FrameMessages
from robin_perception.nodes.qos import RESULT
from robin_perception.topics import SCENE

KEPT_FRAMES = 16  # a scene comes this many frames after its frame at most
KEPT_SCENES = 4  # a scene may also be faster than its images

LoadFrame = Callable[[], Frame]


class SceneInput:
    """on_segmented(frame, scene): every segmented frame. on_frame(stamp_s, load): every frame as the camera gave it;
    ``load`` makes it. Both are called while the node is active, from the publisher's or the executor's thread: they
    take over and return. Messages are converted only for scenes and for whoever calls ``load``.
    """

    def __init__(
        self,
        node: RobinNode[Any],
        config: FrameInputConfig,
        on_segmented: Callable[[Frame, Scene], None],
        on_frame: Callable[[float, LoadFrame], None] | None = None,
    ) -> None:
        """In a node's ``setup``. Raises RobinError POSE_INVALID, DEPENDENCY_MISSING."""
        self._node = node
        self._on_segmented, self._on_frame = on_segmented, on_frame
        self._lock = threading.Lock()
        self._frames: deque[tuple[float, LoadFrame]] = deque(maxlen=KEPT_FRAMES)
        self._scenes: deque[tuple[float, Any]] = deque(maxlen=KEPT_SCENES)
        self._ends: list[Callable[[], None]] = []
        self._topics: FrameSubscriber | None = None
        bus = node.bus if config.input != "topics" else None
        self.source = "process" if bus is not None and bus.scenes.has_source else "topics"
        if bus is not None and bus.scenes.has_source:
            self._ends.append(bus.scenes.subscribe(self._segmented))
        else:
            node.add_subscription(SegmentedScene, SCENE, self._scene, RESULT)
        if self.source == "topics" or on_frame is not None:
            self._take_frames(bus, config)

    def reset(self) -> None:
        """Forget what waits; in a node's ``start``."""
        if self._topics is not None:
            self._topics.clear()
        with self._lock:
            self._frames.clear()
            self._scenes.clear()

    def close(self) -> None:
        """In a node's ``teardown``."""
        while self._ends:
            self._ends.pop()()

    def _take_frames(self, bus: FrameBus | None, config: FrameInputConfig) -> None:
        if bus is not None and bus.frames.has_source:
            self._ends.append(bus.frames.subscribe(lambda frame: self._frame(frame.stamp_s, lambda: frame)))
            return
        topics = self._topics = FrameSubscriber(self._node, config, self._paired)
        self._ends.append(topics.close)

    def _paired(self, messages: FrameMessages) -> None:
        topics = self._topics
        assert topics is not None
        self._frame(stamp_to_s(messages.color.header.stamp), lambda: topics.to_frame(messages))

    def _segmented(self, segmented: SegmentedFrame) -> None:
        if self._node.is_active:
            self._guarded(lambda: self._on_segmented(segmented.frame, segmented.scene))

    def _frame(self, stamp_s: float, load: LoadFrame) -> None:
        """A frame came: keep it for its scene, hand it on, and join it with a scene that came earlier."""
        if not self._node.is_active:
            return
        with self._lock:
            self._frames.append((stamp_s, load))
            waiting = [message for stamp, message in self._scenes if same_stamp(stamp, stamp_s)]
            if waiting:
                self._scenes.clear()
        if self._on_frame is not None:
            self._on_frame(stamp_s, load)
        for message in waiting:
            self._joined(load, message)

    def _scene(self, message: Any) -> None:
        stamp_s = stamp_to_s(message.header.stamp)
        with self._lock:
            load = next((load for stamp, load in self._frames if same_stamp(stamp, stamp_s)), None)
            if load is None:
                if len(self._scenes) == KEPT_SCENES:
                    self._node.counters.drop("scene_without_frame")
                self._scenes.append((stamp_s, message))
        if load is not None:
            self._joined(load, message)

    def _joined(self, load: LoadFrame, message: Any) -> None:
        self._guarded(lambda: self._on_segmented(load(), scene_from_msg(message)))

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as exc:
            self._node.report_exception(exc, warning=isinstance(exc, RobinError))
