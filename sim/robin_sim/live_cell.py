"""The simulated cell as a robot's software meets it: a camera that goes on by itself and an arm that executes grasps.

One camera mount and one container, as a real cell has; frames are what a driver's topics can carry (depth in whole
millimetres, the pose as a quaternion), so that every consumer and every recording of them decides on the same pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from robin_grasp.picks.outcome import PickOutcome
from robin_grasp.plan import Grasp
from robin_grasp.tool import CellConfig, MotionConfig
from robin_perception.bags.frames import DEPTH_UNIT_M, depth_metres
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame, depth_units
from robin_perception.core.scene import Scene
from robin_sim.load_camera import LoadCameraConfig
from robin_sim.model import Parcel
from robin_sim.open_pile import OpenPile
from robin_sim.physics import UnstableSimulationError
from robin_sim.scenario import ScenarioConfig, cameras_at
from robin_sim.sensor import dirt_on

MOST_EMPTY_PILES = 20


class LiveCell:
    """Piles of one scenario, one after the other. Not thread-safe; pile k of a seed is the same in every run.

    T_base_camera: float64 [4, 4], the camera's mount as the cell believes it. The scenario's containers give way to the
    cell's own. load_camera: None for a cell without one.
    """

    def __init__(
        self,
        config: ScenarioConfig,
        cell: CellConfig,
        seed: int,
        T_base_camera: NDArray[np.float64],
        load_camera: LoadCameraConfig | None = None,
    ) -> None:
        config.faults.require_cups(cell.tool)
        self._config = config.model_copy(update={"containers": {cell.workspace.container: 1.0}})
        self._cell = cell
        self._seed = seed
        self._mount = cameras_at(self._config, T_base_camera, np.random.default_rng(seed))
        self._dirt = dirt_on(self._mount[0], config.faults, np.random.default_rng([seed, 1]))
        self._next_index = 0
        self._open: OpenPile | None = None
        self._frame: Frame | None = None
        self._picks = 0
        self._load_camera = load_camera
        self._meant: Parcel | None = None

    @property
    def pile_index(self) -> int:
        return self._pile.index

    @property
    def parcels_left(self) -> int:
        return len(self._pile.pile.parcels)

    @property
    def has_looked(self) -> bool:
        """There is an image for ``latest``."""
        return self._frame is not None

    @property
    def used_up(self) -> bool:
        """Nothing left to pick, or as many picks as the scenario gives a pile."""
        return self._pile.empty or self._picks >= self._config.picks_per_pile

    def next_pile(self, stamp_s: float) -> Frame:
        """Replace the pile and look at the new one. Raises RobinError OPTION_INVALID for a scenario of empty piles."""
        for _ in range(MOST_EMPTY_PILES):
            self._open = OpenPile(
                self._config,
                self._cell,
                self._seed,
                self._next_index,
                self._mount,
                self._load_camera,
                self._dirt,
            )
            self._next_index += 1
            if not self._open.empty:
                self._picks = 0
                return self.look(stamp_s)
        raise RobinError(Code.OPTION_INVALID, f"{MOST_EMPTY_PILES} piles in a row hold no parcel")

    def look(self, stamp_s: float) -> Frame:
        """A new image of the pile. stamp_s: seconds of the caller's clock."""
        self._pile.stamp_s = stamp_s
        self._frame = as_published(self._pile.look())
        return self._frame

    def latest(self, stamp_s: float) -> Frame:
        """The latest image under a new stamp: the pile is at rest, so the camera sees it again."""
        assert self._frame is not None, "open a pile first"
        return replace(self._frame, stamp_s=stamp_s)

    def execute(self, grasp: Grasp, scene: Scene, motion: MotionConfig) -> PickOutcome:
        """Bring a grasp that was planned on ``scene``, a segmentation of the latest image, to the place station, by the
        motion of its plan; the truth goes into the outcome. Then ``deliver``, ``set_down`` or ``let_go``, and ``look``.
        Raises RobinError CONFIG_OUT_OF_RANGE for cups that the tool lacks, SIMULATION_DIVERGED; the pile is used up
        then."""
        if grasp.cups >> (count := self._cell.tool.cup_count):
            text = f"the plan opens cup {grasp.cups.bit_length() - 1}, the simulated tool has {count} cups"
            raise RobinError(Code.CONFIG_OUT_OF_RANGE, f"{text}: give both nodes the same cell_file")
        meant = self._pile.meant_by(scene, grasp)
        self._meant = self._pile.pile.parcels[meant[0]] if meant else None
        with self._steady():
            outcome = self._pile.begin_pick(grasp, meant, motion)
        self._picks += 1
        return self._told(outcome)

    @property
    def is_holding(self) -> bool:
        """The tool stands at the place station."""
        return self._pile.is_holding

    def deliver(self) -> None:
        self._pile.deliver()

    def set_down(self) -> None:
        """Put the load back. ``look`` afterwards. Raises RobinError SIMULATION_DIVERGED."""
        with self._steady():
            self._pile.set_down()

    def let_go(self, cups: int) -> PickOutcome:
        """Open those cups over the pile, and bring the rest to the place station. ``look`` afterwards. Raises
        RobinError SIMULATION_DIVERGED."""
        with self._steady():
            return self._told(self._pile.let_go(cups))

    def remove_meant(self) -> None:
        """A person takes away what the last grasp was meant for."""
        if self._meant is not None:
            self._pile.remove([self._meant])

    def remove(self, scene: Scene, instances: Sequence[int]) -> None:
        """A person takes away what these instances of a segmentation of the latest image show."""
        self._pile.remove(self._pile.parcels_of(scene, instances))

    def put_right(self) -> None:
        """A person repairs light, lens and camera."""
        self._pile.put_right()

    def _told(self, outcome: PickOutcome) -> PickOutcome:
        kind = self._meant.kind_name if self._meant is not None else ""
        truth = {**outcome.truth, "result": outcome.result.value, "pile": self._pile.index, "target_kind": kind}
        return replace(outcome, truth=truth)

    @contextmanager
    def _steady(self) -> Iterator[None]:
        try:
            yield
        except UnstableSimulationError as exc:
            self._picks = self._config.picks_per_pile
            raise RobinError(Code.SIMULATION_DIVERGED, f"pile {self._pile.index}: {exc}") from None

    @property
    def _pile(self) -> OpenPile:
        assert self._open is not None, "open a pile first"
        return self._open


def as_published(frame: Frame) -> Frame:
    """The frame as it comes out of a driver's topics: depth in whole millimetres (16UC1)."""
    return frame.with_depth(depth_metres(depth_units(frame.depth, DEPTH_UNIT_M)))
