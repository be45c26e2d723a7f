"""A training of the fleet that takes seconds: hand-made piles, an untrained network, three steps."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from edge_adapt.learn.see import TeachConfig
from edge_adapt.training.export import random_bundle
from helpers.stored_piles import pile_samples
from helpers.teach_samples import DEEP, QUICK
from helpers.training_scenes import write_toy_dataset
from helpers.unfamiliar_samples import book
from robin_fleet.decks.juxtapose import JuxtaposeConfig
from robin_fleet.decks.make import find_deck, make_deck
from robin_fleet.decks.manifest import DeckConfig
from robin_fleet.folder import Fleet, make_fleet, open_fleet
from robin_fleet.ledger.samples import SampleFilter, find_samples
from robin_fleet.training.closed_loop import PickWith
from robin_fleet.training.history import HistoryConfig
from robin_fleet.training.run import TrainConfig, TrainOrder, train

CONFIG = TrainConfig(
    teach=TeachConfig(core_scenes=2, judged_scenes=2, niceness=0, quick=QUICK, deep=DEEP),
    history=HistoryConfig(least_parcels=2, least_piles=2),
    replayed=2,
)


def prepare(folder: Path) -> None:
    """A fleet with a deck, a bundle and known scenes, below ``folder``."""
    make_fleet(folder / "fleet")
    with open_fleet(folder / "fleet") as fleet:
        for pile in range(3):
            for pick, sample in enumerate(pile_samples(pile)):
                book(fleet, sample, "lyon", "b1", 100.0 * pile + pick, 10 * pile + pick + 1)
        with fleet.ledger.read() as connection:
            rows = find_samples(connection, SampleFilter())
        settings = DeckConfig(held_share=0.34, juxtapose=JuxtaposeConfig(per_frame=0.3, least_px=200))
        make_deck(fleet.ledger, fleet.objects, "goods", rows, "Ana", "internal", settings)
    random_bundle(folder / "random", 3)
    write_toy_dataset(folder / "core", 4, seed=1, boxes=4)


def order(fleet: Fleet, pick: PickWith | None = None) -> TrainOrder:
    folder = fleet.folder.parent
    deck, loop = find_deck(fleet.ledger, "goods"), "" if pick is None else "by hand"
    known, novelties = lambda *_: folder / "core", ("nov-0001",)
    return TrainOrder(deck, folder / "random", known, "asked for", False, novelties=novelties, pick=pick, loop=loop)


def train_until(folder: Path, part: str) -> None:
    """In a process of its own, which is killed at the first word of ``part``."""

    def killed(what: str, done: int, total: int) -> None:
        if what == part:
            os.kill(os.getpid(), signal.SIGKILL)

    with open_fleet(folder / "fleet") as fleet:
        train(fleet, order(fleet), CONFIG, killed)
