"""One process's share of a run: the cell with its model and planner, and what is kept of each pick."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edge_adapt.learn.hold import HoldConfig
from edge_adapt.learn.hold_file import HoldKeeper
from edge_adapt.live_picture import LivePicture
from robin_grasp.cup_health import CupHealth
from robin_grasp.picks.outcome import PickOutcome
from robin_grasp.picks.pick_check import PickChecker, PickJudgement
from robin_grasp.plan import Planner
from robin_grasp.planner.registry import make_planner
from robin_grasp.recovery.config import RecoveryConfig
from robin_grasp.recovery.machine import PickTarget
from robin_grasp.tool import CellConfig
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.helper_thread import HelperThread
from robin_perception.engines.base import EngineConfig
from robin_perception.monitors.config import MonitorsConfig
from robin_perception.segmentation.segmenter import Segmenter, load_segmenter
from robin_sim.cell import SeeFrame, SimCell
from robin_sim.load_camera import LoadCameraConfig
from robin_sim.pick_event import PickEvent
from robin_sim.recovered_pile import PersonConfig, RecoveryKit
from robin_sim.runs.request import HELP_FOLDER, LIVE_FOLDER, RunRequest
from robin_sim.runs.results import PickSummary, summarize

Capture = Callable[[PickEvent], Any]


@dataclass(frozen=True)
class CellPick:
    """One pick of a run: its figures, and what ``capture`` made of it (None without one)."""

    summary: PickSummary
    captured: Any = None


@dataclass
class CellRunner:
    """Runs piles of one scenario. It travels to worker processes as it is; the cell is built where the first pile runs,
    so that a failure there can be reported.

    request: with its scenario loaded. capture: turns an event into what is kept of it (a record with images). see: in
    place of the request's model.
    """

    request: RunRequest
    capture: Capture | None = None
    see: SeeFrame | None = None

    def __post_init__(self) -> None:
        self._cell: SimCell | None = None

    def run_pile(self, pile_index: int, most_attempts: int) -> Iterator[CellPick]:
        """Picks of one pile, at most ``most_attempts``. Raises what loading the model, engine and planner raise."""
        if self._cell is None:
            self._cell = build_cell(self.request, self.see)
        if self.request.recovery and not (self.request.keep_cups and self._cell.cups):
            self._cell.cups = CupHealth(self._cell.cell.tool)
        for event in self._cell.run_pile(self.request.seed, pile_index, most_attempts):
            yield CellPick(summarize(event), self.capture(event) if self.capture is not None else None)


def build_cell(request: RunRequest, see: SeeFrame | None = None) -> SimCell:
    """The cell of one process: model and planner are loaded here, once. see: in place of the request's model."""
    config, helper = request.loaded.config, HelperThread()
    holding = open_holding(request.cell or CellConfig(), request.learn_hold, request.seed)
    if see is None and request.masks != "oracle":
        see = run_segmenter(request, helper).segment
    return SimCell(
        config,
        request.cell or CellConfig(),
        partial(_planner, request, helper, holding),
        see,
        load_camera=LoadCameraConfig() if request.recovery else None,
        recovery=recovery_kit(request, see) if request.recovery else None,
        monitors=MonitorsConfig() if request.recovery else None,
        holding=holding,
        live=None if request.page is None else LivePicture(request.page / LIVE_FOLDER),
    )


def recovery_kit(request: RunRequest, see_load: SeeFrame | None = None) -> RecoveryKit:
    """Judge, policy and person of a run. see_load: the network, which looks at loads too; None: it does not."""
    cell, config = request.cell or CellConfig(), request.recovery_config or RecoveryConfig()
    checker = PickChecker(cell, see_load=see_load)

    def judge(pick: PickTarget, after: Frame, outcome: PickOutcome, cell: CellConfig) -> PickJudgement:
        return checker.check(pick.grasp, pick.scene, pick.frame, after, outcome)

    desk = None if request.page is None else request.page / HELP_FOLDER
    return RecoveryKit(judge, config, request.person or PersonConfig(), desk)


def open_holding(cell: CellConfig, path: Path | None, seed: int) -> HoldKeeper | None:
    """What learns to hold, in that file; None without one. Raises RobinError HOLDING_DAMAGED."""
    if path is None:
        return None
    keeper = HoldKeeper(cell, path, HoldConfig(seed=seed))
    if keeper.problem is not None:
        raise keeper.problem
    return keeper


def _planner(
    request: RunRequest, helper: HelperThread, holding: HoldKeeper | None, cell: CellConfig, rng: np.random.Generator
) -> Planner:
    return make_planner(request.planner, cell, request.planner_config, rng, helper, holding)


def run_segmenter(request: RunRequest, helper: HelperThread | None = None) -> Segmenter:
    """The request's model as runs serve it. Raises RobinError MODEL_MISSING where none is named, MODEL_*, ENGINE_*."""
    if request.model is None:
        raise RobinError(Code.MODEL_MISSING, "predicted masks need a model bundle; name one, or use oracle masks")
    # One thread, no spinning: workers share the cores, and sums in another order would give other figures.
    return load_segmenter(
        request.model, request.engine, engine_config=EngineConfig(intra_threads=1, spin=False), helper=helper
    )
