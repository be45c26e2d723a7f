"""``robin ranker``: the planner's learned ranker, from the outcomes of recorded runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robin_cli.options import BoostingConfigOption, JsonOption, SeedOption
from robin_cli.terminal import print_table, require_writable, write_json

app = typer.Typer(help="The planner's learned ranker.", no_args_is_help=True)


@app.command("train")
def train(
    runs: Annotated[
        list[Path],
        typer.Option("--run", metavar="DIR", help="Folder of robin sim run --out; may be given several times."),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="The ranker's file. Default: the one that the planner ships with."),
    ] = None,
    seed: SeedOption = 0,
    config: BoostingConfigOption = None,
    json_file: JsonOption = None,
) -> None:
    """Fit the ranker to recorded outcomes and report its cross-validated figures beside the geometric ranker's."""
    require_writable(json_file)
    from dataclasses import asdict

    from edge_adapt.decision_store import read_decisions
    from edge_adapt.ranker_training import RankerTrainingConfig, outcomes_from_decisions, train_ranker
    from robin_grasp.planner.learned_ranker import SHIPPED_RANKER
    from robin_perception.core.config import load_config

    target = out if out is not None else SHIPPED_RANKER
    require_writable(target, begins=(b"PK",))
    settings = load_config(RankerTrainingConfig, config)
    logs = [read_decisions(run) for run in runs]
    runs_read = {decision.context.run_id for log in logs for decision in log.decisions}
    facts = {"runs": sorted(runs_read), "decisions": sum(len(log.decisions) for log in logs)}
    outcomes = outcomes_from_decisions(decision for log in logs for decision in log.decisions)
    report = train_ranker(outcomes, target, seed, settings, facts)
    write_json(json_file, {**asdict(report), "out": target})
    rows = [
        ("log loss (lower is better)", f"{report.log_loss:.4f}", f"{report.log_loss_geometric:.4f}"),
        ("area under ROC", f"{report.auc:.4f}", f"{report.auc_geometric:.4f}"),
    ]
    title = f"P(clean), cross-validated on {report.picks} picks, {report.clean_rate:.1%} clean"
    print_table(title, ("", "learned", "geometric"), rows)
    print(f"ranker: {target}")
