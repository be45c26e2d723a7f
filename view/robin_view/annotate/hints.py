"""What a frame shows of where one parcel ends: the network's boundary map and all of its proposals, depth, colour."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_perception.core.frame import Frame
from robin_perception.segmentation.decode import calibrated, windows
from robin_perception.segmentation.mask_grid import mask_grid
from robin_perception.segmentation.refine import refined
from robin_perception.segmentation.segmenter import Look, Segmenter

_BOUNDARY, _DEPTH, _COLOUR = 60.0, 10.0, 2.0
"""What crossing a pixel costs that is an edge for sure, in pixels of plain way, beside the network's boundary map."""
_DEPTH_ALONE, _COLOUR_ALONE = 60.0, 12.0
_STEP_M = 0.012  # of depth between neighbours that is an edge for sure
_CONTRAST = 48.0  # of colour (CIELAB) between neighbours that is one
_LEAST_SCORE = 0.02


@dataclass(frozen=True)
class Found:
    """One of the network's proposals, also of those that it would not say aloud. score: P(one parcel) x expected IoU.
    mask: bool [H, W]."""

    score: float
    class_name: str
    visible_fraction: float
    mask: NDArray[np.bool_]


class Hints(Protocol):
    """cost: float32 [H, W] of crossing each pixel, 1 where nothing is to be seen."""

    @property
    def cost(self) -> NDArray[np.float32]: ...

    def at(self, x: int, y: int) -> list[Found]:
        """Proposals that hold a pixel, the likeliest first."""


class PlainHints:
    """Of depth and colour alone, where no model is at hand."""

    def __init__(self, frame: Frame, boundary: NDArray[np.float32] | None = None) -> None:
        """boundary: as ``Scene.boundary``."""
        self._frame, self._boundary = frame, boundary

    @cached_property
    def cost(self) -> NDArray[np.float32]:
        steps, contrast = depth_edges(self._frame.depth), colour_edges(self._frame.rgb)
        if self._boundary is None:
            return 1.0 + _DEPTH_ALONE * steps + _COLOUR_ALONE * contrast
        size = self._frame.width, self._frame.height
        boundary = np.asarray(cv2.resize(self._boundary, size, interpolation=cv2.INTER_LINEAR), dtype=np.float32)
        return 1.0 + _BOUNDARY * boundary + _DEPTH * steps + _COLOUR * contrast

    def at(self, x: int, y: int) -> list[Found]:
        return []


class NetworkHints(PlainHints):
    """Of one run of the network on the frame; ``look`` holds its tensors."""

    def __init__(self, frame: Frame, boundary: NDArray[np.float32], look: Look, segmenter: Segmenter) -> None:
        super().__init__(frame, boundary)
        manifest = segmenter.bundle.manifest
        self._look, self._classes = look, manifest.classes
        self._scores = calibrated(look.tensors, manifest.calibration)
        stride = manifest.input_height // look.tensors["mask_logits"].shape[1]
        self._grid = mask_grid(look.view.box, stride, manifest.calibration.mask_shift_px)

    @staticmethod
    def of(frame: Frame, segmenter: Segmenter) -> NetworkHints:
        """Raises RobinError as ``Segmenter.analyse``."""
        scene, look = segmenter.analyse(frame)
        return NetworkHints(frame, scene.boundary, look, segmenter)

    def at(self, x: int, y: int) -> list[Found]:
        rank, (down, across) = self._scores.rank, self._cell(x, y)
        there = self._look.tensors["mask_logits"][:, down, across] > 0
        rows = [int(row) for row in np.argsort(-rank) if rank[row] >= _LEAST_SCORE and there[row]]
        return [one for row in rows if (one := self._found(row)).mask[y, x]]

    def _cell(self, x: int, y: int) -> tuple[int, int]:
        network = self._look.view.box.to_network(np.array([x, y], dtype=np.float64))
        column, row = ((network + 0.5) / self._grid.stride).astype(int)
        height, width = self._look.tensors["mask_logits"].shape[1:]
        return min(max(int(row), 0), height - 1), min(max(int(column), 0), width - 1)

    def _found(self, row: int) -> Found:
        if row not in self._known:
            scores, names = self._scores, self._classes
            name = names[int(scores.class_probabilities[row].argmax())]
            visible, score = float(scores.visible_fraction[row]), float(scores.rank[row])
            self._known[row] = Found(score, name, visible, self._mask(row))
        return self._known[row]

    @cached_property
    def _known(self) -> dict[int, Found]:
        return {}

    def _mask(self, row: int) -> NDArray[np.bool_]:
        """At frame pixels, its edges brought to those of the picture as those of instances are."""
        logits = self._look.tensors["mask_logits"][row]
        (window,) = windows(logits[None] > 0)
        crop, grid = (logits[window[0] : window[1], window[2] : window[3]], window), self._grid
        if self._look.guide is not None:
            (crop,), grid = refined(self._look.guide, [crop], grid), mask_grid(grid.box, 1)
        values, pixels = grid.enlarge(*crop)
        mask = np.zeros(self._frame.depth.shape, dtype=bool)
        mask[pixels] = values > 0
        return mask


def depth_edges(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """[H, W], 1 where neighbours differ by a step of a parcel's thickness. depth: metres, 0 unknown: no edge."""
    filled = cv2.medianBlur(depth, 5)
    steps = np.zeros_like(filled)
    for axis in (0, 1):
        one, other = filled.take(range(filled.shape[axis] - 1), axis), filled.take(range(1, filled.shape[axis]), axis)
        step = np.where((one > 0) & (other > 0), np.abs(one - other), 0.0)
        steps = np.maximum(steps, np.pad(step, [(0, int(axis == 0)), (0, int(axis == 1))]))
    return np.minimum(steps / np.float32(_STEP_M), 1.0).astype(np.float32)


def colour_edges(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """[H, W], 1 where neighbours differ as two goods do."""
    lab = cv2.GaussianBlur(cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB), (3, 3), 0).astype(np.float32)
    across, down = cv2.Sobel(lab, cv2.CV_32F, 1, 0), cv2.Sobel(lab, cv2.CV_32F, 0, 1)
    contrast = np.sqrt((across**2 + down**2).sum(axis=2)) / 4.0
    return np.minimum(contrast / np.float32(_CONTRAST), 1.0).astype(np.float32)
