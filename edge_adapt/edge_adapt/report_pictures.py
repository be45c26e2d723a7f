"""Pictures of a card by name, as pixels: for a report that holds them and for a server that is asked for them."""

from __future__ import annotations

import re

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_adapt.decision import Decision
from edge_adapt.evidence import RGB, Evidence
from robin_perception.segmentation.overlay import colour_depth

CROP_MARGIN_PX = 12
LOAD_MARGIN_PX = 30
PARCEL = "parcel-{}"
"""Name of the picture of one parcel alone."""
CHOSEN = "chosen"
"""The same of the chosen one."""
_PARCEL = re.compile(r"parcel-(\d{1,5})")


def picture(evidence: Evidence, name: str) -> RGB | None:
    """uint8 [H, W, 3]. name: as ``Evidence.has`` knows it, or of one parcel; depth comes in colours, the load is cut
    to what hangs there. None where there is none."""
    if name in ("load", "load_depth"):
        return _load(evidence, name)
    if name.endswith("depth"):
        return _depth(evidence, name)
    parcel = _parcel(evidence.decision, name)
    return evidence.rgb(name) if parcel is None else _crop(evidence, parcel)


def has_picture(evidence: Evidence, name: str) -> bool:
    parcel = _parcel(evidence.decision, name)
    if parcel is None:
        return evidence.has(name)
    return evidence.has("color") and _box(evidence.decision, parcel) is not None


def _parcel(decision: Decision, name: str) -> int | None:
    """The parcel that such a picture is of; None for pictures of other things."""
    if name == CHOSEN:
        return decision.chosen.instance if decision.chosen is not None else -1
    found = _PARCEL.fullmatch(name)
    return int(found[1]) if found else None


def _depth(evidence: Evidence, name: str) -> RGB | None:
    depth = evidence.depth_m(name)
    return None if depth is None else colour_depth(depth)


def _crop(evidence: Evidence, parcel: int) -> RGB | None:
    box, rgb = _box(evidence.decision, parcel), evidence.rgb("color")
    if box is None or rgb is None:
        return None
    x0, y0, x1, y1 = box
    m = CROP_MARGIN_PX
    cut = rgb[max(0, y0 - m) : max(0, y1 + m), max(0, x0 - m) : max(0, x1 + m)]
    return np.ascontiguousarray(cut) if cut.size else None


def _box(decision: Decision, parcel: int) -> tuple[int, int, int, int] | None:
    return next((seen.bbox for seen in decision.instances if seen.id == parcel), None)


def _load(evidence: Evidence, name: str) -> RGB | None:
    """Cut to what hangs there: the rest of the picture is dark."""
    rgb, depth = evidence.rgb("load"), _depth(evidence, "load_depth")
    found = rgb if name == "load" else depth
    if found is None or depth is None or depth.shape != found.shape:
        return found
    return np.ascontiguousarray(found[_window(depth)])


def _window(depth: NDArray[np.uint8]) -> tuple[slice, slice]:
    """What is not black, without single pixels of noise, with a margin, as a picture of four by three."""
    height, width = depth.shape[:2]
    lit = np.asarray(depth.any(axis=2), dtype=np.uint8)
    seen = cv2.morphologyEx(lit, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    v, u = np.nonzero(seen)
    if not len(v):
        return slice(0, height), slice(0, width)
    half_x = max(u.max() - u.min(), 4 * (v.max() - v.min()) / 3) // 2 + LOAD_MARGIN_PX
    half_y = 3 * half_x // 4
    x, y = (u.max() + u.min()) // 2, (v.max() + v.min()) // 2
    x0, y0 = int(max(0, x - half_x)), int(max(0, y - half_y))
    return slice(y0, int(y + half_y)), slice(x0, int(x + half_x))
