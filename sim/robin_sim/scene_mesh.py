"""One ray-casting scene from a pile and its surroundings: meshes, smooth normals, one texture atlas.

Per-ray arrays are laid out component first ([3, M]), which numpy works through several times faster than [M, 3].
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import open3d as o3d
from numpy.typing import NDArray

from robin_sim.backgrounds import Background
from robin_sim.model import Material, Mesh, Pile

# Corners whose averaged normal is nearer than this to the face's are shaded smooth; sharper ones stay flat.
_SMOOTH_COS = 0.87
_ATLAS_WIDTH = 4096
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Rays:
    """M rays: origins [3, 1] or [3, M] and directions [3, M], float32, base_link, metres."""

    origins: Floats
    directions: Floats

    def __getitem__(self, index: NDArray[np.int64]) -> Rays:
        origins = self.origins if self.origins.shape[1] == 1 else self.origins[:, index]
        return Rays(origins, self.directions[:, index])

    def tensor(self) -> o3d.core.Tensor:
        """As Open3D wants them, [M, 6]."""
        packed = np.empty((self.directions.shape[1], 6), dtype=np.float32)
        packed[:, :3] = self.origins.T
        packed[:, 3:] = self.directions.T
        return o3d.core.Tensor.from_numpy(packed)


@dataclass(frozen=True)
class Hits:
    """M rays' hits. triangle int64 [M], -1 for none; u, v, t float32 [M], t = 0 where there is no hit."""

    triangle: NDArray[np.int64]
    u: Floats
    v: Floats
    t: Floats

    def __getitem__(self, index: NDArray[np.int64]) -> Hits:
        return Hits(self.triangle[index], self.u[index], self.v[index], self.t[index])

    @property
    def found(self) -> NDArray[np.bool_]:
        """bool [M]: rays that met something."""
        return np.asarray(self.triangle >= 0)


@dataclass(frozen=True)
class TracedScene:
    """Geometry and materials by object: objects 0..parcels-1 are the pile's parcels, the rest is background.

    object_of int32 [T]; face_normals float32 [3, T]; corner_normals float32 [3 corners, 3, T]; atlas_uv float32
    [3 corners, 2, T] texels; atlas uint8 [h, w, 3] sRGB; roughness, specular, transmission, mirror float32 [objects].
    """

    tracer: o3d.t.geometry.RaycastingScene
    parcels: int
    object_of: NDArray[np.int32]
    face_normals: Floats
    corner_normals: Floats
    atlas_uv: Floats
    atlas: NDArray[np.uint8]
    roughness: Floats
    specular: Floats
    transmission: Floats
    mirror: Floats

    def cast(self, rays: Rays) -> Hits:
        """First hits."""
        result = self.tracer.cast_rays(rays.tensor(), nthreads=1)
        triangle = result["primitive_ids"].numpy().astype(np.int64)
        t = result["t_hit"].numpy()
        missed = ~np.isfinite(t)
        bary = result["primitive_uvs"].numpy()
        if missed.any():
            triangle[missed] = -1
            t = np.where(missed, np.float32(0), t)
        return Hits(triangle, bary[:, 0], bary[:, 1], t)

    def occluded(self, points: Floats, towards: Floats) -> NDArray[np.bool_]:
        """Whether anything stands between points and points + towards. float32 [3, M] each -> bool [M]."""
        blocked = self.tracer.test_occlusions(Rays(points, towards).tensor(), tnear=1e-4, tfar=0.999, nthreads=1)
        return np.asarray(blocked.numpy())

    def all_hits(self, rays: Rays) -> tuple[NDArray[np.int64], Hits]:
        """Every intersection along the rays: (ray index int64 [I], hits of length I), in no order along a ray."""
        result = self.tracer.list_intersections(rays.tensor(), nthreads=1)
        bary = result["primitive_uvs"].numpy()
        triangle = result["primitive_ids"].numpy().astype(np.int64)
        return result["ray_ids"].numpy().astype(np.int64), Hits(
            triangle, bary[:, 0], bary[:, 1], result["t_hit"].numpy()
        )


def build_scene(pile: Pile, background: Background, eye_m: NDArray[np.float64], focal_px: float) -> TracedScene:
    """Put the pile and the background into one scene. Textures are reduced to the size at which ``eye_m`` with focal
    length ``focal_px`` sees them, so that one bilinear look-up per pixel does not alias."""
    meshes: list[tuple[Mesh, Floats]] = []
    materials: list[Material] = []
    for parcel, pose in zip(pile.parcels, pile.poses, strict=True):
        R, t = pose[:3, :3].astype(np.float32), pose[:3, 3].astype(np.float32)
        meshes.append((parcel.mesh, parcel.mesh.vertices @ R.T + t))
        materials.append(parcel.material)
    for surface in background.surfaces:
        meshes.append((surface.mesh, surface.mesh.vertices))
        materials.append(surface.material)
    counts = [len(mesh.triangles) for mesh, _ in meshes]
    starts = np.cumsum([0, *[len(v) for _, v in meshes]])
    vertices = np.concatenate([v for _, v in meshes]).astype(np.float32)
    triangles = np.concatenate([mesh.triangles + start for (mesh, _), start in zip(meshes, starts, strict=False)])
    tracer = o3d.t.geometry.RaycastingScene(nthreads=1)
    tracer.add_triangles(o3d.core.Tensor.from_numpy(vertices), o3d.core.Tensor.from_numpy(triangles.astype(np.uint32)))
    face, corner, area = _normals(np.ascontiguousarray(vertices.T), triangles)
    object_of = np.repeat(np.arange(len(meshes), dtype=np.int32), counts)
    uv = np.concatenate([mesh.uv for mesh, _ in meshes]).astype(np.float32)
    centres = np.array([v.mean(axis=0) for _, v in meshes])
    density = focal_px / np.maximum(np.linalg.norm(centres - eye_m, axis=1), 0.3)
    atlas, atlas_uv = _atlas(materials, uv, object_of, area, density)
    return TracedScene(
        tracer,
        len(pile.parcels),
        object_of,
        face,
        corner,
        atlas_uv,
        atlas,
        np.array([m.roughness for m in materials], dtype=np.float32),
        np.array([m.specular for m in materials], dtype=np.float32),
        np.array([m.transmission for m in materials], dtype=np.float32),
        np.array([m.mirror for m in materials], dtype=np.float32),
    )


def _normals(vertices: Floats, triangles: NDArray[np.int32]) -> tuple[Floats, Floats, Floats]:
    """Face normals [3, T], corner normals [3, 3, T] (averaged where the surface is smooth), face areas [T], from
    vertices [3, V]."""
    corners = vertices[:, triangles.T]
    e, f = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    cross = np.stack([e[1] * f[2] - e[2] * f[1], e[2] * f[0] - e[0] * f[2], e[0] * f[1] - e[1] * f[0]])
    length = np.sqrt((cross * cross).sum(axis=0))
    face = cross / np.maximum(length, 1e-12)
    flat = triangles.T.ravel()
    total = np.stack([np.bincount(flat, np.tile(cross[i], 3), minlength=vertices.shape[1]) for i in range(3)])
    total = (total / np.maximum(np.sqrt((total * total).sum(axis=0)), 1e-12)).astype(np.float32)
    averaged = np.moveaxis(total[:, triangles.T], 1, 0)
    smooth = (averaged * face).sum(axis=1) > _SMOOTH_COS
    corner = np.where(smooth[:, None], averaged, face)
    return face, np.ascontiguousarray(corner), 0.5 * length


def _atlas(
    materials: list[Material],
    uv: Floats,
    object_of: NDArray[np.int32],
    area: Floats,
    density_px_per_m: NDArray[np.float64],
) -> tuple[NDArray[np.uint8], Floats]:
    """Pack every material's texture, reduced by a power of two, and turn uv [T, 3, 2] into atlas texels [3, 2, T]."""
    e, f = uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
    uv_area = 0.5 * np.abs(e[:, 0] * f[:, 1] - e[:, 1] * f[:, 0])
    surface_m2 = np.maximum(np.bincount(object_of, area, len(materials)), 1e-9)
    texture_share = np.bincount(object_of, uv_area, len(materials))
    reduced: dict[tuple[int, int], tuple[int, int, NDArray[np.uint8]]] = {}
    slots = []
    x = y = shelf = 0
    for i, material in enumerate(materials):
        h, w = material.albedo.shape[:2]
        texels_per_m = np.sqrt(texture_share[i] * w * h / surface_m2[i])
        factor = 1 << int(np.clip(np.floor(np.log2(max(texels_per_m / density_px_per_m[i], 1.0)) + 0.3), 0, 5))
        key = (id(material.albedo), factor)
        if key not in reduced:
            size = (max(1, w // factor), max(1, h // factor))
            small = cv2.resize(material.albedo, size, interpolation=cv2.INTER_AREA) if factor > 1 else material.albedo
            if x + size[0] > _ATLAS_WIDTH:
                x, y, shelf = 0, y + shelf, 0
            reduced[key] = (x, y, np.asarray(small, dtype=np.uint8))
            x, shelf = x + size[0], max(shelf, size[1])
        slots.append(reduced[key])
    atlas = np.zeros((y + shelf, max(_ATLAS_WIDTH if y else x, 1), 3), dtype=np.uint8)
    for left, top, texture in reduced.values():
        atlas[top : top + texture.shape[0], left : left + texture.shape[1]] = texture
    offset = np.array([slot[:2] for slot in slots], dtype=np.float32)
    scale = np.array([(slot[2].shape[1] - 1, slot[2].shape[0] - 1) for slot in slots], dtype=np.float32)
    texels = np.clip(uv, 0.0, 1.0) * scale[object_of][:, None, :] + offset[object_of][:, None, :]
    return atlas, np.ascontiguousarray(texels.transpose(1, 2, 0), dtype=np.float32)
