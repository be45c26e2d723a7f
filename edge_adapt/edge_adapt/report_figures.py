"""Small pictures of the report: inline images, masks and cups as SVG over them, bars with intervals. Pure functions."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_adapt.decision import CandidateRecord, Decision, ToolRecord
from edge_adapt.record_parts import InstanceRecord
from edge_adapt.told import NOVELTY_LIMIT
from robin_perception.core.pose import rotation_matrix
from robin_perception.segmentation.overlay import instance_colour

TEMPLATES = Path(__file__).parent / "templates"
"""Of all pages, with the look that they share."""
IMAGE_QUALITY = 78
MAX_IMAGE_WIDTH = 960

RESULT_COLOURS = {
    "clean": "#2e9e5b",
    "miss": "#e0a100",
    "drop": "#e2711d",
    "multi": "#c1272d",
    "wrong": "#8e44ad",
    "infeasible": "#6b7785",
    "waited": "#0f8b8d",
    "unfinished": "#3f4a57",
}
_DARK, _LIGHT = "#11161c", "#ffffff"


def ink_on(colour: str) -> str:
    """Dark or light text on ``colour`` ("#rrggbb"), whichever stands out more: WCAG's relative luminance, of which one
    always reaches its level AA."""
    shade = _luminance(colour) + 0.05
    return _DARK if shade / (_luminance(_DARK) + 0.05) > (_luminance(_LIGHT) + 0.05) / shade else _LIGHT


def _luminance(colour: str) -> float:
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


BADGES = {result: (colour, ink_on(colour)) for result, colour in RESULT_COLOURS.items()}
"""Result -> its colour, and that of text on it."""


def image_uri(rgb: NDArray[np.uint8]) -> str:
    """WebP data URI of an RGB image, uint8 [H, W, 3], at most MAX_IMAGE_WIDTH wide."""
    width = rgb.shape[1]
    if width > MAX_IMAGE_WIDTH:
        size = (MAX_IMAGE_WIDTH, round(rgb.shape[0] * MAX_IMAGE_WIDTH / width))
        rgb = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    ok, data = cv2.imencode(".webp", rgb[:, :, ::-1], [cv2.IMWRITE_WEBP_QUALITY, IMAGE_QUALITY])
    if not ok:
        raise ValueError(f"cannot encode an image of {rgb.dtype} {rgb.shape}")
    return "data:image/webp;base64," + base64.b64encode(data.tobytes()).decode()


def mask_paths(labels: NDArray[np.uint16], decision: Decision) -> str:
    """SVG paths of the predicted masks in frame pixels; each knows its id, class and scores as a tooltip. labels:
    instance ids [H, W]."""
    chosen = decision.chosen.instance if decision.chosen is not None else -1
    paths = []
    for seen in decision.instances:
        if not (outline := mask_outline(labels, seen)):
            continue
        red, green, blue = instance_colour(seen.id)
        title = (
            f"parcel {seen.id}: {seen.class_name.replace('_', ' ')} {seen.class_probability:.0%}, "
            f"detection {seen.detection:.0%}, mask {seen.mask_quality:.0%}, visible {seen.visible_fraction:.0%}"
        )
        unfamiliar = (seen.novelty or 0.0) > NOVELTY_LIMIT
        css = " ".join(["mask", *["chosen"][: seen.id == chosen], *["unfamiliar"][:unfamiliar]])
        title += f", novelty {seen.novelty:.2g}" if seen.novelty is not None else ""
        known = f'data-parcel="{seen.id}" color="rgb({red},{green},{blue})"'
        paths.append(f'<path class="{css}" d="{outline}" {known}><title>{escape(title)}</title></path>')
    return "".join(paths)


def mask_outline(labels: NDArray[np.uint16], seen: InstanceRecord) -> str:
    """Path data of one mask, frame pixels; empty where nothing of it is there."""
    x0, y0, x1, y1 = seen.bbox
    mask = (labels[y0:y1, x0:x1] == seen.id).astype(np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE, offset=(x0, y0))
    return "".join(_outline(contour) for contour in contours if len(contour) > 4)


def _outline(contour: NDArray[Any]) -> str:
    points = cv2.approxPolyDP(contour, 0.9, True).reshape(-1, 2)
    return "M" + " ".join(f"{x} {y}" for x, y in points) + "Z"


def project(points_base: NDArray[np.float64], decision: Decision) -> NDArray[np.float64]:
    """Pixels [N, 2] of points [N, 3] in base_link, by the record's camera."""
    frame = decision.frame
    rotation = rotation_matrix(frame.camera_quaternion_xyzw)
    local = (points_base - np.asarray(frame.camera_position_m)) @ rotation
    fx, fy, cx, cy = frame.intrinsics
    with np.errstate(divide="ignore", invalid="ignore"):  # a point in the camera's own plane is nowhere in the picture
        return np.stack([fx * local[:, 0] / local[:, 2] + cx, fy * local[:, 1] / local[:, 2] + cy], axis=1)


def tool_footprint(candidate: CandidateRecord, decision: Decision) -> str:
    """SVG of the tool at contact: the plate, each lip as a ring (filled where its valve opens), the row's direction."""
    tool = decision.context.tool
    ring = np.linspace(0.0, 2.0 * np.pi, 24, endpoint=False)
    lip = tool.cup_radius_m * np.stack([np.cos(ring), np.sin(ring), np.zeros_like(ring)], axis=1)
    parts = [_polygon(_plate_corners(tool), candidate, decision, "plate")]
    for cup, (x, y) in enumerate(tool.cup_centres_m):
        css = "cup on" if cup in candidate.cups else "cup"
        parts.append(_polygon(lip + np.array([x, y, 0.0]), candidate, decision, css))
    return "".join(parts)


def _plate_corners(tool: ToolRecord) -> NDArray[np.float64]:
    x, y = tool.plate_half_size_m
    return np.array([[-x, -y, 0.0], [x, -y, 0.0], [x, y, 0.0], [-x, y, 0.0]])


def _polygon(points_tool: NDArray[np.float64], candidate: CandidateRecord, decision: Decision, css: str) -> str:
    rotation = rotation_matrix(candidate.quaternion_xyzw)
    pixels = project(points_tool @ rotation.T + np.asarray(candidate.position_m), decision)
    return f'<polygon class="{css}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in pixels)}"/>'


def candidate_marks(decision: Decision) -> str:
    """A numbered dot for every other ranked grasp and a small cross for each rejected one, with tooltips."""
    parts = []
    for candidate in decision.candidates[:12]:
        if candidate.rank == decision.choice:
            continue
        ((x, y),) = project(np.array([candidate.position_m]), decision)
        score = "" if candidate.score is None else f", score {candidate.score:.4g}"
        title = escape(f"rank {candidate.rank}: parcel {candidate.instance}, {len(candidate.cups)} cups{score}")
        parts.append(
            f'<g class="other"><circle cx="{x:.1f}" cy="{y:.1f}" r="7"/>'
            f'<text x="{x:.1f}" y="{y + 3.5:.1f}">{candidate.rank}</text><title>{title}</title></g>'
        )
    for candidate in decision.rejected:
        ((x, y),) = project(np.array([candidate.position_m]), decision)
        title = escape(f"parcel {candidate.instance}: {candidate.reason}")
        parts.append(f'<path class="rejected" d="M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"><title>{title}</title></path>')
    return "".join(parts)


def cup_diagram(decision: Decision, scale: float = 900.0) -> str:
    """The tool from above: open valves filled, after the lift each cup's vacuum as its fill level, with kPa below."""
    tool = decision.context.tool
    half_x, half_y = tool.plate_half_size_m
    width, height = 2 * half_x * scale, 2 * half_y * scale
    vacuum = decision.outcome.vacuum_pa if decision.outcome is not None else ()
    on = decision.chosen.cups if decision.chosen is not None else ()
    parts = [f'<rect class="plate" x="1" y="1" width="{width - 2:.0f}" height="{height - 2:.0f}" rx="8"/>']
    radius = tool.cup_radius_m * scale
    for cup, (x, y) in enumerate(tool.cup_centres_m):
        cx, cy = (x + half_x) * scale, (y + half_y) * scale  # from above: the tool's z points away from us, so y down
        pressure = vacuum[cup] if cup < len(vacuum) else 0.0
        level = min(1.0, max(0.0, pressure / tool.vacuum_pa))
        css = "cup on" if cup in on else "cup"
        parts.append(f'<circle class="{css}" cx="{cx:.1f}" cy="{cy:.1f}" r="{radius:.1f}"/>')
        if cup in on and vacuum:
            parts.append(f'<circle class="level" cx="{cx:.1f}" cy="{cy:.1f}" r="{radius * level**0.5:.1f}"/>')
        label = f"{pressure / 1000:.0f}" if cup in on and vacuum else str(cup)
        closed = "" if cup in on else ' class="closed"'
        parts.append(f'<text{closed} x="{cx:.1f}" y="{cy + 4:.1f}">{label}<title>cup {cup}</title></text>')
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    return f'<svg class="tool" {size} role="img" aria-label="cups {on}">{"".join(parts)}</svg>'


def result_strip(results: Sequence[tuple[str, str]]) -> str:
    """One square per pick in order, coloured by result, each a link to its card: (decision id, result)."""
    cell, gap, per_row = 15, 3, 20
    rows = max(1, -(-len(results) // per_row))
    parts = []
    for i, (decision_id, result) in enumerate(results):
        x, y = (i % per_row) * (cell + gap), (i // per_row) * (cell + gap)
        colour = RESULT_COLOURS.get(result, "#000")
        parts.append(
            f'<a href="#{escape(decision_id)}">'
            f'<rect x="{x}" y="{y}" width="{cell}" height="{cell}" rx="3" fill="{colour}">'
            f"<title>{escape(decision_id)}: {escape(result)}</title></rect></a>"
        )
    width, height = per_row * (cell + gap), rows * (cell + gap)
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return f'<svg class="strip" {size}>{"".join(parts)}</svg>'


def rate_bars(rates: Mapping[str, Mapping[str, Any]]) -> str:
    """One row per group: share of clean picks as a bar, its 95 % interval as a whisker, the counts as text."""
    row, left, width = 24, 110, 200
    parts = []
    for i, (name, found) in enumerate(rates.items()):
        y = i * row
        full = found["rate"] * width
        low, high = left + found["low"] * width, left + found["high"] * width
        parts.append(
            f'<text x="{left - 8}" y="{y + 16}" text-anchor="end">{escape(name.replace("_", " "))}</text>'
            f'<rect class="track" x="{left}" y="{y + 5}" width="{width}" height="14" rx="3"/>'
            f'<rect class="bar" x="{left}" y="{y + 5}" width="{full:.1f}" height="14" rx="3"/>'
            f'<path class="whisker" d="M{low:.1f} {y + 12}H{high:.1f}M{low:.1f} {y + 8}v8M{high:.1f} {y + 8}v8"/>'
            f'<text x="{left + width + 8}" y="{y + 16}">{found["rate"]:.1%} ({found["count"]}/{found["of"]})</text>'
        )
    return _chart(left + width + 110, row * len(rates), parts)


def histogram(values: Sequence[float], unit: str, bins: int = 24) -> str:
    """Histogram of measured times with p50 and p95 marked."""
    if not values:
        return ""
    width, height = 400, 110
    data = np.asarray(values, dtype=np.float64)
    top = float(np.percentile(data, 99)) * 1.15 + 1e-9
    counts, edges = np.histogram(np.minimum(data, top), bins=bins, range=(0.0, top))
    step = width / bins
    parts = [
        f'<rect class="bar" x="{i * step:.1f}" y="{height - 20 - n / counts.max() * 80:.1f}" width="{step - 1:.1f}" '
        f'height="{n / counts.max() * 80:.1f}"><title>{edges[i]:.0f}–{edges[i + 1]:.0f} {unit}: {n}</title></rect>'
        for i, n in enumerate(counts)
    ]
    for level in (50, 95):
        value = float(np.percentile(data, level))
        x = value / top * width
        parts.append(
            f'<path class="whisker" d="M{x:.1f} 4V{height - 20}"/>'
            f'<text x="{min(x + 4, width - 90):.1f}" y="{14 if level == 50 else 28}">p{level} {value:.0f} {unit}</text>'
        )
    parts.append(f'<text x="0" y="{height - 4}">0</text>')
    parts.append(f'<text x="{width}" y="{height - 4}" text-anchor="end">{top:.0f} {unit}</text>')
    return _chart(width, height, parts)


def _chart(width: int, height: int, parts: Sequence[str]) -> str:
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return f'<svg class="bars" {size}>{"".join(parts)}</svg>'
