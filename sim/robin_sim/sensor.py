"""The RGB-D camera: turns a perfect view into the frame that the cell gets, with the camera's usual faults and those of
``Faults``."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_perception.core.config import StrictConfig
from robin_perception.core.frame import Frame
from robin_sim.cameras import CameraView
from robin_sim.colour_camera import ColourConfig, draw_colour, photograph
from robin_sim.faults import NO_FAULTS, Faults
from robin_sim.model import RenderedView
from robin_sim.sensor_faults import registered_apart, without_projector
from robin_sim.stereo import StereoConfig, correlated_noise, draw_stereo, measure_depth

__all__ = ["ColourConfig", "SensorModelConfig", "StereoConfig", "dirt_on", "draw_sensor", "smears", "spoil"]


class SensorModelConfig(StrictConfig):
    """One RGB-D camera, depth registered to colour."""

    stereo: StereoConfig = StereoConfig()
    colour: ColourConfig = ColourConfig()


def draw_sensor(rng: np.random.Generator) -> SensorModelConfig:
    """A camera for training."""
    return SensorModelConfig(stereo=draw_stereo(rng), colour=draw_colour(rng))


def spoil(
    view: RenderedView,
    camera: CameraView,
    rng: np.random.Generator,
    config: SensorModelConfig | None = None,
    faults: Faults = NO_FAULTS,
    stamp_s: float = 0.0,
    dirt: NDArray[np.float32] | None = None,
) -> Frame:
    """The frame that the camera delivers for ``view``. ``camera`` is the pose that is reported; with the camera_shift
    fault render from ``cameras.true_camera(camera, faults)`` and pass the believed camera here. dirt: opacity of what
    lies on the glass, float32 [H, W], where it stays from frame to frame (``smears``); None draws it from
    ``faults.dirty_lens``."""
    config = config or SensorModelConfig()
    smear = dirt
    if smear is None and faults.dirty_lens > 0:
        smear = smears(rng, view.depth.shape, faults.dirty_lens)
    depth = measure_depth(view, camera, rng, config.stereo, faults)
    if faults.blur > 0:
        depth = _blurred_depth(depth, faults.blur, view.depth.shape[1])
    if smear is not None:
        view = _dirty(view, smear)
        depth = np.where(_smeared_out(rng, smear), np.float32(0), depth)
    if faults.depth_holes > 0:
        depth = np.where(_holes(rng, depth.shape, faults.depth_holes), np.float32(0), depth)
    rgb = photograph(view, rng, config.colour, faults)
    if faults.dead_projector > 0:
        depth = np.where(without_projector(view, rng, faults.dead_projector), np.float32(0), depth)
    if faults.colour_depth_apart > 0:
        depth = registered_apart(depth, faults.colour_depth_apart)
    depth = depth * np.float32(faults.depth_unit)
    return Frame(rgb, depth.astype(np.float32), camera.K.copy(), camera.T_base_camera.copy(), stamp_s)


def _blurred_depth(depth: NDArray[np.float32], severity: float, width: int) -> NDArray[np.float32]:
    """Vibration smears the imagers too: the depth image loses sharpness and its high outlines fail."""
    size = max(3, round(7.0 * severity * width / 640.0)) | 1
    kernel = np.ones((size, size), dtype=np.uint8)
    valid = (depth > 0).astype(np.float32)
    high, low = cv2.dilate(depth, kernel), cv2.erode(np.where(depth > 0, depth, np.float32(np.inf)), kernel)
    mean = cv2.boxFilter(depth, -1, (size, size)) / np.maximum(cv2.boxFilter(valid, -1, (size, size)), 1e-3)
    step = np.where(valid > 0, high - low, 0.0)
    return np.where((valid > 0) & (step < 0.03), mean, np.where(step > 0.10, 0.0, depth)).astype(np.float32)


def dirt_on(camera: CameraView, faults: Faults, rng: np.random.Generator) -> NDArray[np.float32] | None:
    """What lies on the glass of a station's camera, as of ``smears``; None on a clean one."""
    return smears(rng, (camera.height, camera.width), faults.dirty_lens) if faults.dirty_lens > 0 else None


def smears(rng: np.random.Generator, shape: tuple[int, ...], severity: float) -> NDArray[np.float32]:
    """Opacity of dirt on the glass, 0..1, out of focus. float32 [H, W]."""
    height, width = shape
    patch = correlated_noise(rng, (height, width), width / 3.5)
    patch += 0.5 * correlated_noise(rng, (height, width), width / 12.0)
    opacity = np.clip((patch - (1.9 - 1.5 * severity)) * 1.3, 0.0, 0.92)
    spots = np.zeros((height, width), dtype=np.float32)
    for _ in range(int(rng.poisson(14 * severity))):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        cv2.circle(spots, centre, max(2, int(rng.gamma(2.0, width / 90))), float(rng.uniform(0.3, 0.9)), -1)
    soft = cv2.GaussianBlur(spots, (0, 0), width / 160.0)
    return np.asarray(np.maximum(opacity, soft * min(1.0, 2.0 * severity)), dtype=np.float32)


def _dirty(view: RenderedView, smear: NDArray[np.float32]) -> RenderedView:
    """Dirt scatters light: the picture behind it loses sharpness and contrast towards the mean."""
    light = view.extras["linear_rgb"]
    veil = cv2.GaussianBlur(light, (0, 0), light.shape[1] / 40.0)
    mean = light.reshape(-1, 3).mean(axis=0)
    weight = smear[..., None]
    mixed = light * (1.0 - weight) + weight * (0.55 * veil + 0.35 * mean)
    return replace(view, extras={**view.extras, "linear_rgb": mixed.astype(np.float32)})


def _smeared_out(rng: np.random.Generator, smear: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The left imager looks through its own dirt, near that of the colour camera: depth fails where it is thick."""
    field = correlated_noise(rng, smear.shape, smear.shape[1] / 60.0)
    return np.asarray(smear + 0.12 * field > 0.45)


def _holes(rng: np.random.Generator, shape: tuple[int, ...], severity: float) -> NDArray[np.bool_]:
    """Blobs without depth that take 60 % of the image at severity 1."""
    height, width = shape
    field = correlated_noise(rng, (height, width), width / 14.0) + 0.7 * correlated_noise(
        rng, (height, width), width / 45.0
    )
    return np.asarray(field > np.quantile(field[::4, ::4], 1.0 - 0.6 * severity))
