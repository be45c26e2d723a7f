"""The report of a training, on one page that a person can sign."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from edge_adapt.learn.see import Lesson
from edge_adapt.report_figures import TEMPLATES, image_uri
from robin_fleet.ledger.decks import ACCEPTED, TrainingRow
from robin_fleet.training.closed_loop import Looped
from robin_fleet.training.history import Group
from robin_fleet.training.replay import Replayed


def render_page(
    row: TrainingRow, lesson: Lesson, groups: Sequence[Group], replayed: Replayed, looped: Looped | None = None
) -> str:
    """HTML that needs no other file."""
    environment = Environment(
        loader=FileSystemLoader([Path(__file__).parent, TEMPLATES]),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    changed = [
        {"text": f"{one.decision}, {one.result}: {one.text}", "picture": image_uri(one.picture)}
        for one in replayed.changed
        if one.picture is not None
    ]
    return environment.get_template("training.html.j2").render(
        row=row,
        accepted=row.state == ACCEPTED,
        made_at=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        how=lesson.split.how,
        checks=lesson.verdict.checks,
        groups=groups,
        replayed=replayed.to_json(),
        changed=changed,
        looped=looped,
    )
