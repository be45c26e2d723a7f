"""Light on surfaces: diffuse and Blinn-Phong highlights from round lamps, hemisphere light, exposure."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_grasp.tool import WorkspaceConfig
from robin_sim.lighting import Light, Lighting
from robin_sim.scene_mesh import Floats, Hits, Rays, TracedScene

_LINEAR_OF_SRGB = ((np.arange(256, dtype=np.float64) / 255.0) ** 2.2).astype(np.float32)
_LUMA = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)
_REMAP_COLUMNS = 512


@dataclass(frozen=True)
class Shade:
    """Shaded hits. rgb, specular_rgb, normals (base_link, facing the eye) float32 [3, M]; reflectance, gloss,
    highlight, transmission, behind_t float32 [M]."""

    rgb: Floats
    specular_rgb: Floats
    normals: Floats
    reflectance: Floats
    gloss: Floats
    highlight: Floats
    transmission: Floats
    behind_t: Floats


def dot(a: Floats, b: Floats) -> Floats:
    """Scalar products of [3, M] and [3, M] (or [3, 1]). float32 [M]."""
    return np.asarray(a[0] * b[0] + a[1] * b[1] + a[2] * b[2])


def normalised(a: Floats) -> Floats:
    """Unit vectors [3, M]."""
    return np.asarray(a * (1.0 / np.sqrt(np.maximum(dot(a, a), np.float32(1e-20)))))


def _interpolate(corners: Floats, triangle: NDArray[np.int64], u: Floats, v: Floats) -> Floats:
    """corners [3, C, T] at barycentric (u, v): (1-u-v) c0 + u c1 + v c2. float32 [C, M]."""
    w = 1.0 - u - v
    result = np.empty((corners.shape[1], len(triangle)), dtype=np.float32)
    for channel in range(corners.shape[1]):
        c0, c1, c2 = corners[:, channel]
        result[channel] = c0[triangle] * w + c1[triangle] * u + c2[triangle] * v
    return result


def _albedo(scene: TracedScene, triangle: NDArray[np.int64], u: Floats, v: Floats) -> Floats:
    """Linear albedo under each hit, bilinear. float32 [3, M]."""
    count = len(triangle)
    rows = -(-count // _REMAP_COLUMNS)
    maps = np.zeros((2, rows * _REMAP_COLUMNS), dtype=np.float32)
    maps[:, :count] = _interpolate(scene.atlas_uv, triangle, u, v)
    x, y = maps.reshape(2, rows, _REMAP_COLUMNS)
    sampled = cv2.remap(scene.atlas, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return _LINEAR_OF_SRGB[np.ascontiguousarray(sampled.reshape(-1, 3)[:count].T)]


def surface_points(scene: TracedScene, rays: Rays, hits: Hits, lift_m: float) -> Floats:
    """Hit points, lifted off the face towards the eye. float32 [3, M]."""
    normals = scene.face_normals[:, hits.triangle]
    side = np.copysign(np.float32(lift_m), -dot(normals, rays.directions))
    return np.asarray(rays.origins + rays.directions * hits.t + normals * side)


def shade(
    scene: TracedScene, rays: Rays, hits: Hits, lighting: Lighting, openness: Floats, visibility: Floats
) -> Shade:
    """Shade M hits. openness [M] scales hemisphere light; visibility [lights, M] is 1 where a lamp is seen."""
    triangle = hits.triangle
    owner = scene.object_of[triangle]
    points = rays.origins + rays.directions * hits.t
    view = -normalised(rays.directions)
    normals = normalised(_interpolate(scene.corner_normals, triangle, hits.u, hits.v))
    facing = dot(normals, view)
    normals *= np.copysign(np.float32(1), facing)
    facing = np.minimum(np.abs(facing), 1.0)
    albedo = _albedo(scene, triangle, hits.u, hits.v)
    roughness, specular = scene.roughness[owner], scene.specular[owner]
    up = (0.5 + 0.5 * normals[2]) * openness
    irradiance = lighting.ground[:, None] * openness + (lighting.sky - lighting.ground)[:, None] * up
    grazing = 1.0 - facing
    fresnel = 0.04 + 0.30 * (grazing * grazing) ** 2 * grazing
    glossy = irradiance * (fresnel * specular * (1.0 - 0.5 * roughness))
    for index, light in enumerate(lighting.lights):
        diffuse, highlight = _lamp(points, normals, view, roughness, light)
        seen = visibility[index]
        diffuse *= seen
        highlight *= specular * seen
        for channel in range(3):
            irradiance[channel] += diffuse * light.power[channel]
            glossy[channel] += highlight * light.power[channel]
    found = hits.found
    if not found.all():
        albedo[:, ~found] = 0.0
        glossy[:, ~found] = 0.0
    return Shade(
        rgb=albedo * irradiance + glossy,
        specular_rgb=glossy,
        normals=normals,
        reflectance=_LUMA @ albedo,
        gloss=np.where(found, specular * (1.0 - roughness), np.float32(0)),
        highlight=_LUMA @ glossy,
        transmission=np.where(found, scene.transmission[owner], np.float32(0)),
        behind_t=hits.t.copy(),
    )


def _lamp(points: Floats, normals: Floats, view: Floats, roughness: Floats, light: Light) -> tuple[Floats, Floats]:
    """(diffuse, highlight) factors [M] of one lamp at M points, before shadow, colour and specular strength.

    Normalised Blinn-Phong with exponent 2/a^2 - 2, a = roughness^2, widened by the lamp's apparent radius, Fresnel
    base 0.04.
    """
    ray = light.position_m.astype(np.float32)[:, None] - points
    falloff = 1.0 / dot(ray, ray)
    inverse = np.sqrt(falloff)
    ray *= inverse
    cosine = np.maximum(dot(normals, ray), 0.0)
    alpha = np.clip(roughness * roughness + np.float32(0.5 * light.radius_m) * inverse, 0.06, 1.0)
    exponent = 2.0 / (alpha * alpha) - np.float32(1.9)
    half = ray + view
    aligned = np.clip(dot(normals, half) / np.sqrt(dot(half, half)), 1e-3, 1.0)
    diffuse = cosine * falloff
    highlight = diffuse * (0.005 * (exponent + 8.0)) * np.exp(exponent * np.log(aligned))
    return diffuse, highlight


def ambient_openness(height_m: Floats, depth: Floats) -> Floats:
    """How open to the hall each pixel is, 0.35..1: low places beside high ones get less hemisphere light. float32 [H,
    W]."""
    width = height_m.shape[1]
    clipped = np.where(depth > 0, np.clip(height_m, -0.1, 0.8), 0.0).astype(np.float32)
    loss = np.zeros_like(clipped)
    for share, reach_m in ((0.04, 0.05), (0.012, 0.02)):
        size = max(3, int(share * width) | 1)
        excess = cv2.boxFilter(np.maximum(clipped, -0.02), -1, (size, size)) - clipped
        loss += np.clip(excess / reach_m, 0.0, 1.0)
    return 1.0 - 0.325 * loss


def expose(rgb: Floats, lighting: Lighting, workspace: WorkspaceConfig) -> tuple[Floats, float]:
    """Scale radiance [H, W, 3] so that white paper in full light reaches about 0.9; returns it and the gain."""
    target = np.array([*workspace.centre_m, workspace.belt_z_m + 0.05])
    gain = 1.0 / lighting.incident(target)
    sample = rgb[::8, ::8] @ _LUMA
    bright = float(np.percentile(sample, 80)) * gain
    gain *= (0.4 / max(bright, 0.02)) ** lighting.adaptation * 2.0**lighting.exposure_ev
    return rgb * np.float32(gain), gain


# Display values by the square root of light, which spaces the table evenly for the eye; light above 4 is white.
_TABLE_STEPS = 2048
_TABLE_LIGHT = (np.arange(_TABLE_STEPS + 1) / _TABLE_STEPS * 2.0) ** 2


def to_display(linear: Floats, contrast: float = 1.0) -> NDArray[np.uint8]:
    """Exposed linear light (1 = white paper at full exposure) to display values: shoulder above 0.7, gamma 2.2.

    float32 [..., 3], not negative -> uint8 of the same shape.
    """
    over = np.maximum(_TABLE_LIGHT - 0.7, 0.0)
    toned = np.minimum(_TABLE_LIGHT, 0.7) + 0.3 * over / (over + 0.3)
    table = np.round(255.0 * toned ** (contrast / 2.2)).astype(np.uint8)
    index = np.sqrt(np.minimum(linear, np.float32(4.0))) * np.float32(_TABLE_STEPS / 2) + np.float32(0.5)
    return table[index.astype(np.int16)]
