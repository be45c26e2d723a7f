"""The simulated cell: pile, frame, scene, plan, pick, next frame, until the pile is gone.

The planner sees what a robot's planner sees: the spoiled frame, the scene and its own failures in this pile. The truth
(which parcel a mask shows, what was lifted) stays on this side.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from robin_grasp.cup_health import CupHealth
from robin_grasp.picks.outcome import PickOutcome
from robin_grasp.plan import ALL_SOUND, FailedPick, Grasp, Plan, Planner
from robin_grasp.planner.failure_memory import FailureMemory
from robin_grasp.plan import FailedPick, Grasp, Plan, Planner
from robin_grasp.recovery.failure_memory import FailureMemory
from robin_grasp.tool import CellConfig, MotionConfig
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene
from robin_sim.backgrounds import draw_background
from robin_sim.cameras import CameraView
from robin_sim.goods import draw_goods
from robin_sim.in_hand import let_go, set_down
from robin_sim.lighting import draw_lighting
from robin_sim.load_camera import LoadCameraConfig, look_at_load
from robin_sim.model import RenderedView
from robin_sim.oracle import dominant_parcel, oracle_scene
from robin_sim.physics import UnstableSimulationError
from robin_sim.pick import PickResultSim, execute_pick
from robin_sim.piles import make_pile
from robin_sim.reasons import failure_reason
from robin_sim.render import render
from robin_sim.scenario import ScenarioConfig, draw_pile_start
from robin_sim.sensor import SensorModelConfig, spoil

SeeFrame = Callable[[Frame], Scene]
MakePlanner = Callable[[CellConfig, np.random.Generator], Planner]


@dataclass(frozen=True)
class PickEvent:
    """One turn of the loop. ``outcome`` and ``after`` are None when the plan held no grasp, or when the simulation of
    the pick diverged (``fault`` says so), which ends the pile.

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
    fault: str = ""

    @property
    def result(self) -> str:
        """A PickResult value, "infeasible" without a grasp, "unstable" where the physics diverged."""
        if self.outcome is not None:
            return self.outcome.result.value
        return "unstable" if self.fault else "infeasible"

    @property
    def latency_ms(self) -> float:
        """Frame to ranked plan, milliseconds."""
        return self.timings_ms["segment"] + self.timings_ms["plan"]


@dataclass(frozen=True)
class Held:
    """A load at the place station: how it got there, from which tool pose (float64 [4, 4]), which parcel was meant (its
    index then, -1: none), and the cell with the motion of that pick."""

    picked: PickResultSim
    contact: NDArray[np.float64]
    target: int
    cell: CellConfig


class OpenPile:
    """One pile under the tool and the camera: what a cell can do with it, one step at a time. Not thread-safe.

    The same (seed, pile_index) gives the same pile, light and camera, whatever is picked. cell: the geometry with
    this pile's workspace. planner_rng: for planners that explore. mount: (believed, true) camera; None draws one as the
    scenario says. load_camera: None for a cell without one. frame: the latest image, None before the first ``look``.
    """

    def __init__(
        self,
        config: ScenarioConfig,
        cell: CellConfig,
        sensor: SensorModelConfig,
        seed: int,
        pile_index: int,
        mount: tuple[CameraView, CameraView] | None = None,
        load_camera: LoadCameraConfig | None = None,
    ) -> None:
        pile_rng, self._sensor_rng, self._physics_rng, self.planner_rng, self._hand_rng = np.random.default_rng(
            [seed, pile_index]
        ).spawn(5)
        self.index = pile_index
        self.stamp_s = 0.0
        self._config = config
        self._sensor = sensor
        self._load_camera = load_camera
        self._held: Held | None = None
        self._start = draw_pile_start(config, cell, pile_rng)
        self._camera, self._true_camera = mount or (self._start.camera, self._start.true_camera)
        workspace = self._start.workspace
        goods = draw_goods(pile_rng, self._start.parcel_count, config.parcel_mix, workspace, self._start.fill_l)
        self.pile = make_pile(pile_rng, goods, workspace, self._start.arrangement)
        self._lighting = draw_lighting(pile_rng)
        self._background = draw_background(pile_rng, workspace)
        self.cell = cell.model_copy(update={"workspace": workspace})
        self._truth: RenderedView | None = None
        self.frame: Frame | None = None

    @property
    def empty(self) -> bool:
        return not self.pile.parcels

    def look(self) -> Frame:
        """An image of the pile as it lies: light and background stay over the picks, the sensor's noise does not."""
        self._truth = render(self.pile, self._true_camera, self._lighting, self._background)
        self.frame = spoil(self._truth, self._camera, self._sensor_rng, self._sensor, self._config.faults, self.stamp_s)
        return self.frame

    def oracle_scene(self) -> Scene:
        """The latest image as a perfect segmenter would report it."""
        assert self._truth is not None and self.frame is not None, "look first"
        return oracle_scene(self.pile, self._truth, self.frame.stamp_s)

    def target_of(self, scene: Scene, grasp: Grasp) -> int:
        """Index of the parcel that most of the grasp's mask truly shows in the latest image; -1 for none."""
        assert self._truth is not None, "look first"
        return dominant_parcel(self._truth, np.asarray(scene.labels == grasp.instance_id))

    def kind_of(self, target: int) -> str:
        return self.pile.parcels[target].kind_name if target >= 0 else ""

    def pick(self, grasp: Grasp, target: int, motion: MotionConfig | None = None) -> PickOutcome:
        """Execute a grasp and deliver whatever arrives; the pile is then what is left of it, and time has gone on by
        the pick's duration. motion: the cell's own by default."""
        outcome = self.begin_pick(grasp, target, motion)
        self.deliver()
        return outcome

    def begin_pick(self, grasp: Grasp, target: int, motion: MotionConfig | None = None) -> PickOutcome:
        """Execute a grasp up to the place station, where the load still hangs on the tool; the pile is what lies
        without it. Then ``deliver``, ``set_down`` or ``let_go``. The outcome tells what was measured so far, and its
        result what delivering the load now would make of it. Raises UnstableSimulationError."""
        cell = self.cell if motion is None else self.cell.model_copy(update={"motion": motion})
        faults = self._config.faults
        picked = execute_pick(
            self.pile, grasp.T_base_tool, grasp.cups, target, cell, faults, self._physics_rng, None, self._hand_rng
        )
        return self._arrived(Held(picked, grasp.T_base_tool, target, cell))

    def deliver(self) -> None:
        """Let the load go at the place station."""
        self._held = None

    def set_down(self) -> float:
        """Put the load back where it came from. Returns the time that it took, seconds. Raises
        UnstableSimulationError."""
        held = self.held
        done = set_down(held.picked, held.contact, held.cell)
        self.pile, self._held = done.pile, None
        self.stamp_s += done.duration_s
        return done.duration_s

    def let_go(self, cups: int) -> PickOutcome:
        """Open the cups of that mask over the spot that the load came from, and bring the rest to the place station
        again. The outcome is that of the rest; its duration is the time that this took. Raises
        UnstableSimulationError."""
        held = self.held
        picked, _ = let_go(held.picked, cups, held.contact, held.target, held.cell, self._physics_rng, self._hand_rng)
        target = picked.outcome.truth["target"]
        return self._arrived(Held(picked, held.contact, -1 if target is None else int(str(target)), held.cell))

    @property
    def held(self) -> Held:
        """What hangs on the tool at the place station."""
        assert self._held is not None, "begin a pick first"
        return self._held

    def _arrived(self, held: Held) -> PickOutcome:
        picked, outcome = held.picked, held.picked.outcome
        self.pile, self._held = picked.pile, held
        load = None
        if self._load_camera is not None and picked.arrived:
            at_s = self.stamp_s + outcome.duration_s
            load = look_at_load(picked.load, held.cell, self._hand_rng, self._sensor, self._load_camera, at_s)
            outcome = replace(outcome, duration_s=outcome.duration_s + self._load_camera.look_s)
        self.stamp_s += outcome.duration_s
        return replace(outcome, load=load, truth={**outcome.truth, "reason": failure_reason(outcome)})


class SimCell:
    """One scenario's cell. Not thread-safe; one per process.

    make_planner: called for every pile with its cell and a generator of its own (for planners that explore).
    see: None for oracle masks. load_camera: None for a cell without one. cups: the tool's, learned from pick to
    pick and from pile to pile; None for a cell whose planner always trusts them.
    """

    def __init__(
        self,
        config: ScenarioConfig,
        cell: CellConfig,
        make_planner: MakePlanner,
        see: SeeFrame | None = None,
        sensor: SensorModelConfig | None = None,
        load_camera: LoadCameraConfig | None = None,
        cups: CupHealth | None = None,
    ) -> None:
        config.faults.require_cups(cell.tool)
        self.config = config
        self.cell = cell
        self._make_planner = make_planner
        self._see = see
        self._sensor = sensor if sensor is not None else SensorModelConfig()
        self._load_camera = load_camera
        self.cups = cups

    def open_pile(self, seed: int, pile_index: int) -> OpenPile:
        return OpenPile(self.config, self.cell, self._sensor, seed, pile_index, load_camera=self._load_camera)

    def run_pile(self, seed: int, pile_index: int, max_attempts: int) -> Iterator[PickEvent]:
        """Pick one pile until it is empty, no grasp is found, too many picks in a row failed
        (``FailureMemory.stuck``), or ``max_attempts`` (at most the scenario's picks_per_pile) are done.

        The same (seed, pile_index) gives the same pile, whatever the planner.
        """
        opened = self.open_pile(seed, pile_index)
        planner = self._make_planner(opened.cell, opened.planner_rng)
        memory = FailureMemory()
        if not opened.empty:
            opened.look()
        for pick_index in range(min(max_attempts, self.config.picks_per_pile)):
            if opened.empty or memory.stuck:
                return
            event = self._plan(opened, memory, planner, pick_index)
            grasp = event.plan.best
            if grasp is None:
                yield event
                return
            try:
                outcome = opened.pick(grasp, event.target)
            except UnstableSimulationError as error:
                yield replace(event, fault=f"the simulation diverged: {error}")
                return
            memory.note(grasp, outcome.result)
            if self.cups is not None:
                self.cups.note(grasp, outcome, opened.stamp_s)
            yield replace(event, outcome=outcome, after=opened.look())

    def _plan(self, opened: OpenPile, memory: FailureMemory, planner: Planner, pick_index: int) -> PickEvent:
        frame, pile = opened.frame, opened.pile
        assert frame is not None, "the pile was looked at"
        started = time.perf_counter()
        scene = self._see(frame) if self._see else opened.oracle_scene()
        segmented = time.perf_counter()
        plan = planner.plan(frame, scene, memory.failed, ALL_SOUND if self.cups is None else self.cups.trust)
        planned = time.perf_counter()
        target = -1 if plan.best is None else opened.target_of(scene, plan.best)
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
            target=target,
            target_kind=opened.kind_of(target),
            planner_flags=tuple(getattr(planner, "flags", ())),
            timings_ms={"segment": 1e3 * (segmented - started), "plan": 1e3 * (planned - segmented)},
        )
