"""A careless planner, with careless eyes: they make the double, dropped and wrong picks that a good planner seldom
makes, in the ways in which they come about: two parcels under one mask, cups beyond the mask's edge, the lower parcel
first, too few cups.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robin_grasp.plan import ALL_SOUND, CupTrust, FailedPick, Grasp, Plan
from robin_grasp.planner.config import PlannerConfig
from robin_grasp.planner.registry import make_planner
from robin_grasp.tool import CellConfig, cups_to_mask, mask_to_cups
from robin_perception.core.config import StrictConfig
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Instance, Scene

TOUCHING_PX = 5
SAME_HEIGHT_M = 0.010
SEAM_REACH_M = 0.25
LEAST_FILLED = 0.82  # of the smallest rectangle around two masks
SAME_COLOUR = 40.0  # of 255, in each channel


class CarelessConfig(StrictConfig):
    """How often something is done badly; what is left over is done well."""

    merge: float = Field(0.35, ge=0, le=1, description="frames in which two masks that touch become one")
    alike: bool = Field(False, description="only two that a network may well take for one: alike, and together a box")
    any_parcel: float = Field(0.15, ge=0, le=1, description="picks of any parcel, buried ones too, with no edge kept")
    wide: float = Field(0.50, ge=0, le=1, description="picks with all cups over the seam to the next parcel")
    few: float = Field(0.15, ge=0, le=1, description="picks with one or two of the chosen cups")


@dataclass
class CarelessEyes:
    """A segmenter that at times takes two parcels for one. rng: of the pile, so that it can be made again. apart: the
    latest scene before that, merged: the ids of the two in it, of which the first stands for both; None where nothing
    was merged."""

    see: Callable[[Frame], Scene]
    config: CarelessConfig
    rng: np.random.Generator
    apart: Scene | None = None
    merged: tuple[int, int] | None = None

    def __call__(self, frame: Frame) -> Scene:
        scene, self.merged = self.see(frame), None
        if self.rng.random() >= self.config.merge:
            return scene
        pairs = touching(scene)
        if self.config.alike:
            pairs = [pair for pair in pairs if _alike(*pair, frame, scene)]
        if not pairs:
            return scene
        pairs.sort(key=lambda pair: pair[0].area_px + pair[1].area_px)
        first, second = pairs[int(self.rng.integers(min(len(pairs), 6)))]
        self.apart, self.merged = scene, (first.id, second.id)
        return merge(scene, first, second)


def touching(scene: Scene) -> list[tuple[Instance, Instance]]:
    """Pairs of instances whose masks come within TOUCHING_PX."""
    found, by_id = set(), {instance.id: instance for instance in scene.instances}
    for instance in scene.instances:
        x0, y0, x1, y1 = instance.bbox
        box = np.s_[max(y0 - TOUCHING_PX, 0) : y1 + TOUCHING_PX, max(x0 - TOUCHING_PX, 0) : x1 + TOUCHING_PX]
        near = cv2.dilate((scene.labels[box] == instance.id).astype(np.uint8), np.ones((2 * TOUCHING_PX + 1,) * 2))
        for other in np.unique(scene.labels[box][near > 0]).tolist():
            if other > instance.id and other in by_id:
                found.add((instance.id, int(other)))
    return [(by_id[a], by_id[b]) for a, b in sorted(found)]


def _alike(first: Instance, second: Instance, frame: Frame, scene: Scene) -> bool:
    """Whether two masks are of one class and colour and together fill a rectangle."""
    masks = [scene.labels == instance.id for instance in (first, second)]
    colours = np.array([frame.rgb[mask].mean(axis=0) for mask in masks])
    both = (masks[0] | masks[1]).astype(np.uint8)
    outline = cv2.findNonZero(both)
    _, sides, _ = cv2.minAreaRect(outline)
    fills = int(both.sum()) >= LEAST_FILLED * (sides[0] + 1.0) * (sides[1] + 1.0)
    same = int(first.class_probabilities.argmax()) == int(second.class_probabilities.argmax())
    return same and fills and float(np.ptp(colours, axis=0).max()) < SAME_COLOUR


def merge(scene: Scene, first: Instance, second: Instance) -> Scene:
    """The scene with ``second`` as part of ``first``."""
    labels = np.where(scene.labels == second.id, np.uint16(first.id), scene.labels)
    (x0, y0, x1, y1), (u0, v0, u1, v1) = first.bbox, second.bbox
    both = replace(
        first,
        bbox=(min(x0, u0), min(y0, v0), max(x1, u1), max(y1, v1)),
        area_px=first.area_px + second.area_px,
        visible_fraction=min(first.visible_fraction, second.visible_fraction),
    )
    kept = tuple(both if i.id == first.id else i for i in scene.instances if i.id != second.id)
    return replace(scene, labels=labels, instances=kept)


class CarelessPlanner:
    """Plans with care, and at times without."""

    name = "careless"
    flags: tuple[str, ...] = ()

    def __init__(
        self, cell: CellConfig, rng: np.random.Generator, eyes: CarelessEyes, config: CarelessConfig | None = None
    ) -> None:
        self._cell, self._rng, self._eyes = cell, rng, eyes
        self._config = config or eyes.config
        self._careful = make_planner("geometric", cell)
        self._lax = make_planner("geometric", cell, config=_lax(PlannerConfig()))

    def plan(self, frame: Frame, scene: Scene, failed: tuple[FailedPick, ...] = (), cups: CupTrust = ALL_SOUND) -> Plan:
        del cups  # it does not care
        drawn, config = self._rng.random(), self._config
        if self._eyes.merged is not None:
            plan = self._of_merged(frame, scene, failed)
            if plan.best is not None:
                return plan
        if drawn < config.any_parcel:
            plan = self._lax.plan(frame, scene, failed)
            chosen = int(self._rng.integers(max(len(plan.grasps), 1)))
            return replace(plan, grasps=plan.grasps[chosen : chosen + 1])
        if drawn < config.any_parcel + config.wide:
            plan = self._lax.plan(frame, scene, failed)
            return self._wide(plan, frame, scene)
        plan = self._careful.plan(frame, scene, failed)
        if drawn < config.any_parcel + config.wide + config.few:
            return self._spoiled(plan, self._with_few)
        return plan

    def _spoiled(self, plan: Plan, spoil: Callable[[Grasp], Grasp]) -> Plan:
        if plan.best is None:
            return plan
        chosen = plan.grasps[int(self._rng.integers(min(len(plan.grasps), 6)))]
        return replace(plan, grasps=(spoil(chosen),))

    def _of_merged(self, frame: Frame, scene: Scene, failed: tuple[FailedPick, ...]) -> Plan:
        """The two parcels that are one in ``scene``, taken at their seam with what is expected of both."""
        apart, merged = self._eyes.apart, self._eyes.merged
        assert apart is not None and merged is not None
        plan = self._lax.plan(frame, scene, failed)
        terms = next((grasp.terms for grasp in plan.grasps if grasp.instance_id == merged[0]), None)
        singly = self._lax.plan(frame, apart, failed)
        grasps = [grasp for grasp in singly.grasps if grasp.instance_id == merged[0]]
        if terms is None or not grasps:
            return replace(plan, grasps=())
        seam = _seam(grasps[0], frame, apart, merged[1])
        if seam is None:
            return replace(plan, grasps=())
        return replace(plan, grasps=(replace(self._across(grasps[0], seam), terms=terms),))

    def _wide(self, plan: Plan, frame: Frame, scene: Scene) -> Plan:
        """All cups over the seam between a parcel and the next one of about its height."""
        seams = [(seam, grasp) for grasp in plan.grasps if (seam := _seam(grasp, frame, scene)) is not None]
        if not seams:
            return plan
        seams.sort(key=lambda pair: pair[1].terms["long_side_m"] + float(np.linalg.norm(pair[0])))  # small, and near
        seam, grasp = seams[int(self._rng.integers(min(len(seams), 4)))]
        return replace(plan, grasps=(self._across(grasp, seam),))

    def _across(self, grasp: Grasp, seam: NDArray[np.float64]) -> Grasp:
        """All cups, the tool's middle over the seam, mostly its long side across it, so that both parcels get cups."""
        pose = np.array(grasp.T_base_tool)
        across = seam / max(float(np.linalg.norm(seam)), 1e-9)
        if self._rng.random() < 0.8:
            pose[:3, 0], pose[:3, 1] = across, np.cross(pose[:3, 2], across)
        pose[:3, 3] += seam + self._rng.normal(-0.002, 0.006) * across
        return replace(grasp, T_base_tool=pose, cups=cups_to_mask(tuple(range(self._cell.tool.cup_count))))

    def _with_few(self, grasp: Grasp) -> Grasp:
        cups = self._rng.permutation(mask_to_cups(grasp.cups))[: int(self._rng.integers(1, 3))]
        return replace(grasp, cups=cups_to_mask(tuple(int(cup) for cup in cups)))


def _seam(grasp: Grasp, frame: Frame, scene: Scene, other: int | None = None) -> NDArray[np.float64] | None:
    """From the tool's middle to the nearest point of another mask (of ``other``, or of any) that lies about as high, in
    the lip plane, base_link; None without one within SEAM_REACH_M."""
    labels, step = scene.labels[::3, ::3], 3
    wanted = (labels > 0) & (labels != grasp.instance_id) if other is None else labels == other
    ys, xs = np.nonzero(wanted & (frame.depth[::3, ::3] > 0))
    z = frame.depth[::3, ::3][ys, xs].astype(np.float64)
    fx, fy, cx, cy = frame.K[0, 0], frame.K[1, 1], frame.K[0, 2], frame.K[1, 2]
    rays = np.stack([(step * xs - cx) / fx * z, (step * ys - cy) / fy * z, z, np.ones(len(z))])
    points = (np.linalg.inv(grasp.T_base_tool) @ frame.T_base_camera @ rays)[:3].T
    level = points[(np.abs(points[:, 2]) < SAME_HEIGHT_M) & (np.hypot(points[:, 0], points[:, 1]) < SEAM_REACH_M)]
    if not len(level):
        return None
    nearest = level[np.argmin(np.hypot(level[:, 0], level[:, 1]))]
    return np.asarray(grasp.T_base_tool[:3, :2] @ nearest[:2])


def _lax(config: PlannerConfig) -> PlannerConfig:
    """Every parcel counts as free and every mask as one parcel, cups need not keep off edges, and any odds will do."""
    multi = config.fit.multi.model_copy(update={"merge_boundary": 1.0})
    return config.model_copy(
        update={
            "order": config.order.model_copy(update={"enabled": False}),
            "multi": config.multi.model_copy(update={"veto_sigmas": 0.0}),
            "rank": config.rank.model_copy(update={"least_clean": 0.0}),
            "evidence": config.evidence.model_copy(update={"least_edge_share": 0.0}),
            "fit": config.fit.model_copy(update={"multi": multi}),
        }
    )
