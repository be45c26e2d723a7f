"""The page of a lesson: what was learned, what was forgotten, why it was accepted or refused, before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from numpy.typing import NDArray

from edge_adapt.learn.see import FIGURES, Lesson, differences
from edge_adapt.report_figures import TEMPLATES, image_uri
from robin_perception.core.disk import write_atomic
from robin_perception.core.image_folder import load_frame, load_labels, load_scene_info
from robin_perception.evaluation.evaluate import SceneResult
from robin_perception.segmentation.overlay import draw_labels

_NAMES = {"overlap_f": "overlap F", "boundary_f": "boundary F", "ap50": "AP50", "ap75": "AP75"}


@dataclass(frozen=True)
class _Pictures:
    name: str
    truth: str
    before: str
    after: str


def write_page(path: Path, lesson: Lesson) -> None:
    """One HTML file that needs no other. Raises RobinError DISK_FULL, OPTION_INVALID."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    site, core, verdict = lesson.site, lesson.core, lesson.verdict
    tables = [
        _table(
            "What was learned: frames of this place", site[0].as_they_are, site[1].as_they_are, "Every mask counts."
        ),
        _table(
            "The same, masks with depth",
            site[0].with_depth,
            site[1].with_depth,
            "Masks of which less than 80 % has valid depth are not counted, as in published figures.",
        ),
        _table(
            "What was forgotten: known scenes",
            core[0].as_they_are,
            core[1].as_they_are,
            "Simulated scenes that were neither taught nor replayed.",
        ),
    ]
    facts = [
        ("model", lesson.candidate.model_id),
        ("made from", lesson.factory.model_id),
        ("frames taught", len(lesson.rows)),
        ("parcels labelled", lesson.taught.parcels),
        *((name, f"{seconds:.0f} s") for name, seconds in lesson.seconds.items()),
    ]
    page = environment.get_template("teach.html.j2").render(
        title=f"Lesson: {lesson.candidate.model_id}",
        how=lesson.split.how,
        made_at=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        accepted=verdict.accepted,
        verdict="Accepted" if verdict.accepted else f"Refused: {verdict.text}",
        checks=verdict.checks,
        facts=facts,
        foreign=lesson.taught.foreign,
        tables=tables,
        frames=[_pictures(lesson, folder) for folder in site[0].shown],
    )
    write_atomic(path, page.encode())


def _table(title: str, before: Sequence[SceneResult], after: Sequence[SceneResult], text: str) -> dict[str, Any]:
    found = differences(before, after)
    rows = [{"name": _NAMES[key], **found[key]} for key in FIGURES if key in found]
    return {"title": f"{title} ({len(before)})", "rows": rows, "text": text}


def _pictures(lesson: Lesson, folder: Path) -> _Pictures:
    rgb = load_frame(folder).rgb

    def drawn(labels: NDArray[np.uint16]) -> str:
        return image_uri(draw_labels(rgb, labels))

    before, after = (side.shown[folder] for side in lesson.site)
    name = str(load_scene_info(folder).get("source", folder.name))
    return _Pictures(Path(name).name, drawn(load_labels(folder)), drawn(before), drawn(after))
