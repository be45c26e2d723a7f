"""The store of samples: what a pick waits for it, how it grows, and what crashes and power cuts leave of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from edge_adapt.decision import DecisionContext, build_decision
from edge_adapt.store.blobs import Files
from edge_adapt.store.config import StoreConfig
from edge_adapt.store.sample import Sample, sample_of
from edge_adapt.store.store import SampleStore
from edge_adapt.store.writer import StoreWriter
from robin_cli.bench.budgets import budget
from robin_cli.bench.cut_disk import cuts_unavailable
from robin_cli.bench.figures import Figure, of_spread, spread
from robin_cli.bench.pipeline import PipelineBench, simulated_frames
from robin_cli.bench.store_crash import CrashCounts, crash_rounds
from robin_cli.doctor.machine import machine_facts
from robin_grasp.planner.registry import make_planner
from robin_grasp.tool import CellConfig
from robin_perception.core.frame import Frame
from robin_perception.core.output import scratch_folder
from robin_perception.engines import EngineConfig
from robin_perception.segmentation.segmenter import load_segmenter

_FRAMES = 4
_BATCH = 2000  # of the many samples, in one transaction
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class StoreBench:
    """kills, cuts: rounds. samples: small ones in the index. picks: stored while another process picks, and again while
    none does, one every ``period_s``. place: a folder to store them in; None: the temporary one."""

    kills: int
    cuts: int
    samples: int
    picks: int
    period_s: float
    width: int
    height: int
    seed: int
    model: Path
    place: Path | None = None


def measure_store(bench: StoreBench, progress: Progress) -> dict[str, Any]:
    """Keys ``kills cuts acknowledged missing torn insert_ms``, and more. Raises RobinError."""
    facts, skipped = machine_facts(), cuts_unavailable() if bench.cuts else None
    kills = _crashes("kills", bench.kills, bench.seed, progress)
    cuts = _crashes("cuts", 0 if skipped else bench.cuts, bench.seed, progress)
    result = {
        "kills": kills.rounds,
        "cuts": cuts.rounds,
        "cuts_skipped": skipped,
        **{key: getattr(kills, key) + getattr(cuts, key) for key in ("acknowledged", "missing", "torn", "orphans")},
        **_many(bench, progress),
        **_beside_picking(bench, progress),
    }
    return {**result, "width": bench.width, "height": bench.height, "seed": bench.seed, "machine": facts}


def store_figures(result: dict[str, Any]) -> list[Figure]:
    """The lines of the table."""
    crashes = f"{result['kills']} kills, {result['cuts']} power cuts, {result['acknowledged']} acknowledged"
    lines = [
        Figure(
            "crashes", "acknowledged and missing", result["missing"], "", budget("store.acknowledged_lost"), crashes
        ),
        Figure("crashes", "torn", result["torn"], "", budget("store.blobs_torn")),
    ]
    if result["samples"]:
        many = f"{result['samples']} samples, index {result['index_mb']:.0f} MB"
        lines.append(Figure("size", "open", result["open_s"], "s", budget("store.open_s"), many))
    if result["insert_ms"] is not None:
        insert, limit = result["insert_ms"], budget("store.insert_p99_ms")
        lines.append(Figure("insert", "a pick waits, p99", insert["p99"], "ms", limit, of_spread(insert)))
        for name, key in (("durable, beside picking, p50", "durable_ms"), ("durable, alone, p50", "durable_alone_ms")):
            lines.append(Figure("insert", name, result[key]["p50"], "ms", None, of_spread(result[key])))
        for name, key in (("frame to plan, p50", "plan_ms"), ("- while nothing is stored, p50", "plan_alone_ms")):
            lines.append(Figure("picking", name, result[key]["p50"], "ms", None, of_spread(result[key])))
    return lines


def _crashes(kind: str, rounds: int, seed: int, progress: Progress) -> CrashCounts:
    counts = CrashCounts()
    if rounds:
        for counts in crash_rounds(kind, rounds, seed):
            progress(counts.rounds, rounds, f"{kind}: {counts.missing} missing, {counts.torn} torn")
    return counts


class _QuickFiles(Files):
    """No syncs: only the size of the index counts here."""

    def sync(self, path: Path) -> None:
        """Nothing."""

    def sync_folder(self, path: Path) -> None:
        """Nothing."""


def _many(bench: StoreBench, progress: Progress) -> dict[str, Any]:
    """A store of small samples, each a record and a picture that all share, and how long it takes to open it."""
    if not bench.samples:
        return {"samples": 0, "open_s": None, "index_mb": None}
    rng, config = np.random.default_rng(bench.seed), StoreConfig(least_free_mb=0, core_per_stratum=0)
    with scratch_folder("robin-store-") as folder:
        with SampleStore(folder / "store", config, files=_QuickFiles()) as store:
            for start in range(0, bench.samples, _BATCH):
                with store.index.db:  # one transaction
                    for number in range(start, min(start + _BATCH, bench.samples)):
                        store.add(_tiny(number, rng))
                progress(start, bench.samples, "small samples")
        index = folder / "store" / "index.sqlite"
        started = time.perf_counter()
        with SampleStore(folder / "store") as store:
            count = len(store)
            seconds = time.perf_counter() - started
        return {"samples": count, "open_s": round(seconds, 4), "index_mb": round(index.stat().st_size / 1e6, 1)}


def _tiny(number: int, rng: np.random.Generator) -> Sample:
    name, result = f"kind-{rng.integers(12)}", ("clean", "clean", "miss", "multi")[rng.integers(4)]
    decision = f'{{"decision_id": "tiny-{number}"}}'
    return Sample(f"tiny-{number}", decision, name, result, files={"color.png": b"the same picture"})


def _beside_picking(bench: StoreBench, progress: Progress) -> dict[str, Any]:
    """Store a pick every ``period_s`` while another process picks and while none does; pick while nothing is stored."""
    if not bench.picks:
        return {key: None for key in ("insert_ms", "durable_ms", "durable_alone_ms", "plan_ms", "plan_alone_ms")}
    spawned = get_context("spawn")
    picks, ready, stop, plans = _picks(bench), spawned.Event(), spawned.Event(), spawned.Queue()
    picker = spawned.Process(target=_pick_on, args=(bench, ready, stop, plans), daemon=True)
    with scratch_folder("robin-store-") as temporary:
        picker.start()
        ready.wait()
        time.sleep(bench.picks * bench.period_s)  # picking alone
        began = time.monotonic()
        insert, durable, dropped = _store_picks(bench, picks, (bench.place or temporary) / "beside", progress)
        ended = time.monotonic()
        stop.set()
        times: list[tuple[float, float]] = plans.get()
        picker.join()
        insert_alone, durable_alone, _ = _store_picks(bench, picks, (bench.place or temporary) / "alone", progress)
    beside = [ms for at, ms in times if began <= at <= ended]
    return {
        "insert_ms": spread(insert, 3),
        "insert_alone_ms": spread(insert_alone, 3),
        "durable_ms": spread(durable),
        "durable_alone_ms": spread(durable_alone),
        "dropped": dropped,
        "plan_ms": spread(beside),
        "plan_alone_ms": spread([ms for at, ms in times if at < began]),
        "period_s": bench.period_s,
    }


def _pipeline(bench: StoreBench) -> PipelineBench:
    return PipelineBench(_FRAMES, 1, bench.width, bench.height, 1, "geometric", bench.seed, bench.model, "onnxruntime")


def _picks(bench: StoreBench) -> list[Callable[[int], Callable[[], Sample]]]:
    """For each frame: number of the pick -> what encodes it. No two are the same to the bit."""
    segmenter = load_segmenter(bench.model, "onnxruntime", engine_config=EngineConfig(intra_threads=1))
    planner, context = make_planner("geometric", CellConfig()), DecisionContext(run_id="bench", pile=0, pick=0)
    made: list[Callable[[int], Callable[[], Sample]]] = []
    for frame in simulated_frames(_pipeline(bench)):
        scene = segmenter.segment(frame)
        plan = planner.plan(frame, scene)

        def pick(number: int, frame=frame, scene=scene, plan=plan) -> Callable[[], Sample]:  # type: ignore[no-untyped-def]
            before, after = (_rolled(frame, columns) for columns in (number, number + 1))
            decision = build_decision(context.in_pile(0, number), before, scene, plan, None)
            return partial(sample_of, decision, before, scene, after)

        made.append(pick)
    return made


def _rolled(frame: Frame, columns: int) -> Frame:
    rgb, depth = np.roll(frame.rgb, columns, axis=1), np.roll(frame.depth, columns, axis=1)
    return replace(frame, rgb=rgb, depth=depth, raw_depth=None)


def _store_picks(
    bench: StoreBench, picks: list[Callable[[int], Callable[[], Sample]]], folder: Path, progress: Progress
) -> tuple[list[float], list[float], int]:
    """Milliseconds that each pick waited, and that passed until it was durable; how many were dropped."""
    waited, durable = list[float](), list[float]()
    writer = StoreWriter(SampleStore(folder, StoreConfig(least_free_mb=0)))
    due = time.perf_counter()
    for number in range(bench.picks):
        encode = picks[number % len(picks)](number)
        due += bench.period_s
        time.sleep(max(0.0, due - time.perf_counter()))
        began = time.perf_counter()

        def done(_: object, began: float = began) -> None:
            durable.append((time.perf_counter() - began) * 1e3)

        writer.put(encode, done)
        waited.append((time.perf_counter() - began) * 1e3)
        progress(number + 1, bench.picks, f"picks stored, {folder.name}")
    return waited, durable, writer.close().dropped


def _pick_on(bench: StoreBench, ready: Any, stop: Any, plans: Any) -> None:
    """Segment and plan until told to stop; (when, milliseconds) of each."""
    segmenter = load_segmenter(bench.model, "onnxruntime", engine_config=EngineConfig(intra_threads=1))
    planner, frames, times = make_planner("geometric", CellConfig()), simulated_frames(_pipeline(bench)), []
    for frame in frames:
        planner.plan(frame, segmenter.segment(frame))
    ready.set()
    while not stop.is_set():
        for frame in frames:
            began = time.perf_counter()
            planner.plan(frame, segmenter.segment(frame))
            times.append((time.monotonic(), (time.perf_counter() - began) * 1e3))
    plans.put(times)
