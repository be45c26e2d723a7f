"""Latency of the pick path on simulated frames. One frame after the other, as a cell takes them; nothing is cached."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_adapt.decision import frame_digest
from robin_cli.machine import machine_facts
from robin_grasp.registry import make_planner
from robin_grasp.tool import CellConfig
from robin_perception.engines import EngineConfig
from robin_perception.frame import Frame
from robin_perception.segmenter import Segmenter, load_segmenter
from robin_sim.training_scenes import BASE_TRAINING_MIX, DatasetConfig, draw_pile, draw_scene, pile_rng

WARM_UP_FRAMES = 5


@dataclass(frozen=True)
class PipelineBench:
    """What to measure. threads 0: one per core. Frames are drawn from ``seed``."""

    frames: int
    repeats: int
    width: int
    height: int
    threads: int
    planner: str
    seed: int
    model: Path
    engine: str


def measure_pipeline(bench: PipelineBench, progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Milliseconds of each stage over frames x repeats. The bare network runs right beside each whole pass, on the same
    frame, so that whatever else the machine does meets both. Raises RobinError for the model, engine and planner."""
    segmenter = load_segmenter(bench.model, bench.engine, engine_config=EngineConfig(intra_threads=bench.threads))
    planner = make_planner(bench.planner, CellConfig())
    facts = machine_facts()
    frames = simulated_frames(bench)
    samples: dict[str, list[float]] = {"network_ms": [], "frame_to_instances_ms": [], "frame_to_plan_ms": []}
    instances: list[int] = []
    for number in range(WARM_UP_FRAMES):
        frame = frames[number % len(frames)]
        planner.plan(frame, segmenter.segment(frame))
        _network_ms(segmenter, frame)
    total = bench.repeats * len(frames)
    for number in range(total):
        frame = frames[number % len(frames)]
        started = time.perf_counter()
        scene = segmenter.segment(frame)
        segmented = time.perf_counter()
        planner.plan(frame, scene)
        planned = time.perf_counter()
        samples["frame_to_instances_ms"].append((segmented - started) * 1e3)
        samples["frame_to_plan_ms"].append((planned - started) * 1e3)
        samples["network_ms"].append(_network_ms(segmenter, frame))
        instances.append(len(scene.instances))
        progress(number + 1, total)
    figures: dict[str, Any] = {name: _spread(values) for name, values in samples.items()}
    figures["plan_over_network"] = figures["frame_to_plan_ms"]["p50"] / figures["network_ms"]["p50"]
    return {
        **figures,
        "frames": len(frames),
        "repeats": bench.repeats,
        "warm_up": WARM_UP_FRAMES,
        "width": bench.width,
        "height": bench.height,
        "instances_per_frame": {"mean": float(np.mean(instances)), "max": max(instances)},
        "planner": planner.name,
        "engine": segmenter.engine.name,
        "threads": bench.threads,
        "seed": bench.seed,
        "model": segmenter.model_id,
        "bundle_sha256": dict(segmenter.bundle.manifest.files),
        "input_sha256": hashlib.sha256("".join(frame_digest(frame) for frame in frames).encode()).hexdigest(),
        "machine": facts,
    }


def simulated_frames(bench: PipelineBench) -> list[Frame]:
    """Frames as data sets have them (sensor faults included), of the asked size, each of another pile."""
    config = DatasetConfig(
        image_sizes=((bench.width, bench.height, 1.0),),
        views_per_pile=1,
        mix=BASE_TRAINING_MIX,
        parcels_min=15,
        parcels_max=40,
    )
    piles = [draw_pile(pile_rng(bench.seed, index), config) for index in range(bench.frames)]
    return [draw_scene(pile, bench.seed, index, config).frame for index, pile in enumerate(piles)]


def _network_ms(segmenter: Segmenter, frame: Frame) -> float:
    """One bare run of the network; its inputs are prepared before the clock starts."""
    _, inputs = segmenter.prepare(frame)
    started = time.perf_counter()
    segmenter.engine.run(inputs)
    return (time.perf_counter() - started) * 1e3


def _spread(values: list[float]) -> dict[str, float]:
    p50, p95, p99 = (float(value) for value in np.percentile(values, (50, 95, 99)))
    return {
        "p50": round(p50, 2),
        "p95": round(p95, 2),
        "p99": round(p99, 2),
        "mean": round(float(np.mean(values)), 2),
        "sd": round(float(np.std(values)), 2),
        "min": round(min(values), 2),
        "max": round(max(values), 2),
    }
