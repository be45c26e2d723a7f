"""``robin eval cups``: how soon a bad cup is found, and how often a good one is blamed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from robin_cli.options import JsonOption, MasksOption, ModelOption, SeedOption, model_path
from robin_cli.terminal import note, print_table, progress_bar, require_writable, write_json

DEFAULT_WORK = Path("out/cups")


def cups(
    seed: SeedOption = 1,
    presses: Annotated[int, typer.Option("--presses", metavar="N", min=0, help="Presses of good cups.")] = 5000,
    trials: Annotated[int, typer.Option("--trials", metavar="N", min=0, help="Of each fault of each cup.")] = 2,
    picks: Annotated[
        int, typer.Option("--picks", metavar="N", min=0, help="Of each scenario, with cup health and without.")
    ] = 200,
    masks: MasksOption = "oracle",
    model: ModelOption = None,
    work: Annotated[
        Path, typer.Option("--work", metavar="DIR", help="What is done stands there, and is not done again.")
    ] = DEFAULT_WORK,
    fit: Annotated[
        Path | None,
        typer.Option("--fit", metavar="FILE", help="Only fit the tables of cup health to these presses, into FILE."),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Bad cups found and good cups blamed, in the simulated cell; 95 % Wilson intervals."""
    require_writable(json_file)
    from robin_sim.cup_trials.evaluate import CupTrials, evaluate_cups

    wanted = CupTrials(seed, presses, trials, picks, work, masks, None if masks == "oracle" else model_path(model))
    if fit is not None:
        _fit(wanted, fit)
        return
    with progress_bar("cups", "steps") as advance:
        figures = evaluate_cups(wanted, advance)
    write_json(json_file, figures)
    print_table(f"cup health, seed {seed}, {masks} masks", ("what", "figure"), _rows(figures))


def _fit(wanted: Any, path: Path) -> None:
    from robin_sim.cup_trials.evaluate import healthy_presses, torn_presses
    from robin_sim.cup_trials.fitting import fit_tables, write_fit

    with progress_bar("cups", "steps") as advance:
        good, torn = healthy_presses(wanted, advance), torn_presses(wanted, advance)
    write_fit(fit_tables(good, torn, path.stem, f"development seed {wanted.seed}"), path)
    note(f"fitted to {len(good)} presses of good cups and {len(torn)} of torn ones: {path}")


def _rows(figures: dict[str, Any]) -> list[tuple[str, str]]:
    healthy = figures["healthy"]
    rows = [("good cups blamed", f"{healthy['false_findings']} in {healthy['picks']} presses")]
    for kind, found in figures["faults"].items():
        used = found["picks_that_used_it"]
        spread = f"p50 {used['p50']:.0f}, p90 {used['p90']:.0f} picks that used it"
        rows.append((f"{kind} cups found", f"{found['found']} of {found['trials']}, {spread}"))
    for name, loops in figures["closed_loop"].items():
        for told, loop in loops.items():
            clean = loop["clean_rate"]
            text = f"{clean['rate']:.1%} [{clean['low']:.1%}, {clean['high']:.1%}] of {clean['of']}"
            rows.append((f"clean on {name}, {told} cup health", text))
    return rows
