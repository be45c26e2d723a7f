"""A camera, image folders or a recording as the topics of a registered RGB-D camera."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sensor_msgs.msg import CameraInfo, Image

from robin_perception.bags.frames import as_from_camera
from robin_perception.cameras.source import RECONNECT_CODES, FrameSource, SourceConfig, make_source
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.node_config import CameraNodeConfig
from robin_perception.nodes.base import RobinNode
from robin_perception.nodes.convert import frame_to_msgs
from robin_perception.nodes.frame_bus import FrameBus
from robin_perception.nodes.gate_counts import GateCounts
from robin_perception.nodes.qos import SENSOR_OUT
from robin_perception.nodes.run import run_nodes
from robin_perception.topics import camera_topics

_STOP_CHECK_S = 0.25  # longest single wait for a frame, so that the thread can end


class CameraNode(RobinNode[CameraNodeConfig]):
    """Reads frames in a thread of its own; hands them to the bus and, where someone subscribes, to the topics.

    Depth is in whole millimetres on both ways, so that everybody decides on the same numbers. A camera that is lost is
    opened again, at first soon, then at growing intervals; the node stays active meanwhile and says so.
    """

    def __init__(self, bus: FrameBus | None = None, **ros: Any) -> None:
        super().__init__("camera", CameraNodeConfig, bus=bus, **ros)
        if bus is not None:
            bus.frames.announce()
        self._source: FrameSource | None = None
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._due_s = 0.0
        self._missing: set[Code] = set()  # since the last good frame
        self._camera_publishers: tuple[Any, ...] = ()
        self._gate_counts = GateCounts(self)

    def make_source(self) -> FrameSource:
        """The source that the parameters ask for."""
        return make_source(source_settings(self.config), self.config.camera_pose())

    def setup(self) -> None:
        """Open the source once, so that what can never work is refused here; a camera that is away may still come."""
        self._source = self.make_source()
        try:
            self._source.open()
            if not self._source.pose_known:
                text = "camera_pose_xyzw is not given, and the source knows no pose of its own: not fit to plan on"
                self.report(Code.POSE_INVALID, text, warning=True)
        except RobinError as exc:
            if exc.code not in RECONNECT_CODES:
                raise
            self.report(exc.code, exc.text)
        finally:
            self._source.close()
        topics = camera_topics(self.config.camera_prefix)
        kinds = ((Image, topics.color), (Image, topics.depth), (CameraInfo, topics.info))
        self._camera_publishers = tuple(self.add_publisher(kind, topic, SENSOR_OUT) for kind, topic in kinds)

    def start(self) -> None:
        self._ending.clear()
        self._due_s = 0.0
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ending.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def teardown(self) -> None:
        if self._source is not None:
            self._source.close()
            self._source = None
        self._camera_publishers = ()

    def status_values(self) -> dict[str, str]:
        source = self._source
        shown = {} if source is None else {f"source.{k}": str(v) for k, v in source.describe().items()}
        return {"kind": self.config.source, **shown, **self._gate_counts.values()}

    def _run(self) -> None:
        assert self._source is not None
        try:
            while not self._ending.is_set() and self._connected(self._source):
                if not self._read_until_lost(self._source):
                    return
        except Exception as exc:
            self.report_exception(exc)
        finally:
            self._source.close()

    def _connected(self, source: FrameSource) -> bool:
        """Open the source, again and again until it works; False when the node stops meanwhile."""
        pause_s = self.config.reconnect_first_s
        while not self._ending.is_set():
            try:
                source.reopen()
                self.counters.count("opened")
                return True
            except RobinError as exc:
                self._away(exc.code, f"{exc.text}; next attempt in {pause_s:g} s")
            self._ending.wait(pause_s)
            pause_s = min(2 * pause_s, max(self.config.reconnect_max_s, self.config.reconnect_first_s))
        return False

    def _read_until_lost(self, source: FrameSource) -> bool:
        """Publish frames until the source is lost (True: open it again) or has come to its end (False)."""
        failures, last = 0, time.monotonic()
        while not self._ending.is_set():
            try:
                frame = source.read(min(self.config.read_timeout_s, _STOP_CHECK_S))
            except RobinError as exc:
                if exc.code == Code.END_OF_SOURCE:
                    self.report(exc.code, exc.text, warning=True)
                    return False
                if exc.code == Code.FRAME_TIMEOUT:
                    if time.monotonic() - last < self.config.read_timeout_s:
                        continue
                    last = time.monotonic()
                else:
                    self.counters.drop("damaged")
                    self._ending.wait(_STOP_CHECK_S)  # a source that fails at once must not be asked in a tight loop
                self._away(exc.code, exc.text)
                failures += 1
                if exc.code in RECONNECT_CODES or failures >= self.config.reopen_after_failures:
                    return True
                continue
            failures, last = 0, time.monotonic()
            if self._missing:
                self.recovered("camera", *self._missing)
                self._missing.clear()
            self._gate_counts.note(frame)
            self._hand_out(frame)
        return True

    def _away(self, code: Code, text: str) -> None:
        """No frame, for this reason, until one comes."""
        self._missing.add(code)
        self.report(code, text, lasting=True)

    def _hand_out(self, frame: Frame) -> None:
        rate, now = self.config.max_rate_hz, time.monotonic()
        if rate > 0:
            if now < self._due_s:
                self.counters.drop("rate_limit")
                return
            self._due_s = max(self._due_s + 1.0 / rate, now - 1.0 / rate)
        begin = time.perf_counter()
        frame = as_from_camera(frame)
        if self.simulated_time:
            frame = replace(frame, stamp_s=self.now_s())
        if self.bus is not None:
            self.bus.frames.publish(frame)
        if any(publisher.get_subscription_count() for publisher in self._camera_publishers):
            for publisher, message in zip(
                self._camera_publishers, frame_to_msgs(frame, self.config.frame_id), strict=True
            ):
                publisher.publish(message)
        self.counters.count("frames")
        self.counters.latency("publish", (time.perf_counter() - begin) * 1e3)


def source_settings(config: CameraNodeConfig) -> SourceConfig:
    """Settings of the chosen source: its section, with the node's ``path`` where that is given."""
    section: SourceConfig = getattr(config, config.source)
    if not config.path:
        return section
    if "path" not in type(section).model_fields:
        raise RobinError(Code.OPTION_INVALID, f"source '{config.source}' reads no path, got path '{config.path}'")
    return section.model_copy(update={"path": config.path})


def main(args: Sequence[str] | None = None) -> int:
    """``ros2 run robin_perception camera_node``"""
    return run_nodes(lambda: [CameraNode()], args)


if __name__ == "__main__":
    sys.exit(main())
