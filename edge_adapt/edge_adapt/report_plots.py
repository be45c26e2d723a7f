"""Plots of what the tool's sensors told over time and of what the pick check believes, as SVG. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from edge_adapt.report_figures import RESULT_COLOURS
from robin_grasp.picks.traces import PHASES, PickTraces

CUP_COLOURS = ("#1f6feb", "#c1272d", "#2e9e5b", "#e2711d", "#8e44ad", "#0f8b8d", "#b5651d", "#d63384")
_WIDTH, _LEFT, _RIGHT, _TOP = 760, 46, 96, 18
_VACUUM_H, _WEIGHT_H, _GAP = 150, 84, 14
_MOST_POINTS = 300
_LABEL_PX = 12


def probability_bars(probabilities: Mapping[str, float], judged: str | None) -> str:
    """One row per result, its belief as a bar in the result's colour; the judged one in bold."""
    row, left, width = 20, 62, 150
    parts = []
    for i, (name, share) in enumerate(probabilities.items()):
        y, weight = i * row, "700" if name == judged else "400"
        parts.append(
            f'<text x="{left - 8}" y="{y + 14}" text-anchor="end" font-weight="{weight}">{escape(name)}</text>'
            f'<rect class="track" x="{left}" y="{y + 4}" width="{width}" height="12" rx="3"/>'
            f'<rect x="{left}" y="{y + 4}" width="{share * width:.1f}" height="12" rx="3" '
            f'fill="{RESULT_COLOURS.get(name, "#6b7785")}"/>'
            f'<text x="{left + width + 8}" y="{y + 14}" font-weight="{weight}">{percent(share)}</text>'
        )
    return _svg("bars", left + width + 62, row * len(probabilities), parts, "probability of each result")


def percent(share: float) -> str:
    """So many digits that nearly sure and sure differ."""
    return f"{share:.1%}" if 0.005 <= share <= 0.995 or share in (0.0, 1.0) else f"{share:.2%}"


def traces_plot(
    traces: PickTraces, open_cups: Sequence[int], vacuum_limit_pa: float, expected_weight_n: float | None
) -> str:
    """Vacuum of each cup above, weight below, on one time axis with the phases marked.

    open_cups: those drawn in colour; a closed one is grey. vacuum_limit_pa: what the pump reaches. expected_weight_n:
    of the target as the planner guessed it, a dashed line; None: not known.
    """
    seconds = np.arange(traces.samples) / traces.rate_hz
    end_s = max(float(seconds[-1]), 1.0 / traces.rate_hz)
    at = np.linspace(_LEFT, _WIDTH - _RIGHT, traces.samples) if traces.samples > 1 else np.array([float(_LEFT)])
    weight_top = _TOP + _VACUUM_H + _GAP
    highest_n = 1.15 * max(float(traces.weight_n.max()), expected_weight_n or 0.0, 1.0)
    lowest_n = min(float(traces.weight_n.min()), 0.0)
    parts = [
        *_phases(traces, at),
        *_axis(_TOP, _VACUUM_H, 0.0, vacuum_limit_pa / 1000, "kPa"),
        *_axis(weight_top, _WEIGHT_H, lowest_n, highest_n, "N"),
        *_time_axis(end_s, weight_top + _WEIGHT_H),
        *_cup_lines(traces, at, open_cups, vacuum_limit_pa),
    ]
    if expected_weight_n is not None:
        y = _y(expected_weight_n, weight_top, _WEIGHT_H, lowest_n, highest_n)
        parts.append(f'<path class="expected" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_WIDTH - _RIGHT + 6}" y="{y + 4:.1f}">{expected_weight_n:.1f} N expected</text>')
    ys = _y(traces.weight_n, weight_top, _WEIGHT_H, lowest_n, highest_n)
    parts.append(f'<path class="trace weight" d="{_path(at, ys)}"><title>weight</title></path>')
    height = weight_top + _WEIGHT_H + 20
    return _svg("traces", _WIDTH, height, parts, "vacuum of each cup and weight over time")


def _phases(traces: PickTraces, at: NDArray[np.float64]) -> list[str]:
    """A band for every other phase, and its name where there is room."""
    begins = [(name, traces.marks[name]) for name in PHASES if name in traces.marks]
    bottom = _TOP + _VACUUM_H + _GAP + _WEIGHT_H
    parts, free = [], 0.0
    for i, (name, sample) in enumerate(begins):
        x0 = float(at[sample])
        x1 = float(at[begins[i + 1][1]]) if i + 1 < len(begins) else float(at[-1])
        if i % 2 == 0:
            parts.append(
                f'<rect class="phase" x="{x0:.1f}" y="{_TOP}" width="{x1 - x0:.1f}" height="{bottom - _TOP}"/>'
            )
        parts.append(f'<path class="mark" d="M{x0:.1f} {_TOP - 4}V{bottom}"/>')
        x = max(x0 + 3, free)
        parts.append(f'<text class="phase-name" x="{x:.1f}" y="{_TOP - 6}">{name}</text>')
        free = x + 6.8 * len(name) + 8
    return parts


def _cup_lines(
    traces: PickTraces, at: NDArray[np.float64], open_cups: Sequence[int], vacuum_limit_pa: float
) -> list[str]:
    """Closed cups first, in grey; each open one with its number and last pressure at the end of its line."""
    parts, ends = [], []
    for cup in sorted(range(traces.vacuum_pa.shape[1]), key=lambda c: c in open_cups):
        pressure = traces.vacuum_pa[:, cup]
        ys = _y(pressure, _TOP, _VACUUM_H, 0.0, vacuum_limit_pa)
        colour = CUP_COLOURS[cup % len(CUP_COLOURS)] if cup in open_cups else "#c9d1d9"
        title = f"cup {cup}" + ("" if cup in open_cups else ", closed")
        parts.append(f'<path class="trace" stroke="{colour}" d="{_path(at, ys)}"><title>{title}</title></path>')
        if cup in open_cups:
            ends.append((float(ys[-1]), f"cup {cup}: {pressure[-1] / 1000:.0f} kPa", colour))
    for y, (_, text, colour) in zip(_spread([end[0] for end in sorted(ends)]), sorted(ends), strict=True):
        x = _WIDTH - _RIGHT
        parts.append(f'<path class="key" stroke="{colour}" d="M{x + 1} {y:.1f}h5"/>')
        parts.append(f'<text x="{x + 9}" y="{y + 4:.1f}">{text}</text>')
    return parts


def _spread(ys: Sequence[float]) -> list[float]:
    """Ascending heights, moved apart so that labels do not lie on each other, and back into the plot."""
    placed: list[float] = []
    for y in ys:
        placed.append(max(y, placed[-1] + _LABEL_PX) if placed else y)
    beyond = placed[-1] - (_TOP + _VACUUM_H) if placed else 0.0
    for i in range(len(placed) - 1, -1, -1):
        if beyond <= 0:
            break
        highest = placed[i + 1] - _LABEL_PX if i + 1 < len(placed) else float(_TOP + _VACUUM_H)
        placed[i] = min(placed[i], highest)
    return placed


def _axis(top: float, height: float, low: float, high: float, unit: str) -> list[str]:
    parts = [f'<rect class="frame" x="{_LEFT}" y="{top}" width="{_WIDTH - _LEFT - _RIGHT}" height="{height}"/>']
    for value in _ticks(low, high):
        y = _y(value, top, height, low, high)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    parts.append(f'<text x="2" y="{top + height / 2:.0f}">{unit}</text>')
    return parts


def _time_axis(end_s: float, y: float) -> list[str]:
    span = _WIDTH - _LEFT - _RIGHT
    ticks = _ticks(0.0, end_s, 6)
    texts = [f"{value:g}" for value in ticks[:-1]] + [f"{ticks[-1]:g} s"]
    return [
        f'<text x="{_LEFT + value / end_s * span:.1f}" y="{y + 14}" text-anchor="middle">{text}</text>'
        for value, text in zip(ticks, texts, strict=True)
    ]


def _ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Round figures within [low, high]."""
    rough = (high - low) / wanted
    size = 10.0 ** np.floor(np.log10(rough))
    step = float(next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough))
    first = int(np.ceil(low / step - 1e-9))
    return [round(i * step, 9) for i in range(first, int(high / step + 1e-9) + 1)]


def _y(values: NDArray[np.float32] | float, top: float, height: float, low: float, high: float) -> NDArray[np.float64]:
    """Pixels from the top; what lies beyond the axis is drawn at its end."""
    share = (np.asarray(values, dtype=np.float64) - low) / (high - low)
    return np.asarray(top + height * (1.0 - np.clip(share, 0.0, 1.0)))


def _path(xs: NDArray[np.float64], ys: NDArray[np.float64]) -> str:
    """Of long traces, of each stretch the lowest and the highest point: a short dip stays visible."""
    if len(xs) > _MOST_POINTS:
        kept: list[int] = []
        for stretch in np.array_split(np.arange(len(xs)), _MOST_POINTS // 2):
            kept += sorted({int(stretch[ys[stretch].argmin()]), int(stretch[ys[stretch].argmax()])})
        xs, ys = xs[kept], ys[kept]
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(xs, ys, strict=True))


def _svg(css: str, width: float, height: float, parts: Sequence[str], label: str) -> str:
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    return f'<svg class="{css}" {size} role="img" aria-label="{label}">{"".join(parts)}</svg>'
