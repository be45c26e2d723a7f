"""What `robin bench ros` makes of the nodes' counters."""

from __future__ import annotations

from collections.abc import Mapping

from robin_cli.bench.budgets import budget
from robin_cli.bench.figures import Figure


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
    return Figure(
        part, f"camera short of {rate_hz:g} Hz", round(short, 1), "%", budget("ros.camera_short_percent"), note
    )
