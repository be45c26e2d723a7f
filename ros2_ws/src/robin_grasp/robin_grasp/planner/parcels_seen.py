"""What the planner takes from each mask: place, axes, robust plane, size, mass, and the points where a tool may touch
it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_grasp.planner.config import PlannerConfig
from robin_grasp.planner.facets import Facets
from robin_grasp.planner.fit import ClassTable, SamplingFit, SurfaceFit
from robin_grasp.planner.rows import Rows
from robin_grasp.planner.surface import Floats, Ints, View
from robin_perception.core.scene import Scene

MEASURED_LEAST_M = 0.03  # no parcel that is thick by measure is thinner
AXIS_PROBE_PX = 8.0


@dataclass(frozen=True)
class Parcels:
    """Arrays over the I faces that a scene's parcels show (most show one), all points and directions in base_link.

    index [I]: the parcel's place in ``Scene.instances``. face [I]: value in the faces' label image. ids [I]:
    Instance.id. area_px, depth_share: of the thinned mask. centre [I, 3]: the mask's centroid on the robust plane.
    axis [I, 3]: unit normal into the parcel. long_axis [I, 3]: unit, along the longer side. sides_m [I, 2]: longer,
    shorter. plane_rms_m [I]. top_m [I]: height of the centre above the belt. classes [I, C]: their probabilities, with
    the ``figures`` of these classes. area_m2 [I]: of the whole face, hidden part included. thickness_m, mass_kg [I]:
    expected. film [I]: 1 where the face is that of film which the depth camera looks through, else 0. box_probability,
    flat_probability [I]: of all classes of that shape.
    """

    index: Ints
    face: Ints
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
    figures: ClassTable
    detection: Floats
    mask_quality: Floats
    visible: Floats
    edge_sigma_m: Floats
    area_m2: Floats
    thickness_m: Floats
    mass_kg: Floats
    film: Floats

    @property
    def count(self) -> int:
        return len(self.ids)

    @cached_property
    def box_probability(self) -> Floats:
        return np.asarray(self.classes[:, self.figures.box].sum(axis=1))

    @cached_property
    def flat_probability(self) -> Floats:
        return np.asarray(self.classes[:, self.figures.flat].sum(axis=1))

    def expected(self, rows: Ints, figure: Floats) -> Floats:
        """One of the ``figures`` [C], expected over the classes of these rows."""
        return np.asarray(self.classes[rows] @ figure)


@dataclass(frozen=True)
class Contacts(Rows):
    """Points where a tool's cup group may be centred: parcel [C] row of Parcels, point [C, 3] on the surface, axis
    [C, 3] unit normal into it, main [C] true for the mask's centroid and its innermost point, rms_m [C] residual of
    the plane used."""

    parcel: Ints
    point: Floats
    axis: Floats
    main: NDArray[np.bool_]
    rms_m: Floats


@dataclass
class _Outline:
    """One face in working pixels. contacts: [C, 2] (u, v), the first ``mains`` of them
    are the centroid and the innermost point."""

    area_px: int
    depth_share: float
    centroid: tuple[float, float]
    direction: tuple[float, float]
    sides_px: tuple[float, float]
    contacts: Floats
    mains: int


def observe(
    view: View, faces: View, facets: Facets, scene: Scene, config: PlannerConfig, belt_z_m: float
) -> tuple[Parcels, Contacts]:
    """Describe every face of ``scene``'s parcels and list its contact points. ``faces``: the view labelled by faces."""
    outlines = [
        _outline(faces, row + 1, view.box(scene.instances[i].bbox), facets.plane[row], config)
        for row, i in enumerate(facets.instance)
    ]
    kept = [row for row, outline in enumerate(outlines) if outline is not None]
    found = [outline for outline in outlines if outline is not None]
    if not found:
        no_contacts = Contacts(
            np.zeros(0, np.int64), np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0, bool), np.zeros(0)
        )
        return _no_parcels(config.fit.of_classes(scene.class_names)), no_contacts
    whole_px = _whole_px(view.stride, scene, facets.instance[kept], np.array([outline.area_px for outline in found]))
    parcels = _parcels(faces, scene, np.array(kept), facets, found, whole_px, config, belt_z_m)
    return parcels, _contacts(faces, parcels, found, config.fit.surface)


def _whole_px(stride: int, scene: Scene, instance: Ints, face_px: Ints) -> Floats:
    """Working pixels of a parcel's mask where it has one face, for its size: what is trimmed off a face still weighs.
    Of several faces each stands for the parcel by its own."""
    count = np.bincount(instance, minlength=len(scene.instances))
    mask_px = np.array([scene.instances[i].area_px for i in instance]) / stride**2
    return np.asarray(np.where(count[instance] == 1, np.maximum(mask_px, face_px), face_px))


def _no_parcels(figures: ClassTable) -> Parcels:
    ints, floats, threes = np.zeros(0, np.int64), np.zeros(0), np.zeros((0, 3))
    return Parcels(
        ints, ints, ints, ints, floats, threes, threes, threes, threes, np.zeros((0, 2)), floats, floats,
        np.zeros((0, len(figures.box))), figures, floats, floats, floats, floats, floats, floats, floats,
        floats,
    )  # fmt: skip


def _outline(
    view: View, label: int, box: tuple[int, int, int, int], plane: Floats, config: PlannerConfig
) -> _Outline | None:
    x0, y0, x1, y1 = box
    inside = view.labels[y0:y1, x0:x1] == label
    mask = inside.view(np.uint8)
    area = cv2.countNonZero(mask)
    if area < 4:
        return None
    seen = np.count_nonzero(inside & (view.inverse_depth[y0:y1, x0:x1] > 0))
    columns, rows = (cv2.reduce(mask, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel() for axis in (0, 1))
    centroid = (int(columns @ np.arange(x1 - x0)) / area, int(rows @ np.arange(y1 - y0)) / area)
    middle = float(plane[0] * (centroid[0] + x0) + plane[1] * (centroid[1] + y0) + plane[2])
    direction, sides = _rectangle(mask)
    spacing_px = config.fit.sampling.contact_spacing_m * max(middle, 0.1) * view.fx
    edge = view.edge_px[y0:y1, x0:x1]
    contacts, mains = _contact_pixels(mask, edge, centroid, spacing_px, config.fit.sampling.contacts_per_instance)
    corner = np.array([x0, y0])
    return _Outline(
        area,
        seen / area,
        (centroid[0] + x0, centroid[1] + y0),
        direction,
        sides,
        contacts + corner,
        mains,
    )


def _rectangle(mask: NDArray[np.uint8]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Direction of the longer side (unit, pixels) and both sides of the smallest rectangle around the mask."""
    hulls, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    outline = hulls[0] if len(hulls) == 1 else np.concatenate(hulls)
    _, (width, height), angle = cv2.minAreaRect(outline)
    if width < height:
        width, height, angle = height, width, angle + 90.0
    radians = math.radians(angle)
    return (math.cos(radians), math.sin(radians)), (float(width) + 1.0, float(height) + 1.0)


def _contact_pixels(
    mask: NDArray[np.uint8],
    edge: NDArray[np.float32],
    centroid: tuple[float, float],
    spacing_px: float,
    most: int,
) -> tuple[Floats, int]:
    """Centroid (when well inside), innermost pixel, then a lattice, the points far from the edge first. Crop pixels."""
    step = max(3, round(spacing_px))
    _, widest, _, innermost = cv2.minMaxLoc(edge, mask)
    mains = [(float(innermost[0]), float(innermost[1]))]
    x, y = round(centroid[0]), round(centroid[1])
    if mask[y, x] and edge[y, x] >= 0.35 * widest:
        mains.insert(0, (float(x), float(y)))
    left, top = (x + step // 2) % step, (y + step // 2) % step
    depth = edge[top::step, left::step] * mask[top::step, left::step]
    rows, columns = np.nonzero(depth > 2.0)
    order = np.argsort(-depth[rows, columns], kind="stable")[: max(0, most - len(mains))]
    contacts = np.empty((len(mains) + len(order), 2))
    contacts[: len(mains)] = mains
    contacts[len(mains) :, 0] = columns[order] * step + left
    contacts[len(mains) :, 1] = rows[order] * step + top
    return contacts, len(mains)


def _parcels(
    view: View,
    scene: Scene,
    rows: Ints,
    facets: Facets,
    outlines: list[_Outline],
    whole_px: Floats,
    config: PlannerConfig,
    belt_z_m: float,
) -> Parcels:
    index, plane = facets.instance[rows], facets.plane[rows]
    instances = [scene.instances[i] for i in index]
    centroid = np.array([outline.centroid for outline in outlines])
    direction = np.array([outline.direction for outline in outlines])
    q = np.maximum(np.einsum("ik,ik->i", plane[:, :2], centroid) + plane[:, 2], 0.05)
    axis = view.plane_axes(plane)
    centre = view.points(centroid[:, 0], centroid[:, 1], q)
    probe = centroid + AXIS_PROBE_PX * direction
    probe_q = np.maximum(np.einsum("ik,ik->i", plane[:, :2], probe) + plane[:, 2], 0.05)
    along = view.points(probe[:, 0], probe[:, 1], probe_q) - centre
    stretch = np.linalg.norm(along, axis=1) / AXIS_PROBE_PX
    metres = view.metres_per_px(q)
    sides = np.array([outline.sides_px for outline in outlines]) * np.stack([stretch, metres], axis=1)
    classes = np.array([instance.class_probabilities for instance in instances], dtype=np.float64)
    figures = config.fit.of_classes(scene.class_names)
    top = centre[:, 2] - belt_z_m
    visible = np.array([instance.visible_fraction for instance in instances])
    facing = np.maximum(np.abs(np.einsum("ik,ik->i", axis, _rays(view, centroid))), 0.3)
    area_px = np.array([outline.area_px for outline in outlines])
    area = whole_px * metres**2 / facing / np.clip(visible, 0.4, 1.0)
    thickness, mass = _thickness_and_mass(area, sides, top, classes, figures, config)
    return Parcels(
        index=index,
        face=rows + 1,
        ids=np.array([instance.id for instance in instances]),
        area_px=area_px,
        depth_share=np.array([outline.depth_share for outline in outlines]),
        plane=plane,
        centre=centre,
        axis=axis,
        long_axis=along / np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9),
        sides_m=sides,
        plane_rms_m=facets.inverse_depth_rms[rows] / q**2,
        top_m=top,
        classes=classes,
        figures=figures,
        detection=np.array([instance.detection for instance in instances]),
        mask_quality=np.array([instance.mask_quality for instance in instances]),
        visible=visible,
        edge_sigma_m=np.array([instance.boundary_uncertainty_px for instance in instances]) / view.stride * metres,
        area_m2=area,
        thickness_m=thickness,
        mass_kg=mass,
        film=np.array([float(bool(instance.film_depth)) for instance in instances]),
    )


def on_supports(parcels: Parcels, support_m: Floats, config: PlannerConfig) -> Parcels:
    """Parcels with thickness and mass corrected for what they may rest on: a box on a box is no tower down to the belt.

    support_m [I]: height of a parcel's top over the surface below it, inf for the belt. Whether it rests there or
    stands beside it is not seen, so the height that counts lies between both, weighted by ``support_weight``.
    """
    lower = np.minimum(parcels.top_m, support_m)
    height = parcels.top_m + config.fit.wrench.support_weight * (lower - parcels.top_m)
    thickness, mass = _thickness_and_mass(
        parcels.area_m2, parcels.sides_m, height, parcels.classes, parcels.figures, config
    )
    return replace(parcels, thickness_m=thickness, mass_kg=mass)


def _rays(view: View, pixels: Floats) -> Floats:
    """Unit viewing directions in base_link [I, 3]."""
    rays = np.stack(
        [(pixels[:, 0] - view.cx) / view.fx, (pixels[:, 1] - view.cy) / view.fy, np.ones(len(pixels))], axis=1
    )
    return np.asarray((rays / np.linalg.norm(rays, axis=1, keepdims=True)) @ view.R.T)


def _thickness_and_mass(
    area: Floats, sides: Floats, top: Floats, classes: Floats, figures: ClassTable, config: PlannerConfig
) -> tuple[Floats, Floats]:
    """Expected over the classes, by their shape. What is not flat is as thick as it stands above the belt, but no
    thicker than its longer side; what is round, as it looks wide."""
    by_height, by_width = np.minimum(top, 0.8 * sides[:, 0]), sides[:, 1]
    thick = np.where(figures.round, by_width[:, None], by_height[:, None])
    thick = np.clip(thick, np.minimum(MEASURED_LEAST_M, figures.thickness_m), figures.thickness_m)
    thick = np.where(figures.flat, figures.thickness_m, thick)
    mass = area[:, None] * thick * figures.density_kgpm3
    expected = np.clip((mass * classes).sum(axis=1), config.fit.wrench.least_mass_kg, config.wrench.most_mass_kg)
    return (thick * classes).sum(axis=1), expected


def levelled(axis: Floats, sigma_rad: Floats) -> Floats:
    """Normals [N, 3] drawn towards straight down: a tilt t becomes t (1 - (sigma / t)^2), or 0 below sigma.

    The positive-part James-Stein estimate: nearly level faces become level, clear tilts stay as they were measured.
    """
    sideways = np.hypot(axis[:, 0], axis[:, 1])
    tilt = np.arctan2(sideways, -axis[:, 2])
    kept = np.maximum(1.0 - (sigma_rad / np.maximum(tilt, 1e-9)) ** 2, 0.0) * tilt
    scale = np.sin(kept) / np.maximum(sideways, 1e-12)
    return np.stack([axis[:, 0] * scale, axis[:, 1] * scale, -np.cos(kept)], axis=1)


def with_upright(contacts: Contacts, fit: SamplingFit, walls: bool) -> Contacts:
    """Contacts, and once more the main ones on steep faces, with the axis turned upright by ``upright_rad``: bellows
    follow the rest. The steepest get within ``max_tilt_rad`` by it, and beside walls the tool finds more room."""
    from_rad, by_rad = fit.upright_from_rad if walls else fit.steep_from_rad, fit.upright_rad
    sideways = np.hypot(contacts.axis[:, 0], contacts.axis[:, 1])
    tilt = np.arctan2(sideways, -contacts.axis[:, 2])
    steep = np.flatnonzero(contacts.main & (tilt > from_rad))
    if by_rad <= 0 or not len(steep):
        return contacts
    kept = tilt[steep] - by_rad
    scale = np.sin(kept) / np.maximum(sideways[steep], 1e-12)
    axis = np.stack([contacts.axis[steep, 0] * scale, contacts.axis[steep, 1] * scale, -np.cos(kept)], axis=1)
    return contacts.then(replace(contacts.take(steep), axis=axis))


def _contacts(view: View, parcels: Parcels, outlines: list[_Outline], fit: SurfaceFit) -> Contacts:
    """A contact's plane is its own window's, or the whole parcel's where both agree, as that has less noise."""
    pixels = np.concatenate([outline.contacts for outline in outlines])
    parcel = np.repeat(np.arange(len(outlines)), [len(outline.contacts) for outline in outlines])
    main = np.concatenate([np.arange(len(outline.contacts)) < outline.mains for outline in outlines])
    u, v = pixels[:, 0], pixels[:, 1]
    flat, _ = view.pixel(u, v)
    whole = parcels.plane[parcel]
    whole_q = np.maximum(whole[:, 0] * u + whole[:, 1] * v + whole[:, 2], 0.05)
    half = np.minimum(0.7 * view.edge_px.ravel()[flat], fit.contact_window_m * whole_q * view.fx)
    local = view.fit(u, v, np.maximum(half, 2.0))
    local_axis = view.axes(local)
    local_q = np.where(local.q > 0.05, local.q, whole_q)
    ray_step = np.abs(1.0 / local_q - 1.0 / whole_q)
    half_m = np.maximum(half / (view.fx * whole_q), 1e-3)
    slope_noise = fit.slope_noise * view.inverse_depth_noise / whole_q**2 / half_m
    angle = np.arccos(np.clip(np.einsum("ik,ik->i", local_axis, parcels.axis[parcel]), -1.0, 1.0))
    agree = (ray_step < fit.same_plane_offset_m) & (angle < fit.same_plane_angle_rad + 2.0 * slope_noise)
    agree |= local.share <= 0.2
    q = np.where(agree, whole_q, local_q)
    whole_half_m = np.maximum(0.5 * np.sqrt(parcels.sides_m.prod(axis=1))[parcel], 1e-3)
    whole_noise = fit.slope_noise * view.inverse_depth_noise / whole_q**2 / whole_half_m
    axis = np.where(agree[:, None], parcels.axis[parcel], local_axis)
    axis = levelled(axis, fit.level_prior * np.where(agree, whole_noise, slope_noise))
    rms = np.where(agree, parcels.plane_rms_m[parcel], local.rms / local_q**2)
    return Contacts(parcel, view.points(u, v, q), axis, main, rms)
