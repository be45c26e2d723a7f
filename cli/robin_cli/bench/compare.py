"""`robin bench compare`: two results of one bench, figure by figure, and what they do not share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from robin_perception.core.bounded import parse_json, read_plain_bytes
from robin_perception.core.errors import Code, RobinError

# Medians nearer to each other than this are not told apart, whatever their spread.
SAME_WITHIN = 0.02
_SPREAD = frozenset({"p50", "p95"})
# What two results must share before their times mean anything side by side.
_CONDITIONS = (
    "machine.cpu",
    "machine.cores",
    "machine.versions",
    "machine.blas_threads",
    "input_sha256",
    "bundle_sha256",
    "model",
    "engine",
    "threads",
    "spin",
    "planner",
)


_LARGEST = 1e15  # of a figure: nanoseconds of a week
RESULT_BYTES = 16_000_000


def read_result(path: Path) -> dict[str, Any]:
    """The JSON of a bench. Raises RobinError INPUT_MISSING, INPUT_UNREADABLE."""
    values = parse_json(read_plain_bytes(path, RESULT_BYTES), str(path), Code.INPUT_UNREADABLE)
    if not isinstance(values, dict) or "machine" not in values:
        raise RobinError(Code.INPUT_UNREADABLE, f"{path}: is no result of `robin bench`")
    return values


def compare_results(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """figures: every figure with a spread that both have, with p50 of each, their ratio b / a and a verdict; missing:
    those that only one has; differences: conditions that differ.

    verdict: "same" within SAME_WITHIN, or while the medians differ by no more than twice the standard error of both
    means together; else "more" or "less". Raises RobinError INPUT_UNREADABLE without common figures.
    """
    a, b = dict(_spreads(before)), dict(_spreads(after))
    common = [name for name in a if name in b]
    if not common:
        raise RobinError(Code.INPUT_UNREADABLE, "the two results share no figure; are they of the same bench?")
    figures = [_compared(name, a[name], b[name]) for name in common]
    return {
        "figures": figures,
        "missing": sorted(set(a).symmetric_difference(b)),
        "differences": [line for key in _CONDITIONS if (line := _difference(key, before, after))],
    }


def _spreads(values: Any, path: str = "") -> Iterator[tuple[str, dict[str, float]]]:
    if not isinstance(values, dict):
        return
    if values.keys() >= _SPREAD and all(_is_figure(values.get(key, 0)) for key in (*_SPREAD, "sd", "n")):
        yield path, values
        return
    for key, value in values.items():
        yield from _spreads(value, f"{path}.{key}" if path else str(key))


def _is_figure(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) <= _LARGEST


def _compared(name: str, a: dict[str, float], b: dict[str, float]) -> dict[str, Any]:
    ratio = b["p50"] / a["p50"] if a["p50"] else float("inf") if b["p50"] else 1.0
    deviations = [spread.get("sd", 0.0) / max(spread.get("n", 1), 1) ** 0.5 for spread in (a, b)]
    noise = 2.0 * (deviations[0] ** 2 + deviations[1] ** 2) ** 0.5
    same = abs(ratio - 1.0) <= SAME_WITHIN or abs(b["p50"] - a["p50"]) <= noise
    verdict = "same" if same else "more" if ratio > 1.0 else "less"
    return {"what": name, "a": a["p50"], "b": b["p50"], "ratio": ratio, "verdict": verdict}


def _difference(key: str, before: dict[str, Any], after: dict[str, Any]) -> str | None:
    old, new = _at(before, key), _at(after, key)
    return None if old == new else f"{key}: {_short(old)} / {_short(new)}"


def _at(values: dict[str, Any], key: str) -> Any:
    for part in key.split("."):
        values = values.get(part, {}) if isinstance(values, dict) else {}
    return values if values != {} else None


def _short(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= 90 else text[:87] + "..."
