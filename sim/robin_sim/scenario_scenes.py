"""Labelled scenes of a scenario's cell, to teach and to judge by."""

from __future__ import annotations

from robin_grasp.tool import CellConfig
from robin_sim.open_pile import OpenPile
from robin_sim.scenario import ScenarioConfig
from robin_sim.training_scenes import DatasetConfig, LabelledScene, label_scene, scene_rng, thinned

_MOST_TAKEN = 0.6  # share of a pile


def scenario_scene(scenario: ScenarioConfig, seed: int, index: int, config: DatasetConfig) -> LabelledScene:
    """Pile ``index`` of a run with that seed as its camera sees it, some parcels taken off its top."""
    opened = OpenPile(scenario, CellConfig(), seed, index)
    rng = scene_rng(seed, index)
    opened.pile = thinned(opened.pile, rng, rng.uniform(0.0, _MOST_TAKEN))
    frame = opened.look()
    view, camera = opened.truth
    return label_scene(opened.pile, view, camera, frame, config, {"seed": seed, "index": index})
