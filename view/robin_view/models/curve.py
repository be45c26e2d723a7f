"""What lessons gained, in the order of their candidates, as a picture."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from edge_adapt.models.journal import Entry

SITE_GAIN = "site gain"
_WIDTH, _HEIGHT, _MARGIN = 640.0, 160.0, 20.0
_TICKS = 56.0


def learning_curve(judged: Sequence[Entry]) -> Markup:
    """SVG: gain of each candidate at its site with its interval, filled where the gate let it through; empty where no
    candidate has such a figure. judged: entries with a gate, in order."""
    points = [(entry.data.get("version"), *found) for entry in judged if (found := _gain(entry)) is not None]
    if not points:
        return Markup("")
    least = min(0.0, *(low for _, _, low, _ in points))
    most = max(0.0, *(high for _, _, _, high in points)) or 1e-3

    def y(value: float) -> float:
        return _HEIGHT - _MARGIN + (value - least) / (most - least or 1e-3) * (2 * _MARGIN - _HEIGHT)

    step = (_WIDTH - _TICKS - 2 * _MARGIN) / max(1, len(points) - 1)
    parts = [f'<line class="zero" x1="{_TICKS}" x2="{_WIDTH}" y1="{y(0):.1f}" y2="{y(0):.1f}"/>']
    for value in {least, 0.0, most}:
        parts.append(f'<text class="tick" x="2" y="{y(value) + 4:.1f}">{value:+.3f}</text>')
    for at, (version, gain, low, high) in enumerate(points):
        x = _TICKS + _MARGIN + at * step
        name = f"candidate {at + 1}, refused" if version is None else f"version {version}"
        css = "refused" if version is None else "accepted"
        parts.append(f'<line class="span" x1="{x:.1f}" x2="{x:.1f}" y1="{y(low):.1f}" y2="{y(high):.1f}"/>')
        text = f"{name}: {gain:+.4f}, {low:+.4f} to {high:+.4f}"
        parts.append(f'<circle class="{css}" cx="{x:.1f}" cy="{y(gain):.1f}" r="5"><title>{text}</title></circle>')
    label = f"gain of {len(points)} candidates at their site"
    size = f'viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}"'
    return Markup(f'<svg class="curve" {size} role="img" aria-label="{label}">{"".join(parts)}</svg>')


def _gain(entry: Entry) -> tuple[float, float, float] | None:
    for check in entry.data["gate"].get("checks", ()):
        figures = tuple(check.get(key) for key in ("value", "low", "high"))
        if check.get("name") == SITE_GAIN and all(isinstance(one, int | float) for one in figures):
            gain, low, high = (float(one) for one in figures)
            return gain, low, high
    return None
