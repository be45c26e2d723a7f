"""What `robin bench` makes of its samples: spread, growth of memory, and figures beside their budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from robin_cli.bench.budgets import Budget
from robin_cli.terminal import print_table

IDLE_LOAD = 0.25  # per core; above it, something else takes processor time
_STEADY_SHARE = 0.2  # of the run; its first part fills caches and pools


@dataclass(frozen=True)
class Figure:
    """One line of the table. budget: in ``unit``; None = shown, not judged."""

    part: str
    name: str
    value: float
    unit: str
    budget: Budget | None = None
    note: str = ""

    @property
    def within(self) -> bool | None:
        """Whether it is within its budget; None where there is none."""
        return None if self.budget is None else self.budget.met_by(self.value)

    @property
    def mark(self) -> str:
        return {None: "", True: "pass", False: "OVER"}[self.within]

    def to_json(self) -> dict[str, Any]:
        limits = {} if self.budget is None else self.budget.model_dump(exclude_none=True)
        plain = {name: value for name, value in asdict(self).items() if name != "budget"}
        return {**plain, **limits, "within": self.within}


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


def figure_rows(figures: Sequence[Figure]) -> list[tuple[str, ...]]:
    """Rows for the table: part, what, value, budget, mark, note."""

    def budget(figure: Figure) -> str:
        return "" if figure.budget is None else f"{figure.budget} {figure.unit}".rstrip()

    return [(f.part, f.name, f"{f.value:.4g} {f.unit}".rstrip(), budget(f), f.mark, f.note) for f in figures]


def print_figures(title: str, figures: Sequence[Figure]) -> None:
    """The table at the end of a bench."""
    columns = ("part", "what", "figure", "budget", "", "spread")
    print_table(title, columns, figure_rows(figures), text_columns=2)


def print_verdict(over: Sequence[str], machine: Mapping[str, Any], warning: str) -> None:
    """What is over its budget, and ``warning`` where the machine was not free enough for any of it to count."""
    print(f"over budget: {'; '.join(over)}" if over else "every budget is met")
    if machine["load_1min"] > IDLE_LOAD * machine["cores"]:
        text = f"the machine was busy before this began (load {machine['load_1min']} on {machine['cores']} cores)"
        print(f"{text}: {warning}")
