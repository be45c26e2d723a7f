"""The rule of published figures on the OSD and OCID tables: a mask with little valid depth is not counted (Xie et al.
2021, UOIS-Net-3D; there is no background without depth in what they compare)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene
from robin_perception.evaluation.evaluate import Predict, Prediction

PUBLISHED_SHARE = 0.8


def with_depth_only(scene: Scene, depth: NDArray[np.float32], share: float = PUBLISHED_SHARE) -> Scene:
    """``scene`` without the masks of which less than ``share`` has valid depth. depth: [H, W], 0 = invalid."""
    size = int(scene.labels.max(initial=0)) + 1
    area = np.bincount(scene.labels.ravel(), minlength=size)
    seen = np.bincount(scene.labels.ravel(), (depth > 0).ravel(), minlength=size)
    kept = seen >= share * area
    kept[0] = True
    instances = tuple(instance for instance in scene.instances if kept[instance.id])
    labels = np.where(kept[scene.labels], scene.labels, 0).astype(scene.labels.dtype)
    return replace(scene, labels=labels, instances=instances)


def depthless_dropped(predict: Predict, share: float) -> Predict:
    """``predict`` less the masks of which less than ``share`` has valid depth, candidates included."""

    def predicted(frame: Frame) -> Scene | Prediction:
        found = predict(frame)
        if isinstance(found, Scene):
            return with_depth_only(found, frame.depth, share)
        parts = (with_depth_only(scene, frame.depth, share) for scene in (found.operating, found.candidates))
        return Prediction(*parts)

    return predicted
