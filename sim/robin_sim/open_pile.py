"""One pile under the tool and the camera of the simulated cell, one step at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from robin_grasp.picks.outcome import PickOutcome, PickResult
from robin_grasp.plan import Grasp
from robin_grasp.tool import CellConfig, MotionConfig
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene
from robin_sim.cameras import CameraView
from robin_sim.faults import CameraShift
from robin_sim.goods import draw_goods
from robin_sim.in_hand import let_go, set_down
from robin_sim.load_camera import LoadCameraConfig, look_at_load
from robin_sim.model import Parcel, RenderedView
from robin_sim.oracle import dominant_parcel, oracle_scene
from robin_sim.pick import PickResultSim, execute_pick
from robin_sim.piles import make_pile, settle_pile
from robin_sim.reasons import failure_reason
from robin_sim.render import render
from robin_sim.scenario import ScenarioConfig, draw_pile_start
from robin_sim.sensor import dirt_on, spoil
from robin_sim.surroundings import draw_surroundings

_CELL_STREAM = 1
MEANT_SHARE = 0.3  # of a mask, that a parcel fills which it shows as one with another


@dataclass(frozen=True)
class Held:
    """A load at the place station: how it got there, from which tool pose (float64 [4, 4]), which parcels were meant
    (their indices then), any one of them alone, and the cell with the motion of that pick."""

    picked: PickResultSim
    contact: NDArray[np.float64]
    meant: tuple[int, ...]
    cell: CellConfig

    @property
    def holds_other(self) -> bool:
        """Two parcels or another one than the target hang on the tool."""
        indices = self.picked.load.indices
        return len(indices) > 1 or (bool(indices) and indices[0] not in self.meant)


class OpenPile:
    """One pile under the tool and the camera: what a cell can do with it, one step at a time. Not thread-safe.

    The same (seed, pile_index) gives the same pile, light and camera, whatever is picked; where the scenario says
    ``one_cell``, light, camera and all around the pile follow from the seed alone. cell: the geometry with
    this pile's workspace. planner_rng: for planners that explore. mount: (believed, true) camera; None draws one as the
    scenario says. load_camera: None for a cell without one. dirt: what lies on the glass (``sensor.smears``), where
    it stays; None draws it for this pile. on_look: is given every image. frame: the latest image, None before the
    first ``look``.
    """

    def __init__(
        self,
        config: ScenarioConfig,
        cell: CellConfig,
        seed: int,
        pile_index: int,
        mount: tuple[CameraView, CameraView] | None = None,
        load_camera: LoadCameraConfig | None = None,
        dirt: NDArray[np.float32] | None = None,
        on_look: Callable[[Frame], object] = lambda frame: None,
    ) -> None:
        pile_rng, self._sensor_rng, self._physics_rng, self.planner_rng, self._hand_rng, dirt_rng = (
            np.random.default_rng([seed, pile_index]).spawn(6)
        )
        self.index = pile_index
        self.stamp_s = 0.0
        self._config = config
        self._load_camera = load_camera
        self._on_look = on_look
        self._held: Held | None = None
        cell_rng = np.random.default_rng([seed, 0, _CELL_STREAM]) if config.one_cell else pile_rng
        self._start = draw_pile_start(config, cell, pile_rng, cell_rng)
        self._camera, self._true_camera = mount or (self._start.camera, self._start.true_camera)
        dirt_rng = cell_rng.spawn(1)[0] if config.one_cell else dirt_rng
        self._dirt = dirt_on(self._camera, config.faults, dirt_rng) if dirt is None else dirt
        workspace = self._start.workspace
        goods = draw_goods(pile_rng, self._start.parcel_count, config.parcel_mix, workspace, self._start.fill_l)
        self.pile = make_pile(pile_rng, goods, workspace, self._start.arrangement)
        self._around = draw_surroundings(cell_rng, config, workspace)
        self._sensor = config.camera.draw_sensor(cell_rng)
        self.cell = cell.model_copy(update={"workspace": workspace})
        self._truth: RenderedView | None = None
        self.frame: Frame | None = None

    @property
    def empty(self) -> bool:
        return not self.pile.parcels

    def look(self) -> Frame:
        """An image of the pile as it lies: light and background stay over the picks, the sensor's noise does not."""
        self._truth = render(self.pile, self._true_camera, self._around.lighting, self._around.background)
        if self._config.faults.frozen and self.frame is not None:
            self.frame = replace(self.frame, stamp_s=self.stamp_s)
            return self.frame
        self.frame = spoil(
            self._truth, self._camera, self._sensor_rng, self._sensor, self._config.faults, self.stamp_s, self._dirt
        )
        self._on_look(self.frame)
        return self.frame

    def oracle_scene(self) -> Scene:
        """The latest image as a perfect segmenter would report it."""
        assert self._truth is not None and self.frame is not None, "look first"
        return oracle_scene(self.pile, self._truth, self.frame.stamp_s)

    @property
    def truth(self) -> tuple[RenderedView, CameraView]:
        """The latest image without noise, and the camera that it truly comes from."""
        assert self._truth is not None, "look first"
        return self._truth, self._true_camera

    def parcel_image(self) -> NDArray[np.uint16]:
        """What the latest image truly shows: 1 + index of the parcel in ``pile.parcels``, 0 for none; uint16 [H, W]."""
        assert self._truth is not None, "look first"
        return self._truth.labels

    def meant_by(self, scene: Scene, grasp: Grasp) -> tuple[int, ...]:
        """Index of the parcel that most of the grasp's mask truly shows in the latest image, and of each other one that
        the mask shows as one with it: a robot that takes two for one means any of them. Empty: it shows none."""
        assert self._truth is not None, "look first"
        mask = np.asarray(scene.labels == grasp.instance_id)
        most = dominant_parcel(self._truth, mask)
        if most < 0:
            return ()
        shown = np.bincount(self._truth.labels[mask])[1:]
        return (most, *(int(i) for i in np.flatnonzero(shown >= MEANT_SHARE * mask.sum()) if i != most))

    def kind_of(self, meant: tuple[int, ...]) -> str:
        return self.pile.parcels[meant[0]].kind_name if meant else ""

    def pick(self, grasp: Grasp, meant: tuple[int, ...], motion: MotionConfig | None = None) -> PickOutcome:
        """Execute a grasp and deliver whatever arrives; the pile is then what is left of it, and time has gone on by
        the pick's duration. motion: the cell's own by default."""
        outcome = self.begin_pick(grasp, meant, motion)
        self.deliver()
        return outcome

    def begin_pick(self, grasp: Grasp, meant: tuple[int, ...], motion: MotionConfig | None = None) -> PickOutcome:
        """Execute a grasp up to the place station, where the load still hangs on the tool; the pile is what lies
        without it. meant: of ``meant_by``. Then ``deliver``, ``set_down`` or ``let_go``. The outcome tells what was
        measured so far, and its result what delivering the load now would make of it. Raises
        UnstableSimulationError."""
        cell = self.cell if motion is None else self.cell.model_copy(update={"motion": motion})
        faults = self._config.faults
        picked = execute_pick(
            self.pile,
            grasp.T_base_tool,
            grasp.cups,
            _first(meant),
            cell,
            faults,
            self._physics_rng,
            None,
            self._hand_rng,
        )
        return self._arrived(Held(picked, grasp.T_base_tool, meant, cell))

    def deliver(self) -> None:
        """Let the load go at the place station."""
        self._held = None

    def set_down(self) -> float:
        """Put the load back where it came from. Returns the time that it took, seconds. Raises
        UnstableSimulationError."""
        held = self.held
        done = set_down(held.picked, held.contact, held.cell)
        self.pile, self._held = done.pile, None
        took_s = self.lower_s + done.duration_s
        self.stamp_s += took_s
        return took_s

    def let_go(self, cups: int) -> PickOutcome:
        """Open the cups of that mask over the spot that the load came from, and bring the rest to the place station
        again. The outcome is that of the rest; its duration is the time that this took. Raises
        UnstableSimulationError."""
        held = self.held
        target, physics = _first(held.meant), (self._physics_rng, self._hand_rng)
        picked, _ = let_go(held.picked, cups, held.contact, target, held.cell, *physics)
        late = replace(picked.outcome, duration_s=picked.outcome.duration_s + self.lower_s)
        picked, now = replace(picked, outcome=late), picked.outcome.truth["target"]
        return self._arrived(Held(picked, held.contact, () if now is None else (int(str(now)),), held.cell))

    def remove(self, parcels: Sequence[Parcel]) -> None:
        """A person takes these parcels away; the rest comes to rest."""
        kept = [i for i, parcel in enumerate(self.pile.parcels) if not any(parcel is gone for gone in parcels)]
        left = replace(self.pile, parcels=tuple(self.pile.parcels[i] for i in kept), poses=self.pile.poses[kept])
        self.pile = settle_pile(left) if kept else left

    def parcels_of(self, scene: Scene, instances: Sequence[int]) -> list[Parcel]:
        """What those instances of a segmentation of the latest image truly show."""
        assert self._truth is not None, "look first"
        found = [dominant_parcel(self._truth, np.asarray(scene.labels == instance)) for instance in instances]
        return [self.pile.parcels[index] for index in found if index >= 0]

    def put_right(self) -> None:
        """A person repairs light, lens, focus and depth camera, and calibrates the camera where it stands."""
        healthy = {name: 0.0 for name in ("dark", "blur", "dirty_lens", "depth_holes")}
        faults = self._config.faults.model_copy(update={**healthy, "camera_shift": CameraShift()})
        self._config = self._config.model_copy(update={"faults": faults})
        self._camera, self._dirt = self._true_camera, None

    @property
    def is_holding(self) -> bool:
        """The tool stands at the place station, or comes there with what is left of its load."""
        return self._held is not None and self._held.picked.arrived

    @property
    def lower_s(self) -> float:
        """From the look at the load until it is let go; as long again, where it is not let go, until it hangs high."""
        return 0.0 if self._load_camera is None else self._load_camera.lower_s

    @property
    def held(self) -> Held:
        """What hangs on the tool at the place station."""
        assert self._held is not None, "begin a pick first"
        return self._held

    def _arrived(self, held: Held) -> PickOutcome:
        picked, outcome = held.picked, held.picked.outcome
        arrived = picked.load.indices
        if outcome.result is PickResult.WRONG and arrived and arrived[0] in held.meant:
            outcome = replace(outcome, result=PickResult.CLEAN, truth={**outcome.truth, "target": arrived[0]})
        self.pile, self._held = picked.pile, held
        self.stamp_s += outcome.duration_s
        load = None
        if self._load_camera is not None and picked.arrived:
            load = look_at_load(picked.load, held.cell, self._hand_rng, self._sensor, self._load_camera, self.stamp_s)
        return replace(outcome, load=load, truth={**outcome.truth, "reason": failure_reason(outcome)})


def _first(meant: tuple[int, ...]) -> int:
    return meant[0] if meant else -1
