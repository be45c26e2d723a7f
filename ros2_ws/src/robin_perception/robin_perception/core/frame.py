"""One RGB-D frame, registered: colour and depth share the pixel grid and the intrinsics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from robin_perception.core.errors import Code, RobinError
from robin_perception.core.pose import is_rigid

# Focal length over the image's longer side: fields of view from 136 down to 3 degrees, as pinhole cameras have them.
LEAST_FOCAL = 0.2
MOST_FOCAL = 20.0
MOST_STRETCH = 1.5  # fx over fy, either way
NEAREST_SEEN_M = 0.05
CENTRAL = 0.25  # farthest that the principal point lies from the image's middle, of the image's side


def intrinsics_misfit(fx: float, fy: float, cx: float, cy: float, width: int, height: int) -> str | None:
    """Why a width x height image cannot have these pinhole intrinsics (pixels), in one line; None where it can."""
    text = f"fx={fx:g} fy={fy:g} cx={cx:g} cy={cy:g} do not fit a {width}x{height} image"
    if not (np.isfinite([fx, fy, cx, cy]).all() and fx > 0 and fy > 0):
        return text
    if not all(abs(c - (size - 1) / 2) <= CENTRAL * size for c, size in ((cx, width), (cy, height))):
        return f"{text}: the principal point lies outside the inner half; are they of another profile?"
    if not 1 / MOST_STRETCH <= fx / fy <= MOST_STRETCH:
        return f"{text}: pixels are not that oblong"
    if not LEAST_FOCAL <= max(fx, fy) / max(width, height) <= MOST_FOCAL:
        return f"{text}: it would show {np.degrees(2 * np.arctan(width / 2 / fx)):.3g} degrees; fx and fy are in pixels"
    return None


def depth_units(depth_m: NDArray[np.float32], unit_m: float) -> NDArray[np.uint16]:
    """Depth in whole units of ``unit_m`` metres; what does not fit is invalid (0)."""
    units = np.rint(depth_m / unit_m)
    np.copyto(units, 0, where=~(units <= np.iinfo(np.uint16).max))
    return units.astype(np.uint16)


@dataclass(frozen=True)
class RawDepth:
    """Depth as the camera gave it: units uint16 [H, W], 0 = invalid; unit_m: metres per unit."""

    units: NDArray[np.uint16]
    unit_m: float

    def metres(self) -> NDArray[np.float32]:
        """float32 [H, W]."""
        return self.units.astype(np.float32) * np.float32(self.unit_m)


@dataclass(frozen=True)
class PictureNames:
    """How messages call what a frame is made of: file names where it comes from files."""

    color: str = "colour"
    depth: str = "depth"
    camera: str = "camera_info"


class GateWarning(NamedTuple):
    """Something to look at in a frame that is used all the same."""

    code: Code
    text: str

    def __str__(self) -> str:
        return f"E{int(self.code)} {self.code.name}: {self.text}"


@dataclass(frozen=True)
class GateReport:
    """What is to be said of a frame that was let through.

    depth_removed: cause -> pixels whose depth became 0 ("no depth"); causes without a pixel are left out.
    """

    depth_removed: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[GateWarning, ...] = ()

    @property
    def flags(self) -> tuple[str, ...]:
        """The warnings as short words, which go where the scene's flags go."""
        return tuple(warning.code.name.lower() for warning in self.warnings)


@dataclass(frozen=True)
class Frame:
    """A registered RGB-D frame.

    rgb: uint8 [H, W, 3], RGB order.
    depth: float32 [H, W], metres along the optical axis, 0 = invalid.
    K: float64 [3, 3] pinhole intrinsics in pixels; pixel centres at integer coordinates, no distortion.
    T_base_camera: float64 [4, 4], pose of ``camera_color_optical_frame`` (x right, y down, z forward) in ``base_link``.
    stamp_s: seconds; camera_id: which camera.
    raw_depth: the same depth as the camera's own numbers, where they are known: a GPU is sent half the bytes.
    gate: what was found when the frame was checked.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    K: NDArray[np.float64]
    T_base_camera: NDArray[np.float64]
    stamp_s: float = 0.0
    camera_id: str = "camera"
    raw_depth: RawDepth | None = None
    gate: GateReport = GateReport()

    @property
    def height(self) -> int:
        return int(self.rgb.shape[0])

    @property
    def width(self) -> int:
        return int(self.rgb.shape[1])

    def with_depth(self, depth: NDArray[np.float32]) -> Frame:
        """The same frame with another depth, float32 [H, W] metres; the camera's own numbers are dropped."""
        return replace(self, depth=depth, raw_depth=None)

    def pixels(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where points of base_link [N, 3], metres, are seen: float64 [N, 2], x and y; NaN for points behind the
        camera."""
        seen = (points - self.T_base_camera[:3, 3]) @ self.T_base_camera[:3, :3]
        depth = np.where(seen[:, 2:] > NEAREST_SEEN_M, seen[:, 2:], np.nan)
        return np.asarray(seen[:, :2] / depth * (self.K[0, 0], self.K[1, 1]) + (self.K[0, 2], self.K[1, 2]))

    def validated(self, names: PictureNames | None = None) -> Frame:
        """Return self, or raise RobinError with the numbered reason why this frame cannot be used."""
        names = names or PictureNames()
        if self.rgb.ndim != 3 or self.rgb.shape[2] != 3 or self.rgb.dtype != np.uint8:
            text = f"{names.color}: rgb must be uint8 [H,W,3], got {self.rgb.dtype} {self.rgb.shape}"
            raise RobinError(Code.INPUT_UNREADABLE, text)
        if self.depth.shape != self.rgb.shape[:2]:
            text = f"{names.color} is {self.width}x{self.height}, {names.depth} is {_size(self.depth)}"
            raise RobinError(Code.INPUT_SIZE_MISMATCH, text)
        if self.raw_depth is not None and self.raw_depth.units.shape != self.depth.shape:
            text = f"raw depth is {_size(self.raw_depth.units)}, depth {_size(self.depth)}"
            raise RobinError(Code.INPUT_SIZE_MISMATCH, text)
        nearest, farthest = (float(limit(initial=0.0)) for limit in (self.depth.min, self.depth.max))  # NaN passes
        if not (math.isfinite(nearest) and math.isfinite(farthest)):
            text = f"{names.depth} holds NaN or infinity; invalid pixels must be 0"
            raise RobinError(Code.DEPTH_NOT_FINITE, text)
        if farthest <= 0:
            raise RobinError(Code.DEPTH_EMPTY, f"{names.depth}: no valid pixel")
        K = self.K
        misfit = intrinsics_misfit(K[0, 0], K[1, 1], K[0, 2], K[1, 2], self.width, self.height)
        if misfit is not None:
            raise RobinError(Code.INTRINSICS_INVALID, f"{names.camera}: {misfit}")
        if not is_rigid(self.T_base_camera):
            raise RobinError(Code.POSE_INVALID, f"{names.camera}: T_base_camera is not a rigid transform")
        return self

    def belt_plane(self, belt_z_m: float = 0.0) -> NDArray[np.float32]:
        """Plane z = belt_z_m of base_link in camera coordinates: float32 [4] (n, d), height(P) = n·P + d, metres."""
        n = self.T_base_camera[2, :3]
        d = self.T_base_camera[2, 3] - belt_z_m
        return np.array([n[0], n[1], n[2], d], dtype=np.float32)


def _size(image: NDArray[Any]) -> str:
    return "x".join(str(n) for n in reversed(image.shape))
