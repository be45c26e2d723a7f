"""A closer look at a frame in which nothing was found: the network once more, on overlapping parts of the picture, each
enlarged to its input. A parcel that lies alone, small, in a corner of the picture is found with less certainty than one
of many; twice as large in the picture it is found as surely as any.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robin_perception.core.config import StrictConfig
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Instance
from robin_perception.segmentation.decode import Decoded


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


@dataclass(frozen=True)
class Part:
    """A window of a frame, in frame pixels."""

    x: int
    y: int
    width: int
    height: int

    @property
    def window(self) -> tuple[slice, slice]:
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)

    def intrinsics(self, K: NDArray[np.float64]) -> NDArray[np.float64]:
        """K [3, 3] of the frame in the pixels of this part. The principal point may lie outside."""
        moved = K.copy()
        moved[:2, 2] -= (self.x, self.y)
        return moved


def parts(frame: Frame, config: CloserLookConfig) -> tuple[Part, ...]:
    """Four windows, one in each corner of the frame; they overlap where they are larger than half of it."""
    width, height = (max(1, round(config.part * size)) for size in (frame.width, frame.height))
    return tuple(Part(x, y, width, height) for y in (0, frame.height - height) for x in (0, frame.width - width))


def joined(
    frame: Frame, found: Iterable[tuple[Part, Decoded]], plane: NDArray[np.float32], config: CloserLookConfig
) -> tuple[NDArray[np.uint16], tuple[Instance, ...]]:
    """What was found in the parts as label image uint16 [H, W] and instances of the frame, the surest first.

    A mask that ends at a part's inner edge is left out: it is cut there, and another part has the whole of it. plane:
    float32 [4] (n, d) of the belt in camera coordinates, height(P) = n·P + d, metres.
    """
    masks: list[tuple[NDArray[np.bool_], Instance]] = []
    for part, decoded in found:
        for instance in decoded.instances:
            x0, y0, x1, y1 = instance.bbox
            mask = np.asarray(decoded.labels[y0:y1, x0:x1] == instance.id)
            box = (x0 + part.x, y0 + part.y, x1 + part.x, y1 + part.y)
            whole = not _ends_inside(frame, part, box)
            if whole and _height(frame, box, mask, plane) >= config.min_height_m:
                masks.append((mask, replace(instance, bbox=box)))
    masks.sort(key=lambda entry: -entry[1].detection * entry[1].mask_quality)
    labels = np.zeros((frame.height, frame.width), dtype=np.uint16)
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
    return labels, tuple(instances)


def _ends_inside(frame: Frame, part: Part, box: tuple[int, int, int, int]) -> bool:
    """Whether the box, in frame pixels, touches an edge of the part that is not the frame's own."""
    return (
        (box[0] <= part.x and part.x > 0)
        or (box[1] <= part.y and part.y > 0)
        or (box[2] >= part.x + part.width and part.x + part.width < frame.width)
        or (box[3] >= part.y + part.height and part.y + part.height < frame.height)
    )


def _height(frame: Frame, box: tuple[int, int, int, int], mask: NDArray[np.bool_], plane: NDArray[np.float32]) -> float:
    """Median height above the belt of the mask's pixels that have depth, metres; 0 where none has."""
    x0, y0, x1, y1 = box
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
