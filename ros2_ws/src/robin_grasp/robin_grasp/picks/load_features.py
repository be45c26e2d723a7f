"""What a look at the load tells: its outline against the footprint that the target's mask had, how deep it hangs, and
whether it comes apart into several things.

All of it is laid on one grid in the lip plane of the tool, since a load keeps its place on the tool from the contact to
the place station. A pixel belongs to the load where it lies below the lips (or within what the bellows draw up).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_grasp.picks.load_shapes import (
    EDGE_COLOUR,
    STEP_M,
    cell_colour,
    cell_points,
    grown,
    off_plane,
    second_share,
    sides,
    spread,
)
from robin_grasp.picks.outcome import PickOutcome
from robin_grasp.picks.sensor_features import HELD_SHARE
from robin_grasp.picks.silhouette import CELL_M, CELLS, LEAST_CELLS, Mask, Silhouette, closed, grid_cells, tool_points
from robin_grasp.picks.traces import LoadView
from robin_grasp.plan import Grasp
from robin_grasp.tool import GRAVITY_MPS2, ToolConfig
from robin_perception.core.frame import Frame
from robin_perception.core.pose import is_rigid
from robin_perception.core.scene import Instance, Scene

SLACK_CELLS = 3  # between an outline seen from above and from below
LEAST_PART = 0.08  # of the load's area that a part or an instance has
LEAST_DETECTION = 0.3
BESIDE_CELLS = 2  # a lip this near to a face may hang on it
WEAK_BOUNDARY = 0.15
LINE_ANGLES = 18
LEAST_CHORD, LEAST_SIDE = 0.35, 0.10  # of the longest chord; of the area, on either side of a line

LoadSegmenter = Callable[[Frame], Scene]

LOAD_FEATURES: dict[str, str] = {
    "load_dm2": "area of what hangs, dm²",
    "area_ratio": "ln(area of what hangs / area of the target's mask)",
    "whole_area_ratio": "ln(area of what hangs / area of the target with its hidden part)",
    "outside_dm2": "area of what hangs outside the target's footprint, dm²",
    "outside_share": "the same, of what hangs",
    "missing_share": "share of the target's footprint below which nothing hangs",
    "overlap": "intersection over union of footprint and what hangs",
    "solidity": "area of what hangs over that of its convex hull",
    "rectangularity": "area of what hangs over that of the smallest rectangle around it",
    "notch_m": "deepest notch in the outline of what hangs, m: two that hang side by side leave one",
    "blobs": "separate things that hang",
    "second_blob_share": "area of the second largest of them, of all",
    "hang_m": "depth of the lowest part below the lips, m",
    "off_plane_m": "median distance of what hangs from its own plane, m",
    "off_plane_share": "share of what hangs that lies off its main plane",
    "long_ratio": "long side of the smallest rectangle around what hangs over that of the target's footprint",
    "short_ratio": "the same of the short sides",
    "load_l": "area of what hangs times the depth of its lowest part, litres",
    "load_kg_per_l": "weight after the lift over that volume, kg/litre",
    "gone_ratio": "ln(volume that is gone from the picture of the pile / that volume)",
    "second_part_share": "area of the second largest part between steps of depth, of all",
    "second_face_share": "area of the second largest part between steps of depth or edges of colour, of all",
    "other_under": "largest share of another mask's footprint that what hangs covers outside the target's",
    "other_gone_under": "the same, only as far as that mask changed in the picture of the pile",
    "held_beside_load": "cups that hold something where nothing is seen to hang",
}
"""Of the picture alone."""

SEGMENTED_FEATURES: dict[str, str] = {
    "load_instances": "instances that the network sees in what hangs",
    "second_instance_share": "area of the second largest of them, of what hangs",
    "first_instance_share": "area of the largest of them, of what hangs",
    "second_instance_detection": "how sure the network is of the second largest",
    "held_beside_first": "cups that hold something and lie beside the largest of them",
    "boundary_line": "strongest straight line of the network's boundary across what hangs, mean along it",
    "boundary_part_share": "area of the second largest part between boundaries, weak ones too, of all",
}
"""Of the network's look at it."""

NAN = math.nan


@dataclass(frozen=True)
class Footprints:
    """Masks on the grid in the lip plane, bool [CELLS, CELLS]: of the target, and of the instances near it, by id."""

    target: Mask
    others: dict[int, Mask]


def load_misfit(view: LoadView) -> str:
    """Why a look at the load cannot be used, in one line; empty if it can."""
    frame = view.frame
    if frame.depth.shape != frame.rgb.shape[:2]:
        return "colour and depth of the look at the load differ in size"
    if not is_rigid(frame.T_base_camera) or not is_rigid(view.T_base_tool):
        return "a pose of the look at the load is no rigid one"
    in_tool = np.linalg.inv(view.T_base_tool) @ frame.T_base_camera
    if in_tool[2, 3] < 0.2 or in_tool[2, 2] > -0.3:
        return f"the load camera stands {in_tool[2, 3]:.2f} m below the lips and does not look at them"
    axis = frame.K @ np.linalg.inv(in_tool)[:3, 3]
    if not (0 <= axis[0] / axis[2] < frame.width and 0 <= axis[1] / axis[2] < frame.height):
        return "the tool is outside the look at the load"
    if not np.isfinite(frame.depth).all():
        return "the look at the load holds NaN or infinity for depth"
    return ""


def on_belt(view: LoadView) -> Frame:
    """The look in a base whose z = 0 is the lip plane and whose z axis points at the camera: to a network trained on
    parcels on a belt, the load lies on one."""
    frame = view.frame
    pose = np.linalg.inv(view.T_base_tool) @ frame.T_base_camera
    # A tool frame's z axis points out of the cups, which is from the belt to the camera.
    return Frame(frame.rgb, frame.depth, frame.K, pose, frame.stamp_s, frame.camera_id)


def load_features(
    target: Instance,
    prints: Footprints,
    view: LoadView,
    seen: Silhouette,
    changed_share: dict[int, float] | None,
    held: NDArray[np.int64],
) -> dict[str, float]:
    """LOAD_FEATURES of a view that ``load_misfit`` let through, but for those that need more than it. seen: its
    ``silhouette``. changed_share: of each mask, by id; None: unknown. held: grid cells of the cups that hold."""
    footprint, others = prints.target, prints.others
    area = float(seen.load.sum())
    square_dm2 = 1e2 * CELL_M**2
    features = dict.fromkeys(LOAD_FEATURES, NAN)
    features["load_dm2"] = area * square_dm2
    if area < LEAST_CELLS:
        return features
    allowed = grown(footprint, SLACK_CELLS)
    outside = seen.load & ~allowed
    below = grown(seen.load, SLACK_CELLS)
    size = max(float(footprint.sum()), 1.0)
    under = {i: float((other & outside).sum()) / max(float(other.sum()), 1.0) for i, other in others.items()}
    gone = {i: share * _known(changed_share, i) for i, share in under.items()}
    features |= {
        "area_ratio": math.log(area / size),
        "whole_area_ratio": math.log(area * min(max(target.visible_fraction, 0.2), 1.0) / size),
        "outside_dm2": float(outside.sum()) * square_dm2,
        "outside_share": float(outside.sum()) / area,
        "missing_share": float((footprint & ~below).sum()) / size,
        "overlap": float((footprint & seen.load).sum()) / float((footprint | seen.load).sum()),
        "other_under": max(under.values(), default=0.0),
        "other_gone_under": max(gone.values(), default=0.0),
        "held_beside_load": _beside(held, seen.load),
    }
    return features | _shape(seen, footprint) | _parts(seen, view)


def load_volume(values: dict[str, float]) -> dict[str, float]:
    """The features that set what hangs against what else was measured. values: those known so far."""
    litres = 10.0 * values["load_dm2"] * max(values["hang_m"], 0.003)
    if not litres > 0.01:
        return {}
    gone_l = values["net_sunk_l"]
    return {
        "load_l": litres,
        "load_kg_per_l": values["weight_n"] / GRAVITY_MPS2 / litres,
        "gone_ratio": NAN if math.isnan(gone_l) else math.log(max(gone_l, 0.01) / litres),
    }


def held_cells(outcome: PickOutcome, tool: ToolConfig) -> NDArray[np.int64]:
    """Grid cells of the cups that hold something after the lift, int64 [C]."""
    held = np.asarray(outcome.vacuum_pa) > HELD_SHARE * tool.vacuum_pa
    x, y = np.array([cup[:2] for cup in tool.cups_m], dtype=np.float64)[held].reshape(-1, 2).T
    return grid_cells(x, y)


def segmented_features(
    view: LoadView, seen: Silhouette, see: LoadSegmenter, held: NDArray[np.int64]
) -> dict[str, float]:
    """SEGMENTED_FEATURES of a view that ``load_misfit`` let through. seen: its ``silhouette``. held: as above."""
    scene = see(on_belt(view))
    area = max(float(seen.load.sum()), 1.0)
    found: list[tuple[float, float, Mask]] = []
    for instance in scene.instances:
        cells = np.unique(seen.cells[scene.labels == instance.id])
        cells = cells[cells >= 0]
        patch = np.zeros(CELLS * CELLS, dtype=bool)
        patch[cells] = True
        patch = closed(patch.reshape(CELLS, CELLS)) & seen.load
        share = float(patch.sum()) / area
        if share >= LEAST_PART and instance.detection >= LEAST_DETECTION:
            found.append((share, instance.detection, patch))
    found.sort(key=lambda instance: instance[0], reverse=True)
    shares = [*((share, detection) for share, detection, _ in found), (0.0, 0.0), (0.0, 0.0)]
    return {
        "load_instances": float(len(found)),
        "second_instance_share": shares[1][0],
        "first_instance_share": shares[0][0],
        "second_instance_detection": shares[1][1],
        "held_beside_first": _beside(held, found[0][2]) if found else NAN,
        **_boundary_features(scene, seen),
    }


def _beside(held: NDArray[np.int64], patch: Mask) -> float:
    """Cups at these cells that hang on nothing of the patch."""
    cells = held[held >= 0]
    return float((~grown(patch, BESIDE_CELLS).ravel()[cells]).sum())


def _boundary_features(scene: Scene, seen: Silhouette) -> dict[str, float]:
    """Where the network all but sees a seam: on its own grid, within what hangs."""
    unknown = {"boundary_line": NAN, "boundary_part_share": NAN}
    boundary = scene.boundary
    size = boundary.shape[1], boundary.shape[0]
    load = cv2.resize((seen.cells >= 0).astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    if load.sum() < LEAST_CELLS:
        return unknown
    x, y, w, h = cv2.boundingRect(load)
    load, boundary = load[y : y + h, x : x + w], boundary[y : y + h, x : x + w]
    inner = cv2.erode(load, np.ones((5, 5)), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    if inner.sum() < LEAST_CELLS:
        return unknown
    whole = (load > 0) & (boundary < WEAK_BOUNDARY)
    return {
        "boundary_line": _strongest_line(np.asarray(cv2.dilate(boundary, np.ones((3, 3)))), np.asarray(inner)),
        "boundary_part_share": second_share(whole, float(load.sum())),
    }


def _strongest_line(strength: NDArray[Any], inner: NDArray[Any]) -> float:
    """Largest mean of ``strength`` along a straight line that parts ``inner`` in two."""
    h, w = inner.shape
    side = math.ceil(math.hypot(h, w)) + 4
    best = 0.0
    for angle in np.arange(LINE_ANGLES) * 180.0 / LINE_ANGLES:
        turn = cv2.getRotationMatrix2D((w / 2, h / 2), float(angle), 1.0)
        turn[:, 2] += [(side - w) / 2, (side - h) / 2]
        inside = cv2.warpAffine(inner, turn, (side, side), flags=cv2.INTER_NEAREST)
        chord = inside.sum(axis=0, dtype=np.float64)
        left = np.cumsum(chord) / max(chord.sum(), 1.0)
        parts = (chord >= LEAST_CHORD * chord.max()) & (left > LEAST_SIDE) & (left < 1.0 - LEAST_SIDE)
        if parts.any():
            along = (cv2.warpAffine(strength, turn, (side, side)) * inside).sum(axis=0)[parts] / chord[parts]
            best = max(best, float(along.max()))
    return best


def footprints(grasp: Grasp, scene: Scene, target: Instance, before: Frame) -> Footprints:
    """As the frame before the pick shows them."""
    x, y, _ = tool_points(before, before.depth, np.linalg.inv(grasp.T_base_tool))
    cells = grid_cells(x, y)
    known = (before.depth > 0) & (cells >= 0)
    found: dict[int, Mask] = {}
    for instance in scene.instances:
        x0, y0, x1, y1 = instance.bbox
        box = np.s_[y0:y1, x0:x1]
        grid = np.zeros(CELLS * CELLS, dtype=bool)
        grid[cells[box][(scene.labels[box] == instance.id) & known[box]]] = True
        if instance.id == target.id or grid.sum() >= LEAST_CELLS:
            found[instance.id] = closed(grid.reshape(CELLS, CELLS))
    return Footprints(found.pop(target.id), found)


def _shape(seen: Silhouette, footprint: Mask) -> dict[str, float]:
    area = float(seen.load.sum())
    count, _, stats, _ = cv2.connectedComponentsWithStats(seen.load.astype(np.uint8), connectivity=8)
    sizes = np.sort(stats[1:count, cv2.CC_STAT_AREA])[::-1]
    hull = cv2.convexHull(cell_points(seen.load))
    hull_area = float(cv2.contourArea(hull)) + 0.5 * float(cv2.arcLength(hull, True)) + 1.0
    long_m, short_m = sides(seen.load)
    mask_long_m, mask_short_m = sides(footprint)
    heights = seen.height[np.isfinite(seen.height)]
    off_m = off_plane(seen.height)
    return {
        "solidity": area / hull_area,
        "rectangularity": area * CELL_M**2 / (long_m * short_m),
        "notch_m": _notch(seen.load),
        "blobs": float((sizes >= LEAST_PART * area).sum()),
        "second_blob_share": float(sizes[1]) / area if len(sizes) > 1 else 0.0,
        "hang_m": float(np.quantile(heights, 0.95)) if len(heights) else NAN,
        "off_plane_m": float(np.median(off_m)) if len(off_m) else NAN,
        "off_plane_share": float((off_m > STEP_M).mean()) if len(off_m) else NAN,
        "long_ratio": long_m / mask_long_m,
        "short_ratio": short_m / mask_short_m,
    }


def _notch(load: Mask) -> float:
    """Depth of the deepest convexity defect of the largest outline, m."""
    outlines, _ = cv2.findContours(load.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = max(outlines, key=cv2.contourArea)
    hull = cv2.convexHull(outline, returnPoints=False)
    if len(hull) < 4:
        return 0.0
    hull[::-1].sort(axis=0)  # OpenCV wants them in order
    defects = cv2.convexityDefects(outline, hull)
    return 0.0 if defects is None else CELL_M * float(defects.reshape(-1, 4)[:, 3].max()) / 256.0


def _parts(seen: Silhouette, view: LoadView) -> dict[str, float]:
    """How the load comes apart at steps of depth, and at these and edges of colour. Its rim is left out: there a filter
    sees the background, and parts would hang together by it."""
    inner = cv2.erode(seen.load.astype(np.uint8), np.ones((3, 3))) > 0
    height = np.asarray(cv2.medianBlur(np.nan_to_num(seen.height, nan=-1.0), 5), dtype=np.float32)
    known = cv2.erode((height > -0.9).astype(np.uint8), np.ones((3, 3))) > 0
    steps = spread(height) > STEP_M
    whole = inner & ~(steps & known)
    area = max(float(inner.sum()), 1.0)
    edges = spread(cell_colour(seen.cells, view.frame.rgb)) > EDGE_COLOUR
    return {
        "second_part_share": second_share(whole, area),
        "second_face_share": second_share(whole & ~edges, area),
    }


def _known(changed_share: dict[int, float] | None, instance: int) -> float:
    share = NAN if changed_share is None else changed_share.get(instance, NAN)
    return 1.0 if math.isnan(share) else share
