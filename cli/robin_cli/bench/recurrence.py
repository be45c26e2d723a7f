"""``robin bench recurrence``: how soon goods that come again are among the first that a person is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robin_cli.options import JsonOption, ModelOption, SeedOption, model_path
from robin_cli.terminal import print_table, progress_bar, require_writable, write_json


def recurrence(
    fleets: Annotated[int, typer.Option("--fleets", metavar="N", min=1, help="Simulated fleets.")] = 100,
    seed: SeedOption = 157000,
    looks: Annotated[
        Path | None, typer.Option("--looks", metavar="FILE", help="Looks of rendered parcels. Default: shipped ones.")
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option("--work", metavar="DIR", help="Render piles, kept here, and write FILE from them: half an hour."),
    ] = None,
    model: ModelOption = None,
    json_file: JsonOption = None,
) -> None:
    """Plant three unfamiliar kinds of goods, one of them rare, in simulated fleets with faulty stations, and rank."""
    require_writable(json_file)
    import numpy as np

    from robin_cli.bench.looks import LOOKS_FILE, LookPool, collect_looks
    from robin_cli.bench.recurring_fleets import measure
    from robin_cli.doctor.machine import machine_facts
    from robin_perception.core.errors import Code, RobinError
    from robin_perception.model.bundle import load_bundle
    from robin_perception.novelty.scorer import NoveltyConfig, NoveltyScorer
    from robin_perception.segmentation.segmenter import load_segmenter

    path = looks or LOOKS_FILE
    if work is not None:
        if looks is None:
            raise RobinError(Code.OPTION_INVALID, "--work needs --looks: the file to write")
        with progress_bar("rendering", "piles") as advance:
            segmenter = load_segmenter(model_path(model), "onnxruntime")
            collect_looks(segmenter, work, path, lambda done, total: advance(done, total, ""))
    scorer = NoveltyScorer(load_bundle(model_path(model)), NoveltyConfig())
    pool = LookPool(path, scorer, np.random.default_rng(seed))
    with progress_bar("simulating", "fleets") as advance:
        result = measure(pool, fleets, seed, lambda done, total: advance(done, total, ""))
    write_json(json_file, {**result, "machine": machine_facts()})
    shares = [(f"share {share} of parcels", found) for share, found in result["by_share"].items()]
    rows = [("all three", result["all_in_first"]), *shares, ("a fault of a station", result["fault_in_first"])]
    title = f"among the first {result['first']} when seen {result['seen_times']} times"
    print_table(
        title,
        ("what", "fleets", "95 % interval"),
        [(name, f"{one['count']} of {one['of']}", f"{one['low']:.1%} to {one['high']:.1%}") for name, one in rows],
    )
