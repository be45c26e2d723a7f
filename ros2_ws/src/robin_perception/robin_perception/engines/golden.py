"""Golden frames: made from a few numbers, the same everywhere, with parcels that a trained network sees."""

from __future__ import annotations

import numpy as np

from robin_perception.engines.base import Tensors
from robin_perception.model.bundle import Bundle

GOLDEN_SEED = 20261
_BELT_DEPTH_M = 1.1
_PARCELS = 9


def golden_frames(bundle: Bundle, count: int = 3) -> list[Tensors]:
    """``count`` frames as inputs of the bundle's network: boxes on a belt under a camera that looks straight down, with
    grain, shaded sides and holes in the depth; the last frame lacks depth in a quarter of the image."""
    frames = [_frame(bundle, np.random.default_rng([GOLDEN_SEED, number])) for number in range(count)]
    height, width = frames[-1]["depth"].shape
    frames[-1]["depth"][: height // 2, : width // 2] = 0.0
    return frames


def _frame(bundle: Bundle, rng: np.random.Generator) -> Tensors:
    height, width = bundle.manifest.input_height, bundle.manifest.input_width
    focal = 0.78 * width
    rgb = np.full((height, width, 3), (70, 74, 78), dtype=np.float32) + rng.normal(0, 3, (height, width, 1))
    depth = np.full((height, width), _BELT_DEPTH_M, dtype=np.float32)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    for _ in range(_PARCELS):
        centre = rng.uniform((0.15 * width, 0.15 * height), (0.85 * width, 0.85 * height))
        half = rng.uniform(0.05, 0.11, 2) * width
        turn = rng.uniform(0, np.pi)
        along = (x - centre[0]) * np.cos(turn) + (y - centre[1]) * np.sin(turn)
        across = (y - centre[1]) * np.cos(turn) - (x - centre[0]) * np.sin(turn)
        inside = (np.abs(along) < half[0]) & (np.abs(across) < half[1])
        rim = inside & ((np.abs(along) > half[0] - 2) | (np.abs(across) > half[1] - 2))
        rgb[inside] = rng.uniform((120, 90, 60), (225, 200, 180)) + rng.normal(0, 2, 3)
        rgb[rim] *= 0.7
        depth[inside] = min(float(depth[inside].min(initial=_BELT_DEPTH_M)), _BELT_DEPTH_M) - rng.uniform(0.04, 0.2)
    depth += rng.normal(0, 0.0015, depth.shape)
    depth[rng.random(depth.shape) < 0.01] = 0.0
    return {
        "rgb": np.ascontiguousarray(np.clip(rgb, 0, 255).astype(np.uint8)),
        "depth": np.ascontiguousarray(depth.astype(np.float32)),
        "intrinsics": np.array([focal, focal, width / 2 - 0.5, height / 2 - 0.5], dtype=np.float32),
        "belt_plane": np.array([0.0, 0.0, -1.0, _BELT_DEPTH_M], dtype=np.float32),
    }
