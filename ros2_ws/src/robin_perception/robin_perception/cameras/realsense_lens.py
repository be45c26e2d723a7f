"""Lenses that distort: pinhole colour images, and depth that is aligned to the pinhole camera."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RectBivariateSpline

from robin_perception.cameras.realsense_config import LensConfig
from robin_perception.cameras.realsense_device import sdk
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import intrinsics_misfit
from robin_perception.core.gate import CameraModel

_GRID_STEP_PX = 16
_TARGET_UID = 90_001  # the SDK tells streams apart by it; a device counts its own from 0
_WAIT_MS = 2000


class PinholeTarget:
    """A colour camera without distortion, in place of the real one, for the SDK to align depth to.

    Needed because the SDK's alignment heeds the colour camera's distortion for some lens models and on some processors
    only (with SSE not for ``inverse_brown_conrady``, which is what the cameras have), so what comes out is on one of
    two pixel grids. Aligned to this target it is on the pinhole grid, always.

    intrinsics: the real colour camera's. depth, color: the SDK's stream profiles; the target takes on their pose.
    """

    def __init__(self, intrinsics: Any, depth: Any, color: Any) -> None:
        rs = sdk()
        pinhole = rs.intrinsics()
        for name in ("width", "height", "fx", "fy", "ppx", "ppy"):
            setattr(pinhole, name, getattr(intrinsics, name))
        pinhole.model, pinhole.coeffs = rs.distortion.none, [0.0] * 5
        stream = rs.video_stream()
        stream.type, stream.fmt, stream.bpp, stream.fps = rs.stream.color, rs.format.rgb8, 3, 30
        stream.index, stream.uid = 0, _TARGET_UID
        stream.width, stream.height, stream.intrinsics = pinhole.width, pinhole.height, pinhole
        self._device = rs.software_device()
        sensor = self._device.add_sensor("pinhole")
        profile = sensor.add_video_stream(stream)
        depth.register_extrinsics_to(profile, depth.get_extrinsics_to(color))
        self._pixels = np.zeros((pinhole.height, pinhole.width, 3), np.uint8)  # the SDK does not copy them
        self._blank = self._one_frame(sensor, profile)
        self._joined = rs.frame_queue(1)
        self._join = rs.processing_block(self._composite)
        self._join.start(self._joined)

    def with_depth(self, depth: Any, color: Any) -> Any:
        """A set (rs.composite_frame) of ``depth`` and the target, to be aligned in place of ``depth`` and ``color``.

        Raises RobinError INPUT_SIZE_MISMATCH where ``color`` has another size than the target.
        """
        if (color.get_width(), color.get_height()) != (self._pixels.shape[1], self._pixels.shape[0]):
            raise RobinError(Code.INPUT_SIZE_MISMATCH, f"colour is {color.get_width()}x{color.get_height()}")
        self._join.invoke(depth)
        return self._joined.wait_for_frame(_WAIT_MS).as_frameset()

    def _composite(self, depth: Any, source: Any) -> None:
        source.frame_ready(source.allocate_composite_frame([depth, self._blank]))

    def _one_frame(self, sensor: Any, profile: Any) -> Any:
        """A frame of the target; the alignment looks at its profile only."""
        rs = sdk()
        queue = rs.frame_queue(1, True)
        frame = rs.software_video_frame()
        frame.pixels, frame.bpp, frame.stride = self._pixels, 3, self._pixels.strides[0]
        frame.timestamp, frame.domain, frame.frame_number = 0.0, rs.timestamp_domain.system_time, 1
        frame.profile = profile.as_video_stream_profile()
        sensor.open(profile)
        sensor.start(queue)
        sensor.on_video_frame(frame)
        blank = queue.wait_for_frame(_WAIT_MS)
        sensor.stop()
        sensor.close()
        return blank


class Undistortion:
    """Pinhole colour images of a camera whose lens distorts, by the SDK's own formula for the lens.

    camera: what the undistorted image is of. max_px: how far the lens moves any pixel. Raises RobinError
    INTRINSICS_INVALID beyond the limit, and where the intrinsics do not fit the image.
    """

    def __init__(self, intrinsics: Any, config: LensConfig) -> None:
        width, height = intrinsics.width, intrinsics.height
        numbers = (intrinsics.fx, intrinsics.fy, intrinsics.ppx, intrinsics.ppy)
        misfit = intrinsics_misfit(*numbers, width, height)
        if misfit is not None:
            raise RobinError(Code.INTRINSICS_INVALID, f"the camera: {misfit}")
        fx, fy, cx, cy = numbers
        K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=np.float64)
        self.camera = CameraModel(K, width, height)
        self._maps: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
        self.max_px = 0.0
        name = str(intrinsics.model).rsplit(".", 1)[-1]
        if intrinsics.model != sdk().distortion.none and any(intrinsics.coeffs):
            u, v, x, y = _distorted_grid(intrinsics, K)
            self.max_px = float(np.hypot(x - u[None, :], y - v[:, None]).max())
            if not self.max_px <= config.max_px:
                text = f"lens model {name} moves pixels by up to {self.max_px:.1f}, more than max_px {config.max_px:g}"
                raise RobinError(Code.INTRINSICS_INVALID, text)
            if self.max_px > config.ignore_px:
                self._maps = _dense(u, v, x, width, height), _dense(u, v, y, width, height)
        done = "undistorted" if self._maps is not None else "as it is"
        self.text = f"{name}, up to {self.max_px:.2f} px, {done}"

    @property
    def moves(self) -> bool:
        """Whether ``apply`` changes anything."""
        return self._maps is not None

    def apply(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8 [H, W, 3] without the distortion, by linear interpolation; black where the camera saw nothing."""
        if self._maps is None:
            return rgb
        color = cv2.remap(rgb, *self._maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
        return np.asarray(color, dtype=np.uint8)


def _distorted_grid(
    intrinsics: Any, K: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Where the lens puts a coarse grid of pinhole pixels: u [n], v [m], and x, y [m, n] in the distorted image.

    A lens is smooth: the SDK is asked at every 16th pixel, the rest is interpolated.
    """
    project = sdk().rs2_project_point_to_pixel
    u = np.unique(np.append(np.arange(0, intrinsics.width, _GRID_STEP_PX), intrinsics.width - 1)).astype(np.float64)
    v = np.unique(np.append(np.arange(0, intrinsics.height, _GRID_STEP_PX), intrinsics.height - 1)).astype(np.float64)
    rays_x, rays_y = (u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1]
    pixels = np.array([[project(intrinsics, [rx, ry, 1.0]) for rx in rays_x] for ry in rays_y])
    return u, v, pixels[:, :, 0], pixels[:, :, 1]


def _dense(
    u: NDArray[np.float64], v: NDArray[np.float64], values: NDArray[np.float64], width: int, height: int
) -> NDArray[np.float32]:
    spline = RectBivariateSpline(v, u, values)
    return np.asarray(spline(np.arange(height), np.arange(width)), dtype=np.float32)


def lens_key(intrinsics: Any) -> tuple[float, ...]:
    """Equal for equal intrinsics."""
    numbers = (intrinsics.width, intrinsics.height, intrinsics.fx, intrinsics.fy, intrinsics.ppx, intrinsics.ppy)
    return (*numbers, float(int(intrinsics.model)), *intrinsics.coeffs)
