"""What the planner takes from each mask: place, axes, robust plane, size, mass, and the points where a tool may touch it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_grasp.planner_config import PlannerConfig, SamplingConfig, SurfaceConfig, WrenchConfig
from robin_grasp.surface import Floats, Ints, View
from robin_perception.scene import CLASSES, Instance, Scene

CARTON = CLASSES.index("carton")
TUBE = CLASSES.index("tube")
AXIS_PROBE_PX = 8.0


@dataclass(frozen=True)
class Parcels:
    """Arrays over the I instances of a scene, in its order; all points and directions in base_link.

    index [I]: where each stands in ``Scene.instances``. area_px, depth_share: of the thinned mask. centre [I, 3]: the mask's
    centroid on the robust plane. axis [I, 3]: unit normal into the parcel. long_axis [I, 3]: unit, along the longer side.
    sides_m [I, 2]: longer, shorter. plane_rms_m [I]. top_m [I]: height of the centre above the belt. classes [I, 5].
    thickness_m, mass_kg [I]: expected.
    """

    index: Ints
    ids: Ints
    area_px: Ints
    depth_share: Floats
    plane: Floats
    centre: Floats
    axis: Floats
    long_axis: Floats
    sides_m: Floats
    plane_rms_m: Floats
    top_m: Floats
    classes: Floats
    detection: Floats
    mask_quality: Floats
    visible: Floats
    edge_sigma_m: Floats
    thickness_m: Floats
    mass_kg: Floats

    @property
    def count(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Contacts:
    """Points where a tool's cup group may be centred: parcel [C] row of Parcels, point [C, 3] on the surface, axis [C, 3] unit
    normal into it, main [C] true for the mask's centroid and its innermost point, rms_m [C] residual of the plane used."""

    parcel: Ints
    point: Floats
    axis: Floats
    main: NDArray[np.bool_]
    rms_m: Floats


@dataclass
class _Outline:
    """One mask in working pixels. samples: [K, 2] (u, v) of valid pixels; contacts: [C, 2] (u, v), the first ``mains`` of them
    are the centroid and the innermost point."""

    area_px: int
    depth_share: float
    centroid: tuple[float, float]
    direction: tuple[float, float]
    sides_px: tuple[float, float]
    samples: Ints
    contacts: Floats
    mains: int


def observe(view: View, scene: Scene, config: PlannerConfig, belt_z_m: float) -> tuple[Parcels, Contacts]:
    """Describe every instance of ``scene`` and list its contact points."""
    outlines = [_outline(view, instance, config) for instance in scene.instances]
    kept = [i for i, outline in enumerate(outlines) if outline is not None]
    found = [outline for outline in outlines if outline is not None]
    if not found:
        return _no_parcels(), Contacts(
            np.zeros(0, np.int64), np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0, bool), np.zeros(0)
        )
    instances = [scene.instances[i] for i in kept]
    plane, rms_pm = _robust_planes(view, found, config.surface)
    parcels = _parcels(view, instances, np.array(kept), found, plane, rms_pm, config.wrench, belt_z_m)
    return parcels, _contacts(view, parcels, found, config.surface)


def _no_parcels() -> Parcels:
    ints, floats, threes = np.zeros(0, np.int64), np.zeros(0), np.zeros((0, 3))
    return Parcels(
        ints, ints, ints, floats, threes, threes, threes, threes, np.zeros((0, 2)), floats, floats, np.zeros((0, 5)), floats,
        floats, floats, floats, floats, floats,
    )  # fmt: skip


def _outline(view: View, instance: Instance, config: PlannerConfig) -> _Outline | None:
    h, w = view.shape
    s = view.stride
    x0, y0 = max(0, instance.bbox[0] // s), max(0, instance.bbox[1] // s)
    x1, y1 = min(w, -(-instance.bbox[2] // s)), min(h, -(-instance.bbox[3] // s))
    mask = view.labels[y0:y1, x0:x1] == instance.id
    flat = np.flatnonzero(mask)
    if len(flat) < 4:
        return None
    ys, xs = np.divmod(flat, mask.shape[1])
    valid = (view.inverse_depth[y0:y1, x0:x1] > 0).ravel()[flat]
    good = np.flatnonzero(valid)
    keep = config.surface.plane_samples
    picked = good[np.linspace(0, len(good) - 1, keep).astype(np.int64)] if len(good) > keep else good
    samples = np.stack([xs[picked] + x0, ys[picked] + y0], axis=1)
    centroid = (float(xs.mean()) + x0, float(ys.mean()) + y0)
    direction, sides = _rectangle(mask)
    edge = view.edge_px[y0:y1, x0:x1].ravel()[flat]
    contacts, mains = _contact_pixels(view, xs + x0, ys + y0, edge, centroid, config.sampling)
    return _Outline(len(flat), float(valid.mean()), centroid, direction, sides, samples, contacts, mains)


def _rectangle(mask: NDArray[np.bool_]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Direction of the longer side (unit, pixels) and both sides of the smallest rectangle around the mask."""
    hulls, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    outline = np.concatenate(hulls)
    _, (width, height), angle = cv2.minAreaRect(outline)
    if width < height:
        width, height, angle = height, width, angle + 90.0
    radians = np.deg2rad(angle)
    return (float(np.cos(radians)), float(np.sin(radians))), (float(width) + 1.0, float(height) + 1.0)


def _contact_pixels(
    view: View, xs: Ints, ys: Ints, edge: NDArray[np.float32], centroid: tuple[float, float], config: SamplingConfig
) -> tuple[Floats, int]:
    """Centroid (when inside), innermost pixel, then a lattice, the points far from the edge first."""
    inverse = view.inverse_depth[ys, xs]
    seen = inverse > 0
    if not seen.any():
        return np.zeros((0, 2)), 0
    step = max(3, round(config.contact_spacing_m * float(np.median(inverse[seen])) * view.fx))
    innermost = int(np.argmax(edge))
    mains = [(float(xs[innermost]), float(ys[innermost]))]
    nearest = int(np.argmin((xs - centroid[0]) ** 2 + (ys - centroid[1]) ** 2))
    if edge[nearest] >= 0.35 * edge[innermost]:
        mains.insert(0, (float(xs[nearest]), float(ys[nearest])))
    lattice = np.flatnonzero(
        ((xs - round(centroid[0])) % step == step // 2) & ((ys - round(centroid[1])) % step == step // 2)
    )
    lattice = lattice[edge[lattice] > 2.0]
    order = np.argsort(-edge[lattice], kind="stable")[: max(0, config.contacts_per_instance - len(mains))]
    rest = np.stack([xs[lattice[order]], ys[lattice[order]]], axis=1).astype(np.float64)
    return np.concatenate([np.array(mains), rest]), len(mains)


def _robust_planes(view: View, outlines: list[_Outline], config: SurfaceConfig) -> tuple[Floats, Floats]:
    """Tukey-weighted planes q = a u + b v + c of all masks at once: float64 [I, 3] and the residual's scale [I], 1/m."""
    count, size = len(outlines), config.plane_samples
    u, v, q, given = (np.zeros((count, size)) for _ in range(4))
    for i, outline in enumerate(outlines):
        n = len(outline.samples)
        u[i, :n], v[i, :n] = outline.samples[:, 0], outline.samples[:, 1]
        q[i, :n] = view.inverse_depth[outline.samples[:, 1], outline.samples[:, 0]]
        given[i, :n] = 1.0
    centre = np.array([outline.centroid for outline in outlines])
    rows = np.stack([u - centre[:, :1], v - centre[:, 1:], np.ones_like(u)], axis=-1)
    weight = given
    ridge = np.diag([1e-6, 1e-6, 1e-9])
    for _ in range(4):
        weighted = rows * weight[..., None]
        normal = np.einsum("ikr,iks->irs", weighted, rows) + ridge
        solved = np.linalg.solve(normal, np.einsum("ikr,ik->ir", weighted, q)[..., None])[..., 0]
        residual = np.where(given > 0, np.abs(q - np.einsum("ikr,ir->ik", rows, solved)), np.nan)
        typical = np.nanmedian(np.where(given.any(axis=1, keepdims=True), residual, 0.0), axis=1)
        scale = np.maximum(1.4826 * typical, 0.7 * view.noise_pm)
        ratio = np.nan_to_num(residual, nan=1e9) / (4.0 * scale[:, None])
        weight = given * np.where(ratio < 1, (1 - np.minimum(ratio, 1) ** 2) ** 2, 0.0)
    solved[:, 2] -= solved[:, 0] * centre[:, 0] + solved[:, 1] * centre[:, 1]
    return solved, scale


def _parcels(
    view: View,
    instances: list[Instance],
    index: Ints,
    outlines: list[_Outline],
    plane: Floats,
    rms_pm: Floats,
    config: WrenchConfig,
    belt_z_m: float,
) -> Parcels:
    centroid = np.array([outline.centroid for outline in outlines])
    direction = np.array([outline.direction for outline in outlines])
    q = np.maximum(np.einsum("ik,ik->i", plane[:, :2], centroid) + plane[:, 2], 0.05)
    axis = _plane_axis(view, plane)
    centre = view.points(centroid[:, 0], centroid[:, 1], q)
    probe = centroid + AXIS_PROBE_PX * direction
    probe_q = np.maximum(np.einsum("ik,ik->i", plane[:, :2], probe) + plane[:, 2], 0.05)
    along = view.points(probe[:, 0], probe[:, 1], probe_q) - centre
    stretch = np.linalg.norm(along, axis=1) / AXIS_PROBE_PX
    long_axis = along / np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    metres = view.metres_per_px(q)
    sides = np.array([outline.sides_px for outline in outlines]) * np.stack([stretch, metres], axis=1)
    classes = np.array([instance.class_probabilities for instance in instances], dtype=np.float64)
    top = centre[:, 2] - belt_z_m
    visible = np.array([instance.visible_fraction for instance in instances])
    facing = np.maximum(np.abs(np.einsum("ik,ik->i", axis, _rays(view, centroid))), 0.3)
    area_px = np.array([outline.area_px for outline in outlines])
    area = area_px * metres**2 / facing / np.clip(visible, 0.4, 1.0)
    thickness, mass = _thickness_and_mass(area, sides, top, classes, config)
    return Parcels(
        index=index,
        ids=np.array([instance.id for instance in instances]),
        area_px=area_px,
        depth_share=np.array([outline.depth_share for outline in outlines]),
        plane=plane,
        centre=centre,
        axis=axis,
        long_axis=long_axis,
        sides_m=sides,
        plane_rms_m=rms_pm / q**2,
        top_m=top,
        classes=classes,
        detection=np.array([instance.detection for instance in instances]),
        mask_quality=np.array([instance.mask_quality for instance in instances]),
        visible=visible,
        edge_sigma_m=np.array([instance.boundary_uncertainty_px for instance in instances]) / view.stride * metres,
        thickness_m=thickness,
        mass_kg=mass,
    )


def _plane_axis(view: View, plane: Floats) -> Floats:
    at_centre = plane[:, 2] + plane[:, 0] * view.cx + plane[:, 1] * view.cy
    n = np.stack([plane[:, 0] * view.fx, plane[:, 1] * view.fy, at_centre], axis=1)
    return np.asarray((n / np.maximum(np.linalg.norm(n, axis=1, keepdims=True), 1e-12)) @ view.R.T)


def _rays(view: View, pixels: Floats) -> Floats:
    """Unit viewing directions in base_link [I, 3]."""
    rays = np.stack(
        [(pixels[:, 0] - view.cx) / view.fx, (pixels[:, 1] - view.cy) / view.fy, np.ones(len(pixels))], axis=1
    )
    return np.asarray((rays / np.linalg.norm(rays, axis=1, keepdims=True)) @ view.R.T)


def _thickness_and_mass(
    area: Floats, sides: Floats, top: Floats, classes: Floats, config: WrenchConfig
) -> tuple[Floats, Floats]:
    """Expected over the classes. A carton is as thick as it stands above the belt, but no thicker than its longer side."""
    thick = np.tile(np.array(config.thickness_m), (len(area), 1))
    thick[:, CARTON] = np.clip(np.minimum(top, 0.8 * sides[:, 0]), 0.03, config.thickness_m[CARTON])
    thick[:, TUBE] = np.clip(sides[:, 1], 0.03, config.thickness_m[TUBE])
    mass = area[:, None] * thick * np.array(config.density_kgpm3)
    expected = np.clip((mass * classes).sum(axis=1), config.least_mass_kg, config.most_mass_kg)
    return (thick * classes).sum(axis=1), expected


def _contacts(view: View, parcels: Parcels, outlines: list[_Outline], config: SurfaceConfig) -> Contacts:
    """A contact's plane is its own window's, or the whole parcel's where both agree, as that has less noise."""
    pixels = np.concatenate([outline.contacts for outline in outlines])
    parcel = np.repeat(np.arange(len(outlines)), [len(outline.contacts) for outline in outlines])
    main = np.concatenate([np.arange(len(outline.contacts)) < outline.mains for outline in outlines])
    u, v = pixels[:, 0], pixels[:, 1]
    flat, _ = view.pixel(u, v)
    whole = parcels.plane[parcel]
    whole_q = np.maximum(whole[:, 0] * u + whole[:, 1] * v + whole[:, 2], 0.05)
    half = np.minimum(0.7 * view.edge_px.ravel()[flat], config.contact_window_m * whole_q * view.fx)
    local = view.fit(u, v, np.maximum(half, 2.0))
    local_axis = view.axes(local)
    local_q = np.where(local.q > 0.05, local.q, whole_q)
    ray_step = np.abs(1.0 / local_q - 1.0 / whole_q)
    samples = np.maximum((2 * half + 1) ** 2 * local.share / config.noise_correlation_px**2, 1.0)
    slope_noise = view.noise_pm / whole_q**2 / np.sqrt(samples) / np.maximum(0.58 * half / (view.fx * whole_q), 1e-3)
    angle = np.arccos(np.clip(np.einsum("ik,ik->i", local_axis, parcels.axis[parcel]), -1.0, 1.0))
    agree = (ray_step < config.same_plane_offset_m) & (angle < config.same_plane_angle_rad + 2.0 * slope_noise)
    agree |= local.share <= 0.2
    q = np.where(agree, whole_q, local_q)
    axis = np.where(agree[:, None], parcels.axis[parcel], local_axis)
    rms = np.where(agree, parcels.plane_rms_m[parcel], local.rms / local_q**2)
    return Contacts(parcel, view.points(u, v, q), axis, main, rms)
