"""Do the environment monitors name what is wrong, and nothing else? Simulated stations, each with faults one by one.

A station keeps its camera, light and belt; goods come and go. It is commissioned with healthy frames. Then each fault
comes with the first of five frames of a new pile, of which parcels are taken as picks take them. One line of JSON per
station is kept, so that a run that broke off goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robin_grasp.tool import CellConfig
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene
from robin_perception.monitors.baseline import StationBaseline, take_baseline
from robin_perception.monitors.station import StationMonitor
from robin_sim.fault_cases import FaultCase, fault_cases
from robin_sim.fault_cost import cost_figures, cost_of_pile
from robin_sim.faults import NO_FAULTS, Faults
from robin_sim.model import Pile
from robin_sim.result_lines import Job, append_line, done_lines
from robin_sim.scenario import load_scenario
from robin_sim.sensor import smears, spoil
from robin_sim.station import SimStation, StationView, picked_from

SeeFrame = Callable[[Frame], Scene]
Advance = Callable[[int, int], None]

HEALTHY_SCENARIOS = ("mixed", "belt", "tote", "bags", "black_bags", "clear_bags", "new_print")
FRAMES = 5
"""Of a stream with a fault."""
_BASELINE_PILES, _BASELINE_LOOKS, _BASELINE_EACH = 2, 3, 5  # 30 frames
_HEALTHY_LOOKS, _HEALTHY_EACH = 5, 16  # of each of the piles
_HEALTHY_PILES = 2


class _Station:
    """A commissioned station and its camera's noise."""

    def __init__(self, scenario: str, seed: int, index: int, see: SeeFrame) -> None:
        self.station = SimStation(load_scenario(scenario).config, CellConfig(), seed, index)
        self._see = see
        self.rng = np.random.default_rng([seed, index, 1])
        self._stamp_s = 0.0
        self.baseline: StationBaseline = take_baseline(list(self._commissioning()))

    def _commissioning(self) -> Iterator[tuple[Frame, Scene]]:
        for _ in range(_BASELINE_PILES):
            for pile in picked_from(self.station.new_pile(), _BASELINE_LOOKS, 6):
                seen = self.station.see(pile)
                for _ in range(_BASELINE_EACH):
                    yield self.shot(seen)

    def shot(
        self, seen: StationView, faults: Faults = NO_FAULTS, dirt: NDArray[np.float32] | None = None
    ) -> tuple[Frame, Scene]:
        """A photograph of it, and the scene that the network makes of that."""
        self._stamp_s += 1.0
        frame = spoil(seen.view, seen.camera, self.rng, self.station.sensor, faults, self._stamp_s, dirt)
        return frame, self._see(frame)

    def stream(self, case: FaultCase, piles: list[Pile], views: list[StationView]) -> Iterator[tuple[Frame, Scene]]:
        """Five frames with the fault; dirt stays where it is on the glass."""
        faults, dirt = case.faults, None
        if faults.dirty_lens:
            dirt = smears(self.rng, views[0].view.depth.shape, faults.dirty_lens)
        first: tuple[Frame, Scene] | None = None
        for pile, healthy in zip(piles, views, strict=True):
            seen = self.station.see(pile, faults) if faults.camera_shift.active else healthy
            if faults.frozen and first is not None:
                self._stamp_s += 1.0
                yield replace(first[0], stamp_s=self._stamp_s), first[1]
                continue
            first = self.shot(seen, faults, dirt)
            yield first


def faults_of_station(seed: int, index: int, see: SeeFrame) -> dict[str, Any]:
    """One line of results: for each case with and without baseline the frame (1 based) at which what was expected had
    been named, null where it was not, and what else was named."""
    station = _Station("mixed", seed, index, see)
    piles = list(picked_from(station.station.new_pile(), FRAMES))
    views = [station.station.see(pile) for pile in piles]
    cases: dict[str, Any] = {}
    for case in fault_cases(station.rng):
        monitors = {"baseline": StationMonitor(None, station.baseline), "defaults": StationMonitor()}
        named: dict[str, dict[str, int]] = {kind: {} for kind in monitors}
        for number, (frame, scene) in enumerate(station.stream(case, piles, views), 1):
            for kind, monitor in monitors.items():
                for condition in monitor.observe(frame, scene):
                    named[kind].setdefault(condition.name, number)
        cases[case.key] = {kind: _score(case, found) for kind, found in named.items()}
        cases[case.key]["fault"] = case.name
    return {"kind": "faults", "seed": seed, "index": index, "container": station.station.container, "cases": cases}


def _score(case: FaultCase, named: Mapping[str, int]) -> dict[str, Any]:
    right = {name: frame for name, frame in named.items() if name in case.expected}
    whole = len(right) == len(case.expected)
    wrong = sorted(set(named) - case.expected)
    return {"frame": max(right.values()) if whole else None, "right": sorted(right), "wrong": wrong}


def healthy_station(scenario: str, seed: int, index: int, see: SeeFrame) -> dict[str, Any]:
    """One line of results: frames of a healthy station, alarms that began, time per frame."""
    station = _Station(scenario, seed, index, see)
    monitors = {"baseline": StationMonitor(None, station.baseline), "defaults": StationMonitor()}
    alarms: dict[str, list[str]] = {kind: [] for kind in monitors}
    frames, times = 0, []
    for _ in range(_HEALTHY_PILES):
        for pile in picked_from(station.station.new_pile(), _HEALTHY_LOOKS):
            seen = station.station.see(pile)
            for _ in range(_HEALTHY_EACH):
                frame, scene = station.shot(seen)
                frames += 1
                for kind, monitor in monitors.items():
                    before = {condition.name for condition in monitor.conditions}
                    began = time.process_time()
                    now = {condition.name for condition in monitor.observe(frame, scene)}
                    if kind == "baseline":
                        times.append(1e3 * (time.process_time() - began))
                    alarms[kind] += sorted(now - before)
    line = {"kind": "healthy", "scenario": scenario, "seed": seed, "index": index, "frames": frames}
    return {**line, "alarms": alarms, "ms": float(np.median(times))}


@dataclass(frozen=True)
class HealthTrials:
    """How much is tried. piles: stations with each fault; healthy_frames: of healthy stations; cost_piles: piles that
    are picked from with each fault and without."""

    piles: int
    healthy_frames: int
    cost_piles: int
    seed: int

    def jobs(self) -> list[Job]:
        """In turns, so that a run that breaks off has some of each. Kind, scenario, index of each."""
        healthy = -(-self.healthy_frames // (_HEALTHY_PILES * _HEALTHY_LOOKS * _HEALTHY_EACH))
        jobs = [(k / max(1, self.piles), ("faults", "", k)) for k in range(self.piles)]
        names = len(HEALTHY_SCENARIOS)
        jobs += [(k / max(1, healthy), ("healthy", HEALTHY_SCENARIOS[k % names], 100_000 + k)) for k in range(healthy)]
        jobs += [(k / max(1, self.cost_piles), ("cost", "", 200_000 + k)) for k in range(self.cost_piles)]
        return [job for _, job in sorted(jobs, key=lambda placed: placed[0])]


def run_health(trials: HealthTrials, see: SeeFrame, lines: Path, advance: Advance) -> dict[str, Any]:
    """Figures of all that is asked for. lines: file of what is done; what stands in it is not done again."""
    done, jobs, seed = done_lines(lines, trials.seed), trials.jobs(), trials.seed
    for number, job in enumerate(jobs):
        advance(number, len(jobs))
        if job in done:
            continue
        kind, scenario, index = job
        if kind == "healthy":
            line = healthy_station(scenario, seed, index, see)
        else:
            line = (faults_of_station if kind == "faults" else cost_of_pile)(seed, index, see)
        done[job] = line
        append_line(lines, line)
    advance(len(jobs), len(jobs))
    return summary([done[job] for job in jobs])


def summary(lines: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of all lines: ``faults``, ``together`` (two at once) and ``healthy``, each with and without a
    baseline, the time per frame, and ``cost``: what each fault costs in picks."""
    lines = list(lines)
    with_faults = [line for line in lines if line["kind"] == "faults"]
    result: dict[str, Any] = {}
    for kind, suffix in (("baseline", ""), ("defaults", "_without_baseline")):
        scores: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
        for line in with_faults:
            for key, case in line["cases"].items():
                scores.setdefault(case["fault"], {}).setdefault(key, []).append(case[kind])
        single = {name: found for name, found in scores.items() if "+" not in name}
        result[f"faults{suffix}"] = {name: _fault_figures(found) for name, found in single.items()}
        pairs = {name: found[name] for name, found in scores.items() if "+" in name}
        result[f"together{suffix}"] = {name: _pair_figures(found) for name, found in pairs.items()}
        result[f"healthy{suffix}"] = _healthy_figures(lines, kind)
    times = [line["ms"] for line in lines if line["kind"] == "healthy"]
    cost = cost_figures(line for line in lines if line["kind"] == "cost")
    return {**result, "ms_per_frame_p50": float(np.median(times)) if times else None, "cost": cost}


def _fault_figures(by_key: Mapping[str, list[Mapping[str, Any]]]) -> dict[str, Any]:
    every = [score for scores in by_key.values() for score in scores]
    return {**_counts(every), "severities": {key: _counts(scores) for key, scores in by_key.items()}}


def _counts(scores: list[Mapping[str, Any]]) -> dict[str, Any]:
    frames = [score["frame"] for score in scores if score["frame"] is not None]
    return {
        "piles": len(scores),
        "named": len(frames),
        "misnamed": sum(bool(score["wrong"]) for score in scores),
        "missed": len(scores) - len(frames),
        "frames_to_alarm_p50": float(np.median(frames)) if frames else None,
    }


def _pair_figures(scores: list[Mapping[str, Any]]) -> dict[str, int]:
    right = [len(score["right"]) for score in scores]
    wrong = sum(bool(score["wrong"]) for score in scores)
    counts = {"both": right.count(2), "one": right.count(1), "none": right.count(0)}
    return {"piles": len(scores), **counts, "misnamed": wrong}


def _healthy_figures(lines: list[Mapping[str, Any]], kind: str) -> dict[str, Any]:
    healthy = [line for line in lines if line["kind"] == "healthy"]
    by_scenario = {
        name: {
            "frames": sum(line["frames"] for line in healthy if line["scenario"] == name),
            "alarms": sorted(a for line in healthy if line["scenario"] == name for a in line["alarms"][kind]),
        }
        for name in HEALTHY_SCENARIOS
    }
    false_alarms = sum(len(found["alarms"]) for found in by_scenario.values())
    return {
        "frames": sum(f["frames"] for f in by_scenario.values()),
        "false_alarms": false_alarms,
        "by_scenario": by_scenario,
    }
