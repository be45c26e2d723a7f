"""The scene as a perfect segmenter would report it, from the renderer's truth. For comparison runs only."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_perception.core.scene import Instance, Scene
from robin_sim.model import KINDS, Pile, RenderedView

ORACLE_MODEL_ID = "oracle"
MIN_VISIBLE_PX = 80  # at 512 x 384, as in the labels of the training scenes
EMBEDDING_SIZE = 16
BOUNDARY_STRIDE = 4


def oracle_scene(pile: Pile, view: RenderedView, stamp_s: float = 0.0) -> Scene:
    """Scene of the truly visible masks: every score 1, visible fraction as rendered, ids 1.. in parcel order.

    view: at frame size. Parcels with fewer visible pixels than MIN_VISIBLE_PX (scaled to the frame's size) are left
    out, as they are ignored in the labels that the network learns from.
    """
    height, width = view.labels.shape
    least_px = MIN_VISIBLE_PX * (height * width) / (512 * 384)
    counts = np.bincount(view.labels.ravel(), minlength=len(pile.parcels) + 1)
    kept = [i for i in range(len(pile.parcels)) if counts[i + 1] >= least_px]
    new_id = np.zeros(len(counts), dtype=np.uint16)
    for number, index in enumerate(kept, start=1):
        new_id[index + 1] = number
    labels = new_id[view.labels]
    names = (*KINDS, *sorted({parcel.own_kind for parcel in pile.parcels} - {""}))
    kinds = [names.index(parcel.kind_name) for parcel in pile.parcels]
    instances = tuple(
        _instance(number, labels, kinds[index], len(names), float(view.visible_fraction[index]))
        for number, index in enumerate(kept, start=1)
    )
    flags = ("oracle_masks",)
    return Scene(stamp_s, ORACLE_MODEL_ID, labels, instances, _boundary(labels), flags, class_names=names)


def _instance(number: int, labels: NDArray[np.uint16], kind: int, kinds: int, visible_fraction: float) -> Instance:
    mask = (labels == number).astype(np.uint8)
    x, y, w, h = cv2.boundingRect(mask)
    probabilities = np.zeros(kinds, dtype=np.float32)
    embedding = np.zeros(EMBEDDING_SIZE, dtype=np.float32)
    probabilities[kind] = embedding[kind % EMBEDDING_SIZE] = 1.0
    return Instance(
        id=number,
        bbox=(x, y, x + w, y + h),
        area_px=int(mask.sum()),
        class_probabilities=probabilities,
        detection=1.0,
        mask_quality=1.0,
        visible_fraction=visible_fraction,
        boundary_uncertainty_px=0.5,
        embedding=embedding,
    )


def _boundary(labels: NDArray[np.uint16]) -> NDArray[np.float32]:
    """1 where a parcel's edge runs through a cell of the mask grid, else 0: float32 [H/4, W/4]."""
    edge = np.zeros(labels.shape, dtype=np.float32)
    edge[:, 1:] = labels[:, 1:] != labels[:, :-1]
    edge[1:, :] = np.maximum(edge[1:, :], labels[1:, :] != labels[:-1, :])
    h, w = (size // BOUNDARY_STRIDE for size in labels.shape)
    cropped = edge[: h * BOUNDARY_STRIDE, : w * BOUNDARY_STRIDE]
    cells = cropped.reshape(h, BOUNDARY_STRIDE, w, BOUNDARY_STRIDE).max(axis=(1, 3))
    return np.asarray(cells, dtype=np.float32)


def dominant_parcel(view: RenderedView, mask: NDArray[np.bool_]) -> int:
    """Index of the parcel that most pixels of ``mask`` [H, W] truly show, or -1 when most of them show no parcel."""
    seen = view.labels[mask]
    if seen.size == 0:
        return -1
    return int(np.bincount(seen).argmax()) - 1
