"""What a colour camera makes of exposed linear light: optics, motion, photon and read noise, white balance, gamma,
JPEG."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robin_perception.core.config import StrictConfig
from robin_sim.faults import Faults
from robin_sim.model import RenderedView
from robin_sim.shading import to_display

Image = NDArray[np.float32]


class ColourConfig(StrictConfig):
    """Sizes in pixels of a picture 640 columns wide; they scale with the real width."""

    exposure_ev: float = Field(0.0, ge=-4, le=4)
    red_gain: float = Field(1.0, gt=0.3, le=3)
    blue_gain: float = Field(1.0, gt=0.3, le=3)
    vignette: float = Field(0.12, ge=0, le=0.9, description="loss of light in the corners")
    softness_px: float = Field(0.45, ge=0, le=5, description="sigma of optics and demosaicing")
    motion_px: float = Field(0.0, ge=0, le=20, description="length of the motion smear")
    motion_rad: float = 0.0
    full_well_electrons: float = Field(6000.0, gt=50, le=100_000, description="electrons at white: sets the shot noise")
    read_noise: float = Field(0.003, ge=0, le=0.2, description="RMS, share of white")
    contrast: float = Field(1.0, gt=0.4, le=2.5)
    saturation: float = Field(1.0, ge=0, le=2)
    jpeg_quality: int = Field(0, ge=0, le=100, description="0 leaves the picture uncompressed")


def draw_colour(rng: np.random.Generator) -> ColourConfig:
    """A colour camera for training."""
    moving = rng.random() < 0.2
    return ColourConfig(
        exposure_ev=float(np.clip(rng.normal(0.0, 0.25), -1, 1)),
        red_gain=float(np.exp(rng.normal(0, 0.04))),
        blue_gain=float(np.exp(rng.normal(0, 0.05))),
        vignette=float(rng.uniform(0.0, 0.35)),
        softness_px=float(rng.gamma(3.0, 0.2)),
        motion_px=float(rng.uniform(1.0, 5.0)) if moving else 0.0,
        motion_rad=float(rng.uniform(0, np.pi)),
        full_well_electrons=float(np.exp(rng.uniform(np.log(800), np.log(12000)))),
        read_noise=float(np.exp(rng.uniform(np.log(0.0008), np.log(0.012)))),
        contrast=float(rng.uniform(0.9, 1.15)),
        saturation=float(rng.uniform(0.75, 1.2)),
        jpeg_quality=int(rng.integers(45, 96)) if rng.random() < 0.3 else 0,
    )


def photograph(view: RenderedView, rng: np.random.Generator, config: ColourConfig, faults: Faults) -> NDArray[np.uint8]:
    """Colour image of ``view``, uint8 [H, W, 3]."""
    light = view.extras["linear_rgb"]
    scale = light.shape[1] / 640.0
    light = _blurred(light, config, faults, scale)
    gains = np.array([config.red_gain, 1.0, config.blue_gain]) * 2.0**config.exposure_ev
    light = light * (gains * _light_left(faults) * 8.0**faults.over_exposed).astype(np.float32)
    light = light * _vignette(light.shape[:2], config.vignette)[..., None]
    light = np.minimum(light, 4.0)
    light = _noisy(light, rng, config, faults, scale)
    if config.saturation != 1.0:
        grey = (light @ np.array([0.2126, 0.7152, 0.0722], dtype=np.float32))[..., None]
        light = np.maximum(grey + config.saturation * (light - grey), 0.0)
    image = to_display(light, config.contrast)
    return _compressed(image, config.jpeg_quality) if config.jpeg_quality else image


def _light_left(faults: Faults) -> float:
    """Share of the light that reaches the sensor after the camera has raised its gain by what it can: 1 .. 0.06."""
    return float(0.06**faults.dark)


def _blurred(light: Image, config: ColourConfig, faults: Faults, scale: float) -> Image:
    sigma = float(np.hypot(config.softness_px, 3.6 * faults.blur)) * scale
    if sigma > 0.15:
        light = np.asarray(cv2.GaussianBlur(light, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), dtype=np.float32)
    length = (config.motion_px + 6.0 * faults.blur) * scale
    if length >= 1.0:
        size = int(np.ceil(length)) | 1
        kernel = np.zeros((size, size), dtype=np.float32)
        middle = (size - 1) / 2
        dx, dy = 0.5 * length * np.cos(config.motion_rad), 0.5 * length * np.sin(config.motion_rad)
        for s in np.linspace(-1.0, 1.0, 4 * size):
            kernel[round(np.clip(middle + s * dy, 0, size - 1)), round(np.clip(middle + s * dx, 0, size - 1))] += 1.0
        kernel /= kernel.sum()
        light = np.asarray(cv2.filter2D(light, -1, kernel, borderType=cv2.BORDER_REPLICATE), dtype=np.float32)
    return light


def _vignette(shape: tuple[int, ...], loss: float) -> Image:
    height, width = shape
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None] * (height / width)
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    corner = 1.0 + (height / width) ** 2
    return np.asarray(1.0 - loss * (x * x + y * y) / corner, dtype=np.float32)


def _noisy(light: Image, rng: np.random.Generator, config: ColourConfig, faults: Faults, scale: float) -> Image:
    """Shot and read noise. A picture narrower than the sensor averages pixels, so its noise shrinks with the width."""
    shrink = min(1.0, scale) ** 0.5
    electrons = config.full_well_electrons * _light_left(faults) ** 0.5
    read = config.read_noise * (1.0 + 8.0 * faults.dark)
    sigma = np.sqrt(light / electrons + read * read) * shrink
    noise = rng.standard_normal(light.shape, dtype=np.float32)
    if config.softness_px > 0.3:
        noise = cv2.blur(noise, (2, 2)) * 1.7
    return np.asarray(np.maximum(light + sigma * noise, 0.0), dtype=np.float32)


def _compressed(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """A JPEG's losses. cv2 takes channels as BGR, so they are swapped for the luma to be that of the picture."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.cvtColor(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR)), cv2.COLOR_BGR2RGB), dtype=np.uint8)
