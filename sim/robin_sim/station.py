"""One simulated station: camera, light and belt or tote stay as they are while goods come and go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from robin_grasp.tool import CellConfig, WorkspaceConfig
from robin_sim.cameras import CameraView, true_camera
from robin_sim.faults import NO_FAULTS, Faults
from robin_sim.goods import draw_goods
from robin_sim.model import Pile, RenderedView
from robin_sim.piles import make_pile
from robin_sim.render import render
from robin_sim.scenario import CountRange, ScenarioConfig, draw_pile_start
from robin_sim.surroundings import draw_surroundings

_TAKEN_PER_LOOK = 2  # parcels, from the top, as picks take them


@dataclass(frozen=True)
class StationView:
    """A view without noise, and the camera that it is reported to come from."""

    view: RenderedView
    camera: CameraView


class SimStation:
    """The same (seed, index) gives the same station, whatever is looked at. Not thread-safe.

    The scenario's faults do not apply: whoever makes frames of the views says what is wrong with the camera.
    """

    def __init__(self, config: ScenarioConfig, cell: CellConfig, seed: int, index: int) -> None:
        station_rng, self._goods_rng = np.random.default_rng([seed, index]).spawn(2)
        self._config = config
        start = draw_pile_start(config.model_copy(update={"faults": NO_FAULTS}), cell, station_rng)
        self._start = start
        self.camera, self._true_camera = start.camera, start.true_camera
        self._around = draw_surroundings(station_rng, config, start.workspace)
        self.sensor = config.camera.draw_sensor(station_rng)

    @property
    def workspace(self) -> WorkspaceConfig:
        return self._start.workspace

    @property
    def container(self) -> str:
        return self.workspace.container

    def new_pile(self) -> Pile:
        """The next pile of the scenario's goods in this station's container."""
        rng, start, config = self._goods_rng, self._start, self._config
        counts: CountRange = config.tote_parcels if self.container == "tote" else config.belt_parcels
        goods = draw_goods(rng, counts.draw(rng), config.parcel_mix, start.workspace, start.fill_l)
        return make_pile(rng, goods, start.workspace, start.arrangement)

    def see(self, pile: Pile, faults: Faults = NO_FAULTS) -> StationView:
        """The pile as it lies, from where the camera truly stands."""
        view = render(pile, true_camera(self._true_camera, faults), self._around.lighting, self._around.background)
        return StationView(view, self.camera)


def picked_from(pile: Pile, looks: int, taken: int = _TAKEN_PER_LOOK) -> Iterator[Pile]:
    """The pile, then what is left as its highest parcels are taken away: ``looks`` piles in all."""
    order = np.argsort(pile.poses[:, 2, 3], kind="stable") if len(pile.parcels) else np.zeros(0, dtype=np.intp)
    for look in range(looks):
        kept = np.sort(order[: max(0, len(order) - look * taken)])
        yield replace(pile, parcels=tuple(pile.parcels[i] for i in kept), poses=pile.poses[kept])
