"""The gate: the one place where pictures become a ``Frame``, whichever door they come in by.

Image folders, .npy files, bags, a driver's topics, RealSense cameras and the training reader hand over what they have.
What is wrong with it gets the same number at every door; what is no measurement becomes "no depth" (0) and is counted.
Good pixels are not touched.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from robin_perception.core.config import StrictConfig
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame, GateReport, GateWarning, PictureNames, RawDepth

PINHOLE_MODELS = ("", "none", "plumb_bob", "rational_polynomial")
_COEFFICIENTS = (4, 5, 8, 12, 14)  # what OpenCV's pinhole model takes
_INFINITY, _MINUS_ZERO, _MINUS_INFINITY = map(np.uint32, (0x7F800000, 0x80000000, 0xFF800000))  # bits of float32
_UINT16_MAX = 65535
_SENSOR_MAXIMA = (4095, 8191, 16383, 32767)  # of sensors that count with 12 to 15 bits
_SATURATED_SHARE = 0.002
_SATURATED_GAP = 0.95  # nothing else lies so near beneath a saturated value
_SATURATED_M = (65.535, 6.5535)  # 65535 in units of 1 and 0.1 mm, where only metres are known
_UNIT_STEP = 24  # pixels between those that the unit is judged by
_UNIT_LEAST_PX = 30
_UNIT_LEAST_FALL = 0.2
_UNIT_FITS = (0.6, 1.1)  # depth over the distance to z = 0: parcels stand on that plane
_DENORMAL_M = 1e-3
_CONSTANT_LEAST_SHARE = 0.01
_WATCHED_ROWS = 8


class GateConfig(StrictConfig):
    """What a frame must be to come in."""

    depth_min_m: float = Field(0.1, gt=0, le=10, description="Depth below this is no measurement, m.")
    depth_max_m: float = Field(10.0, gt=0, le=100, description="Depth beyond this is no measurement, m.")
    usual_min_m: float = Field(
        0.2, ge=0, le=10, description="Half of the picture nearer than this raises the question of the depth's unit, m."
    )
    usual_max_m: float = Field(
        4.0, gt=0, le=100, description="Half of the picture beyond this raises the question of the depth's unit, m."
    )
    max_distortion_px: float = Field(
        3.0, ge=0, le=100, description="A lens may move a corner of the image by so much, px; beyond, rectify first."
    )
    frozen_after: int = Field(
        10,
        ge=0,
        le=10_000,
        description="So many pictures in a row that equal the one before to the bit are a frozen camera; 0 = never. "
        "A real sensor has noise; image folders and simulated cameras show one picture again and again.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> GateConfig:
        for low, high in (("depth_min_m", "depth_max_m"), ("usual_min_m", "usual_max_m")):
            if getattr(self, low) >= getattr(self, high):
                raise ValueError(f"{low} {getattr(self, low):g} must be less than {high} {getattr(self, high):g}")
        return self


@dataclass(frozen=True)
class CameraModel:
    """The camera as a door knows it. K: float64 [3, 3], pixels, of a ``width`` x ``height`` image.

    distortion: coefficients of ``distortion_model`` (ROS's names). binning: pixels per side that were joined, (x, y).
    roi: (width, height) of the part that was read, (0, 0) = all.
    """

    K: NDArray[np.float64]
    width: int
    height: int
    distortion_model: str = ""
    distortion: tuple[float, ...] = ()
    binning: tuple[int, int] = (0, 0)
    roi: tuple[int, int] = (0, 0)


def make_frame(
    rgb: NDArray[np.uint8],
    depth: NDArray[np.float32] | RawDepth,
    camera: CameraModel,
    T_base_camera: NDArray[np.float64] | None = None,
    *,
    stamp_s: float = 0.0,
    camera_id: str = "camera",
    frame_ids: tuple[str, ...] = (),
    keep_units: bool = False,
    config: GateConfig | None = None,
    names: PictureNames | None = None,
) -> Frame:
    """The frame of one moment, or RobinError with the numbered reason why there is none.

    rgb: uint8 [H, W, 3]. depth: float32 [H, W] metres, or the camera's own numbers. T_base_camera: float64 [4, 4], None
    where it is not known (the frame then carries the identity). frame_ids: of colour, depth and camera, where they have
    any. keep_units: the frame keeps the camera's own numbers (``raw_depth``). names: how messages call the inputs.

    Raises INPUT_UNREADABLE, INPUT_SIZE_MISMATCH, FRAME_ID_MISMATCH, INTRINSICS_INVALID, POSE_INVALID, DEPTH_EMPTY,
    DEPTH_CONSTANT, DEPTH_UNIT_SUSPECT.
    """
    config, names = config or GateConfig(), names or PictureNames()
    _check_sizes(rgb, depth, camera, names)
    _check_camera(camera, frame_ids, config, names)
    depth, saturated_px = _unsaturated(depth)
    raw, metres = (depth, depth.metres()) if isinstance(depth, RawDepth) else (None, depth)
    metres, raw, removed = _measured(metres, raw, saturated_px, config, names)
    pose = np.eye(4) if T_base_camera is None else T_base_camera
    frame = Frame(rgb, metres, camera.K, pose, stamp_s, camera_id, raw if keep_units else None).validated(names)
    _check_constant(metres, names)
    warning = _unit_warning(frame, config, names)
    return replace(frame, gate=GateReport(removed, () if warning is None else (warning,)))


class FrozenWatch:
    """Notices a stream that shows the very same picture again and again under new stamps. One per stream; thread-safe.

    Rows of both images are compared with those of the last picture, to the bit.
    """

    def __init__(self, config: GateConfig) -> None:
        self.config = config
        self._lock = threading.Lock()
        self._stamp_s = math.nan
        self._rows: tuple[NDArray[np.uint8], NDArray[np.float32]] | None = None
        self._repeats = 0

    def check(self, frame: Frame) -> None:
        """Raises RobinError PICTURE_FROZEN from the ``frozen_after``-th repetition on, until the picture changes."""
        if self.config.frozen_after == 0:
            return
        with self._lock:
            rgb, depth = frame.rgb[::_WATCHED_ROWS], frame.depth[::_WATCHED_ROWS]
            if frame.stamp_s == self._stamp_s:
                return  # the same moment, looked at twice
            self._stamp_s = frame.stamp_s
            if self._rows is None or not (np.array_equal(self._rows[0], rgb) and np.array_equal(self._rows[1], depth)):
                self._rows, self._repeats = (rgb.copy(), depth.copy()), 0
                return
            self._repeats += 1
            if self._repeats >= self.config.frozen_after:
                text = (
                    f"{frame.camera_id}: the same picture, to the bit, {self._repeats + 1} times: is the camera frozen?"
                )
                raise RobinError(Code.PICTURE_FROZEN, text)


def _check_sizes(
    rgb: NDArray[np.uint8], depth: NDArray[np.float32] | RawDepth, camera: CameraModel, names: PictureNames
) -> None:
    values = depth.units if isinstance(depth, RawDepth) else depth
    if rgb.ndim != 3 or values.ndim != 2 or values.size == 0:
        text = f"{names.color} must be [H,W,3], {names.depth} [H,W]; got {rgb.shape} and {values.shape}"
        raise RobinError(Code.INPUT_UNREADABLE, text)
    height, width = rgb.shape[:2]
    sizes = {names.depth: values.shape[::-1], names.camera: (camera.width, camera.height)}
    for name, size in sizes.items():
        if size != (width, height):
            text = f"{names.color} is {width}x{height}, {name} is {size[0]}x{size[1]}"
            raise RobinError(Code.INPUT_SIZE_MISMATCH, text)


def _check_camera(camera: CameraModel, frame_ids: tuple[str, ...], config: GateConfig, names: PictureNames) -> None:
    if frame_ids and (len(set(frame_ids)) > 1 or not frame_ids[0]):
        text = f"frame ids of color, depth and info must be the same: {', '.join(map(repr, frame_ids))}"
        raise RobinError(Code.FRAME_ID_MISMATCH, f"{text}; is depth aligned to colour?")
    if max(camera.binning) > 1 or camera.roi not in ((0, 0), (camera.width, camera.height)):
        raise RobinError(Code.INTRINSICS_INVALID, f"{names.camera}: binned or cut images; publish them at full size")
    d, lens = np.array(camera.distortion, dtype=np.float64), camera.distortion_model
    if lens not in PINHOLE_MODELS or (d.any() and d.size not in _COEFFICIENTS):
        text = f"{names.camera}: lens model '{lens}' with {d.size} coefficients is no pinhole camera's"
        raise RobinError(Code.INTRINSICS_INVALID, f"{text}: rectify the images")
    shift = _distortion_px(camera, d) if d.any() else 0.0
    if not shift <= config.max_distortion_px:
        text = f"{names.camera}: distortion moves a corner by {shift:.1f} px, more than {config.max_distortion_px:g}"
        raise RobinError(Code.INTRINSICS_INVALID, f"{text}: rectify the images")


def _distortion_px(camera: CameraModel, d: NDArray[np.float64]) -> float:
    """How far the lens moves the corner it moves most, pixels. d: OpenCV's coefficients."""
    right, low = camera.width - 1.0, camera.height - 1.0
    corners = np.array([[0.0, 0.0], [right, 0.0], [0.0, low], [right, low]])
    straight = cv2.undistortPoints(corners.reshape(-1, 1, 2), camera.K, d, P=camera.K).reshape(-1, 2)
    return float(np.abs(straight - corners).max())


def _unsaturated(depth: NDArray[np.float32] | RawDepth) -> tuple[NDArray[np.float32] | RawDepth, int]:
    """Depth with 0 where the sensor said "as far as I can count", and the pixels of these."""
    if isinstance(depth, RawDepth):
        top = int(depth.units.max())
        if top != _UINT16_MAX and top not in _SENSOR_MAXIMA:
            return depth, 0
        at = depth.units == top
        count = int(np.count_nonzero(at))
        alone = count == np.count_nonzero(depth.units > _SATURATED_GAP * top)
        if top != _UINT16_MAX and not (alone and count > _SATURATED_SHARE * at.size):
            return depth, 0
        return RawDepth(depth.units * ~at, depth.unit_m), count
    far = min(_SATURATED_M) - 1e-4
    if depth.max() < far or not np.count_nonzero((depth > far) & (depth < max(_SATURATED_M) + 1e-4)):  # NaN goes on
        return depth, 0
    at = np.logical_or.reduce([np.abs(depth - np.float32(value)) < value * 2e-7 for value in _SATURATED_M])
    return (np.where(at, np.float32(0), depth), int(np.count_nonzero(at))) if at.any() else (depth, 0)


def _measured(
    metres: NDArray[np.float32],
    raw: RawDepth | None,
    saturated_px: int,
    config: GateConfig,
    names: PictureNames,
) -> tuple[NDArray[np.float32], RawDepth | None, dict[str, int]]:
    """Depth with 0 where there is no measurement, and cause -> pixels. The same arrays where nothing had to go.

    Raises RobinError DEPTH_EMPTY, or DEPTH_UNIT_SUSPECT where most of it would be in range in another unit.
    """
    # As integers the bits of floats stand in the order of their values, negative ones and NaN behind all others. No
    # processor that flushes denormals to 0 spoils that, and it is quick.
    bits = np.ascontiguousarray(metres).view(np.uint32)
    low, high = (np.float32(limit).view(np.uint32) for limit in (config.depth_min_m, config.depth_max_m))
    top, empty_px = bits.max(), bits.size - cv2.countNonZero(bits.view(np.int32))
    removed = {"saturated": saturated_px} if saturated_px else {}
    if 0 < top <= high and np.count_nonzero(bits < low) == empty_px:
        return metres, raw, removed
    inside = (bits >= low) & (bits <= high)
    kept_px, causes = int(np.count_nonzero(inside)), _causes(bits, low, high)
    removed |= {cause: count for cause, count in causes.items() if count}
    if causes["too_near"] + causes["too_far"] > kept_px:
        _refuse_other_unit(metres, config, names)
    if kept_px == 0:
        shown = ", ".join(f"{count} px {cause.replace('_', ' ')}" for cause, count in removed.items()) or "all 0"
        span = f"{config.depth_min_m:g} to {config.depth_max_m:g} m"
        raise RobinError(Code.DEPTH_EMPTY, f"{names.depth}: no valid pixel within {span} ({shown})")
    return (bits * inside).view(np.float32), None if raw is None else RawDepth(raw.units * inside, raw.unit_m), removed


def _causes(bits: NDArray[np.uint32], low: np.uint32, high: np.uint32) -> dict[str, int]:
    """Pixels by what is wrong with them, of the floats' bits."""
    steps = (high + 1, _INFINITY, _MINUS_ZERO, _MINUS_ZERO + 1, _MINUS_INFINITY)
    far, infinite, minus_zero, negative, minus_infinite = [int(np.count_nonzero(bits >= step)) for step in steps]
    return {
        "not_finite": infinite - minus_zero + minus_infinite,
        "negative": negative - minus_infinite,
        "too_near": int(np.count_nonzero(bits < low)) - (bits.size - cv2.countNonZero(bits.view(np.int32))),
        "too_far": far - infinite,
    }


def _other_unit(distance_m: float, config: GateConfig) -> float | None:
    """The factor, a tenth or ten, that makes an unusual distance a usual one."""
    if config.usual_min_m <= distance_m <= config.usual_max_m:
        return None
    return next((f for f in (0.1, 10.0) if config.usual_min_m <= f * distance_m <= config.usual_max_m), None)


def _unit_text(middle_m: float, factor: float, names: PictureNames) -> str:
    fits = f"{'ten times' if factor > 1 else 'a tenth of'} that, {factor * middle_m:.3g} m, would fit"
    return f"{names.depth}: median {middle_m:.3g} m; {fits}: is the unit right (depth_scale, metres per unit)?"


def _refuse_other_unit(metres: NDArray[np.float32], config: GateConfig, names: PictureNames) -> None:
    values = metres[np.isfinite(metres) & (metres > _DENORMAL_M)]
    middle_m = float(np.median(values)) if values.size else 0.0
    factor = _other_unit(middle_m, config)
    if factor is not None:
        raise RobinError(Code.DEPTH_UNIT_SUSPECT, _unit_text(middle_m, factor, names))


def _check_constant(metres: NDArray[np.float32], names: PictureNames) -> None:
    top, valid = metres.max(), cv2.countNonZero(metres)
    if valid > _CONSTANT_LEAST_SHARE * metres.size and np.count_nonzero(metres == top) == valid:
        text = f"{names.depth}: every pixel is {top:.4g} m; no sensor measures that: frozen, or not a depth image?"
        raise RobinError(Code.DEPTH_CONSTANT, text)


def distance_ratio(frame: Frame) -> float | None:
    """Depth over the distance to z = 0 that the camera's pose says, the picture's middle value; None where too little
    depth is there or the pose does not look down at that plane. About 1, less as the goods are high."""
    depth = frame.depth[_UNIT_STEP // 2 :: _UNIT_STEP, _UNIT_STEP // 2 :: _UNIT_STEP]
    v, u = np.nonzero(depth)
    plane = frame.belt_plane()
    rays_x = (u * _UNIT_STEP + _UNIT_STEP // 2 - frame.K[0, 2]) / frame.K[0, 0]
    rays_y = (v * _UNIT_STEP + _UNIT_STEP // 2 - frame.K[1, 2]) / frame.K[1, 1]
    falls = -(plane[0] * rays_x + plane[1] * rays_y + plane[2])  # metres nearer to the plane per metre of depth
    meets = falls > _UNIT_LEAST_FALL
    if plane[3] <= 0 or np.count_nonzero(meets) < _UNIT_LEAST_PX:
        return None
    return float(np.median(depth[v, u][meets] * falls[meets])) / float(plane[3])


def _unit_warning(frame: Frame, config: GateConfig, names: PictureNames) -> GateWarning | None:
    """Whether depth in range may be of another unit. Judged by the pose where it is known: then RobinError
    DEPTH_UNIT_SUSPECT where a tenth or ten times the depth is what the pose says; else a warning where the distance is
    unusual."""
    depth = frame.depth[_UNIT_STEP // 2 :: _UNIT_STEP, _UNIT_STEP // 2 :: _UNIT_STEP]
    if np.count_nonzero(depth) < _UNIT_LEAST_PX:
        return None
    middle_m = float(np.median(depth[depth > 0]))
    ratio = distance_ratio(frame) if frame.belt_plane()[3] > config.depth_min_m else None
    if ratio is not None:
        for by in (0.1, 10.0):
            if _UNIT_FITS[0] <= by * ratio <= _UNIT_FITS[1]:
                text = f"{names.depth} is {ratio:.3g} times the distance to z = 0 that the camera's pose says"
                raise RobinError(Code.DEPTH_UNIT_SUSPECT, f"{text}; {_unit_text(middle_m, by, names)}")
        if _UNIT_FITS[0] / 2 <= ratio <= 2 * _UNIT_FITS[1]:
            return None
    factor = _other_unit(middle_m, config)
    return None if factor is None else GateWarning(Code.DEPTH_UNIT_SUSPECT, _unit_text(middle_m, factor, names))
