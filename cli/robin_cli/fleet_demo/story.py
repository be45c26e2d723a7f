"""The demo from the first pick to the last rollback, in the order in which it is told."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge_adapt.learn.see import TeachConfig
from edge_adapt.learn.see_job import DistillationConfig, QuickConfig
from edge_adapt.models.gate import GateConfig
from robin_cli.closed_loop import Progress, closed_loop
from robin_cli.fleet_demo import cells, person, robots
from robin_cli.fleet_demo.cells import RECORDS, STORE, TRUTH, Cell, request_of
from robin_cli.fleet_demo.robots import Measured, Robot
from robin_cli.fleet_demo.rollouts import PLAN, UNTRIED, Clock, Lines, Told
from robin_cli.fleet_demo.uplink import let_in, send, serving
from robin_fleet.decks.make import make_deck
from robin_fleet.decks.manifest import DeckConfig
from robin_fleet.folder import Fleet, make_fleet, open_fleet
from robin_fleet.ledger.decks import ACCEPTED, DeckRow, TrainingRow
from robin_fleet.ledger.samples import SampleFilter, SampleRow, find_samples
from robin_fleet.novelties.review import Ranked, ranked
from robin_fleet.novelties.update import update
from robin_fleet.release.parts import Given, gather
from robin_fleet.release.repository import FOLDER as REPOSITORY
from robin_fleet.release.repository import ReleaseRepository
from robin_fleet.training.closed_loop import LoopConfig, PickWith, Tally
from robin_fleet.training.history import HistoryConfig
from robin_fleet.training.run import ACCEPT, FOLDER, TrainConfig, TrainOrder, sign, train
from robin_perception.core.disk import make_folder
from robin_perception.core.errors import Code, RobinError
from robin_perception.model.bundle import load_bundle

GOODS, PLACE = "black_bags", "new_cell"
HELD_SHARE = 0.34
LICENCE = "simulated, free to use"
GOOD, SPOILED = "good", "spoiled"
_KEYS, FLEET, _ROBOTS, _CELLS = "keys", "fleet", "robots", "cells"
_HISTORY_H = 3600.0


@dataclass(frozen=True)
class Order:
    """picks: of each simulated cell. core: known scenes, made where they are not there."""

    out: Path
    model: Path
    core: Callable[[int, int], Path]
    picks: int
    seed: int
    workers: int


@dataclass
class Story:
    """What happened. taught: by name; bundles: what they made. loops: closed loops by model. seconds: by part."""

    order: Order
    stations: list[Cell]
    picked: dict[str, Tally] = field(default_factory=dict)
    sent: dict[str, dict[str, float]] = field(default_factory=dict)
    robots: int = 0
    novelties: list[Ranked] = field(default_factory=list)
    novelty: Ranked | None = None
    called: str = ""
    labelled: int = 0
    decks: dict[str, DeckRow] = field(default_factory=dict)
    taught: dict[str, TrainingRow] = field(default_factory=dict)
    rolled: dict[str, Told] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def bundle(self, name: str) -> Path:
        return self.order.out / FLEET / FOLDER / self.taught[name].training / "bundle"

    def truth(self, row: SampleRow) -> Path:
        return self.order.out / _CELLS / row.site / TRUTH / f"{row.decision_id}.png"

    def to_json(self) -> dict[str, Any]:
        assert self.novelty is not None
        return {
            "seed": self.order.seed,
            "cells": {one.line: {"goods": one.goods, **self.picked[one.site].results} for one in self.stations},
            "sent_mb": {site: found["sent_mb"] for site, found in self.sent.items()},
            "robots": self.robots,
            "novelty": {"id": self.novelty.row.novelty, "name": self.called, **vars(self.novelty.standing)},
            "labelled": self.labelled,
            "decks": {name: row._asdict() for name, row in self.decks.items()},
            "trainings": {name: _told_training(row) for name, row in self.taught.items()},
            "rollouts": {name: told.to_json() for name, told in self.rolled.items()},
            "seconds": {name: round(value, 1) for name, value in self.seconds.items()},
        }


def settings(spoiled: bool) -> TrainConfig:
    """Short lessons. The gate has fewer scenes to judge by than a fleet would have, and wider margins. spoiled: nothing
    holds the factory's answers either."""
    quick = QuickConfig(steps=100, variants=2)
    if spoiled:
        nothing = DistillationConfig(**dict.fromkeys(DistillationConfig.model_fields, 0.0))
        quick = quick.model_copy(update={"distillation": nothing, "learning_rate": 1e-2, "most_change": 10.0})
    gate = GateConfig(site_frames=4, site_parcels=20, core_frames=40, core_ap50=0.01, core_ap75=0.02, calibration=0.05)
    teach = TeachConfig(core_scenes=60, judged_scenes=40, niceness=0, quick=quick, gate=gate)
    history, loop = HistoryConfig(margin=0.05), LoopConfig(margin=0.25)
    return TrainConfig(teach=teach, history=history, closed_loop=loop, replayed=6)


def run_demo(order: Order, progress: Progress, tell: Callable[[str], None]) -> Story:
    """All of it below ``order.out``; picks of an earlier try are kept. Raises RobinError as each part."""
    stations = [
        Cell("lyon", GOODS, order.seed, PLACE),
        Cell("porto", GOODS, order.seed + 1, PLACE),
        Cell("turin", "mixed", order.seed + 2),
    ]
    for left in (_KEYS, FLEET, _ROBOTS):
        shutil.rmtree(order.out / left, ignore_errors=True)
    make_folder(order.out)
    make_fleet(order.out / FLEET)
    with open_fleet(order.out / FLEET) as fleet:
        return _Telling(Story(order, stations), fleet, progress, tell).run()


class _Telling:
    def __init__(self, story: Story, fleet: Fleet, progress: Progress, tell: Callable[[str], None]) -> None:
        self.story, self.fleet, self.progress, self.tell = story, fleet, progress, tell
        self.order = story.order
        self.measured = Measured()
        self.clock = Clock()

    def run(self) -> Story:
        self._timed("picks", self._pick)
        with serving(self.fleet) as endpoint:
            lines = self._timed("uplink", lambda: self._up(endpoint))
            self._timed("novelty", self._meet)
            self._timed("labels", lambda: self._label(None))
            self._timed("lesson", lambda: self._teach(GOOD, self.order.model))
            runs = self.order.model
            if self.story.taught[GOOD].state == ACCEPTED:
                runs = self.story.bundle(GOOD)
                sign(self.fleet, self.story.taught[GOOD].training, person.BY, ACCEPT)
                self._timed("roll-out", lambda: self._roll(lines, GOOD, PLAN))
            else:
                self.tell("the gate refused the lesson: it is not rolled out")
            self._timed("spoiled labels", lambda: self._label(person.pairs_as_one))
            self._timed("spoiled lesson", lambda: self._teach(SPOILED, runs))
            self._timed("spoiled roll-out", lambda: self._roll(lines, SPOILED, UNTRIED))
        return self.story

    def _timed(self, what: str, part: Callable[[], Any]) -> Any:
        began_s = time.monotonic()
        found = part()
        self.story.seconds[what] = time.monotonic() - began_s
        return found

    def _pick(self) -> None:
        order, factory = self.order, load_bundle(self.order.model).model_id
        for cell in self.story.stations:
            found = cells.pick(
                cell, order.out / _CELLS / cell.site, order.picks, order.model, order.workers, self.progress
            )
            self.story.picked[cell.site] = found
            self.measured.tallies[cell.site, factory] = found
            self.tell(f"{cell.line}: {cell.goods}, {found.text}")

    def _up(self, endpoint: str) -> Lines:
        """All robots are let in; those with a cell send what they have."""
        repository = ReleaseRepository(self.fleet.folder, self.clock)
        root = repository.init(self.order.out / _KEYS, tuple(cell.site for cell in self.story.stations))
        known: list[Robot] = []
        for cell in self.story.stations:
            for number in range(robots.ROBOTS_ON_A_LINE):
                folder = self.order.out / _ROBOTS / f"{cell.site}-{number + 1}"
                name = let_in(self.fleet, endpoint, folder, cell.site, cell.station)
                known.append(robots.robot(name, cell, folder, self.order.model))
            self._send(known[-robots.ROBOTS_ON_A_LINE], cell)
        self.story.robots = len(known)
        url = str(self.fleet.folder / REPOSITORY)
        lines = Lines(self.fleet, known, url, root, self.measured, self.clock, np.random.default_rng(self.order.seed))
        lines.before()
        return lines

    def _send(self, first: Robot, cell: Cell) -> None:
        """The cell's store is this robot's."""
        mine, place = self.order.out / _CELLS / cell.site, first.folder / STORE
        shutil.copytree(mine / STORE, place)
        found = send(first.folder, place, mine / RECORDS, lambda text: None)
        self.story.sent[cell.site] = found
        self.tell(f"{first.name}: {found['stored']:.0f} samples, {found['sent_mb']:.1f} MB sent and acknowledged")

    def _meet(self) -> None:
        """What came again at two sites is confirmed."""
        done = update(self.fleet.ledger, self.fleet.objects)
        self.story.novelties = ranked(self.fleet.ledger)
        novelty = person.recurring(self.story.novelties)
        if novelty is None:
            text = f"{done.sightings} sightings, none of goods that came again at two sites; more picks are needed"
            raise RobinError(Code.NOVELTY_UNKNOWN, text)
        self.story.called = person.confirmed(self.fleet, novelty)
        self.story.novelty = novelty
        seen = f"seen {novelty.standing.seen} times at {', '.join(novelty.standing.sites)}"
        self.tell(f"{novelty.row.novelty} comes again: {seen}; {person.BY} calls it '{self.story.called}'")

    def _label(self, spoil: person.Spoil | None) -> None:
        """Pictures of the stations where it was met; the careless person has those of the first one."""
        assert self.story.novelty is not None
        sites = self.story.novelty.standing.sites
        rows = [row for row in self._samples() if row.site in (sites if spoil is None else sites[:1])]
        by, name = (person.BY, "labels") if spoil is None else (person.CARELESS, "labels-careless")
        out = self.order.out / FLEET / name
        done = person.labelled(self.fleet, rows, self.story.truth, out, by, spoil)
        self.story.labelled += 0 if spoil else done.samples
        self.tell(f"{by} drew {done.labels} outlines in {done.samples} pictures")

    def _samples(self) -> list[SampleRow]:
        with self.fleet.ledger.read() as connection:
            return find_samples(connection, SampleFilter())

    def _teach(self, name: str, parent: Path) -> None:
        """The sites with the new goods teach. Their latest piles judge, and so do known scenes and simulated picks."""
        assert self.story.novelty is not None
        sites = self.story.novelty.standing.sites
        deck = make_deck(
            self.fleet.ledger,
            self.fleet.objects,
            name,
            [row for row in self._samples() if row.site in sites],
            person.BY,
            LICENCE,
            DeckConfig(held_share=HELD_SHARE),
        )
        self.story.decks[name] = deck
        self.tell(f"deck {deck.deck}:{deck.version}: {deck.members} samples, {deck.held} of them judge")
        config = settings(name == SPOILED)
        stations = self.story.stations
        order = TrainOrder(
            deck,
            parent,
            self.order.core,
            f"{self.story.novelty.row.novelty}, {self.story.called}",
            deep=False,
            pick=self._measuring(stations),
            loop=", ".join(f"{cell.goods} {cell.seed}: {self.order.picks} picks" for cell in stations),
        )
        row = train(self.fleet, order, config, lambda what, done, total: self.progress(done, total, what))
        self.story.taught[name] = row
        self.tell(f"lesson {name}: {row.state}: {row.result['text']}")

    def _measuring(self, stations: Sequence[Cell]) -> PickWith:
        """Of each cell the same piles as before; what the model that runs made of them is known already. What is
        measured here is what picks are drawn from later."""

        def picked(bundle: Path) -> Tally:
            model = load_bundle(bundle).model_id
            for cell in stations:
                if (cell.site, model) not in self.measured.tallies:
                    request = request_of(cell, self.order.picks, bundle, self.order.workers)
                    self.measured.tallies[cell.site, model] = closed_loop(request, self.progress)(bundle)
            return sum((self.measured.tallies[cell.site, model] for cell in stations), Tally({}))

        return picked

    def _roll(self, lines: Lines, name: str, plan: Any) -> None:
        """Signed with the keys that lie elsewhere; whether the gate let it through is not asked here."""
        repository = lines.repository
        repository.add(*gather(name, Given(head=self.story.bundle(name), notes=f"lesson {name} of the demo")))
        repository.sign(self.order.out / _KEYS)
        told = lines.roll_out(name, plan, lines.robots[0], lambda text: self.progress(0, 0, text))
        self.story.rolled[name] = told
        reason = told.state.reason or f"{told.ran_it} robots run it"
        self.tell(f"roll-out of {name}: {told.state.phase.value} after {told.points[-1].hours:.1f} h; {reason}")


def _told_training(row: TrainingRow) -> dict[str, Any]:
    keys = ("text", "history", "closed_loop")
    return {**row._asdict(), "result": {key: row.result[key] for key in keys if key in row.result}}
