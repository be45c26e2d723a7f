"""Unfamiliar goods of simulated runs: counted from pile to pile, told in the records, kept under the run's folder."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.decision_samples import sample_decision
from helpers.novelty_samples import frame_with, scene_of
from helpers.perception_graphs import colour_bundle

import robin_sim.runs.cell_runner as cell_runner
from edge_adapt.decision import Decision
from edge_adapt.decision_store import read_decisions
from edge_adapt.store.sample import sample_of
from robin_perception.core.errors import RobinError
from robin_perception.novelty.store import STORE_FILE, NoveltyStore
from robin_perception.novelty.watch import Sighting, sightings
from robin_sim.runs.goods import GOODS_FOLDER, RunGoods, retold
from robin_sim.runs.request import RunRequest
from robin_sim.runs.simulated import run_simulated
from robin_sim.scenario import CameraConfig, CountRange, Scenario, ScenarioConfig


def turn(pile: int, pick: int) -> tuple[Decision, tuple[Sighting, ...]]:
    """A pick of a pile, half a second after the one before, and one unfamiliar parcel that lies there."""
    frame, scene = frame_with((200, 30, 40), (120, 120, 120), stamp_s=0.5 * pick), scene_of(1, 2.0, stamp_s=0.5 * pick)
    decision = sample_decision(pick, "clean", frame, scene)
    return decision.model_copy(update={"context": decision.context.in_pile(pile, pick)}), sightings(frame, scene)


def names(decision: Decision) -> list[str]:
    return [condition.name for condition in decision.conditions]


def test_a_look_is_counted_once_in_a_pile_and_named_in_the_third(tmp_path: Path) -> None:
    goods = RunGoods(tmp_path)
    told = [names(goods.told(*turn(pile, pick))) for pile in range(3) for pick in range(2)]
    assert told == [["unfamiliar"]] * 4 + [["novel-01"]] * 2
    (look,) = NoveltyStore(tmp_path / GOODS_FOLDER, 64, 8).looks.values()
    assert look.count == 3
    assert all((tmp_path / GOODS_FOLDER / look.key / name).is_file() for name in look.pictures)


def test_a_sample_bears_the_name_that_its_goods_have_by_then() -> None:
    goods = RunGoods(None)
    for pile in range(3):
        decision, seen = turn(pile, 0)
        told = goods.told(decision, seen)
    frame, scene = frame_with((200, 30, 40), (120, 120, 120)), scene_of(1, 2.0)
    sample = retold(sample_of(decision, frame, scene), told)
    assert (sample.name, sample.novel) == ("novel-01", True)
    assert names(Decision.model_validate_json(sample.decision)) == ["novel-01"]


def test_a_new_run_begins_without_the_looks_of_an_earlier_one(tmp_path: Path) -> None:
    RunGoods(tmp_path).told(*turn(0, 0))
    RunGoods(tmp_path)
    assert not (tmp_path / GOODS_FOLDER).exists()


def test_a_folder_of_others_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / GOODS_FOLDER).mkdir()
    (tmp_path / GOODS_FOLDER / "list.txt").write_text("mine")
    with pytest.raises(RobinError, match=STORE_FILE):
        RunGoods(tmp_path)
    assert (tmp_path / GOODS_FOLDER / "list.txt").read_text() == "mine"


def test_a_simulated_run_tells_of_unfamiliar_goods_in_its_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = cell_runner.load_segmenter

    def unfamiliar(*args: Any, **kwargs: Any) -> Any:
        segmenter: Any = real(*args, **kwargs)
        segmenter.segment = partial(_all_unfamiliar, segmenter.segment)
        return segmenter

    monkeypatch.setattr(cell_runner, "load_segmenter", unfamiliar)
    values = {
        "description": "small",
        "arrangements": {"single_layer": 1.0},
        "belt_parcels": CountRange(least=3, most=4),
        "camera": CameraConfig(width=320, height=240),
        "picks_per_pile": 2,
    }
    small = Scenario("small", ScenarioConfig.model_validate(values))
    bundle = colour_bundle(tmp_path / "bundle")
    run_simulated(RunRequest(small, 1, 4, "centroid", "predicted", model=bundle.directory), tmp_path / "run")
    decision = read_decisions(tmp_path / "run").decisions[-1]
    assert "unfamiliar" in names(decision)
    told_of = {number for condition in decision.conditions for number in condition.instances}
    assert told_of == {seen.id for seen in decision.instances}
    assert (tmp_path / "run" / GOODS_FOLDER / STORE_FILE).is_file()


def _all_unfamiliar(segment: Any, frame: Any) -> Any:
    scene = segment(frame)
    assert np.any(scene.labels)
    return replace(scene, instances=tuple(replace(one, novelty=2.0) for one in scene.instances))
