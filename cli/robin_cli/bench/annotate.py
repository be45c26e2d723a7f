"""``robin bench annotate``: what it costs a person to correct masks, and to draw outlines, by a stated model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robin_cli.options import JsonOption, ModelOption, SeedOption, model_path
from robin_cli.terminal import print_table, progress_bar, require_writable, write_json

SCENES = "scenes"


def annotate(
    scenes: Annotated[int, typer.Option("--scenes", metavar="N", min=1, help="Cluttered scenes.")] = 10,
    seed: SeedOption = 1610,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Labelled image folders. Default: twice as many are rendered."),
    ] = None,
    model: ModelOption = None,
    json_file: JsonOption = None,
) -> None:
    """Correct the model's masks of the scenes with the most parcels until they are right, and draw them anew."""
    require_writable(json_file)
    from robin_cli.bench.annotate_session import SESSION, measure
    from robin_cli.doctor.machine import machine_facts
    from robin_perception.core.output import scratch_folder
    from robin_perception.segmentation.segmenter import load_segmenter
    from robin_sim.dataset import make_dataset
    from robin_sim.training_scenes import DatasetConfig

    segmenter = load_segmenter(model_path(model), "onnxruntime")
    with scratch_folder("robin-bench-") as scratch:
        if data is None:
            with progress_bar("rendering", "scenes") as advance:
                config = DatasetConfig()
                make_dataset(
                    scratch / SCENES, 2 * scenes, seed, 1, config, lambda done, total: advance(done, total, "")
                )
        with progress_bar("annotating", "scenes") as advance:
            result = measure(data or scratch / SCENES, scenes, segmenter, lambda done, total: advance(done, total, ""))
    told = {"seed": seed, "model": segmenter.model_id, "session": SESSION._asdict(), **result}
    write_json(json_file, {**told, "machine": machine_facts()})
    rows = []
    for name in ("untouched", "corrected", "outlines"):
        means = {key: result[name][key]["mean"] for key in ("seconds", "clicks", "iou")}
        rows.append((name, f"{means['seconds']:.0f}", f"{means['clicks']:.0f}", f"{means['iou']:.3f}"))
    title = f"{result['scenes']} scenes, {result['parcels']} parcels; means of a scene"
    print_table(title, ("labels", "seconds", "clicks", "IoU"), rows)
