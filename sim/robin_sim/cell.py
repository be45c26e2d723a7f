"""The simulated cell: pile, frame, scene, plan, pick, next frame, until the pile is gone.

The planner sees what a robot's planner sees: the spoiled frame, the scene and its own failures in this pile. The truth
(which parcel a mask shows, what was lifted) stays on this side.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from edge_adapt.live_picture import LivePicture
from robin_grasp.cup_health import CupHealth
from robin_grasp.hold_learning import HoldLearning
from robin_grasp.picks.outcome import PickOutcome
from robin_grasp.picks.plan_server import left_for_last, without_instances
from robin_grasp.plan import ALL_SOUND, Grasp, Planner
from robin_grasp.recovery.failure_memory import FailureMemory
from robin_grasp.recovery.machine import PickTarget
from robin_grasp.tool import CellConfig
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene
from robin_perception.monitors.config import MonitorsConfig
from robin_perception.monitors.station import StationMonitor
from robin_sim.load_camera import LoadCameraConfig
from robin_sim.open_pile import OpenPile
from robin_sim.physics import UnstableSimulationError
from robin_sim.pick_event import PickEvent
from robin_sim.recovered_pile import RecoveredPile, RecoveryKit
from robin_sim.scenario import ScenarioConfig

SeeFrame = Callable[[Frame], Scene]
MakePlanner = Callable[[CellConfig, np.random.Generator], Planner]


class SimCell:
    """One scenario's cell. Not thread-safe; one per process.

    make_planner: called for every pile with its cell and a generator of its own (for planners that explore).
    see: None for oracle masks. load_camera: None for a cell without one. recovery: None for a cell that delivers
    whatever it lifts, and whose pile is replaced where it fails. cups: the tool's, learned from pick to pick and from
    pile to pile; None for a cell whose planner always trusts them. monitors: of the station, which is another one with
    every pile; None: nobody watches. holding: learns to hold from pick to pick, and the planner that
    is made knows it; None: nobody learns. live: is shown every image, and once more with its masks; None: nobody looks.
    """

    def __init__(
        self,
        config: ScenarioConfig,
        cell: CellConfig,
        make_planner: MakePlanner,
        see: SeeFrame | None = None,
        load_camera: LoadCameraConfig | None = None,
        recovery: RecoveryKit | None = None,
        cups: CupHealth | None = None,
        monitors: MonitorsConfig | None = None,
        holding: HoldLearning | None = None,
        live: LivePicture | None = None,
    ) -> None:
        config.faults.require_cups(cell.tool)
        self.config = config
        self.cell = cell
        self._make_planner = make_planner
        self._see = see
        self._load_camera = load_camera
        self._recovery = recovery
        self.cups = cups
        self._monitors = monitors
        self._holding = holding
        self._live = live

    def open_pile(self, seed: int, pile_index: int) -> OpenPile:
        return OpenPile(self.config, self.cell, seed, pile_index, load_camera=self._load_camera, on_look=self._show)

    def run_pile(self, seed: int, pile_index: int, max_attempts: int) -> Iterator[PickEvent]:
        """Pick one pile until it is empty, no grasp is found, or ``max_attempts`` (at most the scenario's
        picks_per_pile) are done. Where too many picks in a row failed, the pile ends (``FailureMemory.stuck``) without
        a recovery policy; with one a person is asked.

        The same (seed, pile_index) gives the same pile, whatever the planner.
        """
        opened = self.open_pile(seed, pile_index)
        planner = self._make_planner(opened.cell, opened.planner_rng)
        monitor = StationMonitor(self._monitors or MonitorsConfig(enabled=False), None, opened.cell.workspace.belt_z_m)
        if not opened.empty:
            opened.look()
        most = min(max_attempts, self.config.picks_per_pile)
        if self._recovery is None:
            return self._held(self._run_plain(opened, planner, monitor, most))
        recovered = RecoveredPile(
            opened,
            self._recovery,
            lambda index, recovery: self._plan(opened, recovery.memory, planner, monitor, index),
            lambda grasp, outcome: self._learn(opened, grasp, outcome),
            monitor.reset,
        )
        return self._held(recovered.run(most))

    def _run_plain(self, opened: OpenPile, planner: Planner, monitor: StationMonitor, most: int) -> Iterator[PickEvent]:
        memory = FailureMemory()
        for pick_index in range(most):
            if opened.empty or memory.stuck:
                return
            event = self._plan(opened, memory, planner, monitor, pick_index)
            grasp = event.plan.best
            if grasp is None:
                yield event
                return
            try:
                outcome = opened.pick(grasp, event.meant)
            except UnstableSimulationError as error:
                yield replace(event, fault=f"the simulation diverged: {error}")
                return
            memory.note(grasp, outcome.result)
            self._learn(opened, grasp, outcome)
            yield replace(event, outcome=outcome, after=opened.look())

    def _show(self, frame: Frame, scene: Scene | None = None) -> None:
        if self._live is not None:
            self._live.offer(frame.rgb, None if scene is None else scene.labels)

    def _learn(self, opened: OpenPile, grasp: Grasp, outcome: PickOutcome) -> None:
        if self.cups is not None:
            self.cups.note(grasp, outcome, opened.stamp_s)

    def _held(self, events: Iterator[PickEvent]) -> Iterator[PickEvent]:
        """The events; what each tells of holding is learned before the next."""
        for event in events:
            grasp, outcome = event.plan.best, event.outcome
            if self._holding is not None and grasp is not None and outcome is not None:
                result = outcome.result if event.recovered is None else event.recovered.judged
                pick = PickTarget(grasp, event.frame, event.scene)
                self._holding.note(pick, outcome, result, event.plan.basis.cups)
            yield event

    def _plan(
        self, opened: OpenPile, memory: FailureMemory, planner: Planner, monitor: StationMonitor, pick_index: int
    ) -> PickEvent:
        frame, pile = opened.frame, opened.pile
        assert frame is not None, "the pile was looked at"
        started = time.perf_counter()
        scene = self._see(frame) if self._see else opened.oracle_scene()
        if conditions := monitor.observe(frame, scene):
            scene = replace(scene, conditions=(*scene.conditions, *conditions))
        segmented = time.perf_counter()
        self._show(frame, scene)
        trust = ALL_SOUND if self.cups is None else self.cups.trust
        excluded = memory.given_up(frame, scene)
        plan = without_instances(planner.plan(frame, scene, memory.failed, trust), excluded)
        last = left_for_last(plan, scene)
        plan = without_instances(plan, last)
        planned = time.perf_counter()
        meant = () if plan.best is None else opened.meant_by(scene, plan.best)
        return PickEvent(
            pile_index=opened.index,
            pick_index=pick_index,
            arrangement=pile.arrangement,
            container=pile.workspace.container,
            parcels_left=len(pile.parcels),
            frame=frame,
            scene=scene,
            plan=plan,
            failed=memory.failed,
            outcome=None,
            after=None,
            meant=meant,
            target_kind=opened.kind_of(meant),
            shown=opened.parcel_image(),
            planner_flags=tuple(getattr(planner, "flags", ())),
            timings_ms={"segment": 1e3 * (segmented - started), "plan": 1e3 * (planned - segmented)},
            excluded=tuple(sorted({*excluded, *last})),
            left_for_last=last,
            cups=() if self.cups is None else self.cups.cups,
        )
