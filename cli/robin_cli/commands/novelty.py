"""``robin novelty``: statistics of known goods, a station's limit, unfamiliar looks; ``robin eval novelty``."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from robin_cli.options import EngineOption, JsonOption, LimitOption, ModelOption, SeedOption, model_path
from robin_cli.terminal import note, print_table, progress_bar, require_writable, write_json

app = typer.Typer(help="Goods that look like none of those that the model was taught.", no_args_is_help=True)

WorkOption = Annotated[
    Path, typer.Option("--work", metavar="DIR", help="Finished piles are kept here; a stopped run goes on.")
]
RateOption = Annotated[
    float, typer.Option("--rate", metavar="F", min=0.001, max=0.2, help="Share of known goods beyond the limit.")
]


@app.command("fit")
def fit(
    work: WorkOption = Path("runs/novelty"),
    known_piles: Annotated[int, typer.Option("--known", metavar="N", min=4, help="Piles of known goods.")] = 70,
    odd_piles: Annotated[int, typer.Option("--odd", metavar="N", min=4, help="Piles of odd-looking goods.")] = 90,
    seed: SeedOption = 130200,
    rate: RateOption = 0.02,
    model: ModelOption = None,
    engine: EngineOption = "auto",
    json_file: JsonOption = None,
) -> None:
    """Make the statistics of known goods from simulated piles and put them into the bundle."""
    require_writable(json_file)
    from robin_perception.core.output import require_room
    from robin_perception.model.bundle import NETWORK_FILE, NOVELTY_FILE, add_file
    from robin_perception.novelty.fit import fit as fit_statistics
    from robin_sim.novelty_scenes import KNOWN, ODD
    from robin_sim.novelty_trials import samples_of

    bundle = model_path(model)
    require_room(bundle)
    segmenter = _segmenter(bundle, engine)
    odd = _collected(segmenter, ODD, odd_piles, seed, work)
    known = _collected(segmenter, KNOWN, known_piles, seed, work)
    facts = {
        "seed": seed,
        "known_piles": known_piles,
        "odd_piles": odd_piles,
        "known": int((~known.odd).sum() + (~odd.odd).sum()),
        "odd": int(odd.odd.sum()),
        "model": segmenter.model_id,
    }
    trunk = segmenter.bundle.manifest.files[NETWORK_FILE]
    statistics = fit_statistics(samples_of(known, odd), trunk, facts, rate)
    add_file(bundle, NOVELTY_FILE, statistics.to_bytes())
    write_json(json_file, {**facts, "rate": rate, "limit": statistics.limit, "digest": statistics.digest})
    print(f"{bundle / NOVELTY_FILE}: {facts['known']} known and {facts['odd']} odd parcels")


@app.command("calibrate")
def calibrate(
    data: Annotated[
        Path,
        typer.Option("--data", metavar="DIR", help="Image folders or a bag, of known goods only."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The station's limit (JSON).")],
    station: Annotated[str, typer.Option("--station", metavar="NAME", help="Whose limit it is.")] = "station",
    rate: RateOption = 0.02,
    limit: LimitOption = None,
    model: ModelOption = None,
    engine: EngineOption = "auto",
    json_file: JsonOption = None,
) -> None:
    """Take a station's limit from frames of its own known goods; ``segmenter.novelty.calibration`` names the file."""
    require_writable(out)
    require_writable(json_file)
    import numpy as np

    from robin_cli.commands.station_source import CAMERA_ID, frames_of
    from robin_perception.novelty.calibration import calibrate as calibrated
    from robin_perception.novelty.calibration import write_calibration

    segmenter = _segmenter(model_path(model), engine)
    if segmenter.novelty is None:
        raise segmenter.novelty_off
    scores = []
    for frame in islice(frames_of(data, CAMERA_ID), limit):
        scene, look = segmenter.analyse(frame)
        assert look.skin is not None
        scores.append(segmenter.novelty.scores(look.skin, look.view, scene))
    sure = np.concatenate([part[np.isfinite(part)] for part in scores]) if scores else np.zeros(0)
    found = calibrated(
        sure, segmenter.novelty.statistics, station=station, frames=len(scores), rate=rate, data=str(data)
    )
    write_calibration(out, found)
    write_json(json_file, {**found.model_dump(mode="json"), "out": out})
    usual = segmenter.novelty.statistics.limit
    print(f"{out}: limit {found.limit:.3f} (the bundle's is {usual:.3f}), {len(sure)} parcels")


@app.command("list")
def list_looks(
    folder: Annotated[Path, typer.Argument(help="Folder that unfamiliar goods are kept in.")],
    json_file: JsonOption = None,
) -> None:
    """Unfamiliar looks that a station has seen, the most frequent first, with their pictures."""
    require_writable(json_file)
    from robin_perception.novelty.store import STORE_FILE, NoveltyStore, require_store

    require_store(folder / STORE_FILE)
    store = NoveltyStore(folder, most_looks=1000, most_pictures=0)
    if store.fault is not None:
        raise store.fault
    looks = sorted(store.looks.values(), key=lambda look: (-look.count, look.key))
    pictures = {look.key: [str(folder / look.key / name) for name in look.pictures] for look in looks}
    plain = [
        {"name": x.name, "count": x.count, "first_s": x.first_s, "last_s": x.last_s, "pictures": pictures[x.key]}
        for x in looks
    ]
    write_json(json_file, {"looks": plain})
    rows = [
        (x.name or "-", str(x.count), f"{x.first_s:.0f}", f"{x.last_s:.0f}", (pictures[x.key] or ["-"])[-1])
        for x in looks
    ]
    print_table(f"{len(looks)} looks", ("name", "seen", "first s", "last s", "latest picture"), rows)


def evaluate(
    work: WorkOption = Path("runs/novelty"),
    known_piles: Annotated[int, typer.Option("--known", metavar="N", min=4, help="Piles of known goods.")] = 60,
    unseen_piles: Annotated[int, typer.Option("--unseen", metavar="N", min=4, help="Piles with unseen goods.")] = 80,
    seed: SeedOption = 130210,
    methods: Annotated[
        bool, typer.Option("--methods", help="Also compare relative Mahalanobis, MDS++ and kNN, also on the trunk.")
    ] = False,
    model: ModelOption = None,
    engine: EngineOption = "auto",
    json_file: JsonOption = None,
) -> None:
    """Tell packaging that base training never saw from known goods, in good and in bad light; what it costs."""
    require_writable(json_file)
    from robin_sim.novelty_scenes import KNOWN, UNFAMILIAR
    from robin_sim.novelty_trials import compare, judge, path_cost

    segmenter = _segmenter(model_path(model), engine)
    if segmenter.novelty is None:
        raise segmenter.novelty_off
    unseen = _collected(segmenter, UNFAMILIAR, unseen_piles, seed, work)
    known = _collected(segmenter, KNOWN, known_piles, seed, work)
    figures = judge(segmenter.novelty, known, unseen)
    figures |= {"seed": seed, "model": segmenter.model_id, "statistics": segmenter.novelty.statistics.digest}
    figures["novelty_ms"] = path_cost(segmenter, seed)
    if methods:
        figures["methods"] = compare(known, unseen)
    write_json(json_file, figures)
    rows = [
        (
            name,
            f"{area:.3f} {_interval(figures['auroc_intervals'][name])}",
            _rate(figures["flagged_by_packaging"][name]),
        )
        for name, area in figures["auroc"].items()
    ]
    rows += [(name, "", _rate(figures["flagged_intervals"][name])) for name in figures["flagged"]]
    rows += [(f"known, {name}", "", _rate(found)) for name, found in figures["flagged_by_fault"].items()]
    print_table(f"novelty, {segmenter.model_id}", ("goods", "area under ROC", "flagged"), rows)
    if methods:
        _print_methods(figures["methods"])


def _segmenter(bundle: Path, engine: str) -> Any:
    from robin_perception.segmentation.segmenter import load_segmenter

    segmenter = load_segmenter(bundle, engine)
    note(segmenter.engine.selection.line())
    return segmenter


def _collected(segmenter: Any, series: Any, piles: int, seed: int, work: Path) -> Any:
    from robin_sim.novelty_scenes import collect

    with progress_bar(f"{series.name} goods", "piles") as advance:
        return collect(segmenter, series, piles, seed, work, lambda done, total: advance(done, total, ""))


def _print_methods(methods: Mapping[str, Any]) -> None:
    packaging = list(next(iter(next(iter(methods.values())).values())))
    rows = [
        (features, name, *(f"{areas[key]:.2f}" for key in packaging))
        for features, found in methods.items()
        for name, areas in found.items()
    ]
    print_table("area under ROC by method", ("features", "method", *packaging), rows, text_columns=2)


def _rate(found: Mapping[str, Any]) -> str:
    return f"{found['rate']:.1%} [{found['low']:.1%}, {found['high']:.1%}] of {found['of']}"


def _interval(found: Any) -> str:
    return "" if found is None else f"[{found[0]:.3f}, {found[1]:.3f}]"
