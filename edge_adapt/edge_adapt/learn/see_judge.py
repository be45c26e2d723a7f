"""What two models see on the same labelled frames: results frame by frame, and a few label images to look at."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_adapt.models.gate import Times
from robin_perception.core.frame import Frame
from robin_perception.core.image_folder import load_frame, load_labels, load_scene_info
from robin_perception.engines import EngineConfig, make_engine
from robin_perception.engines.golden import golden_frames
from robin_perception.evaluation.depth_rule import with_depth_only
from robin_perception.evaluation.evaluate import Prediction, SceneResult, compare, segmenter_predictor
from robin_perception.model.bundle import Bundle
from robin_perception.segmentation.segmenter import Segmenter, load_segmenter

SHOWN = 6
"""Frames of which the label images are kept."""


@dataclass
class Judged:
    """as_they_are, with_depth: one result a frame, as it is and by the published rule (``depth_rule``). piles: of each
    frame, what it shares parcels with. shown: label images [H, W] of the first frames, by folder."""

    as_they_are: list[SceneResult] = field(default_factory=list)
    with_depth: list[SceneResult] = field(default_factory=list)
    piles: list[str] = field(default_factory=list)
    shown: dict[Path, NDArray[np.uint16]] = field(default_factory=dict)


def judge(bundle: Path, engine: str, folders: Sequence[Path], progress: Callable[[], None]) -> Judged:
    """Run the bundle on every labelled image folder. progress: called after each. Raises RobinError MODEL_*, ENGINE_*,
    and what ``load_frame`` raises."""
    segmenter = load_segmenter(bundle, engine)
    try:
        return _judged(segmenter, folders, progress)
    finally:
        segmenter.close()


def _judged(segmenter: Segmenter, folders: Sequence[Path], progress: Callable[[], None]) -> Judged:
    predict, judged = segmenter_predictor(segmenter), Judged()
    for folder in folders:
        frame, truth, info = load_frame(folder), load_labels(folder), with_packaging(load_scene_info(folder))
        seen = predict(frame)
        judged.as_they_are.append(compare(seen, truth, info))
        judged.with_depth.append(compare(_counted(seen, frame), truth, info))
        judged.piles.append(str(info.get("pile") or folder))
        if len(judged.shown) < SHOWN:
            judged.shown[folder] = seen.operating.labels
        progress()
    return judged


def with_packaging(info: dict[str, Any]) -> dict[str, Any]:
    """scene.json with kind and variant of each parcel in place of its strata: the gate judges each of them alone."""
    instances = []
    for instance in info.get("instances", ()):
        kind, variant = instance.get("kind"), instance.get("variant")
        names = [str(kind)] if kind else []
        names += [f"{kind}/{variant}"] if kind and variant else []
        instances.append({**instance, "strata": names})
    return {**info, "instances": instances}


def _counted(seen: Prediction, frame: Frame) -> Prediction:
    return Prediction(with_depth_only(seen.operating, frame.depth), with_depth_only(seen.candidates, frame.depth))


def network_times(running: Bundle, candidate: Bundle, engine: str, runs: int) -> Times:
    """Milliseconds of both networks on one golden frame, in turns, each first equally often. Raises
    RobinError ENGINE_*."""
    engines = [make_engine(engine, bundle, EngineConfig()) for bundle in (running, candidate)]
    frame, times = golden_frames(running, 1)[0], np.zeros((2, runs + 1))
    try:
        for turn in range(runs + 1):
            for side in (0, 1) if turn % 2 else (1, 0):
                start = time.perf_counter()
                engines[side].run(frame)
                times[side, turn] = (time.perf_counter() - start) * 1e3
    finally:
        for each in engines:
            each.close()
    return Times(times[0, 1:], times[1, 1:])
