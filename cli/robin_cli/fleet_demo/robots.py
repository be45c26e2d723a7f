"""The robots of the demo: on each line one simulated cell, and others beside it that handle the same goods. All of them
fetch and verify releases by themselves; picks of all are drawn from what the simulated cells measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edge_adapt.models.registry import ModelRegistry
from edge_adapt.releases.client import ReleaseClient, trust
from edge_adapt.releases.install import Fetched, follow
from robin_cli.fleet_demo.cells import Cell
from robin_fleet.ledger.core import Ledger
from robin_fleet.ledger.rollouts import PickCount, add_count
from robin_fleet.rollout.plan import COUNTED_S
from robin_fleet.training.closed_loop import Tally

ROBOTS_ON_A_LINE = 4
PICKS_PER_HOUR = 500.0
_RELEASES, _MODELS = "releases", "models"


@dataclass(frozen=True)
class Robot:
    """folder: of its key, its trusted root and its models. registry: what it runs."""

    name: str
    cell: Cell
    folder: Path
    registry: ModelRegistry

    @property
    def model(self) -> str:
        return self.registry.load().bundle.model_id

    def follow(self, url: str, root: bytes) -> Fetched | None:
        """Do what is assigned, as ``robin adapt fetch``. Raises RobinError RELEASE_*."""
        folder = self.folder / _RELEASES
        trust(folder, root)
        return follow(ReleaseClient(folder, url), self.registry, folder, self.cell.site, self.name)


def robot(name: str, cell: Cell, folder: Path, factory: Path) -> Robot:
    return Robot(name, cell, folder, ModelRegistry(folder / _MODELS, factory))


@dataclass
class Measured:
    """Picks of simulated cells, by site and model: of all models from the same piles of the same cells, so that their
    shares can be compared."""

    tallies: dict[tuple[str, str], Tally] = field(default_factory=dict)

    def failing(self, model: str) -> float:
        """Expected share of failed picks at all cells, with half a pick of either kind in advance. Raises KeyError."""
        mine = [tally for (_, name), tally in self.tallies.items() if name == model]
        if not mine:
            raise KeyError(model)
        return (sum(t.failed for t in mine) + 0.5) / (sum(t.of for t in mine) + 1.0)


def draw_picks(
    ledger: Ledger,
    robots: Sequence[Robot],
    models: Mapping[str, str],
    measured: Measured,
    begin_s: float,
    rng: np.random.Generator,
) -> None:
    """Picks of one stretch of time, counted as if their decisions had come in. models: of each robot."""
    with ledger.write() as connection:
        for one in robots:
            picks = int(rng.poisson(PICKS_PER_HOUR * COUNTED_S / 3600))
            failed = int(rng.binomial(picks, measured.failing(models[one.name])))
            add_count(connection, PickCount(int(begin_s), one.name, models[one.name], picks, picks - failed))
