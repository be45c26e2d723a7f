"""Making the INT8 graph of a bundle: quantise, measure beside float32, put into the cache with what was found."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from robin_perception.core.disk import write_error, write_synced
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.image_folder import load_frame
from robin_perception.core.output import scratch_folder
from robin_perception.engines.base import Engine, EngineConfig, Tensors
from robin_perception.engines.cache import EngineCache
from robin_perception.engines.ort.engine import OnnxRuntimeEngine
from robin_perception.engines.ort.int8 import GRAPH_FILE, MEASURED_FILE, Measured, OnnxRuntimeInt8Engine, cache_key
from robin_perception.engines.ort.quantise import full_range, quantised_graph
from robin_perception.engines.ort.session import thread_count
from robin_perception.evaluation.evaluate import SceneResult, evaluate_scene, segmenter_predictor, summarise
from robin_perception.model.bundle import Bundle
from robin_perception.segmentation.segmenter import Segmenter

# Parcels of which less is seen are too covered to be picked; they are left out of the accuracy.
MIN_VISIBLE = 0.25
TIMED_RUNS = 40
_WARM_UP_RUNS = 4

Progress = Callable[[str, int, int], None]


def build_int8(
    bundle: Bundle,
    calibration: Sequence[Path],
    labelled: Sequence[Path],
    config: EngineConfig,
    progress: Progress = lambda what, done, total: None,
) -> Measured:
    """Build and cache the graph for this machine, whether ``auto`` will take it or not; what was measured decides.

    calibration, labelled: scene folders; the labelled ones must not be among the others. Raises RobinError
    OPTION_INVALID for empty or shared lists, ENGINE_FAILED, DEPENDENCY_MISSING, DISK_FULL, and what the folders raise.
    """
    if not calibration or not labelled or set(calibration) & set(labelled):
        raise RobinError(Code.OPTION_INVALID, "INT8 needs frames to calibrate with and other, labelled ones to measure")
    plain = OnnxRuntimeEngine(bundle, config)
    try:
        segmenter = Segmenter(bundle, plain)
        progress("calibrate", 0, 1)
        frames = [segmenter.view(load_frame(folder)).inputs for folder in calibration]
        graph = quantised_graph(bundle, frames, reduce_range=not full_range())
        with scratch_folder("robin-int8-graph-") as folder:
            path = folder / GRAPH_FILE
            write_synced(path, graph)
            small = OnnxRuntimeInt8Engine(bundle, config, path)
            try:
                found = _measured(bundle, plain, small, frames, labelled, progress)
            finally:
                small.close()
    except OSError as exc:
        raise write_error(Path(exc.filename or tempfile.gettempdir()), exc) from None
    finally:
        plain.close()
    EngineCache().store(cache_key(bundle), {GRAPH_FILE: graph, MEASURED_FILE: found.model_dump_json(indent=1).encode()})
    return found


def _measured(
    bundle: Bundle,
    plain: Engine,
    small: Engine,
    frames: Sequence[Tensors],
    labelled: Sequence[Path],
    progress: Progress,
) -> Measured:
    times = paired_ms(plain, small, frames, TIMED_RUNS)
    predict = [segmenter_predictor(Segmenter(bundle, engine)) for engine in (plain, small)]
    results: list[list[SceneResult]] = [[], []]
    for number, folder in enumerate(labelled):
        for each, kept in zip(predict, results, strict=True):
            kept.append(evaluate_scene(each, folder, MIN_VISIBLE))
        progress("measure", number + 1, len(labelled))
    before, after = (summarise(kept, np.random.default_rng(0), replicates=1) for kept in results)
    return Measured(
        threads=thread_count(plain.config),
        float32_ms=float(np.median(times[:, 0])),
        int8_ms=float(np.median(times[:, 1])),
        gain=float(np.median(times[:, 0] / times[:, 1])),
        calibration=len(frames),
        scenes=len(labelled),
        ap50_float32=before["ap50"],
        ap50_int8=after["ap50"],
        ap75_float32=before["ap75"],
        ap75_int8=after["ap75"],
        head_of=bundle.model_id,
    )


def paired_ms(first: Engine, second: Engine, frames: Sequence[Tensors], runs: int) -> np.ndarray:
    """Milliseconds [runs, 2] of both engines, in turns, so that whatever else the machine does meets both."""
    times = np.zeros((runs, 2))
    for run in range(-_WARM_UP_RUNS, runs):
        frame = frames[run % len(frames)]
        for column, engine in enumerate((first, second) if run % 2 else (second, first)):
            started = time.perf_counter()
            engine.run(frame)
            if run >= 0:
                times[run, column if run % 2 else 1 - column] = (time.perf_counter() - started) * 1e3
    return times
