"""`robin bench engine`: engines side by side on the same inputs, head swaps between their frames, and their memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from robin_cli.bench.budgets import budget
from robin_cli.bench.figures import Figure, memory_growth, of_spread, spread
from robin_cli.bench.pipeline import PipelineBench, engine_facts, input_digest, simulated_frames
from robin_cli.doctor.machine import machine_facts
from robin_perception.core.output import scratch_folder
from robin_perception.engines import Engine, EngineConfig
from robin_perception.engines.base import Tensors
from robin_perception.engines.golden import golden_frames
from robin_perception.engines.head_swap import HeadCheck, checked_swap
from robin_perception.engines.parity import BOUNDS
from robin_perception.engines.testing.reference import OnnxRuntimeReference
from robin_perception.engines.testing.tiny_bundle import tiny_bundle
from robin_perception.model.bundle import Bundle, load_bundle
from robin_perception.segmentation.segmenter import Segmenter
from robin_perception.supervision import needs_driver, start_engine

FLOAT32 = "onnxruntime"
_WARM_UP = 5
_PAUSE_S = 0.01  # between frames, as a cell has one: threads of the engine that ran last have gone to sleep
_MEMORY_SAMPLES = 200

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class EngineBench:
    """What to measure. engines: by name, in turns on every frame; the first is what the others are compared with.
    swaps: heads swapped in while frames go on. calls: runs of a small graph, for the growth of memory; 0 = none."""

    engines: tuple[str, ...]
    frames: int
    repeats: int
    threads: int
    spin: bool
    swaps: int
    calls: int
    seed: int
    model: Path

    @property
    def config(self) -> EngineConfig:
        return EngineConfig(intra_threads=self.threads, spin=self.spin)


def measure_engines(bench: EngineBench, progress: Progress) -> dict[str, Any]:
    """All parts. Raises RobinError for the model, and for engines that cannot run here."""
    facts, bundle = machine_facts(), load_bundle(bench.model)
    size = PipelineBench(bench.frames, 1, 1280, 720, bench.threads, "geometric", bench.seed, bench.model, "")
    frames = simulated_frames(size)
    results: dict[str, Any] = {}
    engines: list[Engine] = []
    for name in bench.engines:
        before, started = _rss_mb(), time.perf_counter()
        engine = start_engine(name, bundle, bench.config)
        loaded_ms = (time.perf_counter() - started) * 1e3
        results[engine.name] = {**engine_facts(engine), "load_ms": round(loaded_ms, 1)}
        inputs = [Segmenter(bundle, engine).view(frame).inputs for frame in frames]
        engine.run(inputs[0])
        results[engine.name]["memory_mb"] = round(_rss_mb() - before, 1)
        engines.append(engine)
    times = _in_turns(engines, inputs, bench.repeats, progress)
    for engine in engines:
        stages = times[engine.name]
        results[engine.name]["run_ms"] = spread(stages["run"])
        results[engine.name]["stages_ms"] = {name: spread(v) for name, v in stages.items() if name != "run"}
        ratios = np.array(times[engines[0].name]["run"]) / np.array(stages["run"])
        results[engine.name]["speed_over_first_ratio"] = spread(ratios.tolist(), 3)
        if bench.swaps:
            results[engine.name]["head_swap"] = measure_swaps(engine, inputs, bench.swaps, progress)
    for engine in engines:
        engine.close()
    memory = {name: measure_memory(name, bench, progress) for name in results if bench.calls and not needs_driver(name)}
    return {
        "engines": results,
        "compared_with": engines[0].name,
        "memory_over_calls": memory,
        "frames": len(frames),
        "repeats": bench.repeats,
        "warm_up": _WARM_UP,
        "pause_ms": _PAUSE_S * 1e3,
        "threads": bench.threads,
        "spin": bench.spin,
        "seed": bench.seed,
        "model": bundle.model_id,
        "bundle_sha256": dict(bundle.manifest.files),
        "input_sha256": input_digest(frames),
        "machine": facts,
    }


def engine_figures(result: dict[str, Any]) -> list[Figure]:
    """The lines of the table, against their budgets."""
    figures = []
    for name, found in result["engines"].items():
        gpu = budget("engine.gpu_network_p50_ms") if needs_driver(name) else None
        figures.append(Figure(name, "run, p50", found["run_ms"]["p50"], "ms", gpu, of_spread(found["run_ms"])))
        for stage, times in found["stages_ms"].items():
            figures.append(Figure(name, f"- {stage}, p50", times["p50"], "ms", None, of_spread(times)))
        if name != result["compared_with"]:
            ratio = found["speed_over_first_ratio"]
            plain = result["compared_with"] == FLOAT32 and name == "onnxruntime-int8"
            limit = budget("engine.speed_over_float32_ratio") if plain else None
            text = f"p95 {ratio['p95']:.2f}, sd {ratio['sd']:.2f}"
            figures.append(Figure(name, f"speed over {result['compared_with']}, p50", ratio["p50"], "", limit, text))
        if "head_swap" in found:
            swap = found["head_swap"]
            worst, lost = budget("engine.head_swap_worst_ms"), budget("engine.head_swap_frames_lost")
            note = f"{swap['swaps']} swaps among {swap['frames']} frames; staged in {swap['staged_ms']['p50']:.2f} ms"
            figures.append(Figure(name, "head swap, worst", swap["swapped_ms"]["max"], "ms", worst, note))
            figures.append(Figure(name, "frames lost in swaps", swap["lost"], "", lost))
        figures.append(Figure(name, "memory of the engine", found["memory_mb"], "MB"))
    for name, growth in result["memory_over_calls"].items():
        note = f"{growth['calls']} calls of a small graph, {growth['first_mb']:.1f} to {growth['last_mb']:.1f} MB"
        limit = budget("engine.memory_growth_percent")
        figures.append(Figure(name, "growth of memory", growth["percent"], "%", limit, note))
    return figures


def _in_turns(
    engines: Sequence[Engine], inputs: Sequence[Tensors], repeats: int, progress: Progress
) -> dict[str, dict[str, list[float]]]:
    """Engine -> stage -> milliseconds of each frame; every engine meets each frame, and each begins equally often."""
    times: dict[str, dict[str, list[float]]] = {engine.name: {"run": []} for engine in engines}
    total = repeats * len(inputs)
    for number in range(-_WARM_UP, total):
        first = number % len(engines)
        for engine in (*engines[first:], *engines[:first]):
            time.sleep(_PAUSE_S)
            started = time.perf_counter()
            engine.run(inputs[number % len(inputs)])
            taken = {"run": (time.perf_counter() - started) * 1e3, **engine.stage_ms}
            if number >= 0:
                for name, value in taken.items():
                    times[engine.name].setdefault(name, []).append(value)
        progress(max(0, number + 1), total, "")
    return times


def measure_swaps(engine: Engine, inputs: Sequence[Tensors], swaps: int, progress: Progress) -> dict[str, Any]:
    """Swap heads, each proven on golden frames, while another thread runs frame after frame.

    lost: frames that failed or that no whole head computed; the two heads differ in every bias, so outputs tell.
    """
    golden = golden_frames(engine.bundle)
    precision = engine.describe().get("precision", "float32")
    check = HeadCheck(golden, OnnxRuntimeReference(engine.bundle, engine.config), BOUNDS[precision])
    heads = [dict(engine.bundle.head), _shifted(engine.bundle)]
    expected = []
    for head in heads:
        engine.set_head(head)
        expected.append(engine.run(inputs[0])["detection"])
    ran, lost, frame_ms = 0, 0, []
    ended = threading.Event()

    def frames() -> None:
        nonlocal ran, lost
        while not ended.is_set():
            started = time.perf_counter()
            try:
                found = engine.run(inputs[0])["detection"]
                whole = any(np.allclose(found, one, rtol=0, atol=1e-5) for one in expected)
            except Exception:  # counted, whatever it was
                whole = False
            frame_ms.append((time.perf_counter() - started) * 1e3)
            ran, lost = ran + 1, lost + (not whole)

    worker = threading.Thread(target=frames)
    worker.start()
    made = []
    try:
        for number in range(swaps):
            seen = ran
            while ran == seen:  # every swap falls between frames, however busy the machine is
                time.sleep(0.0005)
            made.append(checked_swap(engine, heads[number % 2], check))
            progress(number + 1, swaps, "swaps")
    finally:
        ended.set()
        worker.join()
        check.reference.close()
        engine.set_head(engine.bundle.head)
    return {
        "swaps": len(made),
        "frames": ran,
        "lost": lost,
        "swapped_ms": spread([swap.swapped_ms for swap in made], 4),
        "staged_ms": spread([swap.staged_ms for swap in made], 3),
        "checked_ms": spread([swap.checked_ms for swap in made]),
        "frame_ms": spread(frame_ms),
        "parity": made[-1].to_json()["parity"],
    }


def measure_memory(name: str, bench: EngineBench, progress: Progress) -> dict[str, Any]:
    """Resident memory over ``bench.calls`` runs of a small graph, with a head swapped in now and then."""
    with scratch_folder("robin-bench-") as folder:
        bundle = tiny_bundle(folder / "tiny")
        engine = _small_engine(name, bundle, EngineConfig(intra_threads=1, spin=bench.spin), folder)
        frame = golden_frames(bundle, 1)[0]
        every = max(1, bench.calls // _MEMORY_SAMPLES)
        at, rss, began = [], [], time.perf_counter()
        for call in range(bench.calls):
            engine.run(frame)
            if call % every == 0:
                engine.set_head(bundle.head)
                at.append(float(call))
                rss.append(_rss_mb())
                progress(call, bench.calls, f"{rss[-1]:.0f} MB")
        seconds = time.perf_counter() - began
        engine.close()
    growth = memory_growth(at, rss).to_json()
    growth["slope_mb_per_100000_calls"] = round(growth.pop("slope_mb_per_min") / 60.0 * 1e5, 3)
    return {"calls": bench.calls, "call_ms": round(seconds / bench.calls * 1e3, 4), **growth}


def _small_engine(name: str, bundle: Bundle, config: EngineConfig, folder: Path) -> Engine:
    """The engine over the small bundle; INT8 over a graph quantised here, since none is cached for it."""
    if name != "onnxruntime-int8":
        return start_engine(name, bundle, config)
    from robin_perception.engines.ort.int8 import GRAPH_FILE, OnnxRuntimeInt8Engine
    from robin_perception.engines.ort.quantise import full_range, quantised_graph

    path = folder / GRAPH_FILE
    path.write_bytes(quantised_graph(bundle, golden_frames(bundle), not full_range()))
    return OnnxRuntimeInt8Engine(bundle, config, path)


def _shifted(bundle: Bundle) -> dict[str, np.ndarray]:
    return {k: v + np.float32(0.01) if k.endswith(".bias") else v.copy() for k, v in bundle.head.items()}


def _rss_mb() -> float:
    return float(psutil.Process().memory_info().rss) / 1e6
