"""What an uplink beside it costs a pick: the same frames with it and while it is stopped, in turns."""

from __future__ import annotations

import os
import signal
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_adapt.uplink.child import UplinkChild
from edge_adapt.uplink.config import UplinkConfig
from edge_adapt.uplink.identity import IDENTITY_FILE, write_private
from robin_cli.bench.budgets import budget
from robin_cli.bench.figures import Figure, of_spread, spread
from robin_cli.bench.learning import PLANNER, interval_of, joined, picking, ratio
from robin_cli.bench.pipeline import PipelineBench, simulated_frames
from robin_cli.bench.uplink_ends import SAMPLE_BYTES, filled_store, serving
from robin_perception.segmentation.segmenter import load_segmenter

_FRAMES, _WIDTH, _HEIGHT, _PERIOD_S = 4, 1280, 720, 0.25
_UP_S = 60.0


@dataclass(frozen=True)
class PicksBench:
    """seconds: of picking, half of it beside the uplink; in ``turns`` turns of each."""

    model: Path
    seconds: float
    turns: int
    seed: int


def measure_picks(bench: PicksBench, folder: Path) -> dict[str, Any]:
    """At the robot's usual bandwidth and priority. The fleet is on this machine, too, and its work counts with the
    uplink's. Raises RobinError for the model."""
    frames = simulated_frames(PipelineBench(_FRAMES, 1, _WIDTH, _HEIGHT, 0, PLANNER, bench.seed, bench.model, "auto"))
    rate_mb_s = float(UplinkConfig.model_fields["rate_mbit"].default) / 8
    store = filled_store(folder / "picks", int(rate_mb_s * bench.seconds) + 10 * SAMPLE_BYTES // 1_000_000, bench.seed)
    alone, beside, each = list[list[float]](), list[list[float]](), 0.5 * bench.seconds / bench.turns
    with serving(folder / "picks-fleet", books=True) as (identities, _):
        write_private(folder / "picks-uplink" / IDENTITY_FILE, identities[0])
        child = UplinkChild(UplinkConfig(store=store, folder=folder / "picks-uplink", poll_s=0.1))
        with closing(load_segmenter(bench.model, "auto")) as segmenter:
            pick = picking(_PERIOD_S, segmenter, frames)
            pick(min(each, 2.0))  # warm-up
            try:
                pid = _connected(child)
                for _ in range(bench.turns):
                    os.kill(pid, signal.SIGSTOP)
                    alone.append(pick(each))
                    os.kill(pid, signal.SIGCONT)
                    beside.append(pick(each))
                sent_mb = float(child.status().get("sent_mb", 0.0))
            finally:
                child.stop()
    return {
        "picks_ms": {"alone": spread(joined(alone)), "beside": spread(joined(beside))},
        **{f"picks_{name}_ratio": ratio(alone, beside, percent) for name, percent in (("p50", 50), ("p99", 99))},
        "picks_sent_mb": sent_mb,
    }


def picks_figures(result: dict[str, Any]) -> list[Figure]:
    times, p50, p99 = result["picks_ms"], result["picks_p50_ratio"], result["picks_p99_ratio"]
    sent = f"{interval_of(p99)}; {result['picks_sent_mb']:.0f} MB sent meanwhile"
    return [
        Figure("beside", "frame to plan alone, p50", times["alone"]["p50"], "ms", None, of_spread(times["alone"])),
        Figure("beside", "ratio of p50", p50["value"], "", None, interval_of(p50)),
        Figure("beside", "ratio of p99", p99["value"], "", budget("uplink.frame_to_plan_p99_ratio"), sent),
    ]


def _connected(child: UplinkChild) -> int:
    """The process, once it sends."""
    ending = time.monotonic() + _UP_S
    while not child.status().get("sent_mb") and time.monotonic() < ending:
        child.look()
        time.sleep(0.1)
    assert child.pid is not None
    return child.pid
