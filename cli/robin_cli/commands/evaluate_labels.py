"""``robin eval labels``: labels that picks give, against the truth of simulated piles."""

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


def labels(
    piles: Annotated[int, typer.Option("--piles", metavar="N", min=1, max=10_000, help="Piles, picked empty.")] = 24,
    seed: SeedOption = 1,
    lines: LinesOption = None,
    engine: EngineByNameOption = "onnxruntime",
    model: ModelOption = None,
    json_file: JsonOption = None,
) -> None:
    """IoU of the labels of clean picks with the truth, beside image subtraction and the masks as predicted, and how
    much of a pile's first frame the later picks label."""
    require_writable(json_file)
    from robin_perception.segmentation.segmenter import load_segmenter
    from robin_sim.label_trials import LabelTrials, run_labels

    segmenter = load_segmenter(model_path(model), engine)
    note(segmenter.engine.selection.line())
    with lines_file(lines, json_file) as kept, progress_bar("labels", "piles") as advance:
        figures = run_labels(
            LabelTrials(piles, seed),
            segmenter.segment,
            kept,
            lambda done, total: advance(done, total, ""),
        )
    write_json(json_file, {"seed": seed, "model": segmenter.model_id, **figures})
    _show(figures)


def _show(figures: dict[str, Any]) -> None:
    rows = [(f"IoU of {name}, median", _median(found)) for name, found in figures["median_iou"].items()]
    rows += [(f"clean picks, {name}", _rate(figures[name])) for name in ("labelled", "good")]
    rows.append(("labels that are wrong", _rate(figures["wrong"])))
    first = figures["first_frame"]
    rows.append(("parcels of first frames that are labelled", _rate(first["labelled"])))
    rows.append(("IoU of these, median", _median(first["median_iou"])))
    print_table(f"{figures['clean']} clean picks of {figures['piles']} piles", ("what", "figure"), rows)


def _median(found: dict[str, Any]) -> str:
    if found["median"] is None:
        return "-"
    return f"{found['median']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def _rate(found: dict[str, Any]) -> str:
    return f"{100 * found['rate']:.1f} % [{100 * found['low']:.1f}, {100 * found['high']:.1f}]"
