"""What colour and depth say of a mask: whether there is a thing with an edge where the network drew one.

Along each mask's outline, samples inside and outside are compared. A sample is an edge where depth makes a step, where
colour does, or where valid depth turns into none (glass, film, black print). A plane is affine in inverse depth over
the pixel grid, so a step is what is left of the difference across the outline when the slopes on both sides are taken
off; neighbouring samples are averaged first, since the noise of one is as large as the step that is looked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_grasp.planner.config import EvidenceConfig
from robin_grasp.planner.surface import Floats, View
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Instance

SAMPLES = 128  # of each outline
NEIGHBOURS = 3  # samples averaged
APART_PX = 4  # between two samples of a row across the outline, working pixels
ACROSS = (-2, -1, 1, 2)  # places of these samples, from inside to outside
LEAST_VALID = 2.0  # samples with depth on both sides among the neighbours
HOLE_STEP = 0.34  # share of valid depth that differs between both sides
LEAST_FREE_SHARE = 0.1  # of the outline that no other parcel touches; with less there is nothing to say
MOST_CUT_SHARE = 0.5  # of the outline, by the picture's margin
ENOUGH_DEPTH = 0.8  # valid depth in a mask that needs none around it
LEAST_DEPTH_AROUND = 0.05


@dataclass(frozen=True)
class Evidence:
    """float64 [I] each. depth: share of the mask with valid depth. depth_around: share of the outline beyond which
    there is any. edge: share of the outline towards the background that is an edge; 1 where other parcels touch nearly
    all of it. cut: share of the outline that the picture's margin cuts."""

    depth: Floats
    depth_around: Floats
    edge: Floats
    cut: Floats

    @property
    def blind(self) -> NDArray[np.bool_]:
        """bool [I]: too little depth in the mask, and none around it."""
        return np.asarray((self.depth < ENOUGH_DEPTH) & (self.depth_around < LEAST_DEPTH_AROUND))

    def edgeless(self, least_share: float) -> NDArray[np.bool_]:
        """bool [I]: less than ``least_share`` of the outline is an edge, or too little of it is in the picture."""
        return np.asarray((self.edge < least_share) | (self.cut > MOST_CUT_SHARE))

    def terms(self, row: int) -> dict[str, float]:
        """What a reject tells of one mask."""
        return {
            "depth_share": float(self.depth[row]),
            "depth_around": float(self.depth_around[row]),
            "edge_share": float(self.edge[row]),
            "cut_share": float(self.cut[row]),
        }


def mask_evidence(frame: Frame, view: View, instances: Sequence[Instance], config: EvidenceConfig) -> Evidence:
    """Evidence of ``instances``. view: made of ``frame``."""
    count = len(instances)
    depth, contour = np.ones(count), np.zeros((count, SAMPLES, 2))
    seen = np.zeros((count, 1), dtype=bool)
    for i, instance in enumerate(instances):
        if (found := _outline(view, instance)) is not None:
            contour[i], depth[i] = found
            seen[i] = True
    rows = _across(view, contour)
    labels = np.where(rows >= 0, view.labels.ravel()[rows], -1)
    ids = np.array([instance.id for instance in instances], dtype=np.int64).reshape(-1, 1)
    crosses = seen & (labels[1] == ids) & (labels[2] != ids) & (labels[2] >= 0)
    free = crosses & (labels[2] == 0)
    edge = _share(_is_edge(frame, view, rows, config), free)
    edge[np.count_nonzero(free, axis=1) < LEAST_FREE_SHARE * SAMPLES] = 1.0
    beyond = np.any(_inverse_depth(view, rows[2:]) > 0, axis=0)
    return Evidence(depth, _share(beyond, crosses), edge, _share(_at_margin(frame, view, contour), seen))


def _outline(view: View, instance: Instance) -> tuple[Floats, float] | None:
    """SAMPLES points [SAMPLES, 2] (u, v) along the mask's longest outline, working pixels, and the mask's share of
    valid depth; None of a mask that is too small to be judged."""
    x0, y0, x1, y1 = view.box(instance.bbox)
    mask = (view.labels[y0:y1, x0:x1] == instance.id).astype(np.uint8)
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not outlines or len(longest := max(outlines, key=len)) < SAMPLES // 2:
        return None
    valid = np.count_nonzero(view.inverse_depth[y0:y1, x0:x1][mask > 0]) / np.count_nonzero(mask)
    rows = np.linspace(0, len(longest), SAMPLES, endpoint=False).astype(np.int64)
    return longest[rows, 0] + np.array([x0, y0], dtype=np.float64), valid


def _across(view: View, contour: Floats) -> NDArray[np.int64]:
    """int64 [4, I, SAMPLES]: flat index of the pixels across the outline, from inside to outside; -1 off the view."""
    h, w = view.shape
    along = np.roll(contour, -2, axis=1) - np.roll(contour, 2, axis=1)
    outwards = np.stack([-along[..., 1], along[..., 0]], axis=-1)  # OpenCV runs down the left side of a mask
    outwards /= np.maximum(np.linalg.norm(outwards, axis=-1, keepdims=True), 1e-9)
    places = np.rint(contour + APART_PX * np.array(ACROSS)[:, None, None, None] * outwards).astype(np.int64)
    u, v = places[..., 0], places[..., 1]
    return np.asarray(np.where((u >= 0) & (u < w) & (v >= 0) & (v < h), v * w + u, -1))


def _is_edge(frame: Frame, view: View, rows: NDArray[np.int64], config: EvidenceConfig) -> NDArray[np.bool_]:
    """bool [I, SAMPLES]: there is a step of depth or of colour, or an end of valid depth."""
    q = _inverse_depth(view, rows)
    valid = q > 0
    known = np.all(valid, axis=0)
    rise = np.where(known, (2 * (q[2] - q[1]) - (q[3] - q[0])) / np.maximum(q[1], 1e-3) ** 2, 0.0)
    count = _smoothed(known)
    step_m = np.abs(_smoothed(rise)) / np.maximum(count, 1.0)
    ends = np.abs(_smoothed(valid[2:].sum(axis=0) - 1.0 * valid[:2].sum(axis=0))) / (2 * NEIGHBOURS)
    change = np.abs(_smoothed(np.diff(_colours(frame, view, rows[1:3]), axis=0)[0])).max(axis=-1) / NEIGHBOURS
    return np.asarray(
        ((count >= LEAST_VALID) & (step_m > config.depth_step_m)) | (ends > HOLE_STEP) | (change > config.colour_step)
    )


def _inverse_depth(view: View, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """1/m, 0 where there is no depth or the view has ended."""
    return np.where(rows >= 0, view.inverse_depth.ravel()[rows], np.float32(0.0))


def _colours(frame: Frame, view: View, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Red, green, blue of 0..255, [..., 3]."""
    w = view.shape[1]
    v, u = (rows // w + view.top) * view.stride, (rows % w + view.left) * view.stride
    return frame.rgb[np.clip(v, 0, frame.height - 1), np.clip(u, 0, frame.width - 1)].astype(np.float32)


def _smoothed(values: NDArray[Any]) -> NDArray[np.float32]:
    """Sums over NEIGHBOURS along closed outlines: [I, SAMPLES, ...]."""
    half = NEIGHBOURS // 2
    return np.asarray(sum(np.roll(values, k, axis=1) for k in range(-half, half + 1)), dtype=np.float32)


def _at_margin(frame: Frame, view: View, contour: Floats) -> NDArray[np.bool_]:
    """bool [I, SAMPLES]: the picture ends there."""
    place = contour + np.array([view.left, view.top])
    far = np.array([frame.width, frame.height]) / view.stride - APART_PX
    return np.asarray(((place < APART_PX) | (place >= far)).any(axis=-1))


def _share(what: NDArray[np.bool_], of: NDArray[np.bool_]) -> Floats:
    """Of the samples in ``of``, per outline; 0 of none."""
    of = np.broadcast_to(of, what.shape)
    return np.asarray((what & of).sum(axis=1) / np.maximum(of.sum(axis=1), 1))
