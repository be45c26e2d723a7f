"""Quick look at how far training is: masks of a few held-out scenes against their labels, at the mask grid."""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from edge_adapt.training.data import IGNORE, TrainingScene
from edge_adapt.training.head import STRIDE_DETAIL, STRIDE_PEAK, expand_kernels, grid_coordinates, mask_planes
from edge_adapt.training.network import SegmentationNetwork
from edge_adapt.training.targets import collate

_DETECTION = 0.3
_LIMIT = 100
_DUPLICATE_SHARE = 0.5
_MIN_CELLS = 5


@torch.no_grad()
def predict_labels(network: SegmentationNetwork, scene: TrainingScene) -> tuple[NDArray[np.int32], list[float]]:
    """Label image int32 [96,128] (0 background, i+1 the i-th best peak) and the detections, best first."""
    batch = collate([scene], 0, np.random.default_rng(0), jitter=False)
    outputs = network(batch.rgb, batch.depth, batch.intrinsics, batch.belt_plane)
    heat = torch.sigmoid(outputs.heat[0])
    heat = (heat * (heat >= F.max_pool2d(heat, 3, 1, 1))).flatten()
    detection, cells = heat.topk(_LIMIT)
    cells = cells[detection > _DETECTION]
    shape = outputs.boundary.shape[-2:]
    if len(cells) == 0:
        return np.zeros(shape, dtype=np.int32), []
    points = network.head.points(outputs.stride8[0].flatten(1).T[cells])
    kernels = expand_kernels(points.kernel, grid_coordinates(STRIDE_PEAK).T[cells])
    planes = mask_planes(
        outputs.mask_features[0].flatten(1), outputs.offset[0].flatten(1), grid_coordinates(STRIDE_DETAIL)
    )
    labels = paint(torch.sigmoid(kernels @ planes), torch.sigmoid(points.quality) * detection[: len(cells)])
    return labels.reshape(shape), [float(d) for d in detection[: len(cells)]]


def paint(masks: Tensor, order: Tensor) -> NDArray[np.int32]:
    """Best first; a mask that lies mostly on painted ground is a duplicate and left out."""
    labels = np.zeros(masks.shape[1], dtype=np.int32)
    for index in torch.argsort(order, descending=True).tolist():
        mask = masks[index].numpy() > 0.5
        free = mask & (labels == 0)
        if free.sum() >= max(_MIN_CELLS, _DUPLICATE_SHARE * mask.sum()):
            labels[free] = index + 1
    return labels


def overlaps(predicted: NDArray[np.int32], truth: NDArray[np.uint8]) -> NDArray[np.float64]:
    """IoU [truth parcels, predicted] outside of ignored cells."""
    kept = truth != IGNORE
    found, names = predicted[kept], truth[kept]
    ids_truth = [int(i) for i in np.unique(names) if i]
    ids_found = [int(i) for i in np.unique(found) if i]
    result = np.zeros((len(ids_truth), len(ids_found)))
    for row, t in enumerate(ids_truth):
        for column, f in enumerate(ids_found):
            both = int(np.count_nonzero((names == t) & (found == f)))
            result[row, column] = both / max(1, int(np.count_nonzero((names == t) | (found == f))))
    return result


def validate(network: SegmentationNetwork, scenes: list[TrainingScene]) -> dict[str, float]:
    """mean_iou: over true parcels, of the best IoU; recall50, recall75; precision50: predicted with a match >= .5."""
    network.eval()
    best: list[float] = []
    matched: list[float] = []
    for scene in scenes:
        predicted, _ = predict_labels(network, scene)
        truth = collate([scene], 0, np.random.default_rng(0), jitter=False).labels[0].numpy()[1::2, 1::2]
        iou = overlaps(predicted, truth)
        best += iou.max(axis=1, initial=0).tolist()
        matched += iou.max(axis=0, initial=0).tolist()
    best_array, matched_array = np.array(best or [0.0]), np.array(matched or [0.0])
    return {
        "mean_iou": round(float(best_array.mean()), 4),
        "recall50": round(float((best_array >= 0.5).mean()), 4),
        "recall75": round(float((best_array >= 0.75).mean()), 4),
        "precision50": round(float((matched_array >= 0.5).mean()), 4),
    }


def picture(network: SegmentationNetwork, scene: TrainingScene) -> NDArray[np.uint8]:
    """Colour image, truth and prediction side by side, RGB uint8 [384, 1536, 3]."""
    network.eval()
    predicted, _ = predict_labels(network, scene)
    palette = np.random.default_rng(1).integers(60, 255, size=(256, 3), dtype=np.uint8)
    palette[0] = 0
    palette[IGNORE] = 40
    size = (scene.rgb.shape[1], scene.rgb.shape[0])
    wide = cv2.resize(predicted.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    panels = [scene.rgb, *((scene.rgb // 3 + palette[labels] // 3 * 2) for labels in (scene.labels, wide))]
    return np.concatenate(panels, axis=1)
