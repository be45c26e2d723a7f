"""Masks between a browser and us: run lengths as COCO writes them, beside the picture's size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_adapt.store.runs import decode_labels, encode_labels
from robin_perception.core.errors import Code, RobinError


def coded_masks(labels: NDArray[np.uint16]) -> dict[str, Any]:
    """{"height", "width", "counts": {id: text}} of labels uint16 [H, W]; ``static/masks.js`` reads it."""
    height, width = labels.shape
    return {"height": height, "width": width, "counts": {str(i): text for i, text in encode_labels(labels).items()}}


def decoded_masks(values: Mapping[str, Any]) -> NDArray[np.uint16]:
    """uint16 [H, W] of what ``coded_masks`` makes. Raises RobinError RECORD_INVALID."""
    try:
        counts = {int(label): str(text) for label, text in values["counts"].items()}
        if any(not 0 < label < 65_536 for label in counts):
            raise ValueError("an id is none of 1 to 65535")
        return decode_labels(int(values["height"]), int(values["width"]), counts)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as exc:
        raise RobinError(Code.RECORD_INVALID, f"masks: {exc}") from None
