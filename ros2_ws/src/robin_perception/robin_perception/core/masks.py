"""Shapes of binary images."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def outline(mask: NDArray[np.bool_], rim_px: int) -> NDArray[np.bool_]:
    """The convex outline of all that is set in ``mask`` [H, W], filled and ``rim_px`` wider; nothing of nothing."""
    filled = np.zeros(mask.shape, dtype=np.uint8)
    rows, columns = np.nonzero(mask)
    if len(rows):
        corners = cv2.convexHull(np.stack([columns, rows], axis=1).astype(np.int32))
        cv2.fillConvexPoly(filled, corners, 1)
    return np.asarray(cv2.dilate(filled, np.ones((2 * rim_px + 1, 2 * rim_px + 1), np.uint8)) > 0)
