"""Presses: the tool is put onto parcels of fresh piles with the planner's grasps, and each cup's vacuum is read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robin_grasp.cup_health import SMOOTHED_SAMPLES, pressed_vacuum
from robin_grasp.picks.outcome import PickOutcome, PickResult
from robin_grasp.picks.traces import PickTraces
from robin_grasp.plan import Grasp
from robin_grasp.planner.registry import make_planner
from robin_grasp.tool import CellConfig, mask_to_cups
from robin_sim.faults import Faults
from robin_sim.open_pile import OpenPile
from robin_sim.physics import UnstableSimulationError
from robin_sim.pick import press_cups
from robin_sim.scenario import load_scenario

GOODS = ("mixed", "bags", "black_bags", "clear_bags", "new_print", "mixed", "belt", "tote")
"""Scenarios whose piles take turns: half of them show porous, crinkled or unseen goods."""
MOST_OF_A_PILE = 14


@dataclass(frozen=True)
class Press:
    """One press. seals: P(seal) of each cup as planned, None where it stays closed. reached: share of the vacuum of
    each cup. torn: the cup that was torn, -1 for none. kind: of the parcel."""

    scenario: str
    pile: int
    instance: int
    kind: str
    cups: int
    torn: int
    seals: tuple[float | None, ...]
    reached: tuple[float, ...]

    def as_pick(self, vacuum_pa: float) -> tuple[Grasp, PickOutcome]:
        """What cup health learns from."""
        seals = tuple(float("nan") if seal is None else seal for seal in self.seals)
        vacuum = vacuum_pa * np.array(self.reached)
        traces = PickTraces(
            50.0, np.tile(vacuum, (SMOOTHED_SAMPLES, 1)).astype(np.float32), np.zeros(SMOOTHED_SAMPLES, np.float32)
        )
        outcome = PickOutcome(PickResult.MISS, tuple(vacuum.tolist()), 0.0, 0.0, traces=traces)
        return Grasp(np.eye(4), self.cups, self.instance, 0.0, cup_seal=seals), outcome


def press_pile(scenario: str, seed: int, pile: int, torn: bool = False) -> Iterator[Press]:
    """Presses of the ranked grasps of a fresh pile, oracle masks, the same for the same (seed, pile). torn: one of the
    open cups of each press is torn. Presses whose physics diverges are left out."""
    cell, rng = CellConfig(), np.random.default_rng([seed, pile, 1])
    opened = OpenPile(load_scenario(scenario).config, cell, seed, pile)
    if opened.empty:
        return
    frame = opened.look()
    scene = opened.oracle_scene()
    for grasp in make_planner("geometric", opened.cell).plan(frame, scene).grasps[:MOST_OF_A_PILE]:
        bad = int(rng.choice(mask_to_cups(grasp.cups))) if torn else -1
        faults = Faults(torn_cups=(bad,) if torn else ())
        try:
            traces = press_cups(opened.pile, grasp.T_base_tool, grasp.cups, opened.cell, faults, rng)
        except UnstableSimulationError:
            continue
        vacuum = pressed_vacuum(traces, cell.tool.cup_count)
        if vacuum is None:
            continue
        yield Press(
            scenario=scenario,
            pile=pile,
            instance=grasp.instance_id,
            kind=opened.kind_of(opened.meant_by(scene, grasp)),
            cups=grasp.cups,
            torn=bad,
            seals=tuple(None if np.isnan(seal) else round(seal, 5) for seal in grasp.cup_seal),
            reached=tuple(round(float(pa) / cell.tool.vacuum_pa, 4) for pa in vacuum),
        )


def append_presses(path: Path, presses: list[Press]) -> None:
    """One JSON line each."""
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(press)) + "\n" for press in presses)


def read_presses(path: Path) -> list[Press]:
    """What ``append_presses`` wrote; empty where there is no such file."""
    if not path.exists():
        return []
    return [_press(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def _press(values: dict[str, Any]) -> Press:
    return Press(**{**values, "seals": tuple(values["seals"]), "reached": tuple(values["reached"])})
