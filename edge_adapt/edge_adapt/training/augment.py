"""Augmentation on raw inputs, so that depth, intrinsics and belt plane stay one consistent picture."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edge_adapt.training.data import SceneInstance, TrainingScene
from edge_adapt.training.geometry import NETWORK_HEIGHT, NETWORK_WIDTH
from robin_perception.core.config import StrictConfig


class AugmentConfig(StrictConfig):
    """Probabilities and ranges. zoom_min..zoom_max: focal scale; plane_tilt_rad, plane_shift_m: 1-sigma pose error."""

    flip: float = Field(default=0.5, ge=0, le=1)
    zoom: float = Field(default=0.5, ge=0, le=1)
    zoom_min: float = Field(default=0.75, gt=0.2, le=1)
    zoom_max: float = Field(default=1.4, ge=1, le=3)
    colour: float = Field(default=0.8, ge=0, le=1)
    blur: float = Field(default=0.15, ge=0, le=1)
    noise: float = Field(default=0.3, ge=0, le=1)
    depth_holes: float = Field(default=0.25, ge=0, le=1)
    drop_colour: float = Field(default=0.04, ge=0, le=1)
    drop_depth: float = Field(default=0.04, ge=0, le=1)
    plane_tilt_rad: float = Field(default=0.004, ge=0, le=0.1)
    plane_shift_m: float = Field(default=0.003, ge=0, le=0.1)


NO_AUGMENTATION = AugmentConfig(
    flip=0,
    zoom=0,
    colour=0,
    blur=0,
    noise=0,
    depth_holes=0,
    drop_colour=0,
    drop_depth=0,
    plane_tilt_rad=0,
    plane_shift_m=0,
)


def flip(scene: TrainingScene, axis: int) -> TrainingScene:
    """Mirror left-right (axis 1) or up-down (axis 0): the mirrored camera sees the mirrored world."""
    intrinsics, plane = scene.intrinsics.copy(), scene.belt_plane.copy()
    if axis == 1:
        intrinsics[2] = NETWORK_WIDTH - 1 - intrinsics[2]
        plane[0] = -plane[0]
    else:
        intrinsics[3] = NETWORK_HEIGHT - 1 - intrinsics[3]
        plane[1] = -plane[1]
    return replace(
        scene,
        rgb=np.ascontiguousarray(np.flip(scene.rgb, axis)),
        depth=np.ascontiguousarray(np.flip(scene.depth, axis)),
        labels=np.ascontiguousarray(np.flip(scene.labels, axis)),
        film=np.ascontiguousarray(np.flip(scene.film, axis)),
        intrinsics=intrinsics,
        belt_plane=plane,
    )


def zoom(scene: TrainingScene, factor: float, centre_px: tuple[float, float]) -> TrainingScene:
    """Scale the picture by ``factor`` with ``centre_px`` of the old in the new middle: a longer lens, same metres."""
    shift_x = (NETWORK_WIDTH - 1) / 2 - factor * centre_px[0]
    shift_y = (NETWORK_HEIGHT - 1) / 2 - factor * centre_px[1]
    matrix = np.array([[factor, 0, shift_x], [0, factor, shift_y]], dtype=np.float64)
    size = (NETWORK_WIDTH, NETWORK_HEIGHT)
    labels = cv2.warpAffine(scene.labels, matrix, size, flags=cv2.INTER_NEAREST)
    fx, fy, cx, cy = scene.intrinsics
    intrinsics = [fx * factor, fy * factor, cx * factor + shift_x, cy * factor + shift_y]
    before = np.bincount(scene.labels.reshape(-1), minlength=256) * (factor * factor)
    after = np.bincount(labels.reshape(-1), minlength=256)
    return replace(
        scene,
        rgb=np.asarray(cv2.warpAffine(scene.rgb, matrix, size, flags=cv2.INTER_LINEAR), dtype=np.uint8),
        depth=np.asarray(cv2.warpAffine(scene.depth, matrix, size, flags=cv2.INTER_NEAREST), dtype=np.float32),
        labels=np.asarray(labels, dtype=np.uint8),
        film=np.asarray(cv2.warpAffine(scene.film, matrix, size, flags=cv2.INTER_NEAREST), dtype=np.float32),
        intrinsics=np.array(intrinsics, dtype=np.float32),
        instances=tuple(_cut(instance, before, after) for instance in scene.instances),
    )


def _cut(instance: SceneInstance, before: NDArray[Any], after: NDArray[Any]) -> SceneInstance:
    share = min(1.0, float(after[min(instance.id, 255)]) / max(1.0, float(before[min(instance.id, 255)])))
    return replace(instance, visible_fraction=instance.visible_fraction * share)


def augment(scene: TrainingScene, config: AugmentConfig, rng: np.random.Generator) -> TrainingScene:
    """One random variation of ``scene``."""
    for axis in (0, 1):
        if rng.random() < config.flip:
            scene = flip(scene, axis)
    if rng.random() < config.zoom:
        factor = float(np.exp(rng.uniform(np.log(config.zoom_min), np.log(config.zoom_max))))
        slack = max(0.0, 1 - 1 / factor) / 2
        centre_x = (0.5 + rng.uniform(-1, 1) * slack) * (NETWORK_WIDTH - 1)
        centre_y = (0.5 + rng.uniform(-1, 1) * slack) * (NETWORK_HEIGHT - 1)
        scene = zoom(scene, factor, (centre_x, centre_y))
    dropped = rng.random()
    rgb = np.zeros_like(scene.rgb) if dropped < config.drop_colour else _spoil_colour(scene.rgb, config, rng)
    if dropped > 1 - config.drop_depth:
        depth = np.zeros_like(scene.depth)
    else:
        depth = _punch_holes(scene.depth, rng) if rng.random() < config.depth_holes else scene.depth
    return replace(scene, rgb=rgb, depth=depth, belt_plane=_tilt(scene.belt_plane, config, rng))


def _spoil_colour(rgb: NDArray[np.uint8], config: AugmentConfig, rng: np.random.Generator) -> NDArray[np.uint8]:
    if rng.random() < config.colour:
        level = np.arange(256, dtype=np.float32) / 255
        gamma = np.exp(rng.uniform(-0.35, 0.35))
        gain = np.exp(rng.uniform(-0.3, 0.3)) * np.exp(rng.uniform(-0.12, 0.12, size=3))
        offset = rng.uniform(-0.06, 0.06)
        table = np.clip((level[:, None] ** gamma) * gain + offset, 0, 1) * 255
        rgb = np.asarray(cv2.LUT(rgb, table.astype(np.uint8).reshape(256, 1, 3)), dtype=np.uint8)
    if rng.random() < config.blur:
        rgb = np.asarray(cv2.GaussianBlur(rgb, (0, 0), rng.uniform(0.4, 1.4)), dtype=np.uint8)
    if rng.random() < config.noise:
        grain = rng.standard_normal((64, 1024), dtype=np.float32) * rng.uniform(2, 9)
        field = np.resize(np.tile(grain, (6, 2)), (NETWORK_HEIGHT, NETWORK_WIDTH * 3)).reshape(rgb.shape)
        rgb = np.asarray(cv2.add(rgb, field.astype(np.int8), dtype=cv2.CV_8U), dtype=np.uint8)
    return rgb


def _punch_holes(depth: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    holes = np.zeros(depth.shape, dtype=np.uint8)
    for _ in range(int(rng.integers(1, 9))):
        centre = (int(rng.integers(NETWORK_WIDTH)), int(rng.integers(NETWORK_HEIGHT)))
        axes = (int(rng.integers(3, 40)), int(rng.integers(3, 25)))
        cv2.ellipse(holes, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
    return np.where(holes > 0, np.float32(0), depth)


def _tilt(plane: NDArray[np.float32], config: AugmentConfig, rng: np.random.Generator) -> NDArray[np.float32]:
    normal = plane[:3] + rng.normal(0, 1, 3) * config.plane_tilt_rad
    normal = normal / np.linalg.norm(normal)
    return np.array([*normal, plane[3] + rng.normal() * config.plane_shift_m], dtype=np.float32)
