"""One set of RealSense frames -> one registered frame: the SDK's filters, the lens, the SDK's alignment."""

from __future__ import annotations

import time
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_perception.cameras.realsense_config import FilterConfig, ProcessingConfig
from robin_perception.cameras.realsense_device import sdk
from robin_perception.cameras.realsense_lens import PinholeTarget, Undistortion, lens_key
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame, RawDepth
from robin_perception.core.gate import GateConfig, make_frame


class FrameProcessor:
    """Turns synchronised sets of colour and depth into frames. Filters hold state: one processor per stream.

    Serves a camera, a recording and a software device alike; it sees nothing but the SDK's frames.
    """

    def __init__(self, config: ProcessingConfig, camera_id: str, gate: GateConfig | None = None) -> None:
        rs = sdk()
        self._config = config
        self._gate = gate or GateConfig()
        self._camera_id = camera_id
        self._filters = _filters(rs, config.filters)
        self._align = rs.align(rs.stream.color)
        self._lens: Undistortion | None = None
        self._lens_key: tuple[float, ...] = ()
        self._target: PinholeTarget | None = None
        self.stamp_domain = ""

    @property
    def distortion(self) -> str:
        """What the lens does, for diagnostics; empty before the first frame."""
        return self._lens.text if self._lens is not None else ""

    def is_complete(self, frames: Any) -> bool:
        """Whether the set has colour and depth of one moment (``max_skew_ms``)."""
        color, depth = frames.get_color_frame(), frames.get_depth_frame()
        if not color or not depth:
            return False
        # The stamps of two clocks cannot be compared; the SDK has then matched the frames by their numbers.
        if color.get_frame_timestamp_domain() != depth.get_frame_timestamp_domain():
            return True
        return bool(abs(color.get_timestamp() - depth.get_timestamp()) <= self._config.max_skew_ms)

    def process(
        self, frames: Any, arrival_s: float | None = None, T_base_camera: NDArray[np.float64] | None = None
    ) -> Frame:
        """Frame on the colour camera's pixel grid; the arrays are copies, the SDK's memory is free afterwards.

        frames: rs.composite_frame. arrival_s: host time at which the set came, seconds since 1970 (None: now).
        Depth is float32 metres by the depth frame's own units; 0 = invalid. T_base_camera: None gives the identity.
        Raises RobinError CAMERA_PROFILE_UNSUPPORTED (pixel format), CAMERA_FAILED, and what ``make_frame`` raises.
        """
        arrival_s = time.time() if arrival_s is None else arrival_s
        try:
            color = frames.get_color_frame()
            stamp_s = self._stamp(color, arrival_s)
            lens = self._lens_of(frames)
            for block in self._filters:
                frames = block.process(frames).as_frameset()
            if self._target is not None:
                frames = self._target.with_depth(frames.get_depth_frame(), color)
            depth = self._align.process(frames).as_frameset().get_depth_frame()
            rgb = lens.apply(_rgb(color))
            units = RawDepth(np.asanyarray(depth.get_data()), float(depth.get_units()))
        except RuntimeError as exc:
            raise RobinError(Code.CAMERA_FAILED, f"RealSense processing: {str(exc).splitlines()[0]}") from None
        return make_frame(
            rgb, units, lens.camera, T_base_camera, stamp_s=stamp_s, camera_id=self._camera_id, config=self._gate
        )

    def _stamp(self, color: Any, arrival_s: float) -> float:
        domain = color.get_frame_timestamp_domain()
        self.stamp_domain = str(domain).rsplit(".", 1)[-1]
        if self._config.stamp == "arrival" or domain == sdk().timestamp_domain.hardware_clock:
            self.stamp_domain = "arrival"
            return arrival_s
        return float(color.get_timestamp()) / 1000.0

    def _lens_of(self, frames: Any) -> Undistortion:
        """The lens of this set's colour camera; made anew only when the intrinsics change."""
        color = frames.get_color_frame().profile.as_video_stream_profile()
        intrinsics = color.get_intrinsics()
        key = lens_key(intrinsics)
        if self._lens is None or key != self._lens_key:
            lens = Undistortion(intrinsics, self._config.lens)
            depth = frames.get_depth_frame().profile
            self._target = PinholeTarget(intrinsics, depth, color) if lens.moves else None
            self._lens, self._lens_key = lens, key
        return self._lens


def _filters(rs: Any, config: FilterConfig) -> list[Any]:
    blocks: list[Any] = []

    def add(block: Any, **options: float) -> None:
        for name, value in options.items():
            block.set_option(getattr(rs.option, name), float(value))
        blocks.append(block)

    if config.decimation.enabled:
        add(rs.decimation_filter(), filter_magnitude=config.decimation.magnitude)
    if config.threshold.enabled:
        add(rs.threshold_filter(), min_distance=config.threshold.min_m, max_distance=config.threshold.max_m)
    smooths = config.spatial.enabled or config.temporal.enabled
    if config.disparity and smooths:
        add(rs.disparity_transform(True))
    if config.spatial.enabled:
        c = config.spatial
        add(
            rs.spatial_filter(),
            filter_magnitude=c.magnitude,
            filter_smooth_alpha=c.alpha,
            filter_smooth_delta=c.delta,
            holes_fill=c.holes_fill,
        )
    if config.temporal.enabled:
        t = config.temporal
        add(rs.temporal_filter(), filter_smooth_alpha=t.alpha, filter_smooth_delta=t.delta, holes_fill=t.persistency)
    if config.disparity and smooths:
        add(rs.disparity_transform(False))
    if config.hole_filling.enabled:
        add(rs.hole_filling_filter(), holes_fill=("left", "farthest", "nearest").index(config.hole_filling.mode))
    return blocks


def _rgb(color: Any) -> NDArray[np.uint8]:
    """uint8 [H, W, 3] copy of a colour frame in any format that the SDK delivers for colour."""
    formats = sdk().format
    pixel = color.profile.format()
    data = np.asanyarray(color.get_data())
    if pixel == formats.rgb8:
        return np.array(data, dtype=np.uint8)
    if pixel == formats.yuyv:
        pairs = data.view(np.uint8).reshape(color.get_height(), color.get_width(), 2)
        return np.asarray(cv2.cvtColor(pairs, cv2.COLOR_YUV2RGB_YUYV), dtype=np.uint8)
    order = {formats.bgr8: [2, 1, 0], formats.rgba8: [0, 1, 2], formats.bgra8: [2, 1, 0]}.get(pixel)
    if order is None:
        raise RobinError(Code.CAMERA_PROFILE_UNSUPPORTED, f"colour comes as {pixel}; wanted rgb8, bgr8 or yuyv")
    return np.ascontiguousarray(data[:, :, order], dtype=np.uint8)
