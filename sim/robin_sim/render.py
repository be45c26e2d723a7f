"""Colour, depth, labels and normals of a pile by ray casting (Open3D / Embree), one thread, no GL.

Light is linear until the end. Every pixel casts one ray through its centre, which alone gives depth, label and normal;
pixels on an outline cast three more for colour, so that outlines are not jagged.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_sim.backgrounds import Background, draw_background, nominal_background
from robin_sim.cameras import CameraView
from robin_sim.lighting import Lighting, draw_lighting, nominal_lighting
from robin_sim.model import Pile, RenderedView
from robin_sim.scene_mesh import Hits, TracedScene, build_scene
from robin_sim.shading import Shade, ambient_openness, expose, shade, shadows_on_grid, sharp_shadows

__all__ = [
    "Background",
    "Lighting",
    "draw_background",
    "draw_lighting",
    "nominal_background",
    "nominal_lighting",
    "render",
]

_SUBPIXELS = np.array([[0.38, 0.12], [-0.12, 0.38], [-0.26, -0.38]], dtype=np.float32)
_SILHOUETTE_RAYS = 16000
_SILHOUETTE_MARGIN = 0.15


@dataclass(frozen=True)
class _Cast:
    """Rays of a list of pixels and where they hit."""

    origins: NDArray[np.float32]
    directions: NDArray[np.float32]
    hits: Hits


def render(pile: Pile, camera: CameraView, lighting: Lighting, background: Background) -> RenderedView:
    """What a perfect camera sees. Deterministic; draws nothing.

    ``visible_fraction`` counts rays on a coarse grid that reaches 15 % beyond the picture: seen rays inside the picture over
    all rays that meet the parcel. So both occlusion and truncation by the picture's border count as lost.
    ``extras`` (float32): linear_rgb [H, W, 3] exposed, before the tone curve; reflectance [H, W] linear albedo; gloss [H, W]
    0 matt .. 1 mirror; highlight [H, W] exposed specular light; transmission [H, W]; behind_depth [H, W] m, the first opaque
    surface (= depth where nothing is transparent).
    """
    scene = build_scene(pile, background, camera.position_m, float(camera.K[0, 0]))
    u, v = camera.pixel_grid()
    shape = (camera.height, camera.width)
    cast = _cast(scene, camera, u.reshape(-1), v.reshape(-1))
    found = cast.hits.found
    depth = np.where(found, cast.hits.t, 0.0).reshape(shape).astype(np.float32)
    objects = np.where(found, scene.object_of[cast.hits.triangle], -1).reshape(shape)
    openness = ambient_openness(camera.heights(depth), depth)
    visibility = shadows_on_grid(scene, cast.origins, cast.directions, cast.hits, objects, lighting)
    centre = _shade_through(scene, cast, lighting, openness.reshape(-1), visibility)
    rgb = centre.rgb.reshape(*shape, 3)
    _smooth_outlines(scene, camera, lighting, objects, depth, openness, rgb)
    linear, gain = expose(rgb, lighting, pile.workspace)
    R = camera.T_base_camera[:3, :3].astype(np.float32)
    labels = np.where((objects >= 0) & (objects < scene.parcels), objects + 1, 0).astype(np.uint16)
    extras = {
        "linear_rgb": linear,
        "reflectance": centre.reflectance.reshape(shape),
        "gloss": centre.gloss.reshape(shape),
        "highlight": centre.highlight.reshape(shape) * gain,
        "transmission": centre.transmission.reshape(shape),
        "behind_depth": centre.behind_t.reshape(shape),
    }
    return RenderedView(
        rgb=_display(linear, lighting.contrast),
        depth=depth,
        labels=labels,
        normals=(centre.normals @ R).reshape(*shape, 3),
        visible_fraction=_visible_fraction(scene, camera),
        extras=extras,
    )


def _cast(scene: TracedScene, camera: CameraView, u: NDArray[np.float32], v: NDArray[np.float32]) -> _Cast:
    directions = camera.directions(u, v)
    origins = np.broadcast_to(camera.position_m.astype(np.float32), directions.shape)
    return _Cast(origins, directions, scene.cast(origins, directions))


def _shade_through(
    scene: TracedScene,
    cast: _Cast,
    lighting: Lighting,
    openness: NDArray[np.float32],
    visibility: NDArray[np.float32],
) -> Shade:
    """Shade first hits; where they are film, blend with the first opaque surface behind."""
    front = shade(scene, cast.origins, cast.directions, cast.hits, lighting, openness, visibility)
    film = np.flatnonzero(front.transmission > 0.0)
    if len(film) == 0:
        return front
    ray, hits = scene.all_hits(cast.origins[film], cast.directions[film])
    opaque = scene.transmission[scene.object_of[hits.triangle]] <= 0.0
    ray, triangle, bary, t = ray[opaque], hits.triangle[opaque], hits.bary[opaque], hits.t[opaque]
    order = np.lexsort((t, ray))
    ray, first = np.unique(ray[order], return_index=True)
    pick = order[first]
    target = film[ray]
    behind = shade(
        scene,
        cast.origins[target],
        cast.directions[target],
        Hits(triangle[pick], bary[pick], t[pick]),
        lighting,
        openness[target] * 0.8,
        visibility[:, target],
    )
    clear = front.transmission[target, None]
    front.rgb[target] = (1.0 - clear) * front.rgb[target] + clear * 0.92 * behind.rgb + front.specular_rgb[target] * clear
    front.behind_t[target] = behind.behind_t
    return front


def _smooth_outlines(
    scene: TracedScene,
    camera: CameraView,
    lighting: Lighting,
    objects: NDArray[np.int32],
    depth: NDArray[np.float32],
    openness: NDArray[np.float32],
    rgb: NDArray[np.float32],
) -> None:
    """Average three more rays into pixels where the object or the depth changes. Writes ``rgb`` in place."""
    edge = np.zeros(objects.shape, dtype=bool)
    for axis in (0, 1):
        a = [slice(None), slice(None)]
        b = [slice(None), slice(None)]
        a[axis], b[axis] = slice(None, -1), slice(1, None)
        first, second = tuple(a), tuple(b)
        change = (objects[first] != objects[second]) | (np.abs(depth[first] - depth[second]) > 0.02)
        edge[first] |= change
        edge[second] |= change
    rows, columns = np.nonzero(edge)
    if len(rows) == 0:
        return
    u = (columns[:, None] + _SUBPIXELS[:, 0]).astype(np.float32).reshape(-1)
    v = (rows[:, None] + _SUBPIXELS[:, 1]).astype(np.float32).reshape(-1)
    cast = _cast(scene, camera, u, v)
    open_here = np.repeat(openness[rows, columns], len(_SUBPIXELS))
    visibility = sharp_shadows(scene, cast.origins, cast.directions, cast.hits, lighting)
    extra = _shade_through(scene, cast, lighting, open_here, visibility).rgb.reshape(-1, len(_SUBPIXELS), 3)
    rgb[rows, columns] = (rgb[rows, columns] + extra.sum(axis=1)) / (1 + len(_SUBPIXELS))


def _display(linear: NDArray[np.float32], contrast: float) -> NDArray[np.uint8]:
    """Tone curve with a soft shoulder, then the sRGB-like gamma. float32 [H, W, 3] -> uint8."""
    return to_display(linear, contrast)


def to_display(linear: NDArray[np.float32], contrast: float = 1.0) -> NDArray[np.uint8]:
    """Exposed linear light (1 = white paper at full exposure) to display values: shoulder above 0.7, gamma 2.2."""
    over = np.maximum(linear - 0.7, 0.0)
    toned = np.minimum(linear, 0.7) + 0.3 * over / (over + 0.3)
    value = np.power(np.maximum(toned, 0.0), np.float32(contrast / 2.2), dtype=np.float32)
    return cv2.convertScaleAbs(value, alpha=255.0).reshape(linear.shape).astype(np.uint8, copy=False)


def _visible_fraction(scene: TracedScene, camera: CameraView) -> NDArray[np.float32]:
    """Share of each parcel's own silhouette that the camera sees. float32 [parcels]."""
    if scene.parcels == 0:
        return np.zeros(0, dtype=np.float32)
    margin_x, margin_y = _SILHOUETTE_MARGIN * camera.width, _SILHOUETTE_MARGIN * camera.height
    stride = max(1.0, np.sqrt((camera.width + 2 * margin_x) * (camera.height + 2 * margin_y) / _SILHOUETTE_RAYS))
    u, v = np.meshgrid(
        np.arange(-margin_x, camera.width + margin_x, stride, dtype=np.float32),
        np.arange(-margin_y, camera.height + margin_y, stride, dtype=np.float32),
    )
    u, v = u.reshape(-1), v.reshape(-1)
    directions = camera.directions(u, v)
    origins = np.broadcast_to(camera.position_m.astype(np.float32), directions.shape)
    ray, hits = scene.all_hits(origins, directions)
    owner = scene.object_of[hits.triangle]
    nearest = np.full(len(u), np.inf, dtype=np.float32)
    np.minimum.at(nearest, ray, hits.t)
    inside = (u >= -0.5) & (u <= camera.width - 0.5) & (v >= -0.5) & (v <= camera.height - 0.5)
    seen = (hits.t <= nearest[ray]) & inside[ray] & (owner < scene.parcels)
    parcel = owner < scene.parcels
    silhouette = np.unique(ray[parcel] * scene.parcels + owner[parcel]) % scene.parcels
    visible = np.unique(ray[seen] * scene.parcels + owner[seen]) % scene.parcels
    total = np.bincount(silhouette, minlength=scene.parcels)
    share = np.bincount(visible, minlength=scene.parcels) / np.maximum(total, 1)
    return np.minimum(share, 1.0).astype(np.float32)
