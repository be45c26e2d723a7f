"""``robin eval health``: the environment monitors against simulated faults, and against healthy stations."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from robin_cli.options import (
    EngineByNameOption,
    JsonOption,
    LinesOption,
    ModelOption,
    SeedOption,
    lines_file,
    model_path,
)
from robin_cli.terminal import note, print_table, progress_bar, require_writable, write_json


def health(
    piles: Annotated[
        int,
        typer.Option("--piles", metavar="N", min=0, max=10_000, help="Stations with one pile each, for the faults."),
    ] = 40,
    healthy_frames: Annotated[
        int, typer.Option("--healthy-frames", metavar="N", min=0, max=1_000_000, help="Frames of healthy stations.")
    ] = 2000,
    cost_piles: Annotated[
        int,
        typer.Option(
            "--cost-piles", metavar="N", min=0, max=10_000, help="Piles picked from with each fault and without."
        ),
    ] = 0,
    seed: SeedOption = 1,
    lines: LinesOption = None,
    engine: EngineByNameOption = "onnxruntime",
    model: ModelOption = None,
    json_file: JsonOption = None,
) -> None:
    """Name each fault of light, lens, depth and mount within five frames, and leave healthy stations alone."""
    require_writable(json_file)
    from robin_perception.segmentation.segmenter import load_segmenter
    from robin_sim.health import HealthTrials, run_health

    segmenter = load_segmenter(model_path(model), engine)
    note(segmenter.engine.selection.line())
    with lines_file(lines, json_file) as kept, progress_bar("stations", "stations") as advance:
        figures = run_health(
            HealthTrials(piles, healthy_frames, cost_piles, seed),
            segmenter.segment,
            kept,
            lambda done, total: advance(done, total, ""),
        )
    write_json(json_file, {"seed": seed, "piles": piles, "model": segmenter.model_id, **figures})
    _show(figures)


def _show(figures: dict[str, Any]) -> None:
    columns = ("piles", "named", "misnamed", "missed", "frames_to_alarm_p50")
    for key, title in (("faults", "with a baseline"), ("faults_without_baseline", "stated defaults")):
        rows = [(name, *(str(found[c]) for c in columns)) for name, found in figures[key].items()]
        print_table(f"one fault, {title}", ("fault", *columns), rows)
    pairs = ("piles", "both", "one", "none", "misnamed")
    rows = [(name, *(str(found[c]) for c in pairs)) for name, found in figures["together"].items()]
    print_table("two faults at once, with a baseline", ("faults", *pairs), rows)
    if figures["cost"]:
        rows = [_cost_row(name, found) for name, found in figures["cost"].items()]
        print_table("what a fault costs", ("fault", "piles", "clean", "clean picks lost", "at least 2 %"), rows)
    for key, title in (("healthy", "with a baseline"), ("healthy_without_baseline", "stated defaults")):
        found = figures[key]
        print(f"healthy, {title}: {found['false_alarms']} false alarms in {found['frames']} frames")


def _cost_row(name: str, found: dict[str, Any]) -> tuple[str, ...]:
    lost = found["lost"]
    text = f"{100 * lost['rate']:.1f} % [{100 * lost['low']:.1f}, {100 * lost['high']:.1f}]"
    return name, str(found["piles"]), str(found["clean"]), text, "yes" if found["costs"] else "no"
