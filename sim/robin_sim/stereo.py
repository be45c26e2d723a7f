"""Depth as an active stereo camera of the D435's kind measures it, from the true picture.

Disparity is in pixels of the depth imager (``depth_focal_px``), whatever the picture's size: f * B / Z. So the depth
error is
Z^2 * s / (f * B) for a disparity error of s pixels (Intel's published figure of merit: 3.8 mm at 1 m with s = .08).
Sizes on the picture (matching window, holes) scale with the picture's focal length over the imager's.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robin_perception.core.config import StrictConfig
from robin_sim.cameras import CameraView
from robin_sim.faults import Faults
from robin_sim.model import RenderedView

Image = NDArray[np.float32]


class StereoConfig(StrictConfig):
    """A D435 at 848 columns unless said otherwise."""

    baseline_m: float = Field(0.050, gt=0.01, le=0.2)
    depth_focal_px: float = Field(424.0, gt=100, le=2000, description="focal length of the depth imager")
    disparity_noise_px: float = Field(0.08, ge=0, le=1.0, description="s on a well lit matt surface, RMS")
    subpixel_steps: int = Field(32, ge=1, le=256, description="disparity is a multiple of 1 / this")
    window_px: float = Field(7.0, ge=1, le=21, description="matching window, imager pixels")
    fattening: float = Field(0.6, ge=0, le=1, description="share of outlines that the foreground spreads over")
    flying: float = Field(0.12, ge=0, le=1, description="share of outline pixels that float between near and far")
    dark_reflectance: float = Field(0.05, ge=0, le=1, description="linear albedo where matching begins to fail")
    dropout: float = Field(1.0, ge=0, le=3, description="scales dropouts on dark, shiny, grazing and clear surfaces")
    speckle: float = Field(0.004, ge=0, le=0.2, description="share of pixels lost anywhere")
    half_occlusion: bool = True
    range_min_m: float = Field(0.2, ge=0, le=2)
    range_max_m: float = Field(4.0, gt=0.5, le=20)
    depth_unit_m: float = Field(0.001, gt=0, le=0.01)


def draw_stereo(rng: np.random.Generator) -> StereoConfig:
    """A depth camera for training: good to poor units, several baselines and window sizes."""
    return StereoConfig(
        baseline_m=float(rng.uniform(0.048, 0.056)),
        disparity_noise_px=float(np.exp(rng.uniform(np.log(0.03), np.log(0.16)))),
        window_px=float(rng.uniform(4.0, 10.0)),
        fattening=float(rng.uniform(0.2, 0.9)),
        flying=float(rng.uniform(0.0, 0.25)),
        dark_reflectance=float(rng.uniform(0.02, 0.08)),
        dropout=float(rng.uniform(0.3, 1.6)),
        speckle=float(rng.beta(1.0, 120.0)),
    )


def correlated_noise(rng: np.random.Generator, shape: tuple[int, int], cell_px: float) -> Image:
    """Gaussian noise, unit variance, correlated over about ``cell_px`` pixels. float32 [H, W].

    Drawn on a coarse grid and resized, so wide correlations cost less; each pixel's variance is put back to one.
    """
    height, width = shape
    step = max(1.0, cell_px / 2.0)
    h, w = int(np.ceil(height / step)) + 2, int(np.ceil(width / step)) + 2
    grid = cv2.GaussianBlur(rng.standard_normal((h, w), dtype=np.float32), (5, 5), 0.9)
    big = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(big / max(float(big.std()), 1e-6), dtype=np.float32)


def measure_depth(
    view: RenderedView, camera: CameraView, rng: np.random.Generator, config: StereoConfig, faults: Faults
) -> Image:
    """Depth image of ``view``, float32 [H, W] metres, 0 = no measurement."""
    shape = view.depth.shape
    scale = float(camera.K[0, 0]) / config.depth_focal_px
    fb = config.depth_focal_px * config.baseline_m
    seen, lost_film = _surface_seen(view, rng, scale)
    valid = (seen > 0) & ~lost_film
    disparity = np.where(seen > 0, fb / np.maximum(seen, 1e-3), 0.0).astype(np.float32)
    near = _near_disparity(disparity, config, scale)
    trouble = _trouble(view, config, faults, scale)
    dropped = _dropouts(rng, trouble, config, scale)
    if config.half_occlusion:
        dropped |= half_occluded(disparity * np.float32(scale))
    matched = _match(disparity, near, rng, config, scale)
    # Fattening also covers the occluded strip in part: a hole survives only where the window sees no foreground.
    window = 1.0 + 4.0 * np.clip(trouble, 0.0, 1.0) ** 2
    noisy = matched + config.disparity_noise_px * window * _disparity_noise(rng, shape, config, scale)
    noisy = np.round(noisy * config.subpixel_steps) / config.subpixel_steps
    depth = fb / np.maximum(noisy, 1e-3)
    valid &= ~dropped & (noisy > 0) & (depth >= config.range_min_m) & (depth <= config.range_max_m)
    units = np.round(depth / config.depth_unit_m)
    return np.where(valid, units * config.depth_unit_m, 0.0).astype(np.float32)


def _surface_seen(view: RenderedView, rng: np.random.Generator, scale: float) -> tuple[Image, NDArray[np.bool_]]:
    """The depth that the matcher locks on, and where film gives it nothing: in blobs it sees the film, what is
    behind, or neither."""
    transmission = view.extras["transmission"]
    film = transmission > 0
    if not film.any():
        return view.depth, film
    field = correlated_noise(rng, view.depth.shape, 22.0 * scale)
    through = film & (field > 0.9 - 1.6 * transmission)
    lost = film & (np.abs(field - 0.9 + 1.6 * transmission) < 0.45)
    return np.where(through, view.extras["behind_depth"], view.depth), lost


def _trouble(view: RenderedView, config: StereoConfig, faults: Faults, scale: float) -> Image:
    """How badly matching goes at each pixel, 0 fine .. 1 and more hopeless: dark, glossy, specular, grazing. [H, W]."""
    dark_at = config.dark_reflectance * (1.0 + 6.0 * faults.dark)
    # A window that holds some bright paper still matches, so print on a label is no hole.
    size = max(1, round(config.window_px * scale)) | 1
    reflectance = cv2.blur(view.extras["reflectance"], (size, size))
    dark = np.clip(1.0 - reflectance / (2.0 * dark_at + 1e-6), 0.0, 1.0)
    facing = np.abs(view.normals[..., 2])
    grazing = np.clip((0.35 - facing) / 0.30, 0.0, 1.0)
    shine = np.clip(view.extras["highlight"] - 0.5, 0.0, 1.5) * 0.7
    gloss = view.extras["gloss"] * np.clip((facing - 0.9) / 0.1, 0.0, 1.0) * 0.45
    return np.asarray(0.75 * dark + 0.8 * grazing + shine + gloss, dtype=np.float32)


def _dropouts(rng: np.random.Generator, trouble: Image, config: StereoConfig, scale: float) -> NDArray[np.bool_]:
    """Blob-shaped holes, likelier where matching goes badly, and single lost specks."""
    shape = trouble.shape
    field = 0.8 * correlated_noise(rng, shape, 9.0 * scale) + 0.6 * correlated_noise(rng, shape, 30.0 * scale)
    lost = field > 2.9 - 2.6 * config.dropout * trouble
    specks = correlated_noise(rng, shape, 3.0 * scale)
    quantile = float(np.quantile(specks[::4, ::4], 1.0 - config.speckle)) if config.speckle > 0 else np.inf
    return np.asarray(lost | (specks > quantile))


def _near_disparity(disparity: Image, config: StereoConfig, scale: float) -> Image:
    """Largest disparity within half a matching window: the foreground that an outline's window locks on."""
    size = max(1, round(config.window_px * scale / 2.0)) | 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    return np.asarray(cv2.dilate(disparity, kernel), dtype=np.float32)


def _match(disparity: Image, near: Image, rng: np.random.Generator, config: StereoConfig, scale: float) -> Image:
    """Window matching: averages over the window where the step inside it is below a pixel, so that low steps are
    smeared; at higher steps the foreground spreads outwards in places, and some pixels float between near and far."""
    size = max(1, round(config.window_px * scale)) | 1
    mean = cv2.boxFilter(disparity, -1, (size, size), borderType=cv2.BORDER_REPLICATE)
    shape = disparity.shape
    field = correlated_noise(rng, shape, 6.0 * scale)
    threshold = _normal_quantile(config.fattening)
    spread = np.where(field < threshold, near, disparity)
    step = near - disparity > 1.0
    floating = step & (rng.random(shape, dtype=np.float32) < config.flying)
    mix = rng.random(shape, dtype=np.float32)
    spread = np.where(floating, disparity + mix * (near - disparity), spread)
    smooth = np.abs(mean - disparity) < 0.45
    return np.asarray(np.where(smooth & ~floating, mean, spread), dtype=np.float32)


def _normal_quantile(share: float) -> float:
    """x with P(N < x) = share, logistic approximation (good to 0.02 in probability)."""
    p = min(max(share, 1e-3), 1.0 - 1e-3)
    return float(np.log(p / (1.0 - p)) / 1.702)


def _disparity_noise(rng: np.random.Generator, shape: tuple[int, int], config: StereoConfig, scale: float) -> Image:
    """Unit-variance disparity noise: most of it as wide as the matching window, some wider, some per pixel."""
    fine = correlated_noise(rng, shape, max(1.5, 0.7 * config.window_px * scale))
    wide = correlated_noise(rng, shape, 4.0 * config.window_px * scale)
    pixel = rng.standard_normal(shape, dtype=np.float32)
    return np.asarray(0.80 * fine + 0.50 * wide + 0.33 * pixel, dtype=np.float32)


def half_occluded(disparity_px: Image) -> NDArray[np.bool_]:
    """Pixels that the second imager (to the right) cannot see. disparity_px float32 [H, W] in pixels of this picture.

    A pixel lands at x - d in the second picture; it is hidden if some pixel further right in its row lands at or left
    of it. So holes lie left of foreground edges.
    """
    lands = np.arange(disparity_px.shape[1], dtype=np.float32) - disparity_px
    reach = np.minimum.accumulate(lands[:, ::-1], axis=1)[:, ::-1]
    hidden = np.zeros(disparity_px.shape, dtype=bool)
    hidden[:, :-1] = reach[:, 1:] < lands[:, :-1] - 0.5
    return hidden
