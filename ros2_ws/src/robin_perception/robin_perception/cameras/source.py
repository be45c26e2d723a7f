"""What every source of frames does, and the sources by name.

A source is opened, read and closed by one thread at a time; ``describe`` and ``counters`` may be read from any thread.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from types import TracebackType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robin_perception.core.config import StrictConfig, parse_config
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.gate import FrozenWatch, GateConfig
from robin_perception.core.pose import is_rigid

RECONNECT_CODES = frozenset({Code.CAMERA_UNPLUGGED, Code.CAMERA_NOT_FOUND, Code.CAMERA_FAILED})


class SourceConfig(StrictConfig):
    """Settings that every source understands. ``kind`` is the source's name in the registry."""

    kind: ClassVar[str]

    camera_id: str = Field(
        "",
        max_length=80,
        description="Goes into every frame; empty = the source's own (a serial number, a folder's name).",
    )
    gate: GateConfig = GateConfig()


@dataclass
class SourceCounters:
    """Since the source was made; they go on over ``close`` and ``open``.

    frames: handed out. dropped: lost between sensor and reader, by the gaps in the frame numbers. incomplete: sets
    without colour or without depth, thrown away. timeouts: reads without a frame. failures: reads that ended in any
    other error but the end of the source. opened: times it was opened.
    """

    frames: int = 0
    dropped: int = 0
    incomplete: int = 0
    timeouts: int = 0
    failures: int = 0
    opened: int = 0


class FrameSource(ABC):
    """Registered RGB-D frames from a camera, a folder or a recording.

    T_base_camera: float64 [4, 4], pose of the colour camera's optical frame in base_link, metres; it replaces the pose
    that the source itself may know. Where neither knows one, frames carry the identity (points are then in the optical
    frame) and ``pose_known`` is False: nobody must plan on them before a pose is put in.

    Errors of ``open`` and ``read`` are RobinError. Those in ``RECONNECT_CODES`` may go away: ``reopen`` after a while.
    """

    name: ClassVar[str]

    def __init__(self, config: SourceConfig, T_base_camera: NDArray[np.float64] | None = None) -> None:
        self.config = config
        self.counters = SourceCounters()
        self._T_base_camera = None if T_base_camera is None else _rigid(T_base_camera)
        self._is_open = False
        self._frozen = FrozenWatch(config.gate)

    @property
    def is_open(self) -> bool:
        return self._is_open

    @property
    def pose_known(self) -> bool:
        """Whether frames carry a real camera pose."""
        return self._T_base_camera is not None or self._own_pose_known()

    def set_pose(self, T_base_camera: NDArray[np.float64]) -> None:
        """Pose for every later frame. Raises RobinError POSE_INVALID."""
        self._T_base_camera = _rigid(T_base_camera)

    def open(self) -> None:
        """Start delivering; does nothing when open.

        Raises RobinError DEPENDENCY_MISSING, CAMERA_NOT_FOUND, CAMERA_PROFILE_UNSUPPORTED, INTRINSICS_INVALID,
        CAMERA_FAILED, INPUT_*, CONFIG_* or BAG_*; the source is then closed.
        """
        if self._is_open:
            return
        try:
            self._open()
        except BaseException:
            self._close()
            raise
        self._is_open = True
        self.counters.opened += 1

    def read(self, timeout_s: float) -> Frame:
        """The next frame, waiting for it at most ``timeout_s``.

        Raises RobinError FRAME_TIMEOUT (nothing came, try again), CAMERA_UNPLUGGED or CAMERA_FAILED (``reopen``),
        END_OF_SOURCE, SOURCE_NOT_OPEN, or what is wrong with this one frame: PICTURE_FROZEN and what ``make_frame``
        raises.
        """
        if not self._is_open:
            raise RobinError(Code.SOURCE_NOT_OPEN, f"{self.name}: not open")
        try:
            frame = self._read(timeout_s)
            self._frozen.check(frame)
        except RobinError as exc:
            self.counters.timeouts += exc.code == Code.FRAME_TIMEOUT
            self.counters.failures += exc.code not in (Code.FRAME_TIMEOUT, Code.END_OF_SOURCE)
            raise
        self.counters.frames += 1
        if self.config.camera_id:
            frame = replace(frame, camera_id=self.config.camera_id)
        return frame if self._T_base_camera is None else replace(frame, T_base_camera=self._T_base_camera)

    def close(self) -> None:
        """Stop and release everything; may be called at any time, also twice."""
        self._is_open = False
        self._close()

    def reopen(self) -> None:
        """After the camera was lost: close, then open. Raises what ``open`` raises; safe to call again and again."""
        self.close()
        self.open()

    def describe(self) -> dict[str, Any]:
        """For logs and diagnostics: name, configuration in force, what the hardware says, the counters. JSON values."""
        return {
            "source": self.name,
            "open": self._is_open,
            "pose_known": self.pose_known,
            **self._describe(),
            **asdict(self.counters),
        }

    def __enter__(self) -> FrameSource:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def _open(self) -> None: ...

    @abstractmethod
    def _read(self, timeout_s: float) -> Frame: ...

    @abstractmethod
    def _close(self) -> None:
        """Release what there is; called also after ``_open`` failed half-way."""

    def _own_pose_known(self) -> bool:
        """Whether the source's own frames carry a camera pose."""
        return False

    def _describe(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True)
class _Entry:
    description: str
    config_type: Callable[[], type[SourceConfig]]
    source_type: Callable[[], type[FrameSource]]


def _lazily(module: str, name: str) -> Callable[[], Any]:
    return lambda: getattr(import_module(f"robin_perception.cameras.{module}"), name)


_SOURCES: dict[str, _Entry] = {
    "realsense": _Entry(
        "Intel RealSense depth camera",
        _lazily("realsense_config", "RealSenseConfig"),
        _lazily("realsense", "RealSenseSource"),
    ),
    "realsense_bag": _Entry(
        "recording of a RealSense camera (.bag), through the same filters",
        _lazily("realsense_config", "RealSenseBagConfig"),
        _lazily("realsense", "RealSenseBagSource"),
    ),
    "folder": _Entry(
        "image folders, once or over and over",
        _lazily("folder", "FolderConfig"),
        _lazily("folder", "FolderSource"),
    ),
    "bag": _Entry(
        "frames of an MCAP bag",
        _lazily("bag", "BagConfig"),
        _lazily("bag", "BagSource"),
    ),
}


def source_names() -> dict[str, str]:
    """Name -> one line of description."""
    return {name: entry.description for name, entry in _SOURCES.items()}


def source_config_type(name: str) -> type[SourceConfig]:
    """Config class of a source. Raises RobinError OPTION_INVALID for an unknown name."""
    return _entry(name).config_type()


def source_config(name: str, values: dict[str, Any]) -> SourceConfig:
    """Checked config of a source. Raises RobinError OPTION_INVALID, CONFIG_UNKNOWN_KEY, CONFIG_OUT_OF_RANGE."""
    return parse_config(source_config_type(name), values, f"camera source '{name}'")


def make_source(config: SourceConfig, T_base_camera: NDArray[np.float64] | None = None) -> FrameSource:
    """The source that ``config`` is for, not opened yet.

    Raises RobinError OPTION_INVALID for an unknown kind and POSE_INVALID.
    """
    return _entry(config.kind).source_type()(config, T_base_camera)


def wait_until_due(due_s: float, timeout_s: float, what: str) -> None:
    """Sleep until the monotonic time ``due_s``, for sources that hand out frames at a pace. Raises RobinError
    FRAME_TIMEOUT, naming ``what``, after ``timeout_s`` where that is sooner."""
    wait_s = due_s - time.monotonic()
    if wait_s > timeout_s:
        time.sleep(max(timeout_s, 0.0))
        raise RobinError(Code.FRAME_TIMEOUT, f"{what}: next frame is due in {wait_s - timeout_s:.3f} s")
    if wait_s > 0:
        time.sleep(wait_s)


def _entry(name: str) -> _Entry:
    if name not in _SOURCES:
        raise RobinError(Code.OPTION_INVALID, f"unknown camera source '{name}'; known: {', '.join(_SOURCES)}")
    return _SOURCES[name]


def _rigid(pose: NDArray[np.float64]) -> NDArray[np.float64]:
    pose = np.asarray(pose, dtype=np.float64)
    if not is_rigid(pose):
        raise RobinError(Code.POSE_INVALID, "T_base_camera is not a rigid transform (4x4, finite)")
    return pose
