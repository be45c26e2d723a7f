"""Latency, memory and plan service of `robin bench ros`: one host process, and a robot's program that listens to it."""

from __future__ import annotations

import math
import time
from typing import Any

from robin_bringup.nodes.bench_client import BenchClient, PlanSeen
from robin_cli.bench.budgets import budget
from robin_cli.bench.figures import Figure, memory_growth, of_spread, spread
from robin_cli.bench.ros.figures import counted, dropped, short_of_rate
from robin_cli.bench.ros.station import PATIENCE_S, PartResult, Progress, RosBench, workcell
from robin_perception.core.errors import Code, RobinError

BLOCK_S = 5.0  # nodes and direct call take turns of this length, so that what else the machine does meets both
WARM_UP_S = 2.0
_SETTLE_S = 2.0
_ENDING_S = 0.5


def measure_latency(bench: RosBench, progress: Progress) -> PartResult:
    """Colour and depth published -> plan received by another process, beside the direct call, in alternating blocks."""
    plans: list[PlanSeen] = []
    stages: list[dict[str, float]] = []
    direct: dict[str, list[float]] = {"segment_ms": [], "plan_ms": [], "total_ms": []}
    used_s, active_s = 0.0, 0.0
    with workcell(bench, bench.rate_hz, plan_every_scene=True) as (_, client):
        engine = client.bench("direct", PATIENCE_S)["engine"]
        blocks = max(1, round(bench.seconds / (2 * BLOCK_S)))
        for block in range(blocks):
            begun = time.monotonic()
            seen, seconds = _camera_block(client)
            plans += seen
            used_s += seconds
            active_s += time.monotonic() - begun - _ENDING_S
            stages.append(_stages(client, seen))
            ending = time.monotonic() + BLOCK_S
            while time.monotonic() < ending:
                answer = client.bench("direct", PATIENCE_S)
                for name, samples in direct.items():
                    samples += answer[name]
            progress(block + 1, blocks, "")
        seeing, planning = client.fresh_values("segmentation", PATIENCE_S), client.values("planning")
        camera = client.values("camera")
    if not plans:
        raise RobinError(Code.FRAME_TIMEOUT, "no plan came: is the camera's rate too low for --seconds?")
    published, alone = spread([plan.latency_ms for plan in plans]), spread(direct["total_ms"])
    figures = [
        short_of_rate("latency", counted(camera, "frames"), active_s, bench.rate_hz),
        Figure("latency", "direct call, p50", alone["p50"], "ms", None, of_spread(alone)),
        Figure("latency", "published to plan, p50", published["p50"], "ms", None, of_spread(published)),
    ]
    for name, limit in (
        ("p50", budget("ros.published_over_direct_p50_ms")),
        ("p99", budget("ros.published_over_direct_p99_ms")),
    ):
        over = round(published[name] - alone[name], 2)
        figures.append(Figure("latency", f"published to plan - direct call, {name}", over, "ms", limit))
    values: dict[str, Any] = {
        "published_to_plan_ms": published,
        **{f"direct_{name}": spread(taken) for name, taken in direct.items()},
        "stages_p50_ms": {name: spread([s[name] for s in stages])["p50"] for name in stages[0]},
        "plans_per_s": round(len(plans) / used_s, 2),
        "scenes": counted(seeing, "scenes"),
        "frames": counted(camera, "frames"),
        "dropped": {"segmentation": dropped(seeing), "planning": dropped(planning)},
        "rate_hz": bench.rate_hz,
        "block_s": BLOCK_S,
        "warm_up_s": WARM_UP_S,
        "engine": engine,
    }
    return PartResult(values, figures)


def _camera_block(client: BenchClient) -> tuple[list[PlanSeen], float]:
    """Plans of one turn of the nodes, and its seconds; what comes during the warm-up is left out."""
    client.change("camera", "activate", PATIENCE_S)
    time.sleep(WARM_UP_S)
    client.take_plans()
    begun = time.monotonic()
    time.sleep(BLOCK_S)
    plans, seconds = client.take_plans(), time.monotonic() - begun
    client.change("camera", "deactivate", PATIENCE_S)
    time.sleep(_ENDING_S)  # what is under way ends before the direct call begins
    return plans, seconds


def _stages(client: BenchClient, plans: list[PlanSeen]) -> dict[str, float]:
    """Where the time of a turn went, medians of its last seconds by the nodes' own counters, milliseconds.

    to_segmentation: published until the network's thread took the frame, waiting for the one before included.
    """
    seeing, planning = (client.fresh_values(node, PATIENCE_S) for node in ("segmentation", "planning"))
    scene_age, in_segmentation = (float(seeing.get(f"{name}.p50_ms", "nan")) for name in ("age", "frame_to_scene"))
    plan_age, in_planner = (float(planning.get(f"{name}.p50_ms", "nan")) for name in ("age", "plan"))
    received = spread([plan.latency_ms for plan in plans])["p50"] if plans else math.nan
    return {
        "to_segmentation": scene_age - in_segmentation,
        "in_segmentation": in_segmentation,
        "to_and_from_planner": plan_age - scene_age - in_planner,
        "in_planner": in_planner,
        "to_receiver": received - plan_age,
    }


def measure_memory(bench: RosBench, progress: Progress) -> PartResult:
    """The host process under a camera that is faster than the pipeline: memory, and where every frame went."""
    times: list[float] = []
    rss: list[float] = []
    with workcell(bench, bench.memory_rate_hz, plan_every_scene=True) as (process, client):
        client.change("camera", "activate", PATIENCE_S)
        begun = time.monotonic()
        while (elapsed := time.monotonic() - begun) < bench.memory_seconds:
            times.append(elapsed)
            rss.append(process.rss_mb())
            client.take_plans()
            progress(int(elapsed), int(bench.memory_seconds), f"{rss[-1]:.0f} MB")
            time.sleep(min(1.0, bench.memory_seconds / 20))
        client.change("camera", "deactivate", PATIENCE_S)
        seconds = time.monotonic() - begun
        time.sleep(_SETTLE_S)
        camera, seeing, planning = (client.fresh_values(n, PATIENCE_S) for n in ("camera", "segmentation", "planning"))
    growth = memory_growth(times, rss)
    published, taken = counted(camera, "frames"), counted(seeing, "frames")
    lost = dropped(seeing)
    scenes, plans, plans_lost = counted(seeing, "scenes"), counted(planning, "plans"), dropped(planning)
    unaccounted = abs(published - taken) + abs(taken - scenes - sum(lost.values()))
    unaccounted += abs(scenes - plans - sum(plans_lost.values()))
    minutes = f"{times[-1] / 60:.1f} min at {bench.memory_rate_hz:g} Hz"
    figures = [
        short_of_rate("memory", published, seconds, bench.memory_rate_hz),
        Figure(
            "memory",
            "growth of resident memory",
            round(growth.percent, 2),
            "%",
            budget("ros.memory_growth_percent"),
            minutes,
        ),
        Figure("memory", "resident memory at the end", round(growth.last_mb, 1), "MB"),
        Figure("memory", "stale frames dropped, counted", sum(lost.values()), "frames", None, f"of {published}"),
        Figure("memory", "frames that nobody counted", unaccounted, "frames", budget("ros.frames_unaccounted")),
    ]
    values = {
        "growth": growth.to_json(),
        "seconds": round(times[-1], 1),
        "rate_hz": bench.memory_rate_hz,
        "camera_frames": published,
        "segmentation": {"frames": taken, "scenes": scenes, "dropped": lost},
        "planning": {"plans": plans, "dropped": plans_lost},
        "unaccounted": unaccounted,
        "rss_mb": [round(value, 2) for value in rss],
    }
    return PartResult(values, figures)


def measure_service(bench: RosBench, progress: Progress) -> PartResult:
    """plan_pick with a segmented frame at hand, beside the planner's own time on the same; each is first in turn."""
    service, direct, overhead = [], [], []
    candidates = []
    with workcell(bench, bench.rate_hz, plan_every_scene=False) as (_, client):
        warm_up = max(3, bench.requests // 10)
        for number in range(warm_up + bench.requests):
            client.bench("next_frame", PATIENCE_S)
            if number % 2:  # who is second finds frame and scene in the processor's caches
                requested, alone = client.plan_pick(PATIENCE_S), client.bench("direct_plan", PATIENCE_S)
            else:
                alone, requested = client.bench("direct_plan", PATIENCE_S), client.plan_pick(PATIENCE_S)
            progress(number + 1, warm_up + bench.requests, "")
            if number < warm_up:
                continue
            service.append(requested)
            direct.append(float(alone["plan_ms"]))
            overhead.append(requested - direct[-1])
            candidates.append(int(alone["candidates"]))
    alone_ms, answered_ms, over_ms = spread(direct), spread(service), spread(overhead)
    name = "plan_pick - direct call, p50 of pairs"
    figures = [
        Figure("service", "direct call of the planner, p50", alone_ms["p50"], "ms", None, of_spread(alone_ms)),
        Figure("service", "plan_pick, p50", answered_ms["p50"], "ms", None, of_spread(answered_ms)),
        Figure("service", name, over_ms["p50"], "ms", budget("ros.service_overhead_p50_ms"), of_spread(over_ms)),
    ]
    values = {
        "plan_pick_ms": answered_ms,
        "direct_plan_ms": alone_ms,
        "overhead_ms": over_ms,
        "candidates_per_plan": spread([float(n) for n in candidates]),
        "warm_up": warm_up,
    }
    return PartResult(values, figures)
