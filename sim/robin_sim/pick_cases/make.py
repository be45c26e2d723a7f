"""Makes cases: piles of several scenarios in turn, picked with care and without. Resumable: a pile that has its file is
not made again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_adapt.learn.hold import HoldConfig, depth_shares
from robin_grasp.holding import HoldTerms
from robin_grasp.picks.outcome import PickResult
from robin_grasp.plan import Planner
from robin_grasp.planner.registry import make_planner
from robin_grasp.recovery.failure_memory import FailureMemory
from robin_grasp.tool import CellConfig
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene
from robin_perception.engines.base import EngineConfig
from robin_perception.segmentation.segmenter import load_segmenter
from robin_sim.cell import SeeFrame
from robin_sim.load_camera import LoadCameraConfig
from robin_sim.open_pile import OpenPile
from robin_sim.physics import UnstableSimulationError
from robin_sim.pick_cases.careless import CarelessConfig, CarelessEyes, CarelessPlanner
from robin_sim.pick_cases.store import PickCase, save_cases
from robin_sim.scenario import load_scenario

TURNS = 9  # states of one pile that are picked from
TRIES = 3  # picks of each
MISSES_KEPT = 0.2


@dataclass(frozen=True)
class CaseKind:
    """One of the kinds that piles take turns in: a scenario, and a planner's name, "careless", "alike", which is
    careless with two that look like one, or "level", which takes goods with holes in their depth for level faces."""

    scenario: str
    planner: str

    @property
    def name(self) -> str:
        return f"{self.scenario}/{self.planner}"


KINDS = tuple(
    CaseKind(scenario, planner)
    for scenario, planner in (
        ("flush_small", "careless"),
        ("flush", "careless"),
        ("clear_bags", "careless"),
        ("flush_small", "careless"),
        ("stacked", "careless"),
        ("mixed", "careless"),
        ("flush_small", "careless"),
        ("mixed", "geometric"),
        ("new_print", "careless"),
        ("flush_small", "careless"),
        ("tote", "careless"),
        ("blocked_cup", "careless"),
        ("flush_small", "careless"),
        ("clear_bags", "geometric"),
        ("flush", "alike"),
        ("clear_bags", "level"),
        ("flush_small", "alike"),
    )
)


def kinds_named(names: Sequence[str]) -> tuple[CaseKind, ...]:
    """Those of KINDS with these names; all of them for none. Raises RobinError OPTION_INVALID."""
    known = {kind.name: kind for kind in KINDS}
    for name in names:
        if name not in known:
            raise RobinError(Code.OPTION_INVALID, f"{name!r}: no kind of piles; there are {', '.join(sorted(known))}")
    return tuple(known[name] for name in names) or KINDS


_CARELESS = {"careless": CarelessConfig(), "alike": CarelessConfig(merge=0.9, alike=True)}


class LevelFaces:
    """Implements ``robin_grasp.holding.Holding``: goods with holes in their depth are level faces."""

    def expected(self, frame: Frame, scene: Scene) -> HoldTerms:
        terms = HoldTerms.factory(len(scene.instances))
        terms.level_face[:] = depth_shares(frame, scene) < HoldConfig().level_below_depth
        return terms


@dataclass
class CaseMaker:
    """Makes the cases of piles 0, 1, … of a seed. Pile k is of kind k modulo the number of kinds."""

    seed: int
    model: Path
    engine: str
    folder: Path
    kinds: tuple[CaseKind, ...] = KINDS

    def __post_init__(self) -> None:
        self._see: SeeFrame | None = None

    def path(self, pile: int) -> Path:
        kind = self._kind(pile)
        return self.folder / f"{kind.scenario}-{kind.planner}-s{self.seed}-{pile:05d}.npz"

    def make(self, pile: int) -> Path:
        """The file of a pile, made if it is not there."""
        path = self.path(pile)
        if not path.exists():
            save_cases(path, list(self._cases(pile)))
        return path

    def _kind(self, pile: int) -> CaseKind:
        return self.kinds[pile % len(self.kinds)]

    def _cases(self, pile: int) -> Iterator[PickCase]:
        kind, name = self._kind(pile), self.path(pile).stem
        if self._see is None:
            threads = EngineConfig(intra_threads=1, spin=False)
            self._see = load_segmenter(self.model, self.engine, engine_config=threads).segment
        rng = np.random.default_rng([self.seed, pile, 1])
        config, camera = load_scenario(kind.scenario).config, LoadCameraConfig()
        opened = OpenPile(config, CellConfig(), self.seed, pile, load_camera=camera)
        see: SeeFrame = self._see
        planner: Planner = make_planner("geometric", opened.cell)
        if kind.planner in _CARELESS:
            see = eyes = CarelessEyes(self._see, _CARELESS[kind.planner], rng)
            planner = CarelessPlanner(opened.cell, rng, eyes)
        elif kind.planner == "level":
            planner = make_planner("geometric", opened.cell, holding=LevelFaces())
        elif kind.planner != "geometric":
            planner = make_planner(kind.planner, opened.cell)
        try:
            careful = kind.planner in ("geometric", "level")
            yield from _picks(name, opened, see, planner, 1 if careful else TRIES, rng)
        except UnstableSimulationError:
            return


def _picks(
    name: str, opened: OpenPile, see: SeeFrame, planner: Planner, tries: int, rng: np.random.Generator
) -> Iterator[PickCase]:
    """Several picks of each state of the pile, of which the last goes on; most misses are left out, for they are many
    and easy."""
    number, failed, before = 0, FailureMemory(), None
    for _ in range(TURNS):
        if opened.empty or failed.stuck:
            return
        frame = opened.look() if before is None else before
        scene, pile, stamp_s, before = see(frame), opened.pile, opened.stamp_s, None
        plans = [planner.plan(frame, scene, failed.failed) for _ in range(tries)]
        grasps = [(plan.best, opened.meant_by(scene, plan.best)) for plan in plans if plan.best is not None]
        if not grasps:
            return
        for grasp, meant in grasps:
            opened.pile, opened.stamp_s, before = pile, stamp_s, None
            outcome = opened.pick(grasp, meant)
            if outcome.result is PickResult.MISS and rng.random() > MISSES_KEPT:
                continue
            before = opened.look()
            yield PickCase(name, number, opened.cell, scene, frame, before, grasp, outcome)
            number += 1
        failed.note(grasps[-1][0], outcome.result)
