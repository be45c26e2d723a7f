"""Light on surfaces: diffuse and Blinn-Phong highlights from round lamps with shadows, hemisphere light, exposure."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_grasp.tool import WorkspaceConfig
from robin_sim.lighting import Light, Lighting
from robin_sim.scene_mesh import Hits, TracedScene

_LINEAR = (np.arange(256, dtype=np.float64) / 255.0) ** 2.2
_LINEAR_OF_SRGB = _LINEAR.astype(np.float32)
_LUMA = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)
_MAX_SHADOWED = 3
_SHADOW_OFFSET_M = 5e-4
_REMAP_COLUMNS = 512


@dataclass(frozen=True)
class Shade:
    """Shaded hits. rgb, specular_rgb, normals (base_link, facing the eye) float32 [M, 3]; reflectance, gloss, highlight,
    transmission, behind_t float32 [M]."""

    rgb: NDArray[np.float32]
    specular_rgb: NDArray[np.float32]
    normals: NDArray[np.float32]
    reflectance: NDArray[np.float32]
    gloss: NDArray[np.float32]
    highlight: NDArray[np.float32]
    transmission: NDArray[np.float32]
    behind_t: NDArray[np.float32]


def _dot(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.einsum("ij,ij->i", a, b))


def _normalised(a: NDArray[np.float32]) -> NDArray[np.float32]:
    return a / np.sqrt(np.maximum(_dot(a, a), 1e-20))[:, None]


def _interpolate(corners: NDArray[np.float32], bary: NDArray[np.float32]) -> NDArray[np.float32]:
    """corners [M, 3, C] at barycentric (u, v): (1-u-v) c0 + u c1 + v c2. float32 [M, C]."""
    u, v = bary[:, :1], bary[:, 1:]
    return corners[:, 0] * (1.0 - u - v) + corners[:, 1] * u + corners[:, 2] * v


def _albedo(scene: TracedScene, triangle: NDArray[np.int64], bary: NDArray[np.float32]) -> NDArray[np.float32]:
    """Linear albedo under each hit, bilinear. float32 [M, 3]."""
    texel = _interpolate(scene.atlas_uv[triangle], bary)
    count = len(texel)
    rows = -(-count // _REMAP_COLUMNS)
    maps = np.zeros((2, rows * _REMAP_COLUMNS), dtype=np.float32)
    maps[:, :count] = texel.T
    x, y = maps.reshape(2, rows, _REMAP_COLUMNS)
    sampled = cv2.remap(scene.atlas, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return _LINEAR_OF_SRGB[sampled.reshape(-1, 3)[:count]]


def _shadowed_lights(lighting: Lighting) -> list[int]:
    """Indices of the strongest lamps; only these cast shadows."""
    centre = np.array([0.75, 0.0, 0.0])
    strength = [
        float(x.power.mean()) / float(((x.position_m - centre) ** 2).sum()) for x in lighting.lights
    ]
    return sorted(sorted(range(len(strength)), key=lambda i: -strength[i])[:_MAX_SHADOWED])


def shade(
    scene: TracedScene,
    origins: NDArray[np.float32],
    directions: NDArray[np.float32],
    hits: Hits,
    lighting: Lighting,
    openness: NDArray[np.float32],
    visibility: NDArray[np.float32],
) -> Shade:
    """Shade M hits. openness [M] scales hemisphere light; visibility [lights, M] is 1 where a lamp is seen."""
    found = hits.found
    t = np.where(found, hits.t, 0.0).astype(np.float32)
    triangle = np.where(found, hits.triangle, 0)
    owner = scene.object_of[triangle]
    points = origins + directions * t[:, None]
    view = -_normalised(directions)
    normals = _normalised(_interpolate(scene.corner_normals[triangle], hits.bary))
    away = _dot(normals, view) < 0
    normals[away] = -normals[away]
    albedo = _albedo(scene, triangle, hits.bary)
    albedo[~found] = 0.0
    roughness, specular = scene.roughness[owner], scene.specular[owner]
    up = (0.5 + 0.5 * normals[:, 2])[:, None]
    irradiance = (lighting.ground + (lighting.sky - lighting.ground) * up) * openness[:, None]
    facing = np.clip(_dot(normals, view), 0.0, 1.0)
    fresnel = (0.04 + 0.30 * (1.0 - facing) ** 5) * specular
    glossy = fresnel[:, None] * (1.0 - 0.5 * roughness)[:, None] * irradiance
    for index, light in enumerate(lighting.lights):
        diffuse, highlight = _lamp(points, normals, view, roughness, light)
        seen = visibility[index]
        irradiance += (diffuse * seen)[:, None] * light.power
        glossy += (highlight * specular * seen)[:, None] * light.power
    rgb = albedo * irradiance + glossy
    return Shade(
        rgb=rgb,
        specular_rgb=glossy,
        normals=normals,
        reflectance=albedo @ _LUMA,
        gloss=np.where(found, specular * (1.0 - roughness), 0.0).astype(np.float32),
        highlight=glossy @ _LUMA,
        transmission=np.where(found, scene.transmission[owner], 0.0).astype(np.float32),
        behind_t=t.copy(),
    )


def _lamp(
    points: NDArray[np.float32],
    normals: NDArray[np.float32],
    view: NDArray[np.float32],
    roughness: NDArray[np.float32],
    light: Light,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(diffuse, highlight) factors of one lamp at M points, before shadow, colour and specular strength.

    Normalised Blinn-Phong with exponent 2/a^2 - 2, a = roughness^2, widened by the lamp's apparent radius, Fresnel base 0.04.
    """
    ray = light.position_m.astype(np.float32) - points
    squared = _dot(ray, ray)
    inverse = 1.0 / np.sqrt(squared)
    ray *= inverse[:, None]
    falloff = 1.0 / squared
    cosine = np.maximum(_dot(normals, ray), 0.0)
    half = _normalised(ray + view)
    alpha = np.clip(roughness * roughness + 0.5 * light.radius_m * inverse, 0.06, 1.0)
    exponent = 2.0 / (alpha * alpha) - 1.9
    lobe = np.power(np.clip(_dot(normals, half), 1e-3, 1.0), exponent)
    highlight = 0.04 * (exponent + 8.0) / 8.0 * lobe * cosine
    return cosine * falloff, (highlight * falloff).astype(np.float32)


def _surface_points(
    scene: TracedScene, origins: NDArray[np.float32], directions: NDArray[np.float32], hits: Hits
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Hit points lifted off the face towards the eye [M, 3], and which rays hit anything [M]."""
    found = hits.found
    triangle = np.where(found, hits.triangle, 0)
    normals = scene.face_normals[triangle]
    side = np.where(_dot(normals, directions) < 0, 1.0, -1.0).astype(np.float32)
    t = np.where(found, hits.t, 0.0).astype(np.float32)
    return origins + directions * t[:, None] + normals * (side * _SHADOW_OFFSET_M)[:, None], found


def sharp_shadows(
    scene: TracedScene,
    origins: NDArray[np.float32],
    directions: NDArray[np.float32],
    hits: Hits,
    lighting: Lighting,
) -> NDArray[np.float32]:
    """Visibility of each lamp's middle from M hits, float32 [lights, M]."""
    visibility = np.ones((len(lighting.lights), len(hits.t)), dtype=np.float32)
    points, _ = _surface_points(scene, origins, directions, hits)
    for index in _shadowed_lights(lighting):
        towards = lighting.lights[index].position_m.astype(np.float32) - points
        visibility[index] = ~scene.occluded(points, towards)
    return visibility


def shadows_on_grid(
    scene: TracedScene,
    origins: NDArray[np.float32],
    directions: NDArray[np.float32],
    hits: Hits,
    objects: NDArray[np.int32],
    lighting: Lighting,
) -> NDArray[np.float32]:
    """Soft shadows of a whole picture, float32 [lights, H*W].

    Every second pixel of every second row asks for one point on the lamp's disc; neighbours on the same object share their
    answers, which blurs the penumbra and never leaks across an outline.
    """
    height, width = objects.shape
    rows, columns = np.arange(0, height, 2), np.arange(0, width, 2)
    index = (rows[:, None] * width + columns).reshape(-1)
    part = Hits(hits.triangle[index], hits.bary[index], hits.t[index])
    points, _ = _surface_points(scene, origins[index], directions[index], part)
    small_objects = objects[::2, ::2]
    visibility = np.ones((len(lighting.lights), height, width), dtype=np.float32)
    chosen = _shadowed_lights(lighting)
    if not chosen:
        return visibility.reshape(0, -1)
    offsets = _disc_pattern(len(rows), len(columns))
    layers = []
    for number in chosen:
        light = lighting.lights[number]
        target = light.position_m.astype(np.float32) + _on_disc(light, points, offsets)
        layers.append(~scene.occluded(points, target - points))
    grid = np.stack(layers, axis=-1).reshape(len(rows), len(columns), len(chosen)).astype(np.float32)
    smooth = _blur_within(grid, small_objects)
    visibility[chosen] = np.moveaxis(_upsample_within(smooth, small_objects, objects), -1, 0)
    return visibility.reshape(len(lighting.lights), -1)


def _disc_pattern(height: int, width: int) -> NDArray[np.float32]:
    """Points on the unit disc, one per grid cell, evenly mixed among neighbours. float32 [height*width, 2]."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    a = np.modf(52.9829189 * np.modf(0.06711056 * x + 0.00583715 * y)[0])[0]
    b = np.modf(0.7548776662 * x + 0.5698402910 * y)[0]
    radius, angle = np.sqrt(a), 2 * np.pi * b
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1).reshape(-1, 2).astype(np.float32)


def _on_disc(light: Light, points: NDArray[np.float32], offsets: NDArray[np.float32]) -> NDArray[np.float32]:
    """Offsets on the lamp's disc, which faces the middle of the points. float32 [M, 3]."""
    axis = points.mean(axis=0) - light.position_m
    axis /= np.linalg.norm(axis)
    side = np.cross(axis, np.array([0.0, 1.0, 0.0]) if abs(axis[1]) < 0.9 else np.array([1.0, 0.0, 0.0]))
    side /= np.linalg.norm(side)
    frame = np.stack([side, np.cross(axis, side)]).astype(np.float32)
    return np.asarray(offsets @ frame * np.float32(light.radius_m))


def _blur_within(grid: NDArray[np.float32], objects: NDArray[np.int32]) -> NDArray[np.float32]:
    """3x3 mean of [h, w, L] over neighbours that belong to the same object."""
    padded = np.pad(grid, ((1, 1), (1, 1), (0, 0)), mode="edge")
    owner = np.pad(objects, 1, mode="constant", constant_values=-2)
    total, weight = np.zeros_like(grid), np.zeros(objects.shape, dtype=np.float32)
    h, w = objects.shape
    for dy in range(3):
        for dx in range(3):
            same = (owner[dy : dy + h, dx : dx + w] == objects).astype(np.float32)
            total += padded[dy : dy + h, dx : dx + w] * same[..., None]
            weight += same
    return total / weight[..., None]


def _upsample_within(
    grid: NDArray[np.float32], small: NDArray[np.int32], objects: NDArray[np.int32]
) -> NDArray[np.float32]:
    """Double [h, w, L] to [H, W, L], mixing the samples around a pixel that belong to its object (all where none does)."""
    height, width = objects.shape
    h, w = small.shape
    total = np.zeros((height, width, grid.shape[2]), dtype=np.float32)
    weight = np.full((height, width), 1e-6, dtype=np.float32)
    row, column = np.arange(height) // 2, np.arange(width) // 2
    for dy in (0, 1):
        for dx in (0, 1):
            r, c = np.minimum(row + dy, h - 1), np.minimum(column + dx, w - 1)
            wy = (0.5 * (np.arange(height) % 2) if dy else 1 - 0.5 * (np.arange(height) % 2)).astype(np.float32)
            wx = (0.5 * (np.arange(width) % 2) if dx else 1 - 0.5 * (np.arange(width) % 2)).astype(np.float32)
            near = wy[:, None] * wx[None, :]
            same = small[r][:, c] == objects
            part = near * np.where(same, 1.0, 1e-4).astype(np.float32)
            total += grid[r][:, c] * part[..., None]
            weight += part
    return total / weight[..., None]


def ambient_openness(height_m: NDArray[np.float32], depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """How open to the hall each pixel is, 0.35..1: low places beside high ones get less hemisphere light. float32 [H, W]."""
    width = height_m.shape[1]
    clipped = np.where(depth > 0, np.clip(height_m, -0.1, 0.8), 0.0).astype(np.float32)
    loss = np.zeros_like(clipped)
    for share, reach_m in ((0.04, 0.05), (0.012, 0.02)):
        size = max(3, int(share * width) | 1)
        excess = cv2.boxFilter(np.maximum(clipped, -0.02), -1, (size, size)) - clipped
        loss += np.clip(excess / reach_m, 0.0, 1.0)
    return 1.0 - 0.325 * loss


def expose(
    rgb: NDArray[np.float32], lighting: Lighting, workspace: WorkspaceConfig
) -> tuple[NDArray[np.float32], float]:
    """Scale radiance [H, W, 3] so that white paper in full light reaches about 0.9; returns it and the gain."""
    target = np.array([*workspace.centre_m, workspace.belt_z_m + 0.05])
    gain = 1.0 / lighting.incident(target)
    sample = rgb[::8, ::8] @ _LUMA
    bright = float(np.percentile(sample, 80)) * gain
    gain *= (0.4 / max(bright, 0.02)) ** lighting.adaptation * 2.0**lighting.exposure_ev
    return rgb * np.float32(gain), gain
