"""A software RealSense camera: the SDK's own device, matcher and recorder, fed with synthetic colour and depth.

Depth 424x240 and colour 640x480 with different focal lengths, the colour camera 15 mm to the right of the depth camera.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyrealsense2 as rs
from numpy.typing import NDArray

COLOR_SIZE, DEPTH_SIZE = (640, 480), (424, 240)
COLOR_F, DEPTH_F = 600.0, 300.0
BASELINE_M = 0.015  # from the depth camera to the colour camera, along x
PERIOD_S = 1 / 30
UNITS_M = 0.001
SERIAL = "SW0001"

Depth = NDArray[np.uint16]
Color = NDArray[np.uint8]


def intrinsics(
    size: tuple[int, int], focal: float, model: Any = None, coeffs: tuple[float, ...] = (0, 0, 0, 0, 0)
) -> Any:
    result = rs.intrinsics()
    result.width, result.height = size
    result.fx = result.fy = focal
    result.ppx, result.ppy = size[0] / 2, size[1] / 2
    result.model = rs.distortion.none if model is None else model
    result.coeffs = list(coeffs)
    return result


class SoftwareCamera:
    """Pushes frames as a driver would. ``open_into`` starts the sensors into the SDK's syncer or a recorder."""

    def __init__(
        self,
        serial: str = SERIAL,
        units_m: float = UNITS_M,
        color_lens: Any = None,
        usb: str = "3.2",
        color_size: tuple[int, int] = COLOR_SIZE,
    ) -> None:
        self.device = rs.software_device()
        info = rs.camera_info
        for key, text in (
            (info.name, "Software D435"),
            (info.serial_number, serial),
            (info.firmware_version, "5.16.0.1"),
            (info.recommended_firmware_version, "5.17.0.9"),
            (info.usb_type_descriptor, usb),
        ):
            self.device.register_info(key, text)
        self.units_m = units_m
        self.color_size = color_size
        self.depth_sensor, self.color_sensor = self.device.add_sensor("Depth"), self.device.add_sensor("Color")
        self.depth_profile = self.depth_sensor.add_video_stream(
            _stream(rs.stream.depth, rs.format.z16, 2, intrinsics(DEPTH_SIZE, DEPTH_F), 1)
        )
        lens = color_lens if color_lens is not None else intrinsics(color_size, COLOR_F)
        self.color_profile = self.color_sensor.add_video_stream(_stream(rs.stream.color, rs.format.rgb8, 3, lens, 2))
        self.depth_sensor.add_read_only_option(rs.option.depth_units, units_m)
        self.depth_sensor.add_read_only_option(rs.option.stereo_baseline, 50.0)
        move = rs.extrinsics()
        move.rotation = [1, 0, 0, 0, 1, 0, 0, 0, 1]
        move.translation = [-BASELINE_M, 0, 0]  # a point of the depth camera, seen from the colour camera
        self.depth_profile.register_extrinsics_to(self.color_profile, move)
        self.device.create_matcher(rs.matchers.dlr_c)
        self._alive: list[NDArray[Any]] = []  # the SDK does not copy the pixels

    def start(self, sink: Any) -> None:
        for sensor, profile in ((self.depth_sensor, self.depth_profile), (self.color_sensor, self.color_profile)):
            sensor.open(profile)
            sensor.start(sink)

    def stop(self) -> None:
        for sensor in (self.depth_sensor, self.color_sensor):
            sensor.stop()
            sensor.close()

    def push_depth(self, number: int, depth: Depth, stamp_ms: float | None = None, domain: Any = None) -> None:
        frame = self._frame(number, depth, 2, self.depth_profile, stamp_ms, domain)
        frame.depth_units = self.units_m
        self.depth_sensor.on_video_frame(frame)

    def push_color(self, number: int, color: Color, stamp_ms: float | None = None, domain: Any = None) -> None:
        self.color_sensor.on_video_frame(self._frame(number, color, 3, self.color_profile, stamp_ms, domain))

    def push(self, number: int, color: Color, depth: Depth, domain: Any = None) -> None:
        self.push_depth(number, depth, domain=domain)
        self.push_color(number, color, domain=domain)

    def _frame(
        self, number: int, pixels: NDArray[Any], bpp: int, profile: Any, stamp_ms: float | None, domain: Any
    ) -> Any:
        pixels = np.ascontiguousarray(pixels)
        self._alive.append(pixels)
        frame = rs.software_video_frame()
        frame.pixels, frame.bpp, frame.stride = pixels, bpp, bpp * pixels.shape[1]
        frame.timestamp = 1000.0 * PERIOD_S * number if stamp_ms is None else stamp_ms
        frame.domain = rs.timestamp_domain.global_time if domain is None else domain
        frame.frame_number = number
        frame.profile = profile.as_video_stream_profile()
        return frame


def next_set(sync: Any, complete: bool = True, wait_s: float = 2.0) -> Any:
    """The next set of the syncer, by default the first one with colour and depth."""
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        came, frames = sync.try_wait_for_frames(100)
        if came and (not complete or (frames.get_color_frame() and frames.get_depth_frame())):
            return frames
    raise AssertionError("the syncer gave no set")


def synced(camera: SoftwareCamera, color: Color, depth: Depth, number: int = 1, domain: Any = None) -> Any:
    """A set of ``color`` and ``depth`` out of the real syncer; the first one of a stream may come without depth."""
    sync = rs.syncer(8)
    camera.start(sync)
    try:
        for k in range(number, number + 4):
            camera.push(k, color, depth, domain)
            time.sleep(0.005)
        return next_set(sync)
    finally:
        camera.stop()


def record(path: Path, frames: Callable[[int], tuple[Color | None, Depth | None]], count: int, **kwargs: Any) -> None:
    """A recording made by the SDK's own recorder. ``frames(k)``: what the camera delivers as number k, from 1 on."""
    camera = SoftwareCamera(**kwargs)
    recorder = rs.recorder(str(path), camera.device)
    sync = rs.syncer(64)
    sensors = recorder.query_sensors()
    for sensor in sensors:
        sensor.open(sensor.get_stream_profiles()[0])
        sensor.start(sync)
    for k in range(1, count + 1):
        color, depth = frames(k)
        if depth is not None:
            camera.push_depth(k, depth)
        if color is not None:
            camera.push_color(k, color)
        # The recorder's stamps are those of the wall clock: this is the pace of the playback in real time.
        time.sleep(0.01)
    for sensor in sensors:
        sensor.stop()
        sensor.close()


def _stream(kind: Any, pixel: Any, bpp: int, lens: Any, uid: int) -> Any:
    stream = rs.video_stream()
    stream.type, stream.fmt, stream.bpp, stream.index, stream.uid = kind, pixel, bpp, 0, uid
    stream.width, stream.height, stream.fps, stream.intrinsics = lens.width, lens.height, round(1 / PERIOD_S), lens
    return stream
