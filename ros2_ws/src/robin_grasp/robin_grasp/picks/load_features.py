"""What a look at the load tells: its outline against the footprint that the target's mask had, how deep it hangs, and
whether it comes apart into several things.

All of it is laid on one grid in the lip plane of the tool, since a load keeps its place on the tool from the contact to
the place station. A pixel belongs to the load where it lies below the lips (or within what the bellows draw up).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_grasp.picks.traces import LoadView
from robin_grasp.plan import Grasp
from robin_grasp.planner.wrench import GRAVITY_MPS2
from robin_grasp.tool import ToolConfig
from robin_perception.core.frame import Frame
from robin_perception.core.pose import is_rigid
from robin_perception.core.scene import Instance, Scene

HALF_M, CELL_M = 0.60, 0.005  # of the grid
CELLS = round(2 * HALF_M / CELL_M)
ABOVE_LIPS_M = 0.028  # as far above the lips a face may be drawn up; the tool's plate lies higher
DEEPEST_M = 0.60  # below the lips nothing hangs that is a parcel
SLACK_CELLS = 3  # between an outline seen from above and from below
LEAST_CELLS = 40  # 10 cm²: less is no parcel
STEP_M = 0.012  # of depth between two parts of a load
EDGE_COLOUR = 18.0  # of 255, gradient that parts two faces
LEAST_PART = 0.08  # of the load's area that a part or an instance has
LEAST_DETECTION = 0.3

LoadSegmenter = Callable[[Frame], Scene]
Mask = NDArray[np.bool_]

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
}
"""Of the picture alone."""

SEGMENTED_FEATURES: dict[str, str] = {
    "load_instances": "instances that the network sees in what hangs",
    "second_instance_share": "area of the second largest of them, of what hangs",
    "first_instance_share": "area of the largest of them, of what hangs",
    "second_instance_detection": "how sure the network is of the second largest",
}
"""Of the network's look at it."""

NAN = math.nan


@dataclass(frozen=True)
class Silhouette:
    """On the grid in the lip plane (rows y, columns x of the tool frame): load bool [CELLS, CELLS]; height float32
    [CELLS, CELLS], depth below the lips, m, NaN elsewhere. rows: int64 [H, W] grid cell of each pixel of the view that
    shows the load, -1 elsewhere."""

    load: Mask
    height: NDArray[np.float32]
    cells: NDArray[np.int64]


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
    grasp: Grasp,
    scene: Scene,
    target: Instance,
    before: Frame,
    view: LoadView,
    seen: Silhouette,
    changed_share: dict[int, float] | None,
) -> dict[str, float]:
    """LOAD_FEATURES of a view that ``load_misfit`` let through, but for those that need more than it. seen: its
    ``silhouette``. changed_share: of each mask, by id; None: unknown."""
    footprint, others = _footprints(grasp, scene, target, before)
    area = float(seen.load.sum())
    square_dm2 = 1e2 * CELL_M**2
    features = dict.fromkeys(LOAD_FEATURES, NAN)
    features["load_dm2"] = area * square_dm2
    if area < LEAST_CELLS:
        return features
    allowed = _grown(footprint, SLACK_CELLS)
    outside = seen.load & ~allowed
    below = _grown(seen.load, SLACK_CELLS)
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


def segmented_features(view: LoadView, seen: Silhouette, see: LoadSegmenter) -> dict[str, float]:
    """SEGMENTED_FEATURES of a view that ``load_misfit`` let through. seen: its ``silhouette``."""
    scene = see(on_belt(view))
    area = max(float(seen.load.sum()), 1.0)
    shares = []
    for instance in scene.instances:
        cells = np.unique(seen.cells[scene.labels == instance.id])
        cells = cells[cells >= 0]
        patch = np.zeros(CELLS * CELLS, dtype=bool)
        patch[cells] = True
        share = float((_closed(patch.reshape(CELLS, CELLS)) & seen.load).sum()) / area
        if share >= LEAST_PART and instance.detection >= LEAST_DETECTION:
            shares.append((share, instance.detection))
    shares.sort(reverse=True)
    first, second = [*shares, (0.0, 0.0), (0.0, 0.0)][:2]
    return {
        "load_instances": float(len(shares)),
        "second_instance_share": second[0],
        "first_instance_share": first[0],
        "second_instance_detection": second[1],
    }


def silhouette(view: LoadView, tool: ToolConfig) -> Silhouette:
    """What hangs on the tool, without the tool itself."""
    frame = view.frame
    points = _points(frame, np.linalg.inv(view.T_base_tool))
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    hangs = (frame.depth > 0) & (z > -ABOVE_LIPS_M) & (z < DEEPEST_M)
    hangs &= ~_own_cups(x, y, z, tool)
    cells = _cells(x, y)
    cells[~hangs] = -1
    shown = cells >= 0
    # Ascending in height: what is written last stays, the lowest face of each cell.
    order = np.argsort(z[shown])
    height = np.full(CELLS * CELLS, -np.inf)
    height[cells[shown][order]] = z[shown][order]
    load = np.isfinite(height)
    grid = _closed(load.reshape(CELLS, CELLS))
    grid = _without_specks(grid)
    filled = np.where(load, height, np.nan).reshape(CELLS, CELLS)
    cells[shown & ~grid.ravel()[np.maximum(cells, 0)]] = -1
    return Silhouette(grid, np.where(grid, filled, np.nan).astype(np.float32), cells)


def _own_cups(x: NDArray[np.float64], y: NDArray[np.float64], z: NDArray[np.float64], tool: ToolConfig) -> Mask:
    """Pixels that show a lip of the tool: within its circle, at its height."""
    level = np.abs(z) < 0.010
    near = np.zeros(x.shape, dtype=bool)
    for cx, cy, _ in tool.cups_m:
        near |= (x - cx) ** 2 + (y - cy) ** 2 < (1.1 * tool.cup_radius_m) ** 2
    return np.asarray(level & near)


def _points(frame: Frame, T_tool_base: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64 [H, W, 3] in the tool frame; without meaning where there is no depth."""
    T = T_tool_base @ frame.T_base_camera
    v, u = np.mgrid[0 : frame.height, 0 : frame.width]
    z = frame.depth.astype(np.float64)
    rays = np.stack([(u - frame.K[0, 2]) / frame.K[0, 0] * z, (v - frame.K[1, 2]) / frame.K[1, 1] * z, z], axis=-1)
    return np.asarray(rays @ T[:3, :3].T + T[:3, 3])


def _cells(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.int64]:
    """Flat index of the grid's cell, -1 beyond the grid."""
    i, j = np.floor((y + HALF_M) / CELL_M), np.floor((x + HALF_M) / CELL_M)
    inside = (i >= 0) & (i < CELLS) & (j >= 0) & (j < CELLS)
    return np.where(inside, i * CELLS + j, -1).astype(np.int64)


def _footprints(grasp: Grasp, scene: Scene, target: Instance, before: Frame) -> tuple[Mask, dict[int, Mask]]:
    """Of the target, and of the other instances near it, by id, as the frame before the pick shows them."""
    points = _points(before, np.linalg.inv(grasp.T_base_tool))
    cells = _cells(points[..., 0], points[..., 1])
    known = (before.depth > 0) & (cells >= 0)
    found: dict[int, Mask] = {}
    for instance in scene.instances:
        x0, y0, x1, y1 = instance.bbox
        box = np.s_[y0:y1, x0:x1]
        grid = np.zeros(CELLS * CELLS, dtype=bool)
        grid[cells[box][(scene.labels[box] == instance.id) & known[box]]] = True
        if instance.id == target.id or grid.sum() >= LEAST_CELLS:
            found[instance.id] = _closed(grid.reshape(CELLS, CELLS))
    return found.pop(target.id), found


def _shape(seen: Silhouette, footprint: Mask) -> dict[str, float]:
    area = float(seen.load.sum())
    count, _, stats, _ = cv2.connectedComponentsWithStats(seen.load.astype(np.uint8), connectivity=8)
    sizes = np.sort(stats[1:count, cv2.CC_STAT_AREA])[::-1]
    hull = cv2.convexHull(_cell_points(seen.load))
    hull_area = float(cv2.contourArea(hull)) + 0.5 * float(cv2.arcLength(hull, True)) + 1.0
    long_m, short_m = _sides(seen.load)
    mask_long_m, mask_short_m = _sides(footprint)
    heights = seen.height[np.isfinite(seen.height)]
    off_m = _off_plane(seen.height)
    return {
        "solidity": area / hull_area,
        "rectangularity": area * CELL_M**2 / (long_m * short_m),
        "blobs": float((sizes >= LEAST_PART * area).sum()),
        "second_blob_share": float(sizes[1]) / area if len(sizes) > 1 else 0.0,
        "hang_m": float(np.quantile(heights, 0.95)) if len(heights) else NAN,
        "off_plane_m": float(np.median(off_m)) if len(off_m) else NAN,
        "off_plane_share": float((off_m > STEP_M).mean()) if len(off_m) else NAN,
        "long_ratio": long_m / mask_long_m,
        "short_ratio": short_m / mask_short_m,
    }


def _cell_points(mask: Mask) -> NDArray[np.float32]:
    ys, xs = np.nonzero(mask)
    return np.stack([xs, ys], axis=1).astype(np.float32)


def _sides(mask: Mask) -> tuple[float, float]:
    """Sides of the smallest rectangle around a mask, the longer first, m."""
    if not mask.any():
        return CELL_M, CELL_M
    _, sides, _ = cv2.minAreaRect(_cell_points(mask))
    return CELL_M * (max(sides) + 1.0), CELL_M * (min(sides) + 1.0)


def _off_plane(height: NDArray[np.float32]) -> NDArray[np.float64]:
    """Distance of every known cell from the main plane: least squares over the nearer half, three times."""
    ys, xs = np.nonzero(np.isfinite(height))
    if len(xs) < LEAST_CELLS:
        return np.zeros(0)
    A = np.stack([CELL_M * xs, CELL_M * ys, np.ones(len(xs))], axis=1)
    z = height[ys, xs].astype(np.float64)
    off = np.zeros(len(z))
    for _ in range(3):
        near = off <= np.median(off)
        off = np.abs(z - A @ np.linalg.lstsq(A[near], z[near], rcond=None)[0])
    return off


def _parts(seen: Silhouette, view: LoadView) -> dict[str, float]:
    """How the load comes apart at steps of depth, and at these and edges of colour. Its rim is left out: there a filter
    sees the background, and parts would hang together by it."""
    inner = cv2.erode(seen.load.astype(np.uint8), np.ones((3, 3))) > 0
    height = cv2.medianBlur(np.nan_to_num(seen.height, nan=-1.0), 5)
    known = cv2.erode((height > -0.9).astype(np.uint8), np.ones((3, 3))) > 0
    steps = _spread(height) > STEP_M
    whole = inner & ~(steps & known)
    area = max(float(inner.sum()), 1.0)
    return {
        "second_part_share": _second_share(whole, area),
        "second_face_share": _second_share(whole & ~(_spread(_colour(seen, view)) > EDGE_COLOUR), area),
    }


def _spread(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Largest difference within 3 x 3 cells, of any channel."""
    kernel = np.ones((3, 3))
    apart = cv2.dilate(image, kernel) - cv2.erode(image, kernel)
    return np.asarray(apart if apart.ndim == 2 else apart.max(axis=2), dtype=np.float32)


def _second_share(open_area: Mask, area: float) -> float:
    count, _, stats, _ = cv2.connectedComponentsWithStats(open_area.astype(np.uint8), connectivity=4)
    sizes = np.sort(stats[1:count, cv2.CC_STAT_AREA])[::-1]
    return float(sizes[1]) / area if len(sizes) > 1 else 0.0


def _colour(seen: Silhouette, view: LoadView) -> NDArray[np.float32]:
    """Mean colour of the load in each cell of the grid, smoothed, float32 [CELLS, CELLS, 3]."""
    shown = seen.cells >= 0
    cells = seen.cells[shown]
    count = np.maximum(np.bincount(cells, minlength=CELLS * CELLS), 1)
    grid = np.zeros((CELLS, CELLS, 3), dtype=np.float32)
    for channel in range(3):
        total = np.bincount(cells, view.frame.rgb[..., channel][shown].astype(np.float64), CELLS * CELLS)
        grid[..., channel] = (total / count).reshape(CELLS, CELLS)
    return np.asarray(cv2.medianBlur(grid, 5))


def _known(changed_share: dict[int, float] | None, instance: int) -> float:
    share = NAN if changed_share is None else changed_share.get(instance, NAN)
    return 1.0 if math.isnan(share) else share


def _grown(mask: Mask, cells: int) -> Mask:
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * cells + 1, 2 * cells + 1))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), kernel) > 0)


def _closed(mask: Mask) -> Mask:
    return np.asarray(cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5))) > 0)


def _without_specks(mask: Mask) -> Mask:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    large = stats[:, cv2.CC_STAT_AREA] >= LEAST_CELLS
    large[0] = False
    return np.asarray(large[labels]) if count > 1 else mask
