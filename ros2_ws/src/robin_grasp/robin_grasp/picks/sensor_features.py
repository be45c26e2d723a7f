"""What the tool's own sensors tell of a pick: vacuum of each cup and weight, over time where the cell has traces."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from robin_grasp.picks.outcome import PickOutcome
from robin_grasp.picks.traces import PHASES, PickTraces
from robin_grasp.plan import Grasp
from robin_grasp.planner.fit import shipped_fit
from robin_grasp.tool import GRAVITY_MPS2, ToolConfig, mask_to_cups
from robin_perception.core.scene import Instance, Scene

HELD_SHARE = 0.10  # of the pump's vacuum: a cup that reaches it holds something
SHED_N = 0.45  # between two weighings, beyond what noise makes of one load
SMOOTH_S = 0.06  # weights are means over this: above the sensor's noise, below a swing

TOOL_FEATURES: dict[str, str] = {
    "cups_open": "cups whose valve was open",
    "held_share": "of the open cups that hold something after the lift",
    "pressure_mean": "mean vacuum of the open cups after the lift, of the pump's",
    "pressure_least": "vacuum of the cup that holds least of those that hold, of the pump's",
    "weight_n": "on the tool after the lift, N",
    "log_load": "ln(weight / expected weight)",
    "load_sigmas": "log_load in standard deviations of the expected mass of such goods",
}
"""Of the figures after the lift, which every cell has."""

TRACE_FEATURES: dict[str, str] = {
    "gripped_share": "of the open cups that hold something when the lift begins",
    "held_at_end_share": "of the open cups that hold something when the tool stands at the place station",
    "lost_in_lift": "cups that let go between the begin of the lift and its end",
    "lost_in_transfer": "cups that let go after the lift",
    "pressure_fall": "largest fall of one held cup's vacuum from the lift's end to the place station, of the pump's",
    "lift_s": "time in the lift until the last cup let go, or until its end, s",
    "lift_pull": "largest weight in the lift over the weight after it: what was pulled free or fell off",
    "lift_mean": "mean weight in the lift over the weight after it: 1 for a load that came up whole and stayed on",
    "lost_n": "weight after the lift less that at the place station, N",
    "shed_n": "the same if beyond noise and something still hangs there, else 0: a part of the load was lost, N",
    "level_fall_n": "weight in the first third of the way to the place station less that in its last third, N",
    "arrive_share": "weight at the place station over the weight after the lift",
    "arrive_n": "weight at the place station, N",
    "fall_n": "largest fall of the smoothed weight while the tool moves level, N",
    "log_arrive_load": "ln(weight at the place station / expected weight)",
    "swing_share": "spread of the weight at the place station over its mean",
}
"""Of the traces."""

NAN = math.nan


def tool_features(
    grasp: Grasp, scene: Scene, target: Instance, outcome: PickOutcome, tool: ToolConfig
) -> dict[str, float]:
    """TOOL_FEATURES; NaN where the planner told no expected mass or nothing holds."""
    cups = list(mask_to_cups(grasp.cups))
    pressure = np.asarray(outcome.vacuum_pa)[cups] / tool.vacuum_pa
    held = pressure > HELD_SHARE
    weight_n = outcome.lifted_weight_n
    log_load = _log_load(weight_n, grasp)
    return {
        "cups_open": float(len(cups)),
        "held_share": float(held.mean()) if cups else 0.0,
        "pressure_mean": float(pressure.mean()) if cups else 0.0,
        "pressure_least": float(pressure[held].min()) if held.any() else NAN,
        "weight_n": weight_n,
        "log_load": log_load,
        "load_sigmas": log_load / _mass_sigma(scene, target),
    }


def trace_features(grasp: Grasp, traces: PickTraces, tool: ToolConfig) -> dict[str, float]:
    """TRACE_FEATURES of traces that ``usable`` let through."""
    cups = list(mask_to_cups(grasp.cups))
    pressure = traces.vacuum_pa[:, cups] / np.float32(tool.vacuum_pa)
    weight = _smoothed(traces.weight_n, max(1, round(SMOOTH_S * traces.rate_hz)))
    lift, weigh = _part(traces, "lift"), _part(traces, "weigh")
    arrive, level = _part(traces, "arrive"), _part(traces, "transfer")
    # A tool that gripped nothing does not lift: it leaves.
    gripped = pressure[max(min(lift.start, weigh.start) - 1, 0)] > HELD_SHARE
    lifting = lift.stop > lift.start and bool(gripped.any())
    after = _mean(pressure, weigh)
    held = after > HELD_SHARE
    end = pressure[-1]
    weigh_n = float(traces.weight_n[weigh].mean())
    # A pick that lost everything ends before the place station: what is left then is what hangs at the end.
    last = traces.weight_n[arrive] if arrive.stop > arrive.start else traces.weight_n[-3:]
    arrive_n = float(last.mean())
    floor_n = max(weigh_n, 0.3)
    moving = weight[level.start : arrive.stop] if level.stop > level.start else weight[weigh]
    return {
        "gripped_share": float(gripped.mean()),
        "held_at_end_share": float((end > HELD_SHARE).mean()),
        "lost_in_lift": float((gripped & ~held).sum()),
        "lost_in_transfer": float((held & (end <= HELD_SHARE)).sum()),
        "pressure_fall": float((after - end)[held].max()) if held.any() else NAN,
        "lift_s": _held_s(pressure[lift], traces.rate_hz),
        "lift_pull": float(weight[lift].max()) / floor_n if lifting else NAN,
        "lift_mean": float(traces.weight_n[lift].mean()) / floor_n if lifting else NAN,
        "lost_n": weigh_n - arrive_n,
        "shed_n": weigh_n - arrive_n if (end > HELD_SHARE).any() and weigh_n - arrive_n > SHED_N else 0.0,
        "level_fall_n": _fall(traces.weight_n[level]),
        "arrive_share": arrive_n / floor_n,
        "arrive_n": arrive_n,
        "fall_n": float((np.maximum.accumulate(moving) - moving).max()) if len(moving) else 0.0,
        "log_arrive_load": _log_load(arrive_n, grasp),
        "swing_share": float(last.std()) / floor_n,
    }


def trace_misfit(traces: PickTraces, cups: int) -> str:
    """Why traces cannot be used, in one line; empty if they can."""
    samples, weights = len(traces.vacuum_pa), len(traces.weight_n)
    if traces.vacuum_pa.ndim != 2 or traces.vacuum_pa.shape[1] != cups:
        return f"vacuum of shape {traces.vacuum_pa.shape}, the tool has {cups} cups"
    if traces.weight_n.ndim != 1 or samples != weights:
        return f"{samples} samples of vacuum, {weights} of weight"
    if not (math.isfinite(traces.rate_hz) and 5.0 <= traces.rate_hz <= 10_000.0):
        return f"{traces.rate_hz:g} samples a second; 5 to 10000 can be read"
    if not (np.isfinite(traces.vacuum_pa).all() and np.isfinite(traces.weight_n).all()):
        return "a sample is not finite"
    marks = [traces.marks[phase] for phase in PHASES if phase in traces.marks]
    if marks != sorted(marks) or not all(0 <= mark < samples for mark in marks) or "weigh" not in traces.marks:
        return f"marks {dict(traces.marks)} do not order the {samples} samples, the weighing among them"
    return ""


def _part(traces: PickTraces, phase: str) -> slice:
    """Samples of a phase; an empty slice where it never came."""
    count = len(traces.weight_n)
    if phase not in traces.marks:
        return slice(count, count)
    start = traces.marks[phase]
    later = [mark for mark in traces.marks.values() if mark > start]
    return slice(start, min(later, default=count))


def _held_s(pressure: NDArray[np.float32], rate_hz: float) -> float:
    """Until the last sample at which any cup holds something."""
    held = np.flatnonzero((pressure > HELD_SHARE).any(axis=1))
    return (int(held[-1]) + 1) / rate_hz if len(held) else 0.0


def _fall(weight: NDArray[np.float32]) -> float:
    third = len(weight) // 3
    return float(weight[:third].mean() - weight[-third:].mean()) if third else NAN


def _mean(pressure: NDArray[np.float32], part: slice) -> NDArray[np.float32]:
    return np.asarray(pressure[part].mean(axis=0))


def _smoothed(values: NDArray[np.float32], width: int) -> NDArray[np.float64]:
    """Running mean of the same length."""
    kernel = np.ones(width)
    return np.asarray(np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same"))


def _log_load(weight_n: float, grasp: Grasp) -> float:
    expected_n = grasp.terms.get("mass_kg", 0.0) * GRAVITY_MPS2
    return math.log(max(weight_n, 0.05) / expected_n) if expected_n > 0 else NAN


def _mass_sigma(scene: Scene, target: Instance) -> float:
    """1-sigma of ln(mass) of goods that look like the target."""
    sigmas = shipped_fit().of_classes(scene.class_names).mass_log_sigma
    return float(target.class_probabilities @ sigmas) or 1.0
