"""Depth cameras of other makes, and where a depth image has nothing to say.

Stereo, structured light and scanners with a projector all triangulate: ``StereoConfig`` with their base and steps.
Time of flight has its own errors: noise that grows with range and darkness, mixed ranges at edges, light that reaches
a hollow twice.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_sim.any_cell.config import AnyCellConfig
from robin_sim.any_cell.places import Place
from robin_sim.cameras import CameraView
from robin_sim.faults import NO_FAULTS
from robin_sim.model import RenderedView
from robin_sim.stereo import StereoConfig, correlated_noise, draw_stereo, measure_depth

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]


def measure(view: RenderedView, camera: CameraView, rng: np.random.Generator, kind: str, distance_m: float) -> Image:
    """Depth image of a camera of one of ``DEPTH_CAMERAS`` that is used within its range, float32 [H, W] metres, 0 =
    nothing measured."""
    if kind == "time_of_flight":
        return _time_of_flight(view, rng, distance_m)
    makers = {"stereo": draw_stereo, "structured_light": _structured_light, "clean": _clean}
    ranges = {"range_min_m": float(0.5 * distance_m * rng.random()), "range_max_m": _range(rng, distance_m)}
    config = makers[kind](rng).model_copy(update={"dropout": float(rng.gamma(2.0, 0.3)), **ranges})
    return measure_depth(view, camera, rng, config, NO_FAULTS)


def _range(rng: np.random.Generator, distance_m: float) -> float:
    return float(distance_m * np.exp(rng.uniform(np.log(1.6), np.log(8.0))))


def _structured_light(rng: np.random.Generator) -> StereoConfig:
    """Kinect's kind: 1/8 px steps on a base of 75 mm (2.8 mm at 1 m), the projector's shadow on one side."""
    return StereoConfig(
        baseline_m=0.075,
        depth_focal_px=float(rng.uniform(560, 600)),
        disparity_noise_px=float(rng.uniform(0.02, 0.1)),
        subpixel_steps=8,
        window_px=float(rng.uniform(5, 9)),
        fattening=float(rng.uniform(0.0, 0.5)),
        flying=float(rng.uniform(0.0, 0.08)),
        speckle=float(rng.beta(1.0, 200.0)),
        depth_unit_m=float(rng.choice([0.0001, 0.001])),
    )


def _clean(rng: np.random.Generator) -> StereoConfig:
    """A scanner's kind (PhoXi): tenths of a millimetre, deep shadows, holes on gloss."""
    return StereoConfig(
        baseline_m=float(rng.uniform(0.1, 0.2)),
        depth_focal_px=1200.0,
        disparity_noise_px=float(rng.uniform(0.01, 0.06)),
        subpixel_steps=256,
        window_px=float(rng.uniform(1.0, 4.0)),
        fattening=0.0,
        flying=float(rng.uniform(0.0, 0.03)),
        speckle=float(rng.beta(1.0, 300.0)),
        depth_unit_m=0.0001,
    )


def _time_of_flight(view: RenderedView, rng: np.random.Generator, distance_m: float) -> Image:
    shape, truth = view.depth.shape, view.depth
    low = max(1, round(shape[1] / rng.uniform(200, 500)))
    soft = np.asarray(cv2.blur(truth, (low, low)), dtype=np.float32)  # an edge's pixel holds both ranges
    wide = cv2.blur(truth, (31, 31)) - soft
    bulge = np.float32(rng.uniform(0.0, 0.15)) * np.clip(-wide, -0.03, 0.03)
    bright = np.maximum(view.extras["reflectance"], 0.01)
    sigma = np.float32(rng.uniform(0.001, 0.004)) * truth * np.sqrt(0.4 / bright)
    noise = 0.8 * correlated_noise(rng, shape, 2.0 * low) + 0.5 * rng.standard_normal(shape, dtype=np.float32)
    depth = soft + bulge + np.clip(sigma, 0, 0.03) * noise
    facing = np.abs(view.normals[..., 2])
    field = correlated_noise(rng, shape, 12.0)
    lost = (bright < rng.uniform(0.01, 0.03)) | (view.extras["highlight"] > 0.8 + 0.3 * field) | (facing < 0.12)
    lost |= (view.extras["transmission"] > 0.3) & (field > 0.3)
    valid = (truth > 0.15) & (truth < _range(rng, distance_m)) & ~lost
    return np.where(valid, np.round(depth / 0.001) * 0.001, 0.0).astype(np.float32)


def missing(
    view: RenderedView,
    camera: CameraView,
    rng: np.random.Generator,
    config: AnyCellConfig,
    place: Place,
    base_m: NDArray[np.float64],
) -> Mask:
    """Where the depth image holds nothing whatever the camera, bool [H, W]: beyond its range, outside a crop to the
    support, in margins, in patches of the background. base_m: the goods' middle in base_link."""
    shape, depth = view.depth.shape, view.depth
    goods = view.labels > 0
    gone = np.zeros(shape, dtype=bool)
    if rng.random() < config.beyond_range_share and goods.any():
        gone |= depth > np.percentile(depth[goods], 99) + rng.choice([rng.uniform(0.02, 0.3), rng.uniform(0.3, 1.5)])
    if rng.random() < config.cropped_share:
        gone |= ~_inside(camera, depth, place, base_m)
    if rng.random() < config.border_share:
        gone |= _margins(rng, shape)
    if rng.random() < config.patches_share:
        scale = float(np.exp(rng.uniform(np.log(shape[1] / 30), np.log(shape[1] / 3))))
        blob = correlated_noise(rng, shape, scale) > rng.uniform(0.2, 1.6)
        gone |= blob & ~goods
    return gone


def _inside(camera: CameraView, depth: Image, place: Place, base_m: NDArray[np.float64]) -> Mask:
    """Pixels whose point lies in the support's box."""
    u, v = camera.pixel_grid()
    rays = camera.directions(u.reshape(-1), v.reshape(-1))
    points = camera.position_m[:, None] + rays * depth.reshape(-1) - base_m[:, None]
    low, high = place.keep_m
    inside = ((points >= low[:, None]) & (points <= high[:, None])).all(axis=0)
    return np.asarray(inside.reshape(depth.shape))


def _margins(rng: np.random.Generator, shape: tuple[int, ...]) -> Mask:
    """What the depth camera's field leaves out of the colour camera's: up to a fifth at each side, slightly turned."""
    height, width = shape
    cut = np.where(rng.random(4) < 0.6, rng.uniform(0.0, 0.2, 4), 0.0) * (width, height, width, height)
    x0, y0, x1, y1 = cut[0], cut[1], width - cut[2], height - cut[3]
    corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]) + rng.normal(0, 0.004 * width, (4, 2))
    seen = np.zeros((height, width), dtype=np.uint8)
    cv2.fillConvexPoly(seen, corners.astype(np.int32), 1)
    return seen == 0
