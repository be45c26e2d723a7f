"""Engines that take a camera's bytes as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from robin_perception.engines.base import Tensors


@dataclass(frozen=True)
class CameraFrame:
    """A frame of any size before anything was computed of it: rgb uint8 [H,W,3]; depth_units uint16 [H,W] in units of
    ``depth_unit_m`` metres; intrinsics and belt_plane are the network's inputs of these names."""

    rgb: NDArray[np.uint8]
    depth_units: NDArray[np.uint16]
    depth_unit_m: float
    intrinsics: NDArray[np.float32]
    belt_plane: NDArray[np.float32]

    @property
    def size(self) -> tuple[int, int]:
        """Width, height."""
        return self.rgb.shape[1], self.rgb.shape[0]


@runtime_checkable
class TakesCamera(Protocol):
    """What an engine offers beside ``run`` where scaling and metres are computed on its device."""

    def run_camera(self, frame: CameraFrame, outputs: Sequence[str]) -> Tensors:
        """As ``Engine.run``."""
        ...
