"""How the chosen parcel of a sample looks, and which earlier sample shows nearly the same.

Robots send pictures and masks, and no figures of looks: those are measured here, as the robot's own novelty does it
(``robin_perception/novelty/appearance.py``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_adapt.store.sample import StoredSample
from robin_perception.core.errors import RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Instance, Scene
from robin_perception.novelty.appearance import appearance, skin_maps
from robin_perception.segmentation.view import View

NEAR_COSINE = 0.98
"""Looks that are more alike than this are nearly the same."""
NEAR_WITHIN_S = 600.0
"""Of samples that a station took no further apart, s."""
NEAR_AMONG = 64
"""Samples that a new one is compared with, at most."""
_SIZE = (512, 384)  # looks are measured at, width and height
_NO_FIGURES = np.zeros(0, dtype=np.float32)


def look_of(sample: StoredSample, chosen: int | None) -> bytes | None:
    """The appearance of instance ``chosen``, float16 [SIZE] of unit length as bytes. None without a parcel, a whole
    frame or a mask."""
    if chosen is None:
        return None
    try:
        frame, labels = sample.frame(), sample.labels()
    except RobinError:
        return None
    return look_in(frame, labels, chosen)


def look_in(frame: Frame, labels: NDArray[np.uint16], chosen: int) -> bytes | None:
    """The same of a frame and the masks in it. labels: uint16 [H, W]."""
    if labels.shape != (frame.height, frame.width):
        return None
    alone = (labels == chosen).astype(np.uint16)
    one = Instance(1, (0, 0, 0, 0), 0, _NO_FIGURES, 0.0, 0.0, 0.0, 0.0, _NO_FIGURES)
    scene = Scene(frame.stamp_s, "", alone, (one,), _NO_FIGURES)
    view = View.of(frame, _SIZE, 0.0)  # looks know no belt
    seen = appearance(skin_maps(view), view, scene)[0]
    length = float(np.linalg.norm(seen))
    return (seen / length).astype("<f2").tobytes() if length > 0 else None


def look_from(data: bytes) -> NDArray[np.float32]:
    """float32 [SIZE], of the ledger's bytes."""
    return np.frombuffer(data, dtype="<f2").astype(np.float32)


def nearest(look: bytes, others: Sequence[tuple[str, bytes]]) -> str | None:
    """Of (sample, look) the sample that is most like it, where that is more than NEAR_COSINE."""
    fitting = [(sample, other) for sample, other in others if len(other) == len(look)]
    if not fitting:
        return None
    cosines = np.stack([look_from(other) for _, other in fitting]) @ look_from(look)
    best = int(np.argmax(cosines))
    return fitting[best][0] if cosines[best] > NEAR_COSINE else None
