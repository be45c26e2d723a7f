"""What the tests of supervised inference share: a small bundle, frames with and without relief, a moody engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from helpers.misbehaving_engine import NAME, set_mood
from helpers.perception_graphs import blocks, colour_bundle, colour_frame
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.engines import EngineConfig
from robin_perception.engines.base import Tensors
from robin_perception.model.bundle import Bundle
from robin_perception.segmentation.segmenter import Segmenter
from robin_perception.supervision import SupervisedEngine, SupervisionConfig

COUNT = 6
DETECT = "head.detect.weight"
FALLBACK = "fallback:onnxruntime"
PATIENCE_S = 120.0  # nothing waits so long when all is well
ONE_THREAD = EngineConfig(intra_threads=1)
BOX_HEIGHT_M = 0.08


def moody_bundle(folder: Path) -> Bundle:
    """The small graph, with an engine in a good mood."""
    bundle = colour_bundle(folder, COUNT)
    set_mood(folder, "good")
    return bundle


@contextmanager
def supervised(bundle: Bundle, wait: bool = True, **settings: Any) -> Iterator[SupervisedEngine]:
    """An engine with moods in a child process, closed at the end. settings: of SupervisionConfig."""
    defaults = {
        "engine_module": "helpers.misbehaving_engine",
        "deadline_ms": 3000,
        "restart_pause_s": 0.1,
        "max_restarts": 1000,
    }
    engine = SupervisedEngine(NAME, bundle, ONE_THREAD, SupervisionConfig(**{**defaults, **settings}))
    try:
        assert not wait or engine.wait_ready(PATIENCE_S), engine.status()
        yield engine
    finally:
        engine.close()


def pile_frame(parcels: int = COUNT, standing: int | None = None) -> Frame:
    """Boxes on a belt. parcels: those that the network sees; standing: those that depth shows, by default the same."""
    labels = blocks(384, 512, 2, 3, 8)
    frame = colour_frame(np.where(labels <= parcels, labels, 0).astype(np.uint16))
    depth = frame.depth.copy()
    depth[(labels > 0) & (labels <= (parcels if standing is None else standing))] -= BOX_HEIGHT_M
    return frame.with_depth(depth)


def inputs_of(engine: SupervisedEngine, frame: Frame) -> Tensors:
    return Segmenter(engine.bundle, engine).view(frame).inputs


def found(answer: Tensors) -> list[int]:
    """Which parcels an answer holds."""
    with_mask = answer["mask_logits"].reshape(COUNT, -1).max(axis=1) > 0
    return [int(i) + 1 for i in np.flatnonzero((answer["detection"] > 0.5) & with_mask)]


def answer_of_child(engine: SupervisedEngine, inputs: Tensors) -> Tensors:
    """The next answer that is the child's: a loaded machine may make it late now and then."""
    for _ in range(20):
        assert engine.wait_ready(PATIENCE_S), engine.status()
        answer = engine.run(inputs)
        if engine.status().answered_by == NAME:
            return answer
    raise AssertionError(f"the child never answered: {engine.status()}")


def wait_until(ready: Callable[[], Any]) -> Any:
    """What ``ready()`` returns, once that is true."""
    end = time.monotonic() + PATIENCE_S
    while not (found_so := ready()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
    return found_so


def codes(faults: list[RobinError]) -> list[Code]:
    return [fault.code for fault in faults]
