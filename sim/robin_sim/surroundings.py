"""What stays around a pile as its parcels go: belt or tote, hall, light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robin_grasp.tool import WorkspaceConfig
from robin_sim.any_cell.places import any_background
from robin_sim.backgrounds import Background, draw_background, draw_new_background
from robin_sim.lighting import Lighting, draw_lighting, draw_new_lighting
from robin_sim.scenario import ScenarioConfig


@dataclass(frozen=True)
class Surroundings:
    lighting: Lighting
    background: Background


def draw_surroundings(rng: np.random.Generator, config: ScenarioConfig, workspace: WorkspaceConfig) -> Surroundings:
    """As the scenario says: of the kinds that a cell's training draws, of others, or the room of any cell."""
    if config.surroundings == "new":
        return Surroundings(draw_new_lighting(rng), draw_new_background(rng, workspace))
    if config.surroundings == "any":
        return Surroundings(draw_lighting(rng), any_background(rng, workspace))
    return Surroundings(draw_lighting(rng), draw_background(rng, workspace))
