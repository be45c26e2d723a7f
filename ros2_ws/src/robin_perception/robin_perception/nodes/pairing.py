"""Colour and depth of one moment, with the intrinsics: paired by stamp, nothing else ever leaves here.

Works on anything that has a ROS header; which fields messages have is all that is known of ROS here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from robin_perception.core.errors import Code

Report = Callable[[Code, str, str], None]
"""report(code, text, cause): a message or a pair that is not used; ``cause`` is a short word to count it by."""

COLOR_ENCODINGS = ("rgb8", "bgr8", "rgba8", "bgra8")
DEPTH_ENCODINGS = ("16UC1", "mono16", "32FC1")
_WAITING = 8  # messages of one stream that wait for their partner
_NS = 1_000_000_000


@dataclass(frozen=True)
class FrameMessages:
    """One moment: sensor_msgs Image of colour and of depth, and the newest CameraInfo; the gate checks if they fit."""

    color: Any
    depth: Any
    info: Any


def stamp_ns(message: Any) -> int:
    """Stamp of a message's header in nanoseconds."""
    return int(message.header.stamp.sec) * _NS + int(message.header.stamp.nanosec)


class FramePairer:
    """Not thread-safe: one executor thread calls it.

    tolerance_s: colour and depth belong together if their stamps differ by no more; of several the nearest.
    A message waits until its stream is ``_WAITING`` ahead or a later pair was made; then it is reported as unpaired. A
    stamp that jumps back (camera started anew, recording from the start) ends what was waiting, so that moments of
    before and after never meet. Pairs come out in the order of their stamps.
    """

    def __init__(self, tolerance_s: float, report: Report) -> None:
        self.tolerance_s = tolerance_s
        self._report = report
        self._waiting: dict[str, dict[int, Any]] = {"color": {}, "depth": {}}
        self._last: dict[str, int] = {}
        self._info: Any = None

    def clear(self) -> None:
        """Forget what waits, the intrinsics too."""
        self._restart()
        self._last.clear()
        self._info = None

    def info(self, message: Any) -> None:
        """Take over the intrinsics for every later pair."""
        self._info = message

    def color(self, message: Any) -> FrameMessages | None:
        """Take a colour image; returns the pair that it completes."""
        return self._arrived("color", "depth", message, COLOR_ENCODINGS)

    def depth(self, message: Any) -> FrameMessages | None:
        """Take a depth image; returns the pair that it completes."""
        return self._arrived("depth", "color", message, DEPTH_ENCODINGS)

    def _arrived(self, stream: str, other: str, message: Any, encodings: tuple[str, ...]) -> FrameMessages | None:
        stamp = stamp_ns(message)
        if not self._in_order(stream, stamp):
            return None
        if message.encoding not in encodings:
            text = f"{stream} is {message.encoding or 'of no encoding'}, known are {', '.join(encodings)}"
            self._report(Code.INPUT_ENCODING_MISMATCH, text, "encoding")
            return None
        self._waiting[stream][stamp] = message
        partner = min(self._waiting[other], key=lambda s: abs(s - stamp), default=None)
        if partner is None or abs(partner - stamp) > self.tolerance_s * _NS:
            self._give_up_oldest(stream)
            return None
        images = {stream: message, other: self._waiting[other][partner]}
        self._give_up_before(stream, stamp)
        self._give_up_before(other, partner)
        return self._with_info(images["color"], images["depth"])

    def _in_order(self, stream: str, stamp: int) -> bool:
        last = self._last.get(stream)
        if last is not None and stamp == last:
            self._report(Code.FRAME_UNPAIRED, f"{stream} came twice with stamp {stamp / _NS:.6f}", "duplicate")
            return False
        self._last[stream] = stamp
        if last is not None and stamp < last:
            text = f"{stream} jumped back by {(last - stamp) / _NS:.3f} s"
            self._report(Code.STAMP_JUMPED_BACK, text, "stamp_jumped_back")
            self._restart()
            return False
        return True

    def _restart(self) -> None:
        for waiting in self._waiting.values():
            waiting.clear()

    def _give_up_oldest(self, stream: str) -> None:
        waiting = self._waiting[stream]
        if len(waiting) > _WAITING:
            del waiting[min(waiting)]
            self._unpaired(stream)

    def _give_up_before(self, stream: str, stamp: int) -> None:
        """What is older than the pair just made can have no partner any more; the partner itself is used up."""
        waiting = self._waiting[stream]
        for old in [s for s in waiting if s <= stamp]:
            del waiting[old]
            if old < stamp:
                self._unpaired(stream)

    def _unpaired(self, stream: str) -> None:
        other = "depth" if stream == "color" else "color"
        text = f"{stream} without {other} within {self.tolerance_s * 1e3:g} ms"
        self._report(Code.FRAME_UNPAIRED, text, f"{stream}_without_{other}")

    def _with_info(self, color: Any, depth: Any) -> FrameMessages | None:
        info = self._info
        if info is None:
            self._report(Code.CAMERA_INFO_MISSING, "colour and depth, but no camera_info yet", "no_camera_info")
            return None
        return FrameMessages(color, depth, info)
