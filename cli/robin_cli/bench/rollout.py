"""``robin bench rollout``: how often a release is stopped on a simulated fleet, how far it gets, what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from robin_cli.options import JsonOption, SeedOption
from robin_cli.terminal import print_table, progress_bar, require_writable, write_json

RUNS, ROBOTS, OWN = 200, 200, 0.001


def rollout(
    runs: Annotated[int, typer.Option("--runs", metavar="N", min=1, help="Roll-outs of each case.")] = RUNS,
    robots: Annotated[int, typer.Option("--robots", metavar="N", min=20, help="Robots, in lines of ten.")] = ROBOTS,
    own: Annotated[
        float,
        typer.Option("--own", metavar="P", min=0, max=0.02, help="Standard deviation of a robot's rate in its line."),
    ] = OWN,
    plan: Annotated[
        Path | None,
        typer.Option("--plan", metavar="FILE", help="YAML of the stages and error rates. Default: built in."),
    ] = None,
    seed: SeedOption = 7,
    json_file: JsonOption = None,
) -> None:
    """Roll out a release that is 2 points worse, an equal one and a better one, many times each."""
    require_writable(json_file, plan)
    from robin_cli.bench.rollout_runs import CASES, RolloutBench, measure_rollouts
    from robin_fleet.rollout.plan import RolloutPlan
    from robin_perception.core.config import load_config

    bench = RolloutBench(runs, robots, own=own, seed=seed)
    with progress_bar("rolling out", "runs") as advance:
        result = measure_rollouts(bench, load_config(RolloutPlan, plan), advance)
    write_json(json_file, result)
    rows = [_row(name, result[name]) for name in CASES]
    header = ("release", "stopped", "before 10 %", "reached all", "hours", "picks", "lost more", "stopped in")
    print_table(f"{robots} robots, {runs} runs each; p50 / p95", header, rows)


def _row(name: str, found: dict[str, Any]) -> tuple[str, ...]:
    rates = (f"{found[key]['rate']:.1%}" for key in ("stopped", "stopped_before_tenth", "reached_all"))
    spread = (f"{found[key]['p50']:,.0f} / {found[key]['p95']:,.0f}" for key in ("picks", "extra_lost"))
    hours = f"{found['hours']['p50']:.1f} / {found['hours']['p95']:.1f}"
    stages = ", ".join(f"{stage} {count}" for stage, count in found["stopped_in"].items())
    return (name, *rates, hours, *spread, stages)
