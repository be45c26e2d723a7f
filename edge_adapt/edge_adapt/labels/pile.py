"""Backwards through a pile: what was taken later, and had not moved, had the same mask in the frames before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_adapt.labels.evidence import Mask, gone_evidence
from edge_adapt.labels.label import LabelConfig, MaskLabel, Origin, PickLabel
from edge_adapt.labels.pick_label import LEAST_PX, SeenPick, edge_band, label_pick, signed_distance
from robin_grasp.picks.change_features import frame_misfit
from robin_perception.core.frame import Frame

COVER_PX = 5  # around what lay on top: its edge is known to some pixels only
RIM_PX = 6  # along a parcel's edge, where a move shows first


@dataclass(frozen=True)
class FrameLabels:
    """One frame of a pile, as later picks tell it. labels: uint16 [H, W], 1 + place in ``parcels``; 0: background where
    it is not ignored. ignore: bool [H, W], unknown. parcels: the labels, by the pick that gave each."""

    labels: NDArray[np.uint16]
    ignore: Mask
    parcels: Mapping[int, MaskLabel]


class PileLabels:
    """The picks of one pile, in order. Keeps the frame and the label of each. Not thread-safe."""

    def __init__(self, config: LabelConfig | None = None) -> None:
        self._config = config or LabelConfig()
        self._labels: list[PickLabel] = []
        self._frames: list[Frame] = []

    def add(self, pick: SeenPick) -> PickLabel:
        """The label of this pick, which goes into those of the frames before too."""
        label = label_pick(pick, self._config)
        self._labels.append(label)
        self._frames.append(pick.before)
        return label

    def of_frame(self, number: int, emptied: Frame | None = None) -> FrameLabels:
        """The frame before pick ``number`` (from 0). emptied: the empty surface after the last pick, which is the truth
        about background; None: all that no label tells is ignored. Raises IndexError."""
        if not 0 <= number < len(self._labels):
            raise IndexError(f"pick {number} of {len(self._labels)}")
        frame = self._frames[number]
        labels = np.zeros(frame.depth.shape, dtype=np.uint16)
        edges = np.zeros(labels.shape, dtype=bool)
        parcels: dict[int, MaskLabel] = {}
        for pick in range(number, len(self._labels)):
            label = self._carried(pick, number, labels > 0)
            if label is not None:
                parcels[pick] = label
                labels[label.mask] = len(parcels)
                edges |= label.ignore
        background = np.zeros(labels.shape, dtype=bool)
        if emptied is not None:
            background = ~changed_between(frame, emptied) & (labels == 0)
        return FrameLabels(labels, edges | ((labels == 0) & ~background), parcels)

    def _carried(self, pick: int, number: int, covered: Mask) -> MaskLabel | None:
        """A pick's label in the frame of pick ``number``. covered: what labels of picks in between show there. None
        where it has none, moved, or too little of it is seen."""
        label = self._labels[pick]
        if not isinstance(label, MaskLabel) or pick == number:
            return label if isinstance(label, MaskLabel) else None
        changed = changed_between(self._frames[number], self._frames[pick])
        free = label.mask & ~_grown(covered, COVER_PX)
        rim = free & (signed_distance(label.mask) <= RIM_PX)
        moved = _share(changed, free)
        if int(free.sum()) < LEAST_PX:
            return None
        if moved > self._config.most_moved or _share(changed, rim) > 2 * self._config.most_moved:
            return None
        mask = label.mask & ~covered & ~(changed & free)
        mask = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0
        if int(mask.sum()) < LEAST_PX:
            return None
        ignore = edge_band(mask, self._config.band_px) | (label.mask & changed & free)
        return MaskLabel(mask, ignore, label.confidence * (1 - moved), Origin.EARLIER, label.stamp_s)


def changed_between(before: Frame, after: Frame) -> Mask:
    """Where two frames do not show the same, bool [H, W], without specks; everywhere, where they cannot be compared."""
    everywhere = np.ones(before.depth.shape, dtype=bool)
    if frame_misfit(before, after):
        return everywhere
    changed = (gone_evidence(before, after, everywhere) > 0).astype(np.uint8)
    return np.asarray(cv2.morphologyEx(changed, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0)


def _grown(mask: Mask, radius_px: int) -> Mask:
    return np.asarray(cv2.dilate(mask.astype(np.uint8), np.ones((2 * radius_px + 1,) * 2, np.uint8)) > 0)


def _share(values: Mask, members: Mask) -> float:
    return float(values[members].mean()) if members.any() else 0.0
