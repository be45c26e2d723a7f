"""A contact sheet of drawn parcels, to look at: each as a shaded view from a corner above, with its atlas beside it.

``python -m robin_sim.parcels.sheet OUT.png [--seed K] [--count N] [--kind KIND] [--variant NAME]``
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import open3d as o3d
from numpy.typing import NDArray

from robin_perception.core.disk import write_atomic
from robin_sim.model import Parcel, ParcelKind
from robin_sim.parcels.draw import draw_parcel, draw_parcels

_LIGHT = np.array([-0.45, -0.35, 0.82])


def _rays(reach_m: float, size_px: int) -> NDArray[np.float32]:
    """Pinhole rays float32 [size, size, 6] from a corner above the parcel, 28 degrees wide."""
    eye = np.array([-0.9, -1.1, 1.6]) * reach_m
    forward = -eye / np.linalg.norm(eye)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    at = (np.arange(size_px) / (size_px - 1) - 0.5) * 2 * np.tan(np.radians(14.0))
    directions = forward + at[None, :, None] * right + at[:, None, None] * down
    return np.concatenate([np.broadcast_to(eye, directions.shape), directions], axis=-1).astype(np.float32)


def view(parcel: Parcel, size_px: int = 240) -> NDArray[np.uint8]:
    """The parcel under one light, seen from a corner above; uint8 [size, size, 3] sRGB."""
    mesh = parcel.mesh
    scene = o3d.t.geometry.RaycastingScene(nthreads=1)
    scene.add_triangles(
        o3d.core.Tensor.from_numpy(mesh.vertices), o3d.core.Tensor.from_numpy(mesh.triangles.astype(np.uint32))
    )
    rays = _rays(float(np.linalg.norm(parcel.size_m)), size_px)
    hits = scene.cast_rays(o3d.core.Tensor.from_numpy(rays))
    triangle = hits["primitive_ids"].numpy().astype(np.int64)
    seen = np.isfinite(hits["t_hit"].numpy())
    bary = hits["primitive_uvs"].numpy()[seen]
    corners = mesh.uv[triangle[seen]]
    weights = np.concatenate([1 - bary.sum(axis=1, keepdims=True), bary], axis=1)
    uv = np.einsum("nc,nck->nk", weights, corners)
    h, w = parcel.material.albedo.shape[:2]
    column, row = (np.clip((uv[:, k] * s).astype(np.int64), 0, s - 1) for k, s in ((0, w), (1, h)))
    normals = hits["primitive_normals"].numpy()[seen]
    lit = 0.35 + 0.65 * np.clip(normals @ (_LIGHT / np.linalg.norm(_LIGHT)), 0, 1)
    out = np.full((size_px, size_px, 3), 70, dtype=np.uint8)
    out[seen] = np.clip(parcel.material.albedo[row, column] * lit[:, None], 0, 255).astype(np.uint8)
    return out


def contact_sheet(parcels: Sequence[Parcel], columns: int = 4, size_px: int = 240) -> NDArray[np.uint8]:
    """Views and atlases of the parcels in a grid, uint8 [h, w, 3] sRGB."""
    cells = []
    for parcel in parcels:
        cell = np.full((size_px + 14, 2 * size_px, 3), 255, dtype=np.uint8)
        cell[14:, :size_px] = view(parcel, size_px)
        albedo = parcel.material.albedo
        scale = min(size_px / albedo.shape[0], size_px / albedo.shape[1])
        small = cv2.resize(albedo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[:size_px, :size_px]
        cell[14 : 14 + small.shape[0], size_px : size_px + small.shape[1]] = small
        size = " x ".join(f"{100 * s:.1f}" for s in parcel.size_m)
        text = f"{parcel.kind_name}/{parcel.variant}  {size} cm  {parcel.mass_kg:.2f} kg"
        cv2.putText(cell, text, (4, 11), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 1, cv2.LINE_AA)
        cells.append(cell)
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % columns)
    rows = [np.concatenate(cells[i : i + columns], axis=1) for i in range(0, len(cells), columns)]
    return np.ascontiguousarray(np.concatenate(rows, axis=0))


def main(arguments: Sequence[str] | None = None) -> None:
    """Write one contact sheet as PNG. Raises RobinError (OPTION_INVALID, DISK_FULL) when the file cannot be written."""
    parser = argparse.ArgumentParser(prog="python -m robin_sim.parcels.sheet", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--kind", choices=[k.value for k in ParcelKind])
    parser.add_argument("--variant")
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(options.seed)
    if options.kind or options.variant:
        kind = ParcelKind(options.kind) if options.kind else None
        parcels = tuple(draw_parcel(rng, kind=kind, variant=options.variant) for _ in range(options.count))
    else:
        parcels = draw_parcels(rng, options.count)
    write_atomic(options.out, cv2.imencode(".png", contact_sheet(parcels)[..., ::-1])[1].tobytes())


if __name__ == "__main__":
    main()
