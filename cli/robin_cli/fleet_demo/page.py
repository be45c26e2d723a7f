"""The page of the demo: HTML that needs no other file."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from numpy.typing import NDArray

from edge_adapt.report_figures import TEMPLATES, image_uri
from robin_cli.fleet_demo.robots import PICKS_PER_HOUR, ROBOTS_ON_A_LINE
from robin_cli.fleet_demo.rollouts import Point, Told
from robin_cli.fleet_demo.story import Story
from robin_fleet.training.run import PAGE

_WIDTH, _HEIGHT, _LEFT, _TOP = 900, 130, 72, 16
_STAGES = ("robot", "line", "tenth", "all")


def render(story: Story, sheet: NDArray[np.uint8], masks: Sequence[dict[str, Any]]) -> str:
    """sheet: RGB, pictures of the novelty. masks: pictures side by side with captions."""
    environment = Environment(
        loader=FileSystemLoader([Path(__file__).parent, TEMPLATES]),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("fleet_demo.html.j2").render(
        story=story,
        told=story.to_json(),
        sheet=image_uri(sheet),
        masks=[{**one, "picture": image_uri(one["picture"])} for one in masks],
        plots={name: Markup(lines(told)) for name, told in story.rolled.items()},
        pages={name: f"fleet/trainings/{row.training}/{PAGE}" for name, row in story.taught.items()},
        made_at=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        per_line=ROBOTS_ON_A_LINE,
        per_hour=int(PICKS_PER_HOUR),
    )


def lines(told: Told) -> str:
    """SVG: robots that run the release over hours, and below it what the test for a loss has gathered."""
    points = told.points
    if not points:
        return ""
    end = max(points[-1].hours, 1e-6)
    most = max(max(point.robots for point in points), 1)
    robots = _steps([(point.hours / end, point.robots / most) for point in points], 0)
    parts = [
        _axis(0, f"{most} robots", "0"),
        f'<path d="{robots}" fill="none" stroke="#1f6feb" stroke-width="2.5"/>',
        _axis(1, "stop", "1/1000"),
        f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{_y(1.0, 1):.1f}" y2="{_y(1.0, 1):.1f}" stroke="#c1272d" '
        'stroke-dasharray="5 4"/>',
        f'<path d="{_joined(points, end)}" fill="none" stroke="#c1272d" stroke-width="2"/>',
        *_stage_names(points, end),
    ]
    height = 2 * (_HEIGHT + _TOP) + 24
    hours = f'<text x="{_WIDTH}" y="{height - 4}" text-anchor="end">{end:.1f} h</text>'
    head = f'<svg viewBox="0 0 {_WIDTH + 8} {height}" width="{_WIDTH}" role="img" font-size="12" fill="#5b6875">'
    return head + "".join(parts) + hours + "</svg>"


def _y(share: float, row: int) -> float:
    return _TOP + row * (_HEIGHT + _TOP) + (1 - share) * _HEIGHT


def _x(share: float) -> float:
    return _LEFT + share * (_WIDTH - _LEFT)


def _axis(row: int, top: str, bottom: str) -> str:
    texts = "".join(
        f'<text x="{_LEFT - 6}" y="{_y(share, row) + 4:.1f}" text-anchor="end">{escape(text)}</text>'
        for share, text in ((1.0, top), (0.0, bottom))
    )
    base = f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{_y(0, row):.1f}" y2="{_y(0, row):.1f}" stroke="#dfe4e9"/>'
    return base + texts


def _steps(points: Sequence[tuple[float, float]], row: int) -> str:
    path, last = f"M{_x(0):.1f} {_y(points[0][1], row):.1f}", points[0][1]
    for x, value in points:
        path += f"L{_x(x):.1f} {_y(last, row):.1f}L{_x(x):.1f} {_y(value, row):.1f}"
        last = value
    return path


def _joined(points: Sequence[Point], end: float) -> str:
    """On a log scale, from a thousandth of what stops it up to that."""
    places = [
        f"{_x(point.hours / end):.1f} {_y(1 + np.log10(np.clip(point.worse, 1e-3, 1.0)) / 3, 1):.1f}"
        for point in points
    ]
    return "M" + "L".join(places)


def _stage_names(points: Sequence[Point], end: float) -> list[str]:
    found, last = [], ""
    for point in points:
        if point.stage != last and point.stage in _STAGES:
            found.append(f'<text x="{_x(point.hours / end) + 4:.1f}" y="{_TOP - 4}">{point.stage}</text>')
            last = point.stage
    return found
