"""What a report's card shows beside plan and outcome: conditions, judgement, traces, the load, actions and cups."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from edge_adapt.decision import Decision
from edge_adapt.recording import DEPTH_SCALE_M
from edge_adapt.report_figures import image_uri, inside, read_coloured_depth, read_rgb
from edge_adapt.report_plots import probability_bars, traces_plot
from edge_adapt.told import (
    EFFECT_TEXT,
    NOVELTY_LIMIT,
    STATE_TEXT,
    code_text,
    cups_in_doubt,
    help_text,
    measured_text,
    odds_text,
    since_text,
)
from edge_adapt.traces_file import read_traces
from robin_grasp.planner.wrench import GRAVITY_MPS2
from robin_perception.core.errors import RobinError

CROP_MARGIN_PX = 12
MOST_CROPS = 6
LOAD_MARGIN_PX = 30


@dataclass(frozen=True)
class ConditionLine:
    """One condition. picture: what it concerns, as data URI; empty where that is the whole frame, or none is kept."""

    code: str
    name: str
    family: str
    measured: str
    since: str
    effect: str
    stops: bool
    text: str
    parcels: tuple[int, ...]
    pictures: tuple[str, ...]


@dataclass(frozen=True)
class ActionLine:
    """One decision of the recovery policy. picture: that a person was shown."""

    state: str
    judged: str
    action: str
    reason: str
    came_of: str
    took: str
    help: str
    picture: str


@dataclass(frozen=True)
class ToldCard:
    """Empty parts are left out of the card. unfamiliar: ids of parcels beyond the station's limit."""

    conditions: tuple[ConditionLine, ...]
    unfamiliar: tuple[int, ...]
    judged: str
    bars: Markup
    reasons: tuple[str, ...]
    features: tuple[tuple[str, str], ...]
    traces: Markup
    load: str
    load_depth: str
    actions: tuple[ActionLine, ...]
    cups: bool
    doubted: tuple[int, ...]


def told_card(folder: Path, decision: Decision) -> ToldCard:
    """folder: of the record, where its pictures lie; what is missing there leaves its place empty."""
    outcome = decision.outcome
    load, load_depth = _load(folder, decision)
    unfamiliar = tuple(seen.id for seen in decision.instances if (seen.novelty or 0.0) > NOVELTY_LIMIT)
    return ToldCard(
        conditions=_conditions(folder, decision),
        unfamiliar=unfamiliar,
        judged="" if outcome is None else odds_text(outcome),
        bars=Markup(
            probability_bars(outcome.probabilities, outcome.judged) if outcome and outcome.probabilities else ""
        ),
        reasons=() if outcome is None else outcome.reasons,
        features=() if outcome is None else tuple((k, _figure(v)) for k, v in outcome.features.items()),
        traces=Markup(_traces(folder, decision)),
        load=load,
        load_depth=load_depth,
        actions=_actions(folder, decision),
        cups=bool(decision.cup_health),
        doubted=tuple(cup.cup for cup in cups_in_doubt(decision.cup_health)),
    )


def _conditions(folder: Path, decision: Decision) -> tuple[ConditionLine, ...]:
    return tuple(
        ConditionLine(
            code=code_text(c.code),
            name=c.name,
            family=c.family,
            measured=measured_text(c),
            since=since_text(c, decision.stamp_s),
            effect=EFFECT_TEXT[c.effect],
            stops=c.effect == "stop",
            text=c.text,
            parcels=c.instances,
            pictures=_crops(folder, decision, c.instances[:MOST_CROPS]),
        )
        for c in decision.conditions
    )


def _crops(folder: Path, decision: Decision, instances: tuple[int, ...]) -> tuple[str, ...]:
    """The parcels that a condition is about."""
    rgb = read_rgb(folder, decision.images["color"]) if instances and "color" in decision.images else None
    if rgb is None:
        return ()
    crops = []
    for seen in decision.instances:
        x0, y0, x1, y1 = seen.bbox
        box = rgb[max(0, y0 - CROP_MARGIN_PX) : y1 + CROP_MARGIN_PX, max(0, x0 - CROP_MARGIN_PX) : x1 + CROP_MARGIN_PX]
        if seen.id in instances and box.size:
            crops.append(image_uri(box))
    return tuple(crops)


def _traces(folder: Path, decision: Decision) -> str:
    """The plot; empty where there are no traces, or none that can be read."""
    if "traces" not in decision.images or (path := inside(folder, decision.images["traces"])) is None:
        return ""
    tool, chosen = decision.context.tool, decision.chosen
    try:
        traces = read_traces(path, len(tool.cup_centres_m))
    except RobinError:
        return ""
    mass_kg = chosen.terms.get("mass_kg", 0.0) if chosen is not None else 0.0
    expected_n = mass_kg * GRAVITY_MPS2 if 0 < mass_kg < 1e3 else None
    return traces_plot(traces, chosen.cups if chosen is not None else (), tool.vacuum_pa, expected_n)


def _picture(folder: Path, decision: Decision, name: str) -> str:
    rgb = read_rgb(folder, decision.images[name]) if name in decision.images else None
    return "" if rgb is None else image_uri(rgb)


def _load(folder: Path, decision: Decision) -> tuple[str, str]:
    """Colour and depth of the look at the load, cut to what hangs there: the rest of the picture is dark."""
    if not {"load", "load_depth"} <= decision.images.keys():
        return "", ""
    rgb = read_rgb(folder, decision.images["load"])
    depth = read_coloured_depth(folder, decision.images["load_depth"], DEPTH_SCALE_M)
    if rgb is None or depth is None or rgb.shape != depth.shape:
        return "" if rgb is None else image_uri(rgb), "" if depth is None else image_uri(depth)
    window = _window(depth)
    return image_uri(np.ascontiguousarray(rgb[window])), image_uri(np.ascontiguousarray(depth[window]))


def _window(depth: NDArray[np.uint8]) -> tuple[slice, slice]:
    """What is not black, without single pixels of noise, with a margin, as a picture of four by three."""
    height, width = depth.shape[:2]
    lit = np.asarray(depth.any(axis=2), dtype=np.uint8)
    seen = cv2.morphologyEx(lit, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    v, u = np.nonzero(seen)
    if not len(v):
        return slice(0, height), slice(0, width)
    half_x = max(u.max() - u.min(), 4 * (v.max() - v.min()) / 3) // 2 + LOAD_MARGIN_PX
    half_y = 3 * half_x // 4
    x, y = (u.max() + u.min()) // 2, (v.max() + v.min()) // 2
    x0, y0 = int(max(0, x - half_x)), int(max(0, y - half_y))
    return slice(y0, int(y + half_y)), slice(x0, int(x + half_x))


def _actions(folder: Path, decision: Decision) -> tuple[ActionLine, ...]:
    lines = []
    for step in decision.steps:
        cups = f" (cups {' '.join(map(str, step.release_cups))})" if step.release_cups else ""
        picture = step.help.picture if step.help is not None else ""
        lines.append(
            ActionLine(
                state=STATE_TEXT.get(step.state, step.state),
                judged=odds_text(step),
                action=step.action.replace("_", " ") + cups,
                reason=step.reason,
                came_of=step.came_of,
                took=f"{step.took_s:.1f} s" if step.took_s else "",
                help="" if step.help is None else help_text(step.help),
                picture=_picture(folder, decision, picture) if picture else "",
            )
        )
    return tuple(lines)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
