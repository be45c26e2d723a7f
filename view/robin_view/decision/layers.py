"""What can be laid over the picture of a decision: depth, height, novelty as pictures; scores and edges as SVG."""

from __future__ import annotations

from html import escape

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_adapt.decision import Decision
from edge_adapt.evidence import Evidence
from edge_adapt.report_figures import mask_outline
from edge_adapt.told import NOVELTY_LIMIT
from robin_perception.core.pose import rotation_matrix
from robin_perception.segmentation.overlay import colour_depth, instance_colour

PICTURES = ("depth", "height", "novelty")
HIGHEST_M = 0.6
"""Heights above the belt from here on have one colour."""
_NOVELTY_OPACITY = 200


def layer(evidence: Evidence, name: str) -> NDArray[np.uint8] | None:
    """uint8 [H, W, 3 or 4] of one of PICTURES; None where it was not recorded."""
    if name == "novelty":
        return _novelty(evidence)
    depth = evidence.depth_m("depth")
    if depth is None:
        return None
    return colour_depth(depth) if name == "depth" else _height(depth, evidence.decision)


def _height(depth: NDArray[np.float32], decision: Decision) -> NDArray[np.uint8]:
    """Height of each pixel above z = 0 of base_link: high is warm, no depth is black."""
    frame = decision.frame
    fx, fy, cx, cy = frame.intrinsics
    turn = rotation_matrix(frame.camera_quaternion_xyzw)
    rows, columns = np.indices(depth.shape, dtype=np.float32)
    down = turn[2, 0] * (columns - cx) / fx + turn[2, 1] * (rows - cy) / fy + turn[2, 2]
    height = frame.camera_position_m[2] + down * depth
    level = (np.clip(height / HIGHEST_M, 0.0, 1.0) * 255).astype(np.uint8)
    coloured = np.asarray(cv2.applyColorMap(level, cv2.COLORMAP_TURBO)[:, :, ::-1], dtype=np.uint8).copy()
    coloured[depth <= 0] = 0
    return coloured


def _novelty(evidence: Evidence) -> NDArray[np.uint8] | None:
    """Parcels from green (usual) over the station's limit (yellow) to red (twice that)."""
    labels = evidence.labels()
    known = {seen.id: seen.novelty for seen in evidence.decision.instances if seen.novelty is not None}
    if labels is None or not known:
        return None
    ids = np.array(sorted(known))
    odd = np.clip(np.array([known[int(i)] for i in ids]) / (2 * NOVELTY_LIMIT), 0.0, 1.0)
    table = np.zeros((int(max(ids.max(), labels.max())) + 1, 4), dtype=np.uint8)
    table[ids, 0], table[ids, 1], table[ids, 3] = 255 * np.minimum(2 * odd, 1), 220 * np.minimum(2 - 2 * odd, 1), 255
    table[ids, 3] = _NOVELTY_OPACITY
    return np.asarray(table[labels])


def score_texts(labels: NDArray[np.uint16], decision: Decision) -> str:
    """SVG: id, class and detection in the middle of each mask."""
    parts = []
    size = max(9.0, decision.frame.width / 70)
    for seen in decision.instances:
        x0, y0, x1, y1 = seen.bbox
        mask = (labels[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] == seen.id).astype(np.uint8)
        if not mask.any():
            continue
        far = cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, 3)
        y, x = np.unravel_index(int(far.argmax()), far.shape)
        text = escape(f"{seen.id} {seen.class_name.replace('_', ' ')} {seen.detection:.0%}")
        parts.append(f'<text x="{x0 + int(x)}" y="{y0 + int(y)}" font-size="{size:.0f}">{text}</text>')
    return "".join(parts)


def edge_paths(labels: NDArray[np.uint16], decision: Decision) -> str:
    """SVG: each outline as wide as one sigma of its place to either side, as the network tells it."""
    parts = []
    for seen in decision.instances:
        if not (outline := mask_outline(labels, seen)):
            continue
        red, green, blue = instance_colour(seen.id)
        width = min(max(2 * seen.boundary_uncertainty_px, 0.5), 60.0)
        title = f"parcel {seen.id}: edge known to {seen.boundary_uncertainty_px:.2g} px"
        parts.append(
            f'<path d="{outline}" stroke-width="{width:.1f}" color="rgb({red},{green},{blue})">'
            f"<title>{escape(title)}</title></path>"
        )
    return "".join(parts)
