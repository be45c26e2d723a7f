"""``robin bench learning``: what a lesson beside it costs a pick, and what changes of the model cost the frames."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robin_cli.bench.budgets import budget
from robin_cli.bench.changes import measure_changes
from robin_cli.bench.figures import Figure, of_spread, spread
from robin_cli.bench.pipeline import PipelineBench, engine_facts, input_digest, simulated_frames
from robin_cli.bench.teaching import Teaching
from robin_cli.doctor.machine import machine_facts
from robin_grasp.planner.registry import make_planner
from robin_grasp.tool import CellConfig
from robin_perception.core.frame import Frame
from robin_perception.core.output import scratch_folder
from robin_perception.engines import EngineConfig
from robin_perception.segmentation.segmenter import Segmenter, load_segmenter

PLANNER = "geometric"
REPLICATES = 1000

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class LearningBench:
    """What to measure. seconds: of picking, half of it beside a lesson; in ``turns`` turns of each. period_s: from one
    frame to the next. swaps, rollbacks: changes of the model while frames go on. deep: a lesson of the whole
    network."""

    model: Path
    engine: str
    threads: int
    frames: int
    seconds: float
    turns: int
    period_s: float
    swaps: int
    rollbacks: int
    width: int
    height: int
    deep: bool
    seed: int


def measure_learning(bench: LearningBench, progress: Progress) -> dict[str, Any]:
    """All parts in one run. Raises RobinError for model and engine, and as ``run_job`` where teaching fails."""
    facts = machine_facts()
    size = PipelineBench(
        bench.frames, 1, bench.width, bench.height, bench.threads, PLANNER, bench.seed, bench.model, bench.engine
    )
    frames = simulated_frames(size)
    config = EngineConfig(intra_threads=bench.threads)
    with closing(load_segmenter(bench.model, bench.engine, engine_config=config)) as segmenter:
        changes = measure_changes(segmenter, frames[0], bench.swaps, bench.rollbacks, progress)
        with (
            scratch_folder("robin-bench-") as folder,
            Teaching(bench.model, folder, bench.seed, bench.deep, progress) as teaching,
        ):
            alone, beside = _in_turns(bench, picking(bench.period_s, segmenter, frames), teaching, progress)
            taught = teaching.to_json()
        engine = engine_facts(segmenter.engine)
    return {
        **changes,
        "frame_to_plan_ms": {"alone": spread(joined(alone)), "beside": spread(joined(beside))},
        **{f"{name}_ratio": ratio(alone, beside, percent) for name, percent in (("p50", 50), ("p99", 99))},
        "teaching": taught,
        **engine,
        "model": segmenter.model_id,
        "seconds": bench.seconds,
        "turns": bench.turns,
        "period_s": bench.period_s,
        "threads": bench.threads,
        "seed": bench.seed,
        "input_sha256": input_digest(frames),
        "machine": facts,
    }


def ratio(alone: Sequence[Sequence[float]], beside: Sequence[Sequence[float]], percent: float) -> dict[str, float]:
    """Percentile of the times beside over that of the times alone, with a 95 % interval: turns are drawn again in
    pairs, a turn alone and the one after it, so that what else the machine does meets both."""
    rng, pairs = np.random.default_rng(0), len(alone)

    def found(rows: NDArray[np.int64]) -> float:
        above, below = (np.percentile(joined([turns[row] for row in rows]), percent) for turns in (beside, alone))
        return float(above / below)

    draws = [found(rng.integers(pairs, size=pairs)) for _ in range(REPLICATES)]
    low, high = np.percentile(draws, (2.5, 97.5))
    value = found(np.arange(pairs))
    return {"value": round(value, 3), "low": round(float(low), 3), "high": round(float(high), 3)}


def learning_figures(result: dict[str, Any]) -> list[Figure]:
    """The lines of the table, against their budgets."""
    times, p50, p99 = result["frame_to_plan_ms"], result["p50_ratio"], result["p99_ratio"]
    swap, rollback, frames = result["swap_ms"], result["rollback_s"], result["frames"]
    note = f"{swap['n']} swaps among {frames['ran']} frames"
    taught = result["teaching"]
    limit = budget("learning.frame_to_plan_p99_ratio")
    steps = f"{taught['steps']} steps at niceness {taught['niceness']}, {taught['threads']} threads"
    back = f"p50 {rollback['p50']:.2f}, n {rollback['n']}; to the first frame by the old model"
    return [
        Figure("beside", "frame to plan alone, p50", times["alone"]["p50"], "ms", None, of_spread(times["alone"])),
        Figure("beside", "frame to plan, p50", times["beside"]["p50"], "ms", None, of_spread(times["beside"])),
        Figure("beside", "ratio of p50", p50["value"], "", None, interval_of(p50)),
        Figure("beside", "ratio of p99", p99["value"], "", limit, interval_of(p99)),
        Figure("beside", "cores that teaching had", taught["cpu_s"] / taught["wall_s"], "", None, steps),
        Figure("change", "swap, worst", swap["max"], "ms", budget("learning.swap_worst_ms"), note),
        Figure("change", "frames lost", frames["lost"], "", budget("learning.frames_lost")),
        Figure("change", "rollback, worst", rollback["max"], "s", budget("learning.rollback_worst_s"), back),
    ]


def interval_of(found: dict[str, float]) -> str:
    return f"95 % [{found['low']:.3f}, {found['high']:.3f}]"


def joined(turns: Sequence[Sequence[float]]) -> list[float]:
    return [value for turn in turns for value in turn]


def picking(period_s: float, segmenter: Segmenter, frames: Sequence[Frame]) -> Callable[[float], list[float]]:
    """Picks for so many seconds, one each ``period_s``; milliseconds from frame to plan of each."""
    planner, number = make_planner(PLANNER, CellConfig()), 0

    def pick(seconds: float) -> list[float]:
        nonlocal number
        times, ends = list[float](), time.perf_counter() + seconds
        due = time.perf_counter()
        while not times or time.perf_counter() < ends:
            time.sleep(max(0.0, due - time.perf_counter()))
            frame = frames[number % len(frames)]
            began = time.perf_counter()
            planner.plan(frame, segmenter.segment(frame))
            times.append((time.perf_counter() - began) * 1e3)
            number, due = number + 1, max(due + period_s, time.perf_counter())
        return times

    return pick


def _in_turns(
    bench: LearningBench, pick: Callable[[float], list[float]], teaching: Teaching, progress: Progress
) -> tuple[list[list[float]], list[list[float]]]:
    """Milliseconds of each turn alone, in which teaching is stopped, and of each turn beside it."""
    alone, beside, each = list[list[float]](), list[list[float]](), 0.5 * bench.seconds / bench.turns
    with teaching.stopped():
        pick(min(each, 2.0))  # warm-up
    for turn in range(bench.turns):
        with teaching.stopped():
            alone.append(pick(each))
        with teaching.counted():
            beside.append(pick(each))
        progress(turn + 1, bench.turns, "turns beside teaching")
    return alone, beside
