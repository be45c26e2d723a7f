"""Whether an answer without parcels can be true: what the network saw against what the depth shows.

An empty answer is suspicious where a connected piece of depth stands above the belt. It is not yet wrong: a guide rail
or the robot's arm may stand there. So another engine is asked about the same frame, and the relief of a frame that both
call empty is known from then on: only more of it is asked about again.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_perception.engines.base import Tensors
from robin_perception.model.bundle import CalibrationTables
from robin_perception.supervision.config import SupervisionConfig

STRIDE = 4  # network pixels per cell of the relief
_SQUARE = np.ones((3, 3), np.uint8)


def sees_nothing(answer: Tensors, tables: CalibrationTables, threshold: float) -> bool:
    """No candidate has both a calibrated detection of ``threshold`` and a mask. False where that was not asked for."""
    if "detection" not in answer or "mask_logits" not in answer:
        return False
    likely = np.flatnonzero(tables.detection.apply(answer["detection"]) >= threshold)
    return not any(answer["mask_logits"][i].max() > 0 for i in likely)


def relief(inputs: Tensors, height_m: float) -> NDArray[np.bool_]:
    """Cells whose depth stands ``height_m`` above the belt, single ones (noise) left out; bool [H / 4, W / 4]."""
    depth = inputs["depth"][::STRIDE, ::STRIDE]
    fx, fy, cx, cy = (float(value) for value in inputs["intrinsics"])
    nx, ny, nz, d = (float(value) for value in inputs["belt_plane"])
    x = (np.arange(depth.shape[1]) * STRIDE - cx) / fx
    y = (np.arange(depth.shape[0]) * STRIDE - cy) / fy
    height = depth * (nx * x[None] + ny * y[:, None] + nz) + d
    raised = ((depth > 0) & (height > height_m)).astype(np.uint8)
    return np.asarray(cv2.morphologyEx(raised, cv2.MORPH_OPEN, _SQUARE), dtype=np.bool_)


class EmptyCheck:
    """Remembers which relief is known to be no parcel. Not thread-safe."""

    def __init__(self, config: SupervisionConfig, tables: CalibrationTables) -> None:
        self._config, self._tables = config, tables
        self._known: NDArray[np.bool_] | None = None

    def suspicious(self, inputs: Tensors, answer: Tensors) -> bool:
        """The answer holds no parcel, but the depth shows relief that is not known. Costs next to nothing otherwise."""
        if not self._config.check_empty or not self.empty(answer):
            return False
        raised = relief(inputs, self._config.relief_height_m)
        if self._known is not None:
            raised &= ~self._known
        _, _, stats, _ = cv2.connectedComponentsWithStats(raised.view(np.uint8), connectivity=4)
        largest = int(stats[1:, cv2.CC_STAT_AREA].max(initial=0))
        return largest >= self._config.relief_fraction * raised.size

    def empty(self, answer: Tensors) -> bool:
        return sees_nothing(answer, self._tables, self._config.empty_below)

    def confirm(self, inputs: Tensors) -> None:
        """Another engine sees nothing either: the relief of this frame, with a cell around it, is known from now on."""
        raised = relief(inputs, self._config.relief_height_m).view(np.uint8)
        self._known = np.asarray(cv2.dilate(raised, _SQUARE), dtype=np.bool_)
