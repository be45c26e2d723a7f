"""The simulated cell: pile, frame, scene, plan, pick, next frame, until the pile is gone.

The planner sees what a robot's planner sees: the spoiled frame, the scene and its own failures in this pile. The truth
(which parcel a mask shows, what was lifted) stays on this side.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from robin_grasp.outcome import PickOutcome, PickResult
from robin_grasp.plan import FailedPick, Grasp, Plan, Planner
from robin_grasp.tool import CellConfig
from robin_perception.frame import Frame
from robin_perception.scene import Scene
from robin_sim.backgrounds import draw_background
from robin_sim.goods import draw_goods
from robin_sim.lighting import draw_lighting
from robin_sim.model import Pile, RenderedView
from robin_sim.oracle import dominant_parcel, oracle_scene
from robin_sim.pick import execute_pick
from robin_sim.piles import make_pile
from robin_sim.reasons import failure_reason
from robin_sim.render import render
from robin_sim.scenario import PileDraw, ScenarioConfig, draw_pile_start
from robin_sim.sensor import SensorConfig, spoil

SAME_SPOT_M = 0.04  # two contacts nearer than this are the same spot
GIVE_UP_ON_SPOT = 3  # failures in a row on one spot before the pile is replaced, as an operator would clear a jam
GIVE_UP_ANYWHERE = 4  # failures in a row wherever they are: what rolls away or is dropped is no longer on its spot

SeeFrame = Callable[[Frame], Scene]
MakePlanner = Callable[[CellConfig, np.random.Generator], Planner]


@dataclass(frozen=True)
class PickEvent:
    """One turn of the loop. ``outcome`` and ``after`` are None when the plan held no grasp.

    target: index of the parcel that most of the chosen mask truly shows (-1: none); target_kind its kind.
    planner_flags: what the planner says of itself, e.g. that its learned ranker is missing. parcels_left:
    before the pick. after: the frame that follows, taken with the same camera and light.
    """

    pile_index: int
    pick_index: int
    arrangement: str
    container: str
    parcels_left: int
    frame: Frame
    scene: Scene
    plan: Plan
    failed: tuple[FailedPick, ...]
    outcome: PickOutcome | None
    after: Frame | None
    target: int = -1
    target_kind: str = ""
    planner_flags: tuple[str, ...] = ()
    timings_ms: dict[str, float] = field(default_factory=dict)

    @property
    def result(self) -> str:
        return self.outcome.result.value if self.outcome is not None else "infeasible"

    @property
    def latency_ms(self) -> float:
        """Frame to ranked plan, milliseconds."""
        return self.timings_ms["segment"] + self.timings_ms["plan"]


class FailureMemory:
    """The planner's failures in one pile. A clean pick near a spot forgets it: what lay there is gone."""

    def __init__(self) -> None:
        self._failed: list[FailedPick] = []
        self._in_a_row = 0
        self._on_spot = 0
        self._last_spot: tuple[float, float, float] | None = None

    @property
    def failed(self) -> tuple[FailedPick, ...]:
        return tuple(self._failed)

    @property
    def stuck(self) -> bool:
        return self._on_spot >= GIVE_UP_ON_SPOT or self._in_a_row >= GIVE_UP_ANYWHERE

    def note(self, grasp: Grasp, result: PickResult) -> None:
        x, y, z = (float(v) for v in grasp.T_base_tool[:3, 3])
        spot = (x, y, z)
        if result is PickResult.CLEAN:
            self._failed = [f for f in self._failed if math.dist(f.position_m, spot) > SAME_SPOT_M]
            self._in_a_row, self._on_spot, self._last_spot = 0, 0, None
            return
        again = self._last_spot is not None and math.dist(self._last_spot, spot) <= SAME_SPOT_M
        self._in_a_row += 1
        self._on_spot = self._on_spot + 1 if again else 1
        self._last_spot = spot
        for i, known in enumerate(self._failed):
            if math.dist(known.position_m, spot) <= SAME_SPOT_M and known.cups == grasp.cups:
                self._failed[i] = replace(known, times=known.times + 1)
                return
        self._failed.append(FailedPick(spot, grasp.cups))


@dataclass(frozen=True)
class _Look:
    """One image of the pile: what the camera gives and what is truly there."""

    frame: Frame
    truth: RenderedView


def _with_reason(outcome: PickOutcome) -> PickOutcome:
    return replace(outcome, truth={**outcome.truth, "reason": failure_reason(outcome)})


class SimCell:
    """One scenario's cell. Not thread-safe; one per process.

    make_planner: called for every pile with its cell and a generator of its own (for planners that explore).
    see: None for oracle masks.
    """

    def __init__(
        self,
        config: ScenarioConfig,
        cell: CellConfig,
        make_planner: MakePlanner,
        see: SeeFrame | None = None,
        sensor: SensorConfig | None = None,
    ) -> None:
        self.config = config
        self.cell = cell
        self._make_planner = make_planner
        self._see = see
        self._sensor = sensor if sensor is not None else SensorConfig()

    def run_pile(self, seed: int, pile_index: int, max_attempts: int) -> Iterator[PickEvent]:
        """Pick one pile until it is empty, no grasp is found, too many picks in a row failed (GIVE_UP_ON_SPOT,
        GIVE_UP_ANYWHERE), or ``max_attempts`` (at most the scenario's picks_per_pile) are done.

        The same (seed, pile_index) gives the same pile, whatever the planner.
        """
        pile_rng, sensor_rng, physics_rng, planner_rng = np.random.default_rng([seed, pile_index]).spawn(4)
        start = draw_pile_start(self.config, self.cell, pile_rng)
        parcels = draw_goods(pile_rng, start.parcel_count, self.config.parcel_mix, start.workspace, start.fill_l)
        pile = make_pile(pile_rng, parcels, start.workspace, start.arrangement)
        look_again = self._camera_of(start, pile_rng, sensor_rng)
        cell = self.cell.model_copy(update={"workspace": start.workspace})
        planner = self._make_planner(cell, planner_rng)
        memory = FailureMemory()
        stamp_s = 0.0
        look = look_again(pile, stamp_s) if pile.parcels else None
        for pick_index in range(min(max_attempts, self.config.picks_per_pile)):
            if look is None or memory.stuck:
                return
            event = self._plan(look, pile, memory, planner, pile_index, pick_index)
            if event.plan.best is None:
                yield event
                return
            grasp = event.plan.best
            picked = execute_pick(
                pile, grasp.T_base_tool, grasp.cups, event.target, cell, self.config.faults, physics_rng
            )
            outcome = _with_reason(picked.outcome)
            memory.note(grasp, outcome.result)
            pile = picked.pile
            stamp_s += outcome.duration_s
            after = look_again(pile, stamp_s)
            yield replace(event, outcome=outcome, after=after.frame)
            look = after if pile.parcels else None

    def _camera_of(
        self, start: PileDraw, pile_rng: np.random.Generator, sensor_rng: np.random.Generator
    ) -> Callable[[Pile, float], _Look]:
        """The camera over one pile: its light and background stay, its noise does not."""
        lighting = draw_lighting(pile_rng)
        background = draw_background(pile_rng, start.workspace)

        def look(pile: Pile, stamp_s: float) -> _Look:
            view = render(pile, start.true_camera, lighting, background)
            frame = spoil(view, start.camera, sensor_rng, self._sensor, self.config.faults, stamp_s)
            return _Look(frame, view)

        return look

    def _plan(
        self, look: _Look, pile: Pile, memory: FailureMemory, planner: Planner, pile_index: int, pick_index: int
    ) -> PickEvent:
        started = time.perf_counter()
        scene = self._see(look.frame) if self._see else oracle_scene(pile, look.truth, look.frame.stamp_s)
        segmented = time.perf_counter()
        plan = planner.plan(look.frame, scene, memory.failed)
        planned = time.perf_counter()
        target = -1
        if plan.best is not None:
            target = dominant_parcel(look.truth, np.asarray(scene.labels == plan.best.instance_id))
        return PickEvent(
            pile_index=pile_index,
            pick_index=pick_index,
            arrangement=pile.arrangement,
            container=pile.workspace.container,
            parcels_left=len(pile.parcels),
            frame=look.frame,
            scene=scene,
            plan=plan,
            failed=memory.failed,
            outcome=None,
            after=None,
            target=target,
            target_kind=pile.parcels[target].kind.value if target >= 0 else "",
            planner_flags=tuple(getattr(planner, "flags", ())),
            timings_ms={"segment": 1e3 * (segmented - started), "plan": 1e3 * (planned - segmented)},
        )
