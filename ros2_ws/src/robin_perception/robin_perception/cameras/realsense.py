"""RealSense cameras and recordings as sources of registered frames, through the vendor's SDK."""

from __future__ import annotations

import contextlib
import threading
import time
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from robin_perception.cameras.realsense_config import ProcessingConfig, RealSenseBagConfig, RealSenseConfig
from robin_perception.cameras.realsense_device import (
    RealSenseInfo,
    check_profiles,
    device_info,
    find_device,
    sdk,
    sensor_with,
    set_global_time,
    set_options,
)
from robin_perception.cameras.realsense_processing import FrameProcessor
from robin_perception.cameras.source import FrameSource, SourceConfig
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame

_SLICE_S = 0.1  # a wait is cut into slices, so that an unplugged camera is noticed within one


class _SdkSource(FrameSource):
    """What a camera and a recording share: waiting for complete sets, counting what is lost, processing."""

    def __init__(
        self, config: SourceConfig, processing: ProcessingConfig, T_base_camera: NDArray[np.float64] | None
    ) -> None:
        super().__init__(config, T_base_camera)
        self._processing = processing
        self._processor: FrameProcessor | None = None
        self._pipeline: Any = None
        self._info: RealSenseInfo | None = None
        self._numbers: dict[str, int] = {}

    @abstractmethod
    def _wait(self, timeout_s: float) -> Any | None:
        """The next set (rs.composite_frame), or None after ``timeout_s``. May raise RuntimeError of the SDK."""

    @abstractmethod
    def _no_frame(self) -> None:
        """Called after every slice without a frame; raises RobinError when waiting longer is of no use."""

    def _read(self, timeout_s: float) -> Frame:
        frames = self._complete_set(timeout_s)
        assert self._processor is not None
        return self._processor.process(frames, time.time(), self._T_base_camera)

    def _complete_set(self, timeout_s: float) -> Any:
        assert self._processor is not None
        deadline = time.monotonic() + timeout_s
        lacking = ""
        while True:
            wait_s = min(max(deadline - time.monotonic(), 0.0), _SLICE_S)
            try:
                frames = self._wait(wait_s)
                complete = frames is not None and self._processor.is_complete(frames)
            except RuntimeError as exc:
                self._no_frame()
                raise RobinError(Code.CAMERA_FAILED, f"{self._label}: {str(exc).splitlines()[0]}") from None
            if frames is not None:
                self._count(frames)
                if complete:
                    return frames
                self.counters.incomplete += 1
                lacking = "; " + _what_lacks(frames)
            else:
                self._no_frame()
            if time.monotonic() >= deadline:
                raise RobinError(Code.FRAME_TIMEOUT, f"{self._label}: no frame within {timeout_s:g} s{lacking}")

    def _count(self, frames: Any) -> None:
        """Frames lost on the way, by the gaps in the sensors' own numbers; a number that falls is a restart."""
        lost = 0
        for frame in frames:
            stream, number = str(frame.profile.stream_type()), int(frame.get_frame_number())
            last = self._numbers.get(stream, number - 1)
            lost = max(lost, number - last - 1)
            self._numbers[stream] = number
        self.counters.dropped += lost

    def _close(self) -> None:
        pipeline, self._pipeline = self._pipeline, None
        self._processor = None
        self._numbers = {}
        if pipeline is not None:
            # It may not have started, or its camera is gone: then nothing is left to stop.
            with contextlib.suppress(RuntimeError):
                pipeline.stop()

    @property
    def _label(self) -> str:
        return f"{self._info.name} {self._info.serial}".strip() if self._info is not None else self.name

    def _describe(self) -> dict[str, Any]:
        info, processor = self._info, self._processor
        return {
            "camera": info.name if info else "",
            "serial": info.serial if info else "",
            "firmware": info.firmware if info else "",
            "usb": info.usb if info else "",
            "stamps": processor.stamp_domain if processor else "",
            "distortion": processor.distortion if processor else "",
        }


class RealSenseSource(_SdkSource):
    """A camera on USB. A reader that is late gets the newest set; the older ones count as dropped.

    ``read`` raises CAMERA_UNPLUGGED within a tenth of a second after the SDK reports the camera gone, and CAMERA_FAILED
    when it is there and silent for ``max_silence_s``. ``reopen`` finds it again on any port, by its serial number.

    context: an rs.context to look for the camera in (None: the machine's USB).
    """

    name: ClassVar[str] = "realsense"

    def __init__(
        self, config: RealSenseConfig, T_base_camera: NDArray[np.float64] | None = None, context: Any = None
    ) -> None:
        super().__init__(config, config.processing, T_base_camera)
        self._config = config
        self._context = context
        self._device: Any = None
        self._queue: Any = None
        self._unplugged = threading.Event()
        self._watching = False
        self._last_frame_s = 0.0
        self._options: dict[str, float] = {}

    def _open(self) -> None:
        rs = sdk()
        config = self._config
        if self._context is None:
            self._context = rs.context()
        self._watch()
        self._unplugged.clear()
        # Looked for here, because the pipeline would wait 15 s for a camera that is not there.
        device = find_device(self._context, config.serial)
        self._info = device_info(device)
        try:
            check_profiles(device, config)
            request = rs.config()
            request.enable_device(self._info.serial)
            request.enable_stream(rs.stream.color, config.color_width, config.color_height, rs.format.rgb8, config.fps)
            request.enable_stream(rs.stream.depth, config.depth_width, config.depth_height, rs.format.z16, config.fps)
            self._pipeline = rs.pipeline(self._context)
            # Some options live in the SDK's object, not in the camera: they must be set on the one that will stream.
            device = request.resolve(rs.pipeline_wrapper(self._pipeline)).get_device()
            set_global_time(device, config.global_time)
            depth, color = (sensor_with(device, stream) for stream in (rs.stream.depth, rs.stream.color))
            self._options = set_options(depth, color, config.sensor)
            self._queue = rs.frame_queue(1)
            self._processor = FrameProcessor(config.processing, self._info.serial, config.gate)
            # Frames go to a queue: `wait_for_frames` of the pipeline hides an unplugged camera for up to 15 s.
            self._device = self._pipeline.start(request, self._queue).get_device()
        except RuntimeError as exc:
            raise RobinError(Code.CAMERA_FAILED, f"{self._label}: {str(exc).splitlines()[0]}") from None
        self._last_frame_s = time.monotonic()
        self._warm_up()

    def _warm_up(self) -> None:
        dropped = self.counters.dropped
        try:
            for _ in range(self._config.warm_up_frames):
                self._complete_set(self._config.start_timeout_s)
        except RobinError as exc:
            if exc.code != Code.FRAME_TIMEOUT:
                raise
            raise RobinError(Code.CAMERA_FAILED, f"{exc.text}, while it starts") from None
        self.counters.dropped = dropped  # nobody waited for them

    def _watch(self) -> None:
        """One callback per context. It runs in a thread of the SDK and does no more than set an event."""
        if self._watching:
            return

        def changed(information: Any) -> None:
            device = self._device
            if device is not None and information.was_removed(device):
                self._unplugged.set()

        self._context.set_devices_changed_callback(changed)
        self._watching = True

    def _wait(self, timeout_s: float) -> Any | None:
        self._raise_if_unplugged()
        came, frame = self._queue.try_wait_for_frame(max(int(timeout_s * 1000), 1))
        if not came:
            return None
        self._last_frame_s = time.monotonic()
        return frame.as_frameset()

    def _no_frame(self) -> None:
        self._raise_if_unplugged()
        silent_s = time.monotonic() - self._last_frame_s
        if silent_s > self._config.max_silence_s:
            raise RobinError(Code.CAMERA_FAILED, f"{self._label}: plugged in, but silent for {silent_s:.1f} s")

    def _raise_if_unplugged(self) -> None:
        if self._unplugged.is_set():
            raise RobinError(Code.CAMERA_UNPLUGGED, f"{self._label}: unplugged")

    def _close(self) -> None:
        super()._close()
        self._device = None
        self._queue = None

    def _describe(self) -> dict[str, Any]:
        config = self._config
        return {
            **super()._describe(),
            "color": f"{config.color_width}x{config.color_height}@{config.fps}",
            "depth": f"{config.depth_width}x{config.depth_height}@{config.fps}",
            "options": dict(self._options),
            "warning": "USB 2: lower resolutions and rates" if self._info is not None and self._info.on_usb2 else "",
        }


class RealSenseBagSource(_SdkSource):
    """A recording, played back by the SDK through the same filters as a camera.

    Stamps are the recorded ones unless ``processing.stamp`` is ``arrival``. The end is END_OF_SOURCE.
    """

    name: ClassVar[str] = "realsense_bag"

    def __init__(self, config: RealSenseBagConfig, T_base_camera: NDArray[np.float64] | None = None) -> None:
        super().__init__(config, config.processing, T_base_camera)
        self._config = config
        self._playback: Any = None

    def _open(self) -> None:
        rs = sdk()
        path = Path(self._config.path)
        if not path.is_file():
            raise RobinError(Code.INPUT_MISSING, f"{path}: no such file")
        try:
            request = rs.config()
            request.enable_device_from_file(str(path), self._config.repeat)
            self._pipeline = rs.pipeline()
            self._playback = self._pipeline.start(request).get_device().as_playback()
            self._playback.set_real_time(self._config.real_time)
            self._info = device_info(self._playback)
            streams = {stream.stream_type() for stream in self._pipeline.get_active_profile().get_streams()}
        except RuntimeError as exc:
            raise RobinError(Code.INPUT_UNREADABLE, f"{path}: {str(exc).splitlines()[0]}") from None
        lacking = [str(s).rsplit(".", 1)[-1] for s in (rs.stream.color, rs.stream.depth) if s not in streams]
        if lacking:
            raise RobinError(
                Code.CAMERA_PROFILE_UNSUPPORTED, f"{path}: the recording has no {' and no '.join(lacking)}"
            )
        self._processor = FrameProcessor(self._config.processing, self._info.serial or path.stem, self._config.gate)

    def _wait(self, timeout_s: float) -> Any | None:
        came, frames = self._pipeline.try_wait_for_frames(max(int(timeout_s * 1000), 1))
        return frames if came else None

    def _no_frame(self) -> None:
        if self._playback.current_status() == sdk().playback_status.stopped:
            raise RobinError(Code.END_OF_SOURCE, f"{self._config.path}: end of the recording")

    def _close(self) -> None:
        super()._close()
        self._playback = None

    def _describe(self) -> dict[str, Any]:
        return {**super()._describe(), "path": self._config.path, "real_time": self._config.real_time}


def _what_lacks(frames: Any) -> str:
    if not frames.get_depth_frame():
        return "colour came without depth"
    if not frames.get_color_frame():
        return "depth came without colour"
    return "colour and depth were too far apart in time"
