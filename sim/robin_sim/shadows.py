"""Which lamps a surface sees: one shadow ray per lamp, on half the grid for whole pictures."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_sim.lighting import Light, Lighting
from robin_sim.scene_mesh import Floats, Hits, Rays, TracedScene
from robin_sim.shading import surface_points

_MAX_SHADOWED = 3
_LIFT_M = 5e-4


def _shadowed_lights(lighting: Lighting, points: Floats) -> list[int]:
    """Indices of the strongest lamps, in order; only these cast shadows."""
    centre = points.mean(axis=1)
    strength = [float(x.power.mean()) / float(((x.position_m - centre) ** 2).sum()) for x in lighting.lights]
    return sorted(np.argsort(strength)[::-1][:_MAX_SHADOWED].tolist())


def sharp_shadows(scene: TracedScene, rays: Rays, hits: Hits, lighting: Lighting) -> Floats:
    """Visibility of each lamp's middle from M hits, float32 [lights, M]."""
    visibility = np.ones((len(lighting.lights), len(hits.t)), dtype=np.float32)
    points = surface_points(scene, rays, hits, _LIFT_M)
    for index in _shadowed_lights(lighting, points):
        towards = lighting.lights[index].position_m.astype(np.float32)[:, None] - points
        visibility[index] = ~scene.occluded(points, towards)
    return visibility


def shadows_on_grid(
    scene: TracedScene, rays: Rays, hits: Hits, objects: NDArray[np.int32], lighting: Lighting
) -> Floats:
    """Soft shadows of a whole picture, float32 [lights, H*W].

    Every second pixel of every second row asks for one point on the lamp's disc; neighbours on the same object share
    their answers, which blurs the penumbra and never leaks across an outline.
    """
    height, width = objects.shape
    rows, columns = np.arange(0, height, 2), np.arange(0, width, 2)
    index = (rows[:, None] * width + columns).reshape(-1)
    points = surface_points(scene, rays[index], hits[index], _LIFT_M)
    visibility = np.ones((len(lighting.lights), height, width), dtype=np.float32)
    small = objects[::2, ::2]
    offsets = _disc_pattern(len(rows), len(columns))
    edges = _near_edges(objects)
    for number in _shadowed_lights(lighting, points):
        target = _on_disc(lighting.lights[number], points, offsets)
        seen = ~scene.occluded(points, target - points)
        grid = seen.reshape(small.shape).astype(np.float32)
        visibility[number] = _spread(grid, small, objects, edges)
    return visibility.reshape(len(lighting.lights), -1)


def _disc_pattern(height: int, width: int) -> Floats:
    """Points on the unit disc, one per grid cell, evenly mixed among neighbours. float32 [2, height*width]."""
    y, x = np.arange(height, dtype=np.float64)[:, None], np.arange(width, dtype=np.float64)[None, :]
    a = np.mod(52.9829189 * np.mod(0.06711056 * x + 0.00583715 * y, 1.0), 1.0).astype(np.float32)
    b = np.mod(0.7548776662 * x + 0.5698402910 * y, 1.0).astype(np.float32)
    radius, angle = np.sqrt(a), np.float32(2 * np.pi) * b
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)]).reshape(2, -1)


def _on_disc(light: Light, points: Floats, offsets: Floats) -> Floats:
    """Points on the lamp's disc, which faces the middle of ``points``. float32 [3, M]."""
    axis = points.mean(axis=1) - light.position_m
    axis /= np.linalg.norm(axis)
    side = np.cross(axis, np.array([0.0, 1.0, 0.0]) if abs(axis[1]) < 0.9 else np.array([1.0, 0.0, 0.0]))
    side /= np.linalg.norm(side)
    frame = (np.stack([side, np.cross(axis, side)], axis=1) * light.radius_m).astype(np.float32)
    return np.asarray(frame @ offsets + light.position_m.astype(np.float32)[:, None])


def _near_edges(objects: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of pixels within four of another object."""
    image, kernel = objects.astype(np.float32), np.ones((9, 9), dtype=np.uint8)
    rows, columns = np.nonzero(cv2.dilate(image, kernel) != cv2.erode(image, kernel))
    return rows, columns


def _spread(
    grid: Floats,
    small: NDArray[np.int32],
    objects: NDArray[np.int32],
    edges: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> Floats:
    """Blur and double ``grid`` [h, w] to [H, W]; near outlines only samples of the pixel's own object count (all
    where it has none)."""
    height, width = objects.shape
    big = cv2.resize(cv2.blur(grid, (3, 3)), (width, height), interpolation=cv2.INTER_LINEAR)
    rows, columns = edges
    mine = objects[rows, columns]
    flat_grid, flat_small = grid.reshape(-1), small.reshape(-1)
    total = np.zeros(len(rows), dtype=np.float32)
    weight = np.full(len(rows), 1e-6, dtype=np.float32)
    for dy in (-1, 0, 1, 2):
        r = np.clip(rows // 2 + dy, 0, small.shape[0] - 1) * small.shape[1]
        for dx in (-1, 0, 1, 2):
            at = r + np.clip(columns // 2 + dx, 0, small.shape[1] - 1)
            part = np.where(flat_small[at] == mine, np.float32(1.0), np.float32(1e-4))
            total += flat_grid[at] * part
            weight += part
    big[rows, columns] = total / weight
    return np.asarray(big, dtype=np.float32)
