"""A closer look at a frame in which nothing was found: the network once more, on overlapping parts of the picture, each
enlarged to its input. A parcel that lies alone, small, in a corner of the picture is found with less certainty than one
of many; twice as large in the picture it is found as surely as any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robin_perception.core.config import StrictConfig
from robin_perception.core.scene import Instance
from robin_perception.segmentation.decode import Decoded
from robin_perception.segmentation.view import Box, View


class CloserLookConfig(StrictConfig):
    """A second look, where nothing was found in the whole picture."""

    enabled: bool = Field(
        True, description="Look again, at four parts of the picture, where nothing was found in the whole of it."
    )
    part: float = Field(0.6, ge=0.5, le=0.9, description="Width and height of a part as shares of the picture's.")
    min_height_m: float = Field(0.005, ge=0, le=0.2, description="median over the mask")
    most_shared: float = Field(
        0.3, ge=0, le=1, description="Of two masks that share more than this of the smaller, one goes."
    )


def joined(found: Sequence[tuple[View, Decoded]], config: CloserLookConfig) -> Decoded:
    """What was found in the views of one frame, in pixels of that frame and without rows of tensors, the surest first.

    A mask that ends at a view's inner edge is left out: it is cut there, and another view has the whole of it.
    """
    masks: list[tuple[NDArray[np.bool_], Instance]] = []
    for view, decoded in found:
        for instance in decoded.instances:
            x0, y0, x1, y1 = instance.bbox
            mask, box = np.asarray(decoded.labels[y0:y1, x0:x1] == instance.id), view.in_frame(instance.bbox)
            if not view.cuts(box) and _height(view, box, mask) >= config.min_height_m:
                masks.append((mask, replace(instance, bbox=box)))
    masks.sort(key=lambda entry: -entry[1].detection * entry[1].mask_quality)
    labels = np.zeros(found[0][0].frame.depth.shape, dtype=np.uint16)
    instances: list[Instance] = []
    for mask, instance in masks:
        x0, y0, x1, y1 = instance.bbox
        there = labels[y0:y1, x0:x1]
        areas = {other.id: min(other.area_px, instance.area_px) for other in instances}
        shared = np.bincount(there[mask], minlength=len(instances) + 1)
        if any(shared[number] > config.most_shared * area for number, area in areas.items()):
            continue
        own = mask & (there == 0)
        there[own] = len(instances) + 1
        instances.append(_fitted(instance, own, len(instances) + 1))
    return Decoded(labels, tuple(instances), (), truncated=False)


def _height(view: View, box: Box, mask: NDArray[np.bool_]) -> float:
    """Median height above the belt of the mask's pixels that have depth, metres; 0 where none has."""
    (x0, y0, x1, y1), frame, plane = box, view.frame, view.belt_plane
    depth = frame.depth[y0:y1, x0:x1]
    ys, xs = np.nonzero(mask & (depth > 0))
    if not len(ys):
        return 0.0
    u, v = (xs + x0 - frame.K[0, 2]) / frame.K[0, 0], (ys + y0 - frame.K[1, 2]) / frame.K[1, 1]
    return float(np.median(depth[ys, xs] * (plane[0] * u + plane[1] * v + plane[2]) + plane[3]))


def _fitted(instance: Instance, own: NDArray[np.bool_], number: int) -> Instance:
    """The instance with a box and an area that fit ``own``, the part of its mask that it keeps."""
    x, y, width, height = cv2.boundingRect(own.view(np.uint8))
    left, top = instance.bbox[0] + x, instance.bbox[1] + y
    box = (left, top, left + width, top + height)
    return replace(instance, id=number, bbox=box, area_px=int(np.count_nonzero(own)))
