"""A cell that learns beside one that does not: the same piles, and what failed for want of knowing what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.decision_samples import sample_frame, sample_outcome, sample_plan, sample_scene

from edge_adapt.learn.rounds import RoundsConfig
from robin_grasp.picks.outcome import PickResult
from robin_perception.core.errors import Code, RobinError
from robin_sim.learning import LAST, WINDOW, Try, compare_learning, failure_cause, side, summary
from robin_sim.pick_event import PickEvent
from robin_sim.runs.request import RunRequest
from robin_sim.scenario import CameraConfig, CountRange, Scenario, ScenarioConfig

NONE: frozenset[int] = frozenset()
BASE = Path(__file__).parents[2] / "models" / "base"
FEW = Scenario(
    "few",
    ScenarioConfig(
        description="few",
        camera=CameraConfig(width=320, height=240),
        containers={"belt": 1.0},
        belt_parcels=CountRange(least=2, most=3),
    ),
)


def event(result: PickResult, meant: tuple[int, ...] = (0,), **truth: Any) -> PickEvent:
    frame = sample_frame(np.random.default_rng(0))
    outcome = replace(sample_outcome("clean"), result=result, truth={"target": 0, "blocked": {}, "seals": (), **truth})
    return PickEvent(
        0, 0, "tumbled", "belt", 3, frame, sample_scene(frame), sample_plan(), (), outcome, None, meant=meant
    )


def held(*parcels: int) -> dict[str, Any]:
    return {"seals": [{"cup": k, "held": ((parcel, 1.0),), "pressure_pa": 5e4} for k, parcel in enumerate(parcels)]}


@pytest.mark.parametrize(
    ("seen", "faulty", "cause"),
    [
        (event(PickResult.CLEAN), NONE, ""),
        (event(PickResult.MISS, **held(0, 0)), NONE, "hold"),
        (event(PickResult.DROP, **held(0)), NONE, "hold"),
        (event(PickResult.MISS, **held(0, 1)), NONE, "see"),
        (event(PickResult.MISS, meant=(0, 2)), NONE, "see"),
        (event(PickResult.MISS, target=None), NONE, "see"),
        (event(PickResult.MISS, blocked={"by": "parcel2"}), NONE, "see"),
        (event(PickResult.MULTI, **held(0)), NONE, "see"),
        (event(PickResult.MISS, **held(0)), frozenset({1}), "tool"),
        (event(PickResult.MISS, **held(0)), frozenset({0}), "hold"),  # its valve stayed closed
    ],
)
def test_a_failure_names_what_was_not_known(seen: PickEvent, faulty: frozenset[int], cause: str) -> None:
    assert failure_cause(seen, faulty) == cause


def tries(*failed_at: int, count: int) -> list[Try]:
    made = [Try(k // 20, k % 20, "clean", "", "carton", 0, "m") for k in range(count)]
    for k in failed_at:
        made[k] = replace(made[k], result="miss", cause="hold")
    asked = Try(0, 99, "waited", "", "", 1, "m")
    return [*made[:10], asked, *made[10:]]


def test_failures_are_counted_in_the_first_the_second_and_the_last_tries() -> None:
    found = side(tries(3, 63, 64, 127, 128, 399, count=400))
    assert found["failures"] == [2, 2, 1] and found["failures_65_on"] == 4
    assert found["curve"][:3] == [2, 2, 1] and sum(found["curve"]) == 6
    assert found["causes"][0] == {"see": 0, "hold": 2, "tool": 0, "stop": 0}
    assert found["helps"] == 1 and found["tries"] == 400
    assert (WINDOW, LAST) == (64, 200)


def test_the_ratio_is_of_what_comes_after_the_first_tries() -> None:
    result = summary(tries(1, 70, 80, 350, count=400), tries(1, 2, 70, count=400))
    assert result["ratio"] == {"failures_65_on": 1 / 3, "failures_last_200": 0.0}
    assert summary(tries(count=80), tries(70, count=80))["ratio"]["failures_65_on"] is None


@pytest.mark.timeout(600)
def test_both_pick_the_same_piles_and_the_learner_keeps_what_it_saw(tmp_path: Path) -> None:
    told: list[str] = []
    request = RunRequest(FEW, 4, 3, engine="onnxruntime", model=BASE)

    def run() -> dict[str, Any]:
        config = RoundsConfig(first_picks=1000)
        return compare_learning(request, tmp_path, lambda: tmp_path, lambda what, *_: told.append(what), config)

    result = run()
    assert result["static"]["tries"] == result["adapted"]["tries"] == 4
    assert (tmp_path / "store").is_dir() and (tmp_path / "hold.json").is_file()
    told.clear()
    again = run()
    assert "picks without learning" not in told
    assert again == result


def test_without_a_model_nothing_can_learn_to_see(tmp_path: Path) -> None:
    request = RunRequest(FEW, 1, 1, masks="oracle")
    with pytest.raises(RobinError) as caught:
        compare_learning(request, tmp_path, lambda: tmp_path, lambda *_: None)
    assert caught.value.code is Code.MODEL_MISSING
