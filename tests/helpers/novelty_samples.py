"""Frames, scenes and statistics for tests of novelty: two parcels side by side on a grey belt."""

from __future__ import annotations

import numpy as np

from robin_perception.core.frame import Frame
from robin_perception.core.scene import Instance, Scene
from robin_perception.novelty.appearance import SIZE
from robin_perception.novelty.fit import Samples, fit
from robin_perception.novelty.statistics import NoveltyStatistics

Colour = tuple[int, int, int]
_BOXES = ((60, 120, 260, 320), (380, 120, 580, 320))


def frame_with(left: Colour, right: Colour, scale: int = 1, stamp_s: float = 0.0) -> Frame:
    """640 x 480 times ``scale``: a parcel of each colour, 100 mm high, one metre below the camera."""
    rgb = np.full((480 * scale, 640 * scale, 3), 120, dtype=np.uint8)
    depth = np.full(rgb.shape[:2], 1.0, dtype=np.float32)
    for (x0, y0, x1, y1), colour in zip(_BOXES, (left, right), strict=True):
        rgb[scale * y0 : scale * y1, scale * x0 : scale * x1] = colour
        depth[scale * y0 : scale * y1, scale * x0 : scale * x1] = 0.9
    K = np.array([[600.0 * scale, 0, 320 * scale], [0, 600 * scale, 240 * scale], [0, 0, 1]])
    pose = np.diag((1.0, -1.0, -1.0, 1.0))
    pose[2, 3] = 1.0
    return Frame(rgb, depth, K, pose, stamp_s)


def scene_of(count: int, novelty: float = float("nan"), scale: int = 1, stamp_s: float = 0.0) -> Scene:
    """The first ``count`` of the two parcels, surely seen."""
    labels = np.zeros((480 * scale, 640 * scale), dtype=np.uint16)
    instances = []
    for number, box in enumerate(_BOXES[:count], start=1):
        x0, y0, x1, y1 = (scale * edge for edge in box)
        labels[y0:y1, x0:x1] = number
        instances.append(
            Instance(
                id=number,
                bbox=(x0, y0, x1, y1),
                area_px=(x1 - x0) * (y1 - y0),
                class_probabilities=np.eye(5, dtype=np.float32)[0],
                detection=0.99,
                mask_quality=0.95,
                visible_fraction=0.99,
                boundary_uncertainty_px=0.5,
                embedding=np.eye(16, dtype=np.float32)[0],
                novelty=novelty,
            )
        )
    return Scene(stamp_s, "base-00000000", labels, tuple(instances), np.zeros((96, 128), dtype=np.float32))


def samples(count: int = 1200) -> Samples:
    """Known goods around one look, odd ones off it in a third of the figures; every fourth known one in bad light."""
    rng = np.random.default_rng(3)
    looks = np.abs(rng.normal(0.3, 0.05, (count, SIZE))).astype(np.float32)
    odd = np.arange(count) % 3 == 0
    looks[odd, : SIZE // 3] += rng.normal(0.25, 0.05, (int(odd.sum()), SIZE // 3)).astype(np.float32)
    number = np.arange(count)
    return Samples(looks, odd, (number % 4 == 1) & ~odd, number // 5)


_STATISTICS: dict[str, NoveltyStatistics] = {}


def statistics(trunk: str = "1" * 64) -> NoveltyStatistics:
    """Of ``samples``, made once per network."""
    if trunk not in _STATISTICS:
        _STATISTICS[trunk] = fit(samples(), trunk, {"seed": 3})
    return _STATISTICS[trunk]
