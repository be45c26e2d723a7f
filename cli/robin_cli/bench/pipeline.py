"""Latency of the pick path on simulated frames. One frame after the other, as a cell takes them; nothing is cached."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from edge_adapt.record_build import frame_digest
from robin_cli.bench.budgets import budget
from robin_cli.bench.figures import Figure, of_spread, spread
from robin_cli.bench.pause import PausingEngine
from robin_cli.doctor.machine import machine_facts
from robin_grasp.planner.registry import make_planner
from robin_grasp.tool import CellConfig
from robin_perception.bags.frames import as_from_camera
from robin_perception.core.frame import Frame
from robin_perception.core.helper_thread import HelperThread
from robin_perception.engines import Engine, EngineConfig
from robin_perception.model.bundle import load_bundle
from robin_perception.segmentation.segmenter import Segmenter, load_segmenter
from robin_perception.supervision import needs_driver
from robin_sim.training_scenes import BASE_TRAINING_MIX, DatasetConfig, draw_pile, draw_scene, pile_rng

WARM_UP_FRAMES = 5
_SUMS = ("network", "segment")


@dataclass(frozen=True)
class PipelineBench:
    """What to measure. threads 0: one per core. Frames are drawn from ``seed``. pause_ms: where it is not 0, a pause of
    so long stands for the engine (``bench_pause``)."""

    frames: int
    repeats: int
    width: int
    height: int
    threads: int
    planner: str
    seed: int
    model: Path
    engine: str
    pause_ms: float = 0.0


def measure_pipeline(bench: PipelineBench, progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Milliseconds of each stage over frames x repeats. The bare network runs right beside each whole pass, on the same
    frame, so that whatever else the machine does meets both. Raises RobinError for the model, engine and planner."""
    process = psutil.Process()
    facts, memory = machine_facts(), {"before_mb": _rss_mb(process)}
    helper = HelperThread()
    segmenter = _segmenter(bench, helper)
    planner = make_planner(bench.planner, CellConfig(), helper=helper)
    memory["loaded_mb"] = _rss_mb(process)
    frames = simulated_frames(bench)
    for number in range(max(WARM_UP_FRAMES, len(frames) if bench.pause_ms else 0)):
        frame = frames[number % len(frames)]
        planner.plan(frame, segmenter.segment(frame))
        _network_ms(segmenter, frame)
    memory["first_mb"] = _rss_mb(process)
    times: dict[str, list[float]] = {"network": [], "frame_to_instances": [], "frame_to_plan": []}
    stages: dict[str, list[float]] = {}
    times["around_network"] = []
    around, instances = [], []
    total = bench.repeats * len(frames)
    for number in range(total):
        frame = frames[number % len(frames)]
        started = time.perf_counter()
        scene = segmenter.segment(frame)
        segmented = time.perf_counter()
        planner.plan(frame, scene)
        planned = time.perf_counter()
        parts = _parts(scene.timings_ms, segmenter.engine) | {"plan": (planned - segmented) * 1e3}
        for name, value in parts.items():
            stages.setdefault(name, []).append(value)
        whole = (segmented - started) * 1e3
        times["around_network"].append(whole - parts["network"])
        around.append((whole - parts["network"]) / parts["network"])
        times["frame_to_instances"].append(whole)
        times["frame_to_plan"].append((planned - started) * 1e3)
        times["network"].append(_network_ms(segmenter, frame))
        instances.append(len(scene.instances))
        progress(number + 1, total)
    memory["last_mb"] = _rss_mb(process)
    result: dict[str, Any] = {f"{name}_ms": spread(values) for name, values in times.items()}
    return {
        **result,
        "stages_ms": {name: spread(values) for name, values in stages.items()},
        "around_network_ratio": spread(around, 3),
        "plan_over_network": result["frame_to_plan_ms"]["p50"] / result["network_ms"]["p50"],
        "memory": memory,
        "frames": len(frames),
        "repeats": bench.repeats,
        "warm_up": WARM_UP_FRAMES,
        "width": bench.width,
        "height": bench.height,
        "instances_per_frame": {"mean": float(np.mean(instances)), "max": max(instances)},
        "planner": planner.name,
        **engine_facts(segmenter.engine),
        "pause_ms": bench.pause_ms,
        "threads": bench.threads,
        "seed": bench.seed,
        "model": segmenter.model_id,
        "bundle_sha256": dict(segmenter.bundle.manifest.files),
        "input_sha256": input_digest(frames),
        "machine": facts,
    }


def pipeline_figures(result: dict[str, Any]) -> list[Figure]:
    """The lines of the table, against their budgets; those of a GPU where the engine runs on one, or a pause is its
    place."""
    on_gpu = bool(result.get("pause_ms")) or needs_driver(result["engine"])
    instances, plan, network, beside = (
        result[f"{n}_ms"] for n in ("frame_to_instances", "frame_to_plan", "network", "around_network")
    )
    instances_budget = budget(f"pipeline.{'gpu_' if on_gpu else ''}frame_to_instances_p50_ms")
    network_budget = budget("engine.gpu_network_p50_ms") if on_gpu else None
    ratio = result["around_network_ratio"]
    spread_text = f"p95 {ratio['p95']:.2f}, sd {ratio['sd']:.2f}"
    return [
        Figure("whole", "bare network, p50", network["p50"], "ms", network_budget, of_spread(network)),
        Figure("whole", "frame to instances, p50", instances["p50"], "ms", instances_budget, of_spread(instances)),
        Figure("whole", "- around the network, p50", beside["p50"], "ms", None, of_spread(beside)),
        Figure(
            "whole",
            "frame to plan, p50",
            plan["p50"],
            "ms",
            budget("pipeline.frame_to_plan_p50_ms"),
            of_spread(plan),
        ),
        Figure(
            "whole",
            "around the network / network",
            ratio["p50"],
            "",
            budget("pipeline.around_network_ratio"),
            spread_text,
        ),
        *(Figure("stage", name, t["p50"], "ms", None, of_spread(t)) for name, t in result["stages_ms"].items()),
        Figure("memory", "resident, after the last frame", result["memory"]["last_mb"], "MB"),
    ]


def _segmenter(bench: PipelineBench, helper: HelperThread) -> Segmenter:
    config = EngineConfig(intra_threads=bench.threads)
    if not bench.pause_ms:
        return load_segmenter(bench.model, bench.engine, engine_config=config, helper=helper)
    bundle = load_bundle(bench.model)
    return Segmenter(bundle, PausingEngine(bundle, config, bench.pause_ms), helper=helper)


def engine_facts(engine: Engine) -> dict[str, Any]:
    """Which engine it became, why, and with what."""
    chosen = engine.selection
    return {
        "engine": engine.name,
        "engine_why": chosen.why,
        "engines_rejected": dict(chosen.rejected),
        "engine_details": engine.describe(),
    }


def input_digest(frames: Sequence[Frame]) -> str:
    """sha256 over all frames' content."""
    return hashlib.sha256("".join(frame_digest(frame) for frame in frames).encode()).hexdigest()


def simulated_frames(bench: PipelineBench) -> list[Frame]:
    """Frames as data sets have them (sensor faults included), of the asked size, each of another pile, with a camera's
    own numbers for the depth, which an engine on a GPU takes as they are."""
    config = DatasetConfig(
        image_sizes=((bench.width, bench.height, 1.0),),
        views_per_pile=1,
        mix=BASE_TRAINING_MIX,
        parcels_min=15,
        parcels_max=40,
    )
    piles = [draw_pile(pile_rng(bench.seed, index), config) for index in range(bench.frames)]
    return [as_from_camera(draw_scene(pile, bench.seed, index, config).frame) for index, pile in enumerate(piles)]


def _parts(timings: dict[str, float], engine: Engine) -> dict[str, float]:
    """Stages of one frame that add up to the whole: the segmenter's own, its network call split by the engine; what
    the engine does not name of that call is its checks."""
    inside = engine.stage_ms or {"network": timings["network"]}
    parts = {"prepare": timings["prepare"], **inside, "check": timings["network"] - sum(inside.values())}
    return parts | {name: value for name, value in timings.items() if name not in parts and name not in _SUMS}


def _network_ms(segmenter: Segmenter, frame: Frame) -> float:
    """One bare run of the network; its inputs are prepared before the clock starts."""
    inputs = segmenter.view(frame).inputs
    started = time.perf_counter()
    segmenter.engine.run(inputs)
    return (time.perf_counter() - started) * 1e3


def _rss_mb(process: psutil.Process) -> float:
    return round(float(process.memory_info().rss) / 1e6, 1)
