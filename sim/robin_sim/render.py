"""Colour, depth, labels and normals of a pile by ray casting (Open3D / Embree), one thread, no GL.

Light is linear until the end. Every pixel casts one ray through its centre, which alone gives depth, label and normal;
pixels on an outline cast three more for colour, so that outlines are not jagged.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robin_sim.backgrounds import Background, draw_background, nominal_background
from robin_sim.cameras import CameraView
from robin_sim.lighting import Lighting, draw_lighting, nominal_lighting
from robin_sim.model import Pile, RenderedView
from robin_sim.scene_mesh import Floats, Hits, Rays, TracedScene, build_scene
from robin_sim.shading import Shade, ambient_openness, dot, expose, shade, surface_points, to_display
from robin_sim.shadows import shadows_on_grid, sharp_shadows

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
_SILHOUETTE_RAYS = 12000
_SILHOUETTE_MARGIN = 0.15
_MIRROR_LIFT_M = 1e-3


def render(pile: Pile, camera: CameraView, lighting: Lighting, background: Background) -> RenderedView:
    """What a perfect camera sees. Deterministic; draws nothing.

    ``visible_fraction`` counts rays on a coarse grid that reaches 15 % beyond the picture: seen rays inside the
    picture over
    all rays that meet the parcel. So both occlusion and truncation by the picture's border count as lost.
    ``extras`` (float32): linear_rgb [H, W, 3] exposed, before the tone curve; reflectance [H, W] linear albedo; gloss
    [H, W]
    0 matt .. 1 mirror; highlight [H, W] exposed specular light; transmission [H, W]; behind_depth [H, W] m, the first
    opaque surface (= depth where nothing is transparent).
    """
    scene = build_scene(pile, background, camera.position_m, float(camera.K[0, 0]))
    shape = (camera.height, camera.width)
    u, v = camera.pixel_grid()
    rays = _rays(camera, u.reshape(-1), v.reshape(-1))
    hits = scene.cast(rays)
    depth = hits.t.reshape(shape)
    objects = np.where(hits.found, scene.object_of[hits.triangle], -1).reshape(shape)
    openness = ambient_openness(camera.heights(depth), depth)
    visibility = shadows_on_grid(scene, rays, hits, objects, lighting)
    centre = _shade_through(scene, rays, hits, lighting, openness.reshape(-1), visibility)
    _mirror(scene, rays, hits, lighting, centre)
    _smooth_outlines(scene, camera, lighting, objects, openness, centre.rgb)
    picture = np.ascontiguousarray(centre.rgb.T).reshape(*shape, 3)
    linear, gain = expose(picture, lighting, pile.workspace)
    labels = np.where((objects >= 0) & (objects < scene.parcels), objects + 1, 0).astype(np.uint16)
    R = camera.T_base_camera[:3, :3].astype(np.float32)
    extras = {
        "linear_rgb": linear,
        "reflectance": centre.reflectance.reshape(shape),
        "gloss": centre.gloss.reshape(shape),
        "highlight": centre.highlight.reshape(shape) * np.float32(gain),
        "transmission": centre.transmission.reshape(shape),
        "behind_depth": centre.behind_t.reshape(shape),
    }
    return RenderedView(
        rgb=to_display(linear, lighting.contrast),
        depth=depth,
        labels=labels,
        normals=np.ascontiguousarray((R.T @ centre.normals).T).reshape(*shape, 3),
        visible_fraction=_visible_fraction(scene, camera),
        extras=extras,
    )


def _rays(camera: CameraView, u: Floats, v: Floats) -> Rays:
    return Rays(camera.position_m.astype(np.float32)[:, None], camera.directions(u, v))


def _shade_through(
    scene: TracedScene, rays: Rays, hits: Hits, lighting: Lighting, openness: Floats, visibility: Floats
) -> Shade:
    """Shade first hits; where they are film, blend with the first opaque surface behind."""
    front = shade(scene, rays, hits, lighting, openness, visibility)
    film = np.flatnonzero(front.transmission > 0.0)
    if len(film) == 0:
        return front
    ray, layers = scene.all_hits(rays[film])
    opaque = np.flatnonzero(scene.transmission[scene.object_of[layers.triangle]] <= 0.0)
    ray, layers = ray[opaque], layers[opaque]
    order = np.lexsort((layers.t, ray))
    ray, first = np.unique(ray[order], return_index=True)
    if len(ray) == 0:  # film with nothing behind it
        return front
    target = film[ray]
    behind = shade(scene, rays[target], layers[order[first]], lighting, openness[target] * 0.8, visibility[:, target])
    clear = front.transmission[target]
    through = 0.92 * behind.rgb + front.specular_rgb[:, target]
    front.rgb[:, target] = (1.0 - clear) * front.rgb[:, target] + clear * through
    front.behind_t[target] = behind.behind_t
    return front


def _mirror(scene: TracedScene, rays: Rays, hits: Hits, lighting: Lighting, seen: Shade) -> None:
    """Add the image of what stands before polished surfaces, one bounce, without shadows in it. Writes ``seen.rgb`` in
    place; depth and labels stay those of the surface."""
    if not scene.mirror.any():
        return
    polished = np.flatnonzero(hits.found & (scene.mirror[scene.object_of[hits.triangle]] > 0))
    if len(polished) == 0:
        return
    normals = seen.normals[:, polished]
    inwards = rays[polished].directions
    bounced = Rays(
        surface_points(scene, rays[polished], hits[polished], _MIRROR_LIFT_M),
        inwards - 2 * dot(normals, inwards) * normals,
    )
    met = scene.cast(bounced)
    count = len(polished)
    image = shade(
        scene, bounced, met, lighting, np.ones(count, np.float32), np.ones((len(lighting.lights), count), np.float32)
    )
    share = scene.mirror[scene.object_of[hits.triangle[polished]]]
    seen.rgb[:, polished] = (1 - share) * seen.rgb[:, polished] + share * image.rgb


def _smooth_outlines(
    scene: TracedScene,
    camera: CameraView,
    lighting: Lighting,
    objects: NDArray[np.int32],
    openness: Floats,
    rgb: Floats,
) -> None:
    """Average three more rays into pixels where the object changes. Writes ``rgb`` [3, H*W] in place."""
    edge = np.zeros(objects.shape, dtype=bool)
    for change, a, b in (
        (objects[1:] != objects[:-1], np.s_[1:], np.s_[:-1]),
        (objects[:, 1:] != objects[:, :-1], np.s_[:, 1:], np.s_[:, :-1]),
    ):
        edge[a] |= change
        edge[b] |= change
    rows, columns = np.nonzero(edge)
    if len(rows) == 0:
        return
    count = len(_SUBPIXELS)
    u = (columns[:, None] + _SUBPIXELS[:, 0]).astype(np.float32).reshape(-1)
    v = (rows[:, None] + _SUBPIXELS[:, 1]).astype(np.float32).reshape(-1)
    rays = _rays(camera, u, v)
    hits = scene.cast(rays)
    visibility = sharp_shadows(scene, rays, hits, lighting)
    extra = _shade_through(scene, rays, hits, lighting, np.repeat(openness[rows, columns], count), visibility).rgb
    index = rows * objects.shape[1] + columns
    rgb[:, index] = (rgb[:, index] + extra.reshape(3, -1, count).sum(axis=2)) / (1 + count)


def _visible_fraction(scene: TracedScene, camera: CameraView) -> NDArray[np.float32]:
    """Share of each parcel's own silhouette that the camera sees. float32 [parcels]."""
    if scene.parcels == 0:
        return np.zeros(0, dtype=np.float32)
    margin_x, margin_y = _SILHOUETTE_MARGIN * camera.width, _SILHOUETTE_MARGIN * camera.height
    stride = max(1.0, np.sqrt((camera.width + 2 * margin_x) * (camera.height + 2 * margin_y) / _SILHOUETTE_RAYS))
    columns = np.arange(-margin_x, camera.width + margin_x, stride, dtype=np.float32)
    rows = np.arange(-margin_y, camera.height + margin_y, stride, dtype=np.float32)
    u, v = np.tile(columns, len(rows)), np.repeat(rows, len(columns))
    ray, hits = scene.all_hits(_rays(camera, u, v))
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
