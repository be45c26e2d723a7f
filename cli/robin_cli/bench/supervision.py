"""``robin bench supervision``: what a process of its own costs an engine per frame, and what a hang costs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import psutil

from robin_cli.bench.budgets import budget
from robin_cli.bench.figures import Figure, Growth, memory_growth, of_spread, spread
from robin_cli.bench.pipeline import PipelineBench, input_digest, simulated_frames
from robin_cli.doctor.machine import machine_facts
from robin_grasp.planner.registry import make_planner
from robin_grasp.tool import CellConfig
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.output import scratch_folder
from robin_perception.engines import EngineConfig
from robin_perception.engines.testing.tiny_bundle import tiny_bundle
from robin_perception.model.bundle import load_bundle
from robin_perception.segmentation.segmenter import Segmenter, load_segmenter
from robin_perception.supervision import SupervisedEngine, SupervisionConfig
from robin_perception.supervision.warm_up import bare_belt

_WARM_UP = 10
_PAUSE_S = 0.02  # between two calls, as between frames: an engine's idle threads have stopped spinning by then
_PLANNER = "geometric"
_TRIES = 5
_START_S = 900.0
_MEMORY_SAMPLES = 100

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SupervisionBench:
    """What to measure. deadline_ms: of the calls that hang; calls: of the small graph, for the growth of memory."""

    model: Path
    engine: str
    threads: int
    frames: int
    repeats: int
    hangs: int
    deadline_ms: float
    calls: int
    seed: int


def measure_supervision(bench: SupervisionBench, progress: Progress) -> dict[str, Any]:
    """All parts in one run. Raises RobinError for model and engine, ENGINE_FAILED where the child is never ready."""
    facts = machine_facts()
    size = PipelineBench(bench.frames, 1, 1280, 720, bench.threads, _PLANNER, bench.seed, bench.model, bench.engine)
    seen = simulated_frames(size)
    total = bench.frames * bench.repeats + bench.hangs + bench.calls
    cost = _measure_cost(bench, seen, lambda done: progress(done, total))
    hang = _measure_hangs(bench, seen, lambda done: progress(bench.frames * bench.repeats + done, total))
    memory = _measure_memory(bench, lambda done: progress(total - bench.calls + done, total))
    bundle = load_bundle(bench.model)
    return {
        **cost,
        "hang": hang,
        "memory": memory,
        "planner": _PLANNER,
        "threads": bench.threads,
        "frames": bench.frames,
        "repeats": bench.repeats,
        "pause_ms": _PAUSE_S * 1e3,
        "seed": bench.seed,
        "model": bundle.model_id,
        "bundle_sha256": dict(bundle.manifest.files),
        "input_sha256": input_digest(seen),
        "machine": facts,
    }


def supervision_figures(result: dict[str, Any]) -> list[Figure]:
    """The lines of the table, against their budgets."""
    cost, hang, memory = result["cost_ms"], result["hang"], result["memory"]
    own, limit = result["own_share_ms"], budget("supervision.cost_p50_ms")
    after, instances = hang["plan_after_deadline_ms"], hang["instances_after_deadline_ms"]
    lines = [
        Figure("cost", "direct", result["direct_ms"]["p50"], "ms", note=of_spread(result["direct_ms"])),
        Figure("cost", "supervised", result["supervised_ms"]["p50"], "ms", note=of_spread(result["supervised_ms"])),
        Figure("cost", "difference, frame by frame", cost["p50"], "ms", limit, of_spread(cost)),
        Figure("cost", "beside the engine's own work", own["p50"], "ms", limit, of_spread(own)),
        Figure("hang", "noticed after", hang["noticed_ms"]["p50"], "ms", note=f"deadline {hang['deadline_ms']:g} ms"),
        Figure("hang", "instances after deadline", instances["p50"], "ms", note=of_spread(instances)),
        Figure(
            "hang",
            "plan after deadline",
            after["p50"],
            "ms",
            budget("supervision.fallback_after_deadline_ms"),
            of_spread(after),
        ),
        Figure("hang", "restart", hang["restart_ms"]["p50"], "ms", note=of_spread(hang["restart_ms"])),
    ]
    for process in ("parent", "child"):
        growth = memory[process]
        note = f"{growth['first_mb']:.1f} MB, {memory['calls']} calls, {memory['call_ms']:.2f} ms each"
        most = budget("engine.memory_growth_percent")
        lines.append(Figure("memory", f"growth, {process}", growth["percent"], "%", most, note))
    return lines


def _measure_cost(bench: SupervisionBench, frames: Sequence[Frame], progress: Callable[[int], None]) -> dict[str, Any]:
    """Both engines side by side: each frame goes to one and then to the other, the first of them by turns."""
    direct = load_segmenter(bench.model, bench.engine, engine_config=EngineConfig(intra_threads=bench.threads))
    supervised = _supervised(bench, deadline_ms=60_000)
    samples: dict[str, list[float]] = {"direct_ms": [], "supervised_ms": [], "cost_ms": [], "own_share_ms": []}
    try:
        inputs = [direct.view(frame).inputs for frame in frames]
        for number in range(-_WARM_UP, bench.repeats * len(inputs)):
            feeds, took = inputs[number % len(inputs)], {}
            for segmenter in (direct, supervised) if number % 2 else (supervised, direct):
                time.sleep(_PAUSE_S)
                begin = time.perf_counter()
                segmenter.engine.run(feeds)
                took[segmenter] = (time.perf_counter() - begin) * 1e3
            if number < 0:
                continue
            samples["direct_ms"].append(took[direct])
            samples["supervised_ms"].append(took[supervised])
            samples["cost_ms"].append(took[supervised] - took[direct])
            samples["own_share_ms"].append(supervised.engine.stage_ms["supervision"])
            progress(number + 1)
        answers = _engine(supervised).status().fallback_answers
    finally:
        direct.close()
        supervised.close()
    facts = {"engine": supervised.engine.selection.name, "fallback_answers": answers}
    return {**{name: spread(values) for name, values in samples.items()}, **facts}


def _measure_hangs(bench: SupervisionBench, frames: Sequence[Frame], progress: Callable[[int], None]) -> dict[str, Any]:
    """The child is stopped (SIGSTOP) before a call; from there to the scene and the plan that the fallback makes."""
    segmenter = _supervised(bench, deadline_ms=bench.deadline_ms, max_restarts=1000)
    engine, planner = _engine(segmenter), make_planner(_PLANNER, CellConfig())
    names = ("noticed_ms", "instances_after_deadline_ms", "plan_after_deadline_ms", "restart_ms")
    samples: dict[str, list[float]] = {name: [] for name in names}

    def after_deadline(begin: float) -> float:
        return (time.perf_counter() - begin) * 1e3 - bench.deadline_ms

    try:
        for frame in frames:
            planner.plan(frame, segmenter.segment(frame))
        for number in range(bench.hangs):
            frame = frames[number % len(frames)]
            _answered_by_child(segmenter, frame)
            before = engine.status().child.hangs
            os.kill(engine.child_pid, signal.SIGSTOP)
            begin = time.perf_counter()
            scene = segmenter.segment(frame)
            samples["instances_after_deadline_ms"].append(after_deadline(begin))
            planner.plan(frame, scene)
            samples["plan_after_deadline_ms"].append(after_deadline(begin))
            samples["noticed_ms"].append(engine.status().lost_ms)
            if engine.status().child.hangs != before + 1 or "fallback_engine" not in scene.flags:
                raise RobinError(Code.ENGINE_FAILED, f"call {number} was to hang and did not: {engine.status()}")
            _wait(engine)
            samples["restart_ms"].append(after_deadline(begin))
            progress(number + 1)
    finally:
        segmenter.close()
    return {"deadline_ms": bench.deadline_ms, **{name: spread(values) for name, values in samples.items()}}


def _measure_memory(bench: SupervisionBench, progress: Callable[[int], None]) -> dict[str, Any]:
    """Resident memory of both processes over many calls of a small graph."""
    settings = SupervisionConfig(mode="always", deadline_ms=60_000)
    with scratch_folder("robin-bench-") as folder:
        engine = SupervisedEngine("onnxruntime", tiny_bundle(folder / "tiny"), EngineConfig(intra_threads=1), settings)
        try:
            _wait(engine)
            feeds = bare_belt({name: np.zeros(spec.shape, spec.dtype) for name, spec in engine.inputs.items()})
            processes = {"parent": psutil.Process(), "child": psutil.Process(engine.child_pid)}
            times: list[float] = []
            rss: dict[str, list[float]] = {name: [] for name in processes}
            begin = time.perf_counter()
            for number in range(bench.calls):
                engine.run(feeds)
                if number % max(1, bench.calls // _MEMORY_SAMPLES) == 0:
                    times.append(time.perf_counter() - begin)
                    for name, process in processes.items():
                        rss[name].append(process.memory_info().rss / 1e6)
                    progress(number + 1)
            spent_s = time.perf_counter() - begin
            status = engine.status()
        finally:
            engine.close()
    if status.fallback_answers or status.child.restarts:
        raise RobinError(Code.ENGINE_FAILED, f"the child did not answer all calls: {status.child.last}")
    growth: dict[str, Growth] = {name: memory_growth(times, values) for name, values in rss.items()}
    shown = {name: found.to_json() for name, found in growth.items()}
    return {"calls": bench.calls, "call_ms": spent_s / bench.calls * 1e3, **shown}


def _supervised(bench: SupervisionBench, **settings: Any) -> Segmenter:
    """The bench's engine in a process of its own, ready."""
    config, supervision = EngineConfig(intra_threads=bench.threads), SupervisionConfig(mode="always", **settings)
    segmenter = load_segmenter(bench.model, bench.engine, engine_config=config, supervision=supervision)
    _wait(_engine(segmenter))
    return segmenter


def _engine(segmenter: Segmenter) -> SupervisedEngine:
    return cast(SupervisedEngine, segmenter.engine)


def _answered_by_child(segmenter: Segmenter, frame: Frame) -> None:
    """One frame that the child answers; a machine that is busy with other things may make it late."""
    for _ in range(_TRIES):
        _wait(_engine(segmenter))
        if "fallback_engine" not in segmenter.segment(frame).flags:
            return
    raise RobinError(Code.ENGINE_FAILED, f"the engine keeps missing its deadline: {_engine(segmenter).status()}")


def _wait(engine: SupervisedEngine) -> None:
    if not engine.wait_ready(_START_S):
        raise RobinError(Code.ENGINE_FAILED, f"the engine's process is never ready: {engine.standing_fault()}")
