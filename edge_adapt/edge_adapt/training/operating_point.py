"""Scores of a taught head, brought back to the factory's scale: on known scenes as many peaks lie above each calibrated
score as did before.

No label is needed, and since both heads see the same scenes there is next to no noise. Without it a head that learned
what is background passes over the covered parcels of known scenes, whose peaks are low.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_adapt.training.features import Maps
from edge_adapt.training.geometry import NETWORK_HEIGHT, NETWORK_WIDTH
from edge_adapt.training.head import STRIDE_PEAK
from robin_perception.model.bundle import CalibrationTables, IsotonicTable

Weights = Mapping[str, NDArray[np.float32]]
_GRID = (NETWORK_HEIGHT // STRIDE_PEAK, NETWORK_WIDTH // STRIDE_PEAK)
_NEIGHBOURS = np.ones((3, 3), dtype=np.uint8)


def peak_scores(head: Weights, maps: Maps) -> NDArray[np.float64]:
    """Raw detection scores of all peaks of the frames, falling: what the graph finds before the best are taken."""
    found = []
    for features in maps.stride8:
        hidden = np.maximum(head["head.heat1.weight"] @ features + head["head.heat1.bias"][:, None], 0)
        heat = (head["head.heat2.weight"] @ hidden + head["head.heat2.bias"][:, None]).reshape(_GRID)
        found.append(heat[heat >= cv2.dilate(heat, _NEIGHBOURS)])
    logits = np.concatenate(found).astype(np.float64)
    return np.asarray(-np.sort(-1 / (1 + np.exp(-logits))))


def rescaled(tables: CalibrationTables, before: Weights, after: Weights, core: Maps) -> CalibrationTables:
    """``tables``, which are those of the head ``before``, for the head ``after``. core: features of known scenes."""
    old, new = peak_scores(before, core), peak_scores(after, core)
    count = min(len(old), len(new))
    old, new = (np.concatenate(([0.0], scores[:count][::-1], [1.0])) for scores in (old, new))
    knots = np.maximum.accumulate(np.interp(tables.detection.x, old, new))
    table = IsotonicTable(x=tuple(knots.tolist()), y=tables.detection.y)
    return tables.model_copy(update={"detection": table})
