"""The demo with its page: pictures of what was met, and of what the models see."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robin_cli.closed_loop import Progress
from robin_cli.fleet_demo.cells import ENGINE
from robin_cli.fleet_demo.page import render
from robin_cli.fleet_demo.story import FLEET, Order, Story, run_demo
from robin_fleet.annotation.prefill import stored
from robin_fleet.decks.make import read_deck
from robin_fleet.decks.manifest import HELD
from robin_fleet.folder import Fleet, open_fleet
from robin_fleet.ledger.decks import ACCEPTED
from robin_fleet.novelties.review import contact_sheet, of_novelty
from robin_perception.core.disk import write_atomic
from robin_perception.core.frame import Frame
from robin_perception.segmentation.overlay import draw_labels
from robin_perception.segmentation.segmenter import load_segmenter

PAGE_FILE = "fleet_demo.html"
_SHOWN = 3


def tell_demo(order: Order, progress: Progress, tell: Callable[[str], None]) -> tuple[Story, Path]:
    """Run it and write the page; its path. Raises RobinError as ``run_demo``."""
    story = run_demo(order, progress, tell)
    page = order.out / PAGE_FILE
    with open_fleet(order.out / FLEET) as fleet:
        assert story.novelty is not None
        sheet = contact_sheet(fleet.objects, of_novelty(fleet.ledger, story.novelty.row.novelty)[1])
        write_atomic(page, render(story, np.ascontiguousarray(sheet[:, :, ::-1]), _masks(story, fleet)).encode())
    return story, page


def _masks(story: Story, fleet: Fleet) -> list[dict[str, Any]]:
    """Of some pictures that judged, evenly over them: what each lesson's parent sees, and what it has made of it."""
    found, parent, called = [], story.order.model, "the model that ran"
    for name in story.taught:
        bundle, held = story.bundle(name), read_deck(fleet.objects, story.decks[name]).part(HELD)
        chosen = [held[round(k * (len(held) - 1) / max(_SHOWN - 1, 1))] for k in range(min(_SHOWN, len(held)))]
        frames = [stored(fleet.objects, member.sample).frame() for member in chosen]
        sides = zip(_seen(parent, frames), _seen(bundle, frames), strict=True)
        for member, (before, after) in zip(chosen, sides, strict=True):
            text = f"{member.site}: {called} on the left, after lesson {name} on the right"
            found.append({"lesson": name, "picture": np.hstack([before, after]), "text": text})
        if story.taught[name].state == ACCEPTED:
            parent, called = bundle, f"after lesson {name}"
    return found


def _seen(bundle: Path, frames: list[Frame]) -> list[NDArray[np.uint8]]:
    segmenter = load_segmenter(bundle, ENGINE)
    try:
        return [draw_labels(frame.rgb, segmenter.segment(frame).labels) for frame in frames]
    finally:
        segmenter.close()
