"""From the registry to the frames: the version that should run is put to work between two of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edge_adapt.models.registry import ModelRegistry
from robin_perception.core.errors import Code, RobinError
from robin_perception.engines.base import Engine
from robin_perception.engines.golden import golden_frames
from robin_perception.engines.head_swap import HeadCheck, same_network
from robin_perception.engines.parity import BOUNDS
from robin_perception.engines.testing.reference import OnnxRuntimeReference
from robin_perception.engines.verify import verify_engine
from robin_perception.model.bundle import Bundle
from robin_perception.segmentation.segmenter import Segmenter

BY = "swap"
_GOLDEN = 3

StartSegmenter = Callable[[Bundle], Segmenter]
"""A segmenter for a bundle, with an engine of its own beside the one that runs."""


@dataclass(frozen=True)
class AtWork:
    """segmenter: what the next frame goes to: the one that was given, or a fresh one whose caller exchanges the two
    between two frames and closes the old one. how: same, head (another head in the same engine) or engine. swap_ms: the
    only part that a frame could have to wait for. problem: why it is not the version that should run."""

    segmenter: Segmenter
    version: int
    how: str
    swap_ms: float
    took_s: float
    problem: RobinError | None = None

    def to_json(self) -> dict[str, Any]:
        problem = None if self.problem is None else str(self.problem)
        names = ("version", "how", "swap_ms", "took_s")
        return {**{name: getattr(self, name) for name in names}, "problem": problem}


def put_to_work(registry: ModelRegistry, segmenter: Segmenter, start: StartSegmenter) -> AtWork:
    """Have the registry's version serve the frames that follow; they go on meanwhile with the one before.

    Each version is proven on golden frames on the engine that will run it. One that fails there is rolled back in the
    registry, pinned or not, and what ran goes on: RobinError HEAD_REJECTED, MODEL_TENSOR_MISSING, ENGINE_*. Raises
    RobinError MODEL_* where not even the factory's bundle is whole.
    """
    started = time.perf_counter()
    loaded = registry.load()
    if loaded.problem is not None:
        registry.fall_back(loaded, BY)
    if _runs(segmenter, loaded.bundle):
        return AtWork(segmenter, loaded.version, "same", 0.0, time.perf_counter() - started, loaded.problem)
    try:
        if same_network(loaded.bundle, segmenter.bundle):
            how, swap_ms = "head", _swapped(segmenter, loaded.bundle)
        else:
            segmenter, how, swap_ms = _beside(loaded.bundle, start), "engine", 0.0
    except RobinError as exc:
        registry.give_up(loaded.version, BY, str(exc))  # or each look at the registry would try it again
        raise
    return AtWork(segmenter, loaded.version, how, swap_ms, time.perf_counter() - started, loaded.problem)


def _runs(segmenter: Segmenter, bundle: Bundle) -> bool:
    mine, its = segmenter.bundle.manifest, bundle.manifest
    same_limits = (mine.calibration, mine.thresholds) == (its.calibration, its.thresholds)
    return segmenter.model_id == bundle.model_id and same_limits


def _swapped(segmenter: Segmenter, bundle: Bundle) -> float:
    """Milliseconds of the swap."""
    reference = OnnxRuntimeReference(bundle, segmenter.engine.config)
    try:
        check = HeadCheck(golden_frames(bundle, _GOLDEN), reference, BOUNDS[_precision(segmenter.engine)])
        return segmenter.swap_bundle(bundle, check).swapped_ms
    finally:
        reference.close()


def _beside(bundle: Bundle, start: StartSegmenter) -> Segmenter:
    """A second engine, proven; closed again where it is wrong."""
    fresh = start(bundle)
    try:
        verdict = verify_engine(fresh.engine, bundle)
        if not verdict.passed:
            raise RobinError(Code.ENGINE_DISAGREES, f"{bundle.directory}: {verdict.failures[0]}")
    except RobinError:
        fresh.close()
        raise
    return fresh


def _precision(engine: Engine) -> str:
    return engine.describe().get("precision", "float32")
