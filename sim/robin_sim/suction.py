"""Whether a cup seals, decided on the true mesh under its lip, and how much pressure it reaches.

Rays go from the lip ring along the tool's +z onto the true meshes. The lip can follow a plane up to the bellows' tilt,
a saddle up to a bending limit, and everything else within its own softness plus the parcel's; what remains is a gap:

    leak area  = sum over the ring of gap * arc + roughness film + porosity * cup area * factor + tear
    pressure   = vacuum / (1 + leak area / leak reference), 0 in a blocked cup and below a smallest fraction

which is an ejector's pump curve against an orifice: the reference is the orifice that halves the vacuum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import open3d as o3d
from numpy.typing import NDArray
from pydantic import Field

from robin_grasp.tool import ToolConfig, mask_to_cups
from robin_perception.core.config import StrictConfig
from robin_sim.faults import Faults
from robin_sim.model import Parcel

Array = NDArray[np.float64]
NO_PARCEL = -1
_BEYOND_LIPS_M = 0.07  # farther from the lips no mesh matters


class SuctionConfig(StrictConfig):
    """The simulator's own lip and pump. The planner has its own, simpler numbers."""

    ring_samples: int = Field(96, ge=16, le=720)
    lip_softness_m: float = Field(0.0008, ge=0, le=0.005, description="how far lip rubber yields locally, either way")
    lip_saddle_m: float = Field(0.002, ge=0, le=0.01, description="amplitude of a saddle the lip can bend to")
    reach_m: float = Field(0.003, ge=0, le=0.02, description="how far below the pressed lip suction still grabs a face")
    gap_cap_m: float = Field(0.004, gt=0, le=0.02, description="a deeper gap leaks no more: the lip itself chokes it")
    leak_reference_mm2: float = Field(4.0, gt=0, le=100, description="orifice that halves the vacuum (about 50 l/min)")
    porosity_factor: float = Field(0.06, ge=0, le=1, description="leak area over cup area at porosity 1")
    roughness_factor: float = Field(0.1, ge=0, le=5, description="leak film under the lip over RMS roughness")
    torn_leak_mm2: float = Field(14.0, ge=0, le=200, description="extra orifice of a torn lip")
    min_pressure_fraction: float = Field(0.12, ge=0, le=1, description="below this the lip is blown free: no seal")
    min_share: float = Field(0.04, ge=0, le=0.5, description="parcels under less of the cup than this are not held")


@dataclass(frozen=True)
class CupSeal:
    """One open valve's contact.

    pressure_pa: steady pressure difference, 0 without a seal. held: (parcel index, share of the cup's face on it),
    shares sum to 1. leak_mm2: total leak area; inf where the lip touches nothing.
    """

    cup: int
    pressure_pa: float
    leak_mm2: float
    held: tuple[tuple[int, float], ...]
    tilt_rad: float = 0.0


def pressure_from_leak(vacuum_pa: float, leak_mm2: float, config: SuctionConfig) -> float:
    """Steady pressure difference against a leak, Pa; 0 below the pressure at which the lip blows free."""
    fraction = 1.0 / (1.0 + leak_mm2 / config.leak_reference_mm2)
    return vacuum_pa * fraction if fraction >= config.min_pressure_fraction else 0.0


def _tensor(array: NDArray[np.generic]) -> o3d.core.Tensor:
    return o3d.core.Tensor.from_numpy(np.ascontiguousarray(array))


def _scene_near(
    parcels: tuple[Parcel, ...], poses: Array, centre: Array, radius: float
) -> tuple[o3d.t.geometry.RaycastingScene, list[int]]:
    """Meshes of the parcels whose bounding sphere comes within ``radius`` of ``centre``, and whose each is."""
    scene = o3d.t.geometry.RaycastingScene(nthreads=1)
    owners: list[int] = []
    for index, (parcel, pose) in enumerate(zip(parcels, poses, strict=True)):
        vertices = parcel.mesh.vertices
        if not len(vertices):
            continue
        bound = float(np.linalg.norm(np.abs(vertices).max(axis=0)))
        if np.linalg.norm(pose[:3, 3] - centre) > radius + bound:
            continue
        world = (vertices @ pose[:3, :3].T + pose[:3, 3]).astype(np.float32)
        scene.add_triangles(_tensor(world), _tensor(parcel.mesh.triangles.astype(np.uint32)))
        owners.append(index)
    return scene, owners


def _rings(config: SuctionConfig) -> tuple[Array, int]:
    """Sample points in the lip plane in lip radii, float64 [S, 2]; the first ``ring_samples`` are the lip."""
    parts = []
    for radius, count in ((1.0, config.ring_samples), (0.75, 24), (0.4, 12), (0.0, 1)):
        angle = 2 * math.pi * np.arange(count) / count
        parts.append(radius * np.stack([np.cos(angle), np.sin(angle)], axis=1))
    return np.concatenate(parts), config.ring_samples


def _lip_surface(xy: Array, depth: Array, tool: ToolConfig, config: SuctionConfig) -> tuple[Array, float, float]:
    """What the lip can follow of the depths (metres, +z away from the tool) at ring points ``xy`` [n, 2] in lip radii.

    Least squares of plane and saddle (second harmonic), trimmed once so that a missing corner does not tilt the lip,
    then limited to the bellows' tilt and the lip's bending. Returns coefficients (c, x, y, saddle cos, saddle sin),
    tilt in radians, and the depth at the cup's centre.
    """
    basis = np.stack(
        [np.ones(len(xy)), xy[:, 0], xy[:, 1], xy[:, 0] ** 2 - xy[:, 1] ** 2, 2 * xy[:, 0] * xy[:, 1]], axis=1
    )
    plane = np.linalg.lstsq(basis[:, :3], depth, rcond=None)[0]
    residual = np.abs(depth - basis[:, :3] @ plane)
    keep = residual <= max(float(np.quantile(residual, 0.8)), 1e-4)
    fit = np.linalg.lstsq(basis[keep], depth[keep], rcond=None)[0] if keep.sum() >= 8 else np.append(plane, [0.0, 0.0])
    slope = float(np.hypot(fit[1], fit[2])) / tool.cup_radius_m
    limit = math.tan(tool.bellows_tilt_rad)
    if slope > limit:
        fit[1:3] *= limit / slope
    saddle = float(np.hypot(fit[3], fit[4]))
    if saddle > config.lip_saddle_m:
        fit[3:5] *= config.lip_saddle_m / saddle
    return fit, math.atan(min(slope, limit)), float(fit[0])


def _seal_one(
    cup: int,
    unit: Array,
    lip: int,
    depth: Array,
    owner: NDArray[np.intp],
    parcels: tuple[Parcel, ...],
    tool: ToolConfig,
    config: SuctionConfig,
    faults: Faults,
) -> CupSeal:
    """Seal of one cup from its ray depths (metres below the pressed lip plane, inf for a miss) and their parcels."""
    nothing = CupSeal(cup, 0.0, math.inf, ())
    near = (depth[:lip] < config.reach_m + 0.012) & (owner[:lip] != NO_PARCEL)
    if near.sum() < 0.5 * lip:
        return nothing
    highest = float(depth[:lip][near].min())
    near &= depth[:lip] < highest + 0.012
    if near.sum() < 0.5 * lip:
        return nothing
    fit, tilt, centre = _lip_surface(unit[:lip][near], depth[:lip][near], tool, config)
    if centre > config.reach_m:
        return nothing
    x, y = unit[:, 0], unit[:, 1]
    surface = fit[0] + fit[1] * x + fit[2] * y + fit[3] * (x**2 - y**2) + fit[4] * 2 * x * y
    residual = depth - surface
    under = (owner != NO_PARCEL) & (np.abs(residual) < 0.006)
    indices, counts = np.unique(owner[under], return_counts=True)
    share = counts / max(1, counts.sum())
    held = [(int(i), float(s)) for i, s in zip(indices, share, strict=True) if s >= config.min_share]
    if not held:
        return nothing
    total = sum(s for _, s in held)
    held = [(i, s / total) for i, s in held]
    skin = sum(parcels[i].compliance_m * s for i, s in held)
    ring = np.where(np.isfinite(residual[:lip]), residual[:lip], 1.0)
    low = float(np.quantile(ring, 0.02))
    gap = np.clip(ring - low - 2 * config.lip_softness_m - skin, 0.0, config.gap_cap_m)
    circumference = 2 * math.pi * tool.cup_radius_m
    area = float(gap.mean()) * circumference
    area += config.roughness_factor * circumference * sum(parcels[i].surface_roughness_m * s for i, s in held)
    area += config.porosity_factor * tool.cup_area_m2 * sum(parcels[i].porosity * s for i, s in held)
    leak_mm2 = area * 1e6 + (config.torn_leak_mm2 if cup in faults.torn_cups else 0.0)
    pressure = 0.0 if cup in faults.blocked_cups else pressure_from_leak(tool.vacuum_pa, leak_mm2, config)
    return CupSeal(cup, pressure, leak_mm2, tuple(held), tilt)


def seal_cups(
    parcels: tuple[Parcel, ...],
    poses: Array,
    T_base_tool: Array,
    cups: int,
    tool: ToolConfig,
    faults: Faults,
    config: SuctionConfig | None = None,
) -> tuple[CupSeal, ...]:
    """Seals of the open cups for parcels at ``poses`` [N, 4, 4] with the tool pressed at ``T_base_tool`` [4, 4].

    cups: 8-bit mask. The tool pose is where the uncompressed lips would be, so a face up to the bellows' travel above
    it is a compressed cup. Pure geometry: it moves nothing.
    """
    config = config or SuctionConfig()
    active = mask_to_cups(cups)
    if not active:
        return ()
    unit, lip = _rings(config)
    back = tool.bellows_travel_m + 0.010
    rotation, origin = T_base_tool[:3, :3], T_base_tool[:3, 3]
    outermost_m = float(np.linalg.norm(tool.cups_m, axis=1).max()) + tool.cup_radius_m
    scene, owners = _scene_near(parcels, poses, origin, outermost_m + _BEYOND_LIPS_M)
    if not owners:
        return tuple(CupSeal(cup, 0.0, math.inf, ()) for cup in active)
    local = np.zeros((len(active), len(unit), 3))
    local[..., :2] = tool.cups_m[list(active), None, :2] + unit * tool.cup_radius_m
    local[..., 2] = -back
    starts = local @ rotation.T + origin
    rays = np.concatenate([starts, np.broadcast_to(rotation[:, 2], starts.shape)], axis=-1).astype(np.float32)
    cast = scene.cast_rays(_tensor(rays), nthreads=1)
    depth = cast["t_hit"].numpy().astype(np.float64) - back
    geometry = cast["geometry_ids"].numpy()
    owner = np.full(geometry.shape, NO_PARCEL, dtype=np.intp)
    hit = np.isfinite(depth)
    owner[hit] = np.asarray(owners, dtype=np.intp)[geometry[hit]]
    return tuple(
        _seal_one(cup, unit, lip, depth[k], owner[k], parcels, tool, config, faults) for k, cup in enumerate(active)
    )
