"""What `robin bench ros` makes of its samples: spread, growth, and figures beside their budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

PUBLISHED_OVER_DIRECT_P50_MS = 15.0
PUBLISHED_OVER_DIRECT_P99_MS = 40.0
SERVICE_OVERHEAD_P50_MS = 5.0
MEMORY_GROWTH_PERCENT = 2.0
WORKSPACE_BUILD_S = 90.0
NODE_START_S = 5.0
CAMERA_SHORT_PERCENT = 5.0
_STEADY_SHARE = 0.2  # of the run; its first part fills caches and pools


@dataclass(frozen=True)
class Figure:
    """One line of the table. at_most: the budget in ``unit``; None = shown, not judged."""

    part: str
    name: str
    value: float
    unit: str
    at_most: float | None = None
    note: str = ""

    @property
    def within(self) -> bool | None:
        """Whether it is within its budget; None where there is none."""
        return None if self.at_most is None else bool(self.value <= self.at_most)

    @property
    def mark(self) -> str:
        return {None: "", True: "pass", False: "OVER"}[self.within]

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "within": self.within}


def spread(values: Sequence[float], digits: int = 2) -> dict[str, float]:
    """p50, p95, p99, mean, sd, min, max and n. Needs at least one value."""
    p50, p95, p99 = (float(value) for value in np.percentile(values, (50, 95, 99)))
    found = {
        "p50": p50,
        "p95": p95,
        "p99": p99,
        "mean": float(np.mean(values)),
        "sd": float(np.std(values)),
        "min": min(values),
        "max": max(values),
    }
    return {**{name: round(value, digits) for name, value in found.items()}, "n": len(values)}


def of_spread(values: Mapping[str, float]) -> str:
    """A spread in milliseconds in one line."""
    return f"p95 {values['p95']:.1f}, p99 {values['p99']:.1f}, sd {values['sd']:.1f}, n {values['n']:.0f}"


@dataclass(frozen=True)
class Growth:
    """Memory of a process over a run. first_mb, last_mb: medians of the first and last fifth after the warm-up.

    slope_mb_per_min: of the straight line through all samples after the warm-up, which a leak raises.
    """

    first_mb: float
    last_mb: float
    peak_mb: float
    slope_mb_per_min: float
    samples: int

    @property
    def percent(self) -> float:
        return (self.last_mb / self.first_mb - 1.0) * 100.0

    def to_json(self) -> dict[str, float]:
        return {**{k: round(float(v), 3) for k, v in asdict(self).items()}, "percent": round(self.percent, 3)}


def memory_growth(times_s: Sequence[float], rss_mb: Sequence[float]) -> Growth:
    """times_s: ascending, since the run began. The first fifth of the run counts as warm-up. Needs five samples."""
    times, values = np.asarray(times_s, dtype=np.float64), np.asarray(rss_mb, dtype=np.float64)
    if len(times) != len(values) or len(times) < 5:
        raise ValueError(f"memory growth needs five samples, got {len(times)} times and {len(values)} values")
    steady = times >= times[0] + _STEADY_SHARE * (times[-1] - times[0])
    times, values = times[steady], values[steady]
    fifth = max(1, len(values) // 5)
    slope_per_s = float(np.polyfit(times, values, 1)[0]) if len(values) > 1 else 0.0
    first, last = float(np.median(values[:fifth])), float(np.median(values[-fifth:]))
    return Growth(first, last, float(values.max()), slope_per_s * 60.0, len(values))


def counted(values: Mapping[str, str], name: str) -> int:
    """A counter of a node's diagnostics; 0 for what has not happened yet."""
    return int(values.get(name, "0"))


def dropped(values: Mapping[str, str]) -> dict[str, int]:
    """Drops of a node's diagnostics by cause."""
    return {key.removeprefix("dropped."): int(text) for key, text in values.items() if key.startswith("dropped.")}


def short_of_rate(part: str, frames: int, seconds: float, rate_hz: float) -> Figure:
    """How much the camera itself fell behind; a pipeline that was shown fewer frames has not been tried."""
    short = max(0.0, 100.0 * (1.0 - frames / (rate_hz * seconds)))
    note = f"{frames} frames in {seconds:.1f} s"
    return Figure(part, f"camera short of {rate_hz:g} Hz", round(short, 1), "%", CAMERA_SHORT_PERCENT, note)


def figure_rows(figures: Sequence[Figure]) -> list[tuple[str, ...]]:
    """Rows for the table: part, what, value, budget, mark, note."""

    def budget(figure: Figure) -> str:
        return "" if figure.at_most is None else f"≤ {figure.at_most:g} {figure.unit}"

    return [(f.part, f.name, f"{f.value:.4g} {f.unit}", budget(f), f.mark, f.note) for f in figures]
