"""What a fault of the camera costs in clean picks: the same piles, picked from with it and without."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from robin_grasp.plan import Planner
from robin_grasp.planner.registry import DEFAULT_PLANNER, make_planner
from robin_grasp.tool import CellConfig
from robin_perception.core.errors import RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene
from robin_perception.core.stats import paired_difference
from robin_sim.fault_cases import cost_cases
from robin_sim.faults import NO_FAULTS, Faults
from robin_sim.model import Pile
from robin_sim.oracle import dominant_parcel
from robin_sim.physics import UnstableSimulationError
from robin_sim.pick import execute_pick
from robin_sim.scenario import load_scenario
from robin_sim.sensor import spoil
from robin_sim.station import SimStation, StationView, picked_from

HEALTHY = "healthy"
SCENARIO = "mixed"
COSTS = 0.02
"""Share of clean picks lost from which on a fault must be named."""


@dataclass(frozen=True)
class _Look:
    """A pile, and what the camera sees of it; healthy: without faults, before: as it was two parcels ago."""

    station: SimStation
    pile: Pile
    healthy: StationView
    before: tuple[Pile, StationView]

    def seen(self, faults: Faults) -> tuple[Pile, StationView]:
        """What the picture shows, and the pile that lay there then."""
        if faults.frozen:
            return self.before
        return self.pile, self.station.see(self.pile, faults) if faults.camera_shift.active else self.healthy


def cost_of_pile(seed: int, index: int, see: Callable[[Frame], Scene]) -> dict[str, Any]:
    """One line of results: what became of the first pick from one pile, healthy and with each fault. Camera noise, arm
    and physics draw the same numbers each time, so the same grasp has the same result."""
    station = SimStation(load_scenario(SCENARIO).config, CellConfig(), seed, index)
    before, pile = picked_from(station.new_pile(), 2)
    look = _Look(station, pile, station.see(pile), (before, station.see(before)))
    cell = CellConfig().model_copy(update={"workspace": station.workspace})
    planner = make_planner(DEFAULT_PLANNER, cell)
    cases = {case.key: case.faults for case in cost_cases(np.random.default_rng([seed, index, 1]))}
    results = {
        key: _result(look, faults, see, planner, cell, [seed, index])
        for key, faults in {HEALTHY: NO_FAULTS, **cases}.items()
    }
    return {"kind": "cost", "seed": seed, "index": index, "results": results}


def _result(
    look: _Look, faults: Faults, see: Callable[[Frame], Scene], planner: Planner, cell: CellConfig, seed: list[int]
) -> str:
    """A PickResult's value, "infeasible" where nothing could be planned, "unstable" where the physics diverged."""
    shown, seen = look.seen(faults)
    frame = spoil(seen.view, seen.camera, np.random.default_rng([*seed, 2]), look.station.sensor, faults)
    try:
        scene = see(frame)
        grasp = planner.plan(frame, scene).best
    except RobinError:
        return "infeasible"
    if grasp is None:
        return "infeasible"
    meant = dominant_parcel(seen.view, scene.labels == grasp.instance_id)
    lying = {id(parcel): place for place, parcel in enumerate(look.pile.parcels)}
    target = lying.get(id(shown.parcels[meant]), -1) if meant >= 0 else -1
    arm = np.random.default_rng([*seed, 3])
    try:
        picked = execute_pick(look.pile, grasp.T_base_tool, grasp.cups, target, cell, faults, arm)
    except UnstableSimulationError:
        return "unstable"
    return picked.outcome.result.value


def cost_figures(lines: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Of each fault at each severity: share of piles that lose their clean pick less those that win one, with its 95 %
    interval, and whether the fault ``costs`` picks. A pile where nothing is found to pick has no clean pick."""
    found: dict[str, Any] = {}
    lines = [line["results"] for line in lines]
    for key in {key: None for results in lines for key in results}:
        pairs = [(results[HEALTHY] == "clean", results[key] == "clean") for results in lines if key in results]
        lost, won = pairs.count((True, False)), pairs.count((False, True))
        difference = paired_difference(lost, won, len(pairs))
        clean = sum(after for _, after in pairs)
        told = {"piles": len(pairs), "clean": clean, "lost": difference, "costs": difference["rate"] >= COSTS}
        found[key] = {**told, "results": dict(Counter(results[key] for results in lines if key in results))}
    return found
