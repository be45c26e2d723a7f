"""One ray-casting scene from a pile and its surroundings: meshes, smooth normals, one texture atlas."""

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


@dataclass(frozen=True)
class Hits:
    """M rays' hits. triangle int64 [M], -1 for none; bary float32 [M, 2]; t float32 [M]."""

    triangle: NDArray[np.int64]
    bary: NDArray[np.float32]
    t: NDArray[np.float32]

    @property
    def found(self) -> NDArray[np.bool_]:
        return np.asarray(self.triangle >= 0)


@dataclass(frozen=True)
class TracedScene:
    """Geometry and materials by object: objects 0..parcels-1 are the pile's parcels, the rest is background.

    object_of int32 [T]; face_normals float32 [T, 3]; corner_normals float32 [T, 3, 3]; atlas_uv float32 [T, 3, 2] texels;
    atlas uint8 [h, w, 3] sRGB; roughness, specular, transmission float32 [objects].
    """

    tracer: o3d.t.geometry.RaycastingScene
    parcels: int
    object_of: NDArray[np.int32]
    face_normals: NDArray[np.float32]
    corner_normals: NDArray[np.float32]
    atlas_uv: NDArray[np.float32]
    atlas: NDArray[np.uint8]
    roughness: NDArray[np.float32]
    specular: NDArray[np.float32]
    transmission: NDArray[np.float32]

    def cast(self, origins: NDArray[np.float32], directions: NDArray[np.float32]) -> Hits:
        """First hits. origins, directions float32 [M, 3]."""
        rays = np.concatenate([origins, directions], axis=1)
        result = self.tracer.cast_rays(o3d.core.Tensor.from_numpy(rays), nthreads=1)
        triangle = result["primitive_ids"].numpy().astype(np.int64)
        t = result["t_hit"].numpy()
        triangle[~np.isfinite(t)] = -1
        return Hits(triangle, result["primitive_uvs"].numpy(), t)

    def occluded(self, origins: NDArray[np.float32], towards: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Whether anything stands between origins and origins + towards. float32 [M, 3] each -> bool [M]."""
        rays = np.concatenate([origins, towards], axis=1)
        blocked = self.tracer.test_occlusions(o3d.core.Tensor.from_numpy(rays), tnear=1e-4, tfar=0.999, nthreads=1)
        return np.asarray(blocked.numpy())

    def all_hits(
        self, origins: NDArray[np.float32], directions: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], Hits]:
        """Every intersection along the rays: (ray index int64 [I], hits of length I), in no order along a ray."""
        rays = np.concatenate([origins, directions], axis=1)
        result = self.tracer.list_intersections(o3d.core.Tensor.from_numpy(rays), nthreads=1)
        hits = Hits(
            result["primitive_ids"].numpy().astype(np.int64), result["primitive_uvs"].numpy(), result["t_hit"].numpy()
        )
        return result["ray_ids"].numpy().astype(np.int64), hits


def build_scene(pile: Pile, background: Background, eye_m: NDArray[np.float64], focal_px: float) -> TracedScene:
    """Put the pile and the background into one scene. Textures are reduced to the size at which ``eye_m`` with focal length
    ``focal_px`` sees them, so that one bilinear look-up per pixel does not alias."""
    meshes: list[tuple[Mesh, NDArray[np.float32]]] = []
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
    face, corner, area = _normals(vertices, triangles)
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
    )


def _normals(
    vertices: NDArray[np.float32], triangles: NDArray[np.int32]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Face normals [T, 3], corner normals [T, 3, 3] (averaged where the surface is smooth), face areas [T]."""
    a, b, c = vertices[triangles[:, 0]], vertices[triangles[:, 1]], vertices[triangles[:, 2]]
    e, f = b - a, c - a
    cross = np.empty_like(e)
    for i, (j, k) in enumerate(((1, 2), (2, 0), (0, 1))):
        cross[:, i] = e[:, j] * f[:, k] - e[:, k] * f[:, j]
    length = np.sqrt(np.einsum("ij,ij->i", cross, cross))
    face = cross / np.maximum(length, 1e-12)[:, None]
    flat = triangles.ravel()
    total = np.stack(
        [np.bincount(flat, np.repeat(cross[:, i], 3), minlength=len(vertices)) for i in range(3)], axis=1
    ).astype(np.float32)
    total /= np.maximum(np.sqrt(np.einsum("ij,ij->i", total, total)), 1e-12)[:, None]
    corner = total[triangles]
    smooth = np.einsum("tki,ti->tk", corner, face) > _SMOOTH_COS
    corner = np.where(smooth[..., None], corner, face[:, None, :])
    return face, corner, 0.5 * length


def _atlas(
    materials: list[Material],
    uv: NDArray[np.float32],
    object_of: NDArray[np.int32],
    area: NDArray[np.float32],
    density_px_per_m: NDArray[np.float64],
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Pack every material's texture, reduced by a power of two, and turn uv into atlas texels."""
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
    atlas_uv = np.clip(uv, 0.0, 1.0) * scale[object_of][:, None, :] + offset[object_of][:, None, :]
    return atlas, atlas_uv.astype(np.float32)
