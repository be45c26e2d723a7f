"""Pictures for people: drawn in a thread of their own, at a bounded rate, and only while someone looks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from robin_perception.core.latest_worker import LatestWorker
from robin_perception.nodes.convert import image_to_msg
from robin_perception.nodes.frame_bus import SegmentedFrame
from robin_perception.segmentation.overlay import draw_masks


class OverlayPublisher:
    """Masks on colour as an rgb8 Image. rate_hz: most pictures per second, 0 = none; read for every frame."""

    def __init__(self, publisher: Any, rate_hz: Callable[[], float], on_error: Callable[[Exception], None]) -> None:
        self._publisher = publisher
        self._rate_hz = rate_hz
        self._due_s = 0.0
        self._worker: LatestWorker[tuple[SegmentedFrame, Any]] = LatestWorker(
            "overlay", self._draw, lambda: None, on_error
        )

    def offer(self, segmented: SegmentedFrame, header: Any) -> None:
        """Draw this frame, if it is time for one and someone listens; returns at once."""
        rate, now = self._rate_hz(), time.monotonic()
        if rate <= 0 or now < self._due_s or self._publisher.get_subscription_count() == 0:
            return
        self._due_s = now + 1.0 / rate
        self._worker.offer((segmented, header))

    def stop(self) -> None:
        self._worker.stop()

    def _draw(self, item: tuple[SegmentedFrame, Any]) -> None:
        segmented, header = item
        picture = draw_masks(segmented.frame.rgb, segmented.scene)
        self._publisher.publish(image_to_msg(picture, "rgb8", header))
