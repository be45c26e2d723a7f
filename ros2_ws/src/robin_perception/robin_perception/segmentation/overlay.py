"""Pictures of what was seen: masks on colour, depth in colour. Grasps are drawn by those who plan them."""

from __future__ import annotations

import colorsys
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_perception.core.scene import Scene

_GOLDEN = 0.618033988749895
GREY = 255  # labels from here on; 65535 tells nothing


def instance_colour(instance_id: int) -> tuple[int, int, int]:
    """A stable RGB colour per id; neighbours in number are far apart in hue."""
    r, g, b = colorsys.hsv_to_rgb((instance_id * _GOLDEN) % 1.0, 0.75, 1.0)
    return int(r * 255), int(g * 255), int(b * 255)


def draw_masks(rgb: NDArray[np.uint8], scene: Scene, alpha: float = 0.4, names: bool = True) -> NDArray[np.uint8]:
    """rgb uint8 [H,W,3] with each instance tinted, outlined and, with ``names``, marked with id and detection in
    percent.
    """
    picture = draw_labels(rgb, scene.labels, alpha)
    if names:
        scale = max(0.35, rgb.shape[1] / 1600)
        for instance in scene.instances:
            mask = scene.crop(instance)
            if not mask.any():
                continue
            # The innermost pixel: a centroid may lie outside a bent or covered parcel.
            depth_inside = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)
            y, x = np.unravel_index(int(depth_inside.argmax()), depth_inside.shape)
            text = f"{instance.id}:{instance.detection * 100:.0f}"
            at = (instance.bbox[0] + int(x) - int(16 * scale * 2), instance.bbox[1] + int(y) + 4)
            cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), 3, cv2.LINE_AA)
            cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)
    return picture


def draw_labels(rgb: NDArray[np.uint8], labels: NDArray[np.uint16], alpha: float = 0.4) -> NDArray[np.uint8]:
    """rgb uint8 [H,W,3] tinted by a label image; labels from GREY on are grey."""
    # OpenCV lets go of the interpreter's lock, which whoever picks meanwhile needs.
    tint = cv2.applyColorMap(np.minimum(labels, GREY).astype(np.uint8), _colours())
    mask = np.asarray(labels > 0, dtype=np.uint8)
    picture = np.asarray(cv2.copyTo(cv2.addWeighted(rgb, 1 - alpha, tint, alpha, 0), mask, rgb.copy()), dtype=np.uint8)
    edge = np.zeros(labels.shape, dtype=np.uint8)
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edge[1:] |= labels[1:] != labels[:-1]
    cv2.add(picture, np.full(4, 255.0), dst=picture, mask=edge)
    return picture


@cache
def _colours() -> NDArray[np.uint8]:
    """uint8 [256, 1, 3]."""
    table = [instance_colour(number) for number in range(GREY)]
    return np.array([*table, (128, 128, 128)], dtype=np.uint8)[:, None]


def colour_depth(
    depth: NDArray[np.float32], near_m: float | None = None, far_m: float | None = None
) -> NDArray[np.uint8]:
    """uint8 RGB [H,W,3], near is warm, invalid is black. Range defaults to the 2nd to 98th percentile, metres."""
    valid = depth > 0
    if not valid.any():
        return np.zeros((*depth.shape, 3), dtype=np.uint8)
    low, high = np.percentile(depth[valid], (2, 98))
    near = float(low) if near_m is None else near_m
    far = float(high) if far_m is None else far_m
    level = np.clip((far - depth) / max(far - near, 1e-6), 0, 1)
    coloured = cv2.applyColorMap((level * 255).astype(np.uint8), cv2.COLORMAP_TURBO)[:, :, ::-1].copy()
    coloured[~valid] = 0
    return np.asarray(coloured, dtype=np.uint8)
