"""``robin film``: where the film of clear bags stands; ``robin eval film``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robin_cli.commands.train import require_torch
from robin_cli.options import EngineOption, JsonOption, LimitOption, ModelOption, SeedOption, model_path
from robin_cli.terminal import note, print_table, progress_bar, require_writable, write_json

if TYPE_CHECKING:
    from robin_perception.core.frame import Frame
    from robin_perception.core.scene import Scene

MOST_PICTURES = 12

app = typer.Typer(help="Film that the depth camera looks through.", no_args_is_help=True)


@app.command("train")
def train(
    data: Annotated[
        list[Path],
        typer.Option("--data", metavar="DIR", help="Data set of robin dataset make; may be given several times."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Checkpoint; a stopped run continues.")],
    model: ModelOption = None,
    steps: Annotated[int, typer.Option("--steps", metavar="N", min=1, help="End after N steps of 8 images.")] = 1600,
    seed: SeedOption = 0,
    json_file: JsonOption = None,
) -> None:
    """Train a film network, beginning with the bundle's own trunk, and put it into the bundle."""
    require_writable(json_file)
    require_torch()
    from edge_adapt.training.film_train import FilmTrainConfig, train_film
    from robin_perception.core.output import output_folder, require_room
    from robin_perception.model.bundle import FILM_FILE, add_file

    bundle = model_path(model)
    require_room(bundle)
    config = FilmTrainConfig(data=tuple(data), model=bundle, out=out, steps=steps, seed=seed)
    with output_folder(out):
        graph = train_film(config, note)
    add_file(bundle, FILM_FILE, graph)
    write_json(json_file, {"model": bundle, "steps": steps, "seed": seed, "bytes": len(graph)})
    print(f"{bundle / FILM_FILE}: {steps} steps, {len(graph) / 1e6:.1f} MB")


def evaluate(
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="Data set of robin dataset make.")],
    model: ModelOption = None,
    engine: EngineOption = "auto",
    limit: LimitOption = None,
    seed: SeedOption = 0,
    pictures: Annotated[
        Path | None, typer.Option("--pictures", metavar="DIR", help="Also write pictures of the first twelve scenes.")
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Compare the film's face with its true depth: at lips' places on clear bags, height and slope of both."""
    require_writable(json_file)
    from robin_perception.evaluation.film import evaluate_film
    from robin_perception.segmentation.segmenter import load_segmenter

    segmenter = load_segmenter(model_path(model), engine)
    see = segmenter.segment if pictures is None else _shown(segmenter.segment, pictures)
    with progress_bar("evaluating film", "scenes") as advance:
        found = evaluate_film(see, data, limit, seed, lambda done, total: advance(done, total, ""))
    write_json(json_file, {"model": segmenter.model_id, "data": str(data), **found})
    rows = [
        (name, f"{face['right']['rate']:.3f}", f"{face['height_mm_p50']:.1f}", f"{face['angle_deg_p50']:.1f}")
        for name, face in found["faces"].items()
        if face["height_mm_p50"] is not None
    ]
    title = f"{segmenter.model_id}, {found['scenes']} scenes, {found['places']} places"
    if rows:
        print_table(title, ("face", "told right", "height off, mm", "angle off, deg"), rows)
    print(f"film told on {found['told']['rate']:.3f} of {found['film_parcels']} clear bags,", end=" ")
    print(f"wrongly on {found['wrongly_told']['rate']:.4f} of {found['opaque_parcels']} other parcels")


def _shown(see: Callable[[Frame], Scene], folder: Path) -> Callable[[Frame], Scene]:
    """``see``, which also writes the picture, the depth that is seen and the depth that is planned on, side by side."""
    import numpy as np

    from robin_grasp.planner.hidden_depth import with_film_faces
    from robin_perception.core.disk import make_folder
    from robin_perception.core.image_folder import write_png
    from robin_perception.segmentation.overlay import colour_depth, draw_masks

    make_folder(folder)

    def seen(frame: Frame) -> Scene:
        scene = see(frame)
        if len(list(folder.glob("*.png"))) < MOST_PICTURES:
            shown = with_film_faces(frame, scene).depth
            valid = frame.depth[(frame.depth > 0) & (scene.labels > 0)]
            near, far = np.percentile(valid, (1, 99)) if len(valid) else (0.0, 1.0)
            depths = [colour_depth(depth, float(near), float(far)) for depth in (frame.depth, shown)]
            write_png(
                folder / f"{frame.camera_id}.png", np.hstack([draw_masks(frame.rgb, scene, names=False), *depths])
            )
        return scene

    return seen
