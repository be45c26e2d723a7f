"""``robin pickcheck`` and ``robin eval pickcheck``: cases of simulated picks, the judge that learns from them, and how
well it judges others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from robin_cli.options import (
    BoostingConfigOption,
    EngineByNameOption,
    JsonOption,
    ModelOption,
    SeedOption,
    WorkersOption,
    model_path,
    worker_count,
)
from robin_cli.terminal import print_table, progress_bar, require_writable, write_json

app = typer.Typer(help="The judge of picks.", no_args_is_help=True)

CasesOption = Annotated[Path, typer.Option("--cases", metavar="DIR", help="Folder of pick cases; made where missing.")]
CountOption = Annotated[int, typer.Option("--picks", metavar="N", min=1, help="Picks, at least.")]
DEFAULT_CASES = Path("out/pick-cases")


@app.command("cases")
def cases(
    folder: CasesOption = DEFAULT_CASES,
    picks: CountOption = 4000,
    seed: SeedOption = 1,
    model: ModelOption = None,
    engine: EngineByNameOption = "onnxruntime",
    workers: WorkersOption = 0,
    kinds: Annotated[
        list[str] | None,
        typer.Option(
            "--kind",
            metavar="SCENARIO/PLANNER",
            help="Only piles of this kind, such as clear_bags/geometric; may be given several times. Default: all.",
        ),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Pick in simulation, with care and without, and keep what the cell measured and what truly happened. Piles that
    are there already are not made again."""
    require_writable(json_file)
    from robin_sim.pick_cases.make import kinds_named
    from robin_sim.pick_cases.run import CaseWork, make_cases

    work = CaseWork(model_path(model), engine, worker_count(workers), kinds_named(kinds or ()))
    with progress_bar("pick cases", "picks") as advance:
        paths = make_cases(folder, seed, picks, work, lambda done, of: advance(done, of, ""))
    write_json(json_file, {"piles": len(paths), "seed": seed, "out": folder})
    print(f"pick cases: {len(paths)} piles in {folder}")


@app.command("fit")
def fit(
    folders: Annotated[
        list[Path],
        typer.Option("--cases", metavar="DIR", help="Folder of pick cases; may be given several times."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="The judge's file. Default: the one that the pick check ships with."
        ),
    ] = None,
    seed: SeedOption = 0,
    config: BoostingConfigOption = None,
    model: ModelOption = None,
    engine: EngineByNameOption = "onnxruntime",
    workers: WorkersOption = 0,
    json_file: JsonOption = None,
) -> None:
    """Fit the judge to all cases of these folders, and report its cross-validated confusion."""
    require_writable(json_file)
    from edge_adapt.judge_training import JudgeTrainingConfig, train_judge
    from robin_grasp.picks.pick_judge import SHIPPED_JUDGE
    from robin_perception.core.config import load_config
    from robin_sim.pick_cases.evaluate import picks_to_learn_from
    from robin_sim.pick_cases.run import CaseWork, case_files, case_rows

    target = out if out is not None else SHIPPED_JUDGE
    require_writable(target, begins=(b"PK",))
    settings = load_config(JudgeTrainingConfig, config)
    paths = case_files(folders)
    work = CaseWork(model_path(model), engine, worker_count(workers))
    with progress_bar("features", "piles") as advance:
        rows = case_rows(paths, work, lambda done, of: advance(done, of, ""))
    picks, facts = picks_to_learn_from(rows)
    found = train_judge(picks, target, seed, settings, {"command": "robin pickcheck fit", **facts})
    write_json(json_file, {"out": target, **facts, "cross_validation": found})
    for name in ("tool+traces+change+load+segmented", "tool+traces+change"):
        _print_confusion(f"cross-validated, judged by {name.replace('+', ', ')}", found[name])
    print(f"judge: {target}")


def evaluate(
    folder: CasesOption = DEFAULT_CASES,
    picks: CountOption = 4000,
    seed: SeedOption = 1,
    judge_file: Annotated[
        Path | None, typer.Option("--judge", metavar="FILE", help="The judge's file. Default: the one that is shipped.")
    ] = None,
    beside: Annotated[
        Path | None, typer.Option("--beside", metavar="FILE", help="Another judge's file, to judge the same picks.")
    ] = None,
    model: ModelOption = None,
    engine: EngineByNameOption = "onnxruntime",
    workers: WorkersOption = 0,
    json_file: JsonOption = None,
) -> None:
    """Judge simulated picks whose truth is known: confusion, calibration, with and without a look at the load, beside
    the former judge. Cases of the seed are made where they are missing."""
    require_writable(json_file)
    from robin_grasp.picks.pick_judge import SHIPPED_JUDGE, load_judge
    from robin_sim.pick_cases.evaluate import figures
    from robin_sim.pick_cases.run import CaseWork, case_rows, make_cases

    judge = load_judge(judge_file if judge_file is not None else SHIPPED_JUDGE)
    other = None if beside is None else load_judge(beside)
    work = CaseWork(model_path(model), engine, worker_count(workers))
    with progress_bar("pick cases", "picks") as advance:
        paths = make_cases(folder, seed, picks, work, lambda done, of: advance(done, of, ""))
    with progress_bar("judging", "piles") as advance:
        rows = case_rows(paths, work, lambda done, of: advance(done, of, ""))
    found = figures(rows, judge)
    if other is not None:
        found["beside"] = figures(rows, other)
    write_json(json_file, {"seed": seed, **found})
    _print_confusion(f"{found['picks']} picks, with a look at the load", found["confusion"])
    _print_views("recall, %", found)
    if other is not None:
        _print_views(f"recall of {beside}, %", found["beside"])


def _print_confusion(title: str, confusion: dict[str, dict[str, int]]) -> None:
    names = list(confusion)
    rows = [(truth, *(str(confusion[truth][judged]) for judged in names)) for truth in names]
    print_table(title, ("truth", *names), rows)


def _print_views(title: str, found: dict[str, Any]) -> None:
    columns = ("multi", "drop and wrong", "caught", "clean called otherwise", "calibration error")
    print_table(title, ("judge", *columns), [(name, *_shown(part)) for name, part in found["views"].items()])


def _shown(part: dict[str, Any]) -> tuple[str, ...]:
    rates = (part["recall"]["multi"], part["drop_wrong_recall"], part["caught"], part["clean_called_otherwise"])
    return (
        *(f"{100 * r['rate']:.1f} [{100 * r['low']:.1f}, {100 * r['high']:.1f}]" for r in rates),
        f"{part['ece']:.3f}",
    )
