"""Frames from image folders (see ``image_folder``): one folder, or a folder of them in the order of their names."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robin_perception.cameras.source import FrameSource, SourceConfig, wait_until_due
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.gate import GateConfig
from robin_perception.core.image_folder import CAMERA_FILE, COLOR_FILE, load_frame


class FolderConfig(SourceConfig):
    """Frames of an image folder, or of the folders in one. It shows the same pictures again and again, so it is never
    taken for a frozen camera."""

    kind: ClassVar[str] = "folder"

    path: str = Field("", max_length=4096, description="An image folder, or a folder that holds some.")
    rate_hz: float = Field(0.0, ge=0, le=240, description="Frames per second, Hz; 0 = as fast as they are read.")
    repeat: bool = Field(True, description="Start again after the last one.")
    keep_in_memory: bool = Field(False, description="Read frames from disk once; costs 7 bytes per pixel.")
    gate: GateConfig = GateConfig(frozen_after=0)


class FolderSource(FrameSource):
    """Hands out the frames at a steady rate, stamped with the time at which they are handed out.

    A reader that is late gets the next frame at once, and the rate goes on from there: a folder has no frames to drop.
    A damaged folder is an error of that one read; the next read goes on with the folder after it.
    """

    name = "folder"

    def __init__(self, config: FolderConfig, T_base_camera: NDArray[np.float64] | None = None) -> None:
        super().__init__(config, T_base_camera)
        self._config = config
        self._folders: list[Path] = []
        self._next = 0
        self._due_s = 0.0
        self._kept: dict[Path, Frame] = {}

    @property
    def folders(self) -> list[Path]:
        """Image folders in the order in which they are read; empty until ``open``."""
        return list(self._folders)

    def _open(self) -> None:
        self._folders = frame_folders(Path(self._config.path))
        self._next = 0
        self._due_s = time.monotonic()

    def _read(self, timeout_s: float) -> Frame:
        if self._next == len(self._folders) and not self._config.repeat:
            raise RobinError(Code.END_OF_SOURCE, f"{self._config.path}: all {len(self._folders)} frames were read")
        self._wait_until_due(timeout_s)
        folder = self._folders[self._next % len(self._folders)]
        self._next = self._next % len(self._folders) + 1
        frame = self._load(folder)
        # Whatever the folder holds, to those behind this is a camera: two passes must not show the same stamps.
        return replace(frame, stamp_s=time.time())

    def _wait_until_due(self, timeout_s: float) -> None:
        if self._config.rate_hz == 0:
            return
        wait_until_due(self._due_s, timeout_s, self._config.path)
        period_s = 1.0 / self._config.rate_hz
        self._due_s = max(self._due_s + period_s, time.monotonic() - period_s)

    def _load(self, folder: Path) -> Frame:
        if folder in self._kept:
            return self._kept[folder]
        frame = load_frame(folder, T_base_camera=self._T_base_camera, gate=self._config.gate)
        if self._config.keep_in_memory:
            self._kept[folder] = frame
        return frame

    def _close(self) -> None:
        self._folders = []
        self._kept = {}

    def _own_pose_known(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"path": self._config.path, "folders": len(self._folders), "rate_hz": self._config.rate_hz}


def frame_folders(path: Path) -> list[Path]:
    """``path`` itself where it is an image folder, else those in it, sorted by name.

    Raises RobinError INPUT_MISSING where there is none.
    """
    if not str(path) or not path.is_dir():
        raise RobinError(Code.INPUT_MISSING, f"{path}: no such folder")
    if (path / COLOR_FILE).exists() or (path / CAMERA_FILE).exists():
        return [path]
    folders = sorted(p.parent for p in path.glob(f"*/{CAMERA_FILE}") if not p.parent.name.startswith("."))
    if not folders:
        raise RobinError(Code.INPUT_MISSING, f"{path}: no image folder in it")
    return folders
