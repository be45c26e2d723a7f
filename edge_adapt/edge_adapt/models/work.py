"""From the registry to the frames: the version that should run is put to work between two of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edge_adapt.models.registry import ModelRegistry
from robin_perception.core.errors import Code, RobinError
from robin_perception.engines.verify import verify_engine
from robin_perception.model.bundle import Bundle
from robin_perception.segmentation.exchange import ENGINE, Exchange, exchange
from robin_perception.segmentation.segmenter import Segmenter

BY = "swap"

StartSegmenter = Callable[[Bundle], Segmenter]
"""A segmenter for a bundle, with an engine of its own beside the one that runs."""


@dataclass(frozen=True)
class AtWork:
    """segmenter: what the next frame goes to: the one that was given, or a fresh one whose caller exchanges the two
    between two frames and closes the old one. how, swap_ms: as of ``Exchange``. problem: why it is
    not the version that should run."""

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
    try:
        done = exchange(segmenter, loaded.bundle)
        if done is None:
            segmenter, done = _beside(loaded.bundle, start), Exchange(ENGINE)
    except RobinError as exc:
        registry.give_up(loaded.version, BY, str(exc))  # or each look at the registry would try it again
        raise
    return AtWork(segmenter, loaded.version, done.how, done.swap_ms, time.perf_counter() - started, loaded.problem)


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
