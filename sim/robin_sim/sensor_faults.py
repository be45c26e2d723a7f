"""Faults of the depth camera that are not of its optics: a projector that fades, depth registered beside the colour."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_sim.model import RenderedView
from robin_sim.stereo import correlated_noise

_APART_PX = (20.0, 13.0)  # right and down, of a picture 640 columns wide
_ENOUGH_CONTRAST = 0.08  # RMS of log brightness within a matching window: stereo then needs no pattern
_WINDOW_PX = 9.0


def without_projector(view: RenderedView, rng: np.random.Generator, severity: float) -> NDArray[np.bool_]:
    """Where stereo finds nothing to match as the pattern fades: on what has no texture of its own. bool [H, W]."""
    scale = view.depth.shape[1] / 640.0
    size = max(3, round(_WINDOW_PX * scale)) | 1
    light = np.log(view.extras["linear_rgb"].mean(axis=2) + 0.02)
    mean = cv2.blur(light, (size, size))
    contrast = np.sqrt(np.maximum(cv2.blur(light * light, (size, size)) - mean * mean, 0.0))
    field = correlated_noise(rng, (light.shape[0], light.shape[1]), 12.0 * scale)
    return np.asarray(contrast * np.exp(0.5 * field) < _ENOUGH_CONTRAST * severity)


def registered_apart(depth: NDArray[np.float32], severity: float) -> NDArray[np.float32]:
    """Depth [H, W] as it comes when the cameras' places to each other are no longer those of the calibration."""
    scale = severity * depth.shape[1] / 640.0
    move = np.array([[1.0, 0.0, _APART_PX[0] * scale], [0.0, 1.0, _APART_PX[1] * scale]])
    size = (depth.shape[1], depth.shape[0])
    return np.asarray(cv2.warpAffine(depth, move, size, flags=cv2.INTER_NEAREST), dtype=np.float32)
