"""Another bundle for a segmenter that is at work, between two of its frames."""

from __future__ import annotations

from dataclasses import dataclass

from robin_perception.engines.golden import golden_frames
from robin_perception.engines.head_swap import HeadCheck, same_network
from robin_perception.engines.parity import BOUNDS
from robin_perception.engines.testing.reference import OnnxRuntimeReference
from robin_perception.model.bundle import Bundle
from robin_perception.segmentation.segmenter import Segmenter

SAME, HEAD, ENGINE = "same", "head", "engine"
_GOLDEN = 3


@dataclass(frozen=True)
class Exchange:
    """How a bundle came to run. how: SAME (it ran already), HEAD (another head in the same engine) or ENGINE (one of
    its own). swap_ms: the only part that a frame could have to wait for."""

    how: str
    swap_ms: float = 0.0


def exchange(segmenter: Segmenter, bundle: Bundle) -> Exchange | None:
    """Have ``segmenter`` run ``bundle`` from the next frame on; None for another network, which needs an engine of its
    own. Frames go on meanwhile with the one before.

    The head is proven on golden frames on the engine that will run it, once: one that has served before comes back at
    once. Raises RobinError HEAD_REJECTED,
    MODEL_TENSOR_MISSING, ENGINE_*; what ran goes on then.
    """
    if _runs(segmenter, bundle):
        segmenter.call_version(bundle.version)
        return Exchange(SAME)
    if not same_network(bundle, segmenter.bundle):
        return None
    if segmenter.has_served(bundle):
        return Exchange(HEAD, segmenter.swap_bundle(bundle, None).swapped_ms)
    reference = OnnxRuntimeReference(bundle, segmenter.engine.config)
    try:
        precision = segmenter.engine.describe().get("precision", "float32")
        check = HeadCheck(golden_frames(bundle, _GOLDEN), reference, BOUNDS[precision])
        return Exchange(HEAD, segmenter.swap_bundle(bundle, check).swapped_ms)
    finally:
        reference.close()


def _runs(segmenter: Segmenter, bundle: Bundle) -> bool:
    mine, its = segmenter.bundle.manifest, bundle.manifest
    same_limits = (mine.calibration, mine.thresholds) == (its.calibration, its.thresholds)
    return segmenter.model_id == bundle.model_id and same_limits
