"""``robin card``: the model card of a bundle, with pictures of its failures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robin_cli.options import EngineOption, LimitOption, ModelOption, model_path
from robin_cli.terminal import progress_bar
from robin_perception.core.errors import Code, RobinError


def card(
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="Labelled scenes to look for failures in.")],
    model: ModelOption = None,
    engine: EngineOption = "auto",
    weaknesses: Annotated[
        Path | None,
        typer.Option(
            "--weaknesses", metavar="FILE", help="What a person saw in the pictures, Markdown, kept as written."
        ),
    ] = None,
    limit: LimitOption = None,
) -> None:
    """Write CARD.md and failures.jpg into a bundle: data, scores, calibration and the scenes in which it is worst."""
    from robin_perception.core.bounded import read_plain_text
    from robin_perception.core.disk import write_atomic
    from robin_perception.core.output import require_room
    from robin_perception.model.bundle import CARD_FILE
    from robin_perception.model.model_card import FAILURES_FILE, card_text, failures_picture, worst_scenes
    from robin_perception.segmentation.segmenter import load_segmenter

    seen = read_plain_text(weaknesses) if weaknesses is not None else ""
    bundle = model_path(model)
    segmenter = load_segmenter(bundle, engine)
    require_room(bundle)
    with progress_bar("looking for failures", "scenes") as advance:
        worst = worst_scenes(segmenter, data, 6, limit, lambda done, total: advance(done, total, ""))
    if not worst:
        raise RobinError(Code.INPUT_MISSING, f"{data}: no scene with three or more parcels")
    write_atomic(bundle / FAILURES_FILE, failures_picture(worst))
    film = None if segmenter.film is None else segmenter.film.facts
    text = card_text(segmenter.bundle.manifest, segmenter.model_id, worst, seen, film)
    write_atomic(bundle / CARD_FILE, text.encode())
    print(f"{bundle / CARD_FILE} and {FAILURES_FILE}: worst of {data}")
