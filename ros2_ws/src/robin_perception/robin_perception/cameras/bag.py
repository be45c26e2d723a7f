"""Frames of an MCAP bag: what a cell recorded, or any driver with rosbag2."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robin_perception.bags.frames import BagFrames, FrameTopics, RecordedFrame
from robin_perception.cameras.source import FrameSource, SourceConfig, wait_until_due
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame


class BagConfig(SourceConfig):
    """Frames of an MCAP bag."""

    kind: ClassVar[str] = "bag"

    path: str = Field("", max_length=4096, description="An .mcap file, or the folder of a bag.")
    speed: float = Field(0.0, ge=0, le=100, description="1 = at the recorded pace, 0 = as fast as it is read.")
    repeat: bool = Field(False, description="Start again at the end.")
    restamp: bool = Field(
        False,
        description="Frames carry the time at which they are handed out, as from a camera; "
        "else their recorded stamps, which with repeat jump back.",
    )
    pair_tolerance_s: float = Field(
        0.02, ge=0, le=1, description="Colour and depth belong together if their stamps differ by no more, s."
    )
    max_gap_s: float = Field(
        10.0, ge=0, le=3600, description="Longest wait for the next frame, s: a clock that was set is no pause."
    )
    topics: FrameTopics = FrameTopics()


class BagSource(FrameSource):
    """A late reader gets the next frame at once: nothing is dropped. The pose is the bag's where it has one."""

    name: ClassVar[str] = "bag"

    def __init__(self, config: BagConfig, T_base_camera: NDArray[np.float64] | None = None) -> None:
        super().__init__(config, T_base_camera)
        self._config = config
        self._frames: Iterator[RecordedFrame] = iter(())
        self._waiting: RecordedFrame | None = None
        self._last_stamp_ns: int | None = None
        self._due_s = 0.0
        self._bag_has_pose = False

    def _open(self) -> None:
        self._rewind()
        self._waiting = self._following()  # a bag that cannot be read is refused here
        self._due_s = time.monotonic()

    def _rewind(self) -> None:
        self._frames = BagFrames(
            Path(self._config.path), self._config.topics, self._config.pair_tolerance_s, self._config.gate
        )
        self._last_stamp_ns = None

    def _read(self, timeout_s: float) -> Frame:
        recorded = self._waiting or self._following()
        self._waiting = recorded
        if recorded is None:
            raise RobinError(Code.END_OF_SOURCE, f"{self._config.path}: end of the bag")
        if self._config.speed > 0:
            wait_until_due(self._due_s, timeout_s, self._config.path)
        self._waiting = None
        self._last_stamp_ns = recorded.stamp_ns
        return replace(recorded.frame, stamp_s=time.time()) if self._config.restamp else recorded.frame

    def _following(self) -> RecordedFrame | None:
        recorded = next(self._frames, None)
        if recorded is None and self._config.repeat:
            self._rewind()
            recorded = next(self._frames, None)
        if recorded is None:
            return None
        self._bag_has_pose = recorded.pose_known
        if self._config.speed > 0 and self._last_stamp_ns is not None:
            gap_s = (recorded.stamp_ns - self._last_stamp_ns) * 1e-9 / self._config.speed
            gap_s = min(max(gap_s, 0.0), self._config.max_gap_s)
            self._due_s = max(self._due_s + gap_s, time.monotonic() - gap_s)
        return recorded

    def _close(self) -> None:
        self._frames, self._waiting = iter(()), None

    def _own_pose_known(self) -> bool:
        return self._bag_has_pose

    def _describe(self) -> dict[str, Any]:
        return {"path": self._config.path, "speed": self._config.speed}
