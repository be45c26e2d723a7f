"""A frame, or a part of one, as the network gets it: scale to fit, centre, pad. Exact both ways, in pixel-centre
coordinates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robin_perception.core.config import StrictConfig
from robin_perception.core.frame import Frame

Inputs = dict[str, NDArray[Any]]  # of the network, by name
_THINNED = 24  # rows and columns of the depth of which one is looked at for the distance
Box = tuple[int, int, int, int]  # x0, y0, x1, y1, half open


@dataclass(frozen=True)
class Letterbox:
    """How a picture of ``frame_size`` stands in an image of ``network_size`` (both width, height in pixels).

    Pixel centres are at integer coordinates, so x_network = (x + 0.5) * scale_x - 0.5 + pad_x. The two scales differ
    only by the rounding of the scaled size to whole pixels.
    """

    frame_size: tuple[int, int]
    network_size: tuple[int, int] = (512, 384)

    @cached_property
    def scaled_size(self) -> tuple[int, int]:
        """Width, height of the picture inside the network's image."""
        (w, h), (nw, nh) = self.frame_size, self.network_size
        scale = min(nw / w, nh / h)
        return min(nw, max(1, round(w * scale))), min(nh, max(1, round(h * scale)))

    @cached_property
    def scale(self) -> NDArray[np.float64]:
        """float64 [2], network pixels per frame pixel in x and y."""
        return np.array(self.scaled_size, dtype=np.float64) / np.array(self.frame_size, dtype=np.float64)

    @cached_property
    def pad(self) -> tuple[int, int]:
        """Left and top padding, network pixels."""
        return (self.network_size[0] - self.scaled_size[0]) // 2, (self.network_size[1] - self.scaled_size[1]) // 2

    def to_network(self, xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points [..., 2] from frame to network pixels."""
        return (xy + 0.5) * self.scale - 0.5 + np.array(self.pad)

    def to_frame(self, xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points [..., 2] from network to frame pixels; inverse of ``to_network``."""
        return (xy - np.array(self.pad) + 0.5) / self.scale - 0.5

    def rgb(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8 [H,W,3] to network size: averaged down, bilinear up, black padding."""
        return self._place(self._resized(image))

    def depth(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [H,W] to network size by the nearest pixel (depths are never mixed), padding 0 = invalid."""
        return self._place(image if self.scaled_size == self.frame_size else image.ravel().take(self._nearest))

    def intrinsics(self, K: NDArray[np.float64]) -> NDArray[np.float32]:
        """fx fy cx cy in network pixels, float32 [4]."""
        centre = self.to_network(np.array([K[0, 2], K[1, 2]]))
        return np.array([K[0, 0] * self.scale[0], K[1, 1] * self.scale[1], centre[0], centre[1]], dtype=np.float32)

    @cached_property
    def _nearest(self) -> NDArray[np.intp]:
        """Flat index [h, w] of the frame pixel that is nearest to each pixel of the scaled picture."""
        (nw, nh), (w, h) = self.scaled_size, self.frame_size
        columns = ((np.arange(nw) + 0.5) / self.scale[0]).astype(np.intp).clip(0, w - 1)
        rows = ((np.arange(nh) + 0.5) / self.scale[1]).astype(np.intp).clip(0, h - 1)
        return np.asarray(rows[:, None] * w + columns)

    def _resized(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Down by a whole number first, as an area average, and bilinear for the rest: an area average of broken steps
        takes seven times as long and segments no better."""
        if self.scaled_size == self.frame_size:
            return image
        whole = min(f // s for f, s in zip(self.frame_size, self.scaled_size, strict=True))
        if whole >= 2:
            size = (self.frame_size[0] // whole, self.frame_size[1] // whole)
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
        return np.asarray(cv2.resize(image, self.scaled_size, interpolation=cv2.INTER_LINEAR))

    def _place(self, image: NDArray[Any]) -> NDArray[Any]:
        if self.scaled_size == self.network_size:
            return np.ascontiguousarray(image)
        (w, h), (px, py) = self.scaled_size, self.pad
        canvas = np.zeros((self.network_size[1], self.network_size[0], *image.shape[2:]), dtype=image.dtype)
        canvas[py : py + h, px : px + w] = image
        return canvas


@lru_cache(maxsize=32)
def letterbox(frame_size: tuple[int, int], network_size: tuple[int, int]) -> Letterbox:
    """The letterbox of these sizes, width and height, kept with its tables."""
    return Letterbox(frame_size, network_size)


class NearConfig(StrictConfig):
    """A camera nearer than those of the training: the network is shown the same picture of a scene that is larger and
    as much farther away, of a size that it knows."""

    below_m: float = Field(
        0.68, ge=0, le=5, description="Median depth below which a frame is shown as if from usual_m; 0: never, m."
    )
    usual_m: float = Field(0.9, gt=0, le=5, description="Median depth that such a frame is shown with, m.")

    def scale(self, frame: Frame) -> float:
        """What depth is multiplied by for the network; 1 for frames from farther away."""
        thinned = frame.depth[_THINNED // 2 :: _THINNED, _THINNED // 2 :: _THINNED]
        seen = thinned[thinned > 0]
        median = float(np.median(seen)) if len(seen) else math.inf
        return max(1.0, self.usual_m / median) if median < self.below_m else 1.0


@dataclass(frozen=True)
class View:
    """A frame, or a window of it with its upper left pixel at (x, y), in the network's image.

    box: how it stands there; the window's size is ``box.frame_size``. belt_plane: float32 [4] (n, d) of the belt in
    camera coordinates, height(P) = n·P + d, metres. scale: how many times larger the network sees all lengths.
    """

    frame: Frame
    x: int
    y: int
    box: Letterbox
    belt_plane: NDArray[np.float32]
    scale: float = 1.0

    @staticmethod
    def of(frame: Frame, network_size: tuple[int, int], belt_z_m: float, scale: float = 1.0) -> View:
        """The whole frame. network_size: width, height."""
        box = letterbox((frame.width, frame.height), network_size)
        return View(frame, 0, 0, box, frame.belt_plane(belt_z_m), scale)

    def corners(self, share: float) -> tuple[View, ...]:
        """Four views, one in each corner of the frame, of ``share`` of its width and height."""
        frame = self.frame
        width, height = (max(1, round(share * size)) for size in (frame.width, frame.height))
        box = letterbox((width, height), self.box.network_size)
        places = ((x, y) for y in (0, frame.height - height) for x in (0, frame.width - width))
        return tuple(View(frame, x, y, box, self.belt_plane, self.scale) for x, y in places)

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the frame."""
        width, height = self.box.frame_size
        return slice(self.y, self.y + height), slice(self.x, self.x + width)

    @property
    def whole(self) -> bool:
        """Whether it shows all of the frame."""
        return self.box.frame_size == (self.frame.width, self.frame.height)

    @cached_property
    def images(self) -> Inputs:
        """The picture at the network's size, depth in metres as the camera saw it."""
        frame, there = self.frame, self.window
        return {"rgb": self.box.rgb(frame.rgb[there]), "depth": self.box.depth(frame.depth[there])}

    @property
    def intrinsics(self) -> NDArray[np.float64]:
        """K of the window's own pixels; the principal point may lie outside."""
        moved = self.frame.K.copy()
        moved[:2, 2] -= (self.x, self.y)
        return moved

    @cached_property
    def geometry(self) -> Inputs:
        """The network's intrinsics and belt_plane."""
        plane = self.belt_plane * np.array([1, 1, 1, self.scale], dtype=np.float32)
        return {"intrinsics": self.box.intrinsics(self.intrinsics), "belt_plane": plane}

    @property
    def inputs(self) -> Inputs:
        """All that the network gets beside its head."""
        inputs = {**self.images, **self.geometry}
        if self.scale != 1.0:
            inputs["depth"] = inputs["depth"] * np.float32(self.scale)
        return inputs

    def in_frame(self, box: Box) -> Box:
        """A box in pixels of this view, in pixels of the frame."""
        return box[0] + self.x, box[1] + self.y, box[2] + self.x, box[3] + self.y

    def cuts(self, box: Box) -> bool:
        """Whether a box, in pixels of the frame, touches an edge of this view that is not the frame's own."""
        rows, columns = self.window
        return (
            (box[0] <= columns.start and columns.start > 0)
            or (box[1] <= rows.start and rows.start > 0)
            or (box[2] >= columns.stop and columns.stop < self.frame.width)
            or (box[3] >= rows.stop and rows.stop < self.frame.height)
        )
