"""A tool of four cups and a bundle with a sixth class through the commands: plan, closed loop, report, trace, record
and replay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.cli_helpers import Robin
from helpers.other_cells import FEW_PARCELS, FOUR_CUPS, SIXTH, six_class_bundle

from edge_adapt.decision import Decision
from edge_adapt.decision_store import read_decisions
from robin_grasp.tool import CellConfig
from robin_perception.core.config import load_config
from robin_perception.core.scene import CLASSES

pytestmark = pytest.mark.slow
PICKS = 3


@pytest.fixture
def robin(capsys: pytest.CaptureFixture[str]) -> Robin:
    return Robin(capsys)


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return six_class_bundle(tmp_path_factory.mktemp("models") / "six")


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "few.yaml"
    path.write_text(FEW_PARCELS)
    return path


def closed_loop(robin: Robin, scenario: Path, out: Path, *more: object) -> list[Decision]:
    run = ("sim", "run", "--scenario", scenario, "--picks", PICKS, "--seed", 5, "--workers", 1, "--cell", FOUR_CUPS)
    done = robin(*run, "--out", out, *more)
    assert done.status == 0, done.err
    return [d for d in read_decisions(out).decisions if d.outcome is not None]


def test_the_example_is_a_tool_of_four_cups() -> None:
    assert load_config(CellConfig, FOUR_CUPS).tool.cup_count == 4


def test_four_cups_pick_and_are_told(robin: Robin, scenario: Path, tmp_path: Path) -> None:
    made = closed_loop(robin, scenario, tmp_path / "run", "--masks", "oracle")
    assert len(made) == PICKS and sum(d.result == "clean" for d in made) >= PICKS - 1
    for decision in made:
        assert decision.chosen is not None and decision.outcome is not None
        assert len(decision.context.tool.cup_centres_m) == len(decision.outcome.vacuum_pa) == 4
        assert decision.chosen.cups and max(decision.chosen.cups) < 4
        held = [cup for cup, pa in enumerate(decision.outcome.vacuum_pa) if pa > 0]
        assert set(held) <= set(decision.chosen.cups)
    told = robin("trace", made[0].decision_id, "--run", tmp_path / "run").out
    assert "of 4 cups" in told and "●" in told
    report = (tmp_path / "run/report.html").read_text()
    assert report.count("<title>cup 3</title>") >= PICKS and "<title>cup 4</title>" not in report


def test_a_sixth_class_goes_from_the_bundle_into_records_and_report(
    robin: Robin, scenario: Path, six: Path, tmp_path: Path
) -> None:
    out, answer = tmp_path / "run", tmp_path / "plan.json"
    made = closed_loop(robin, scenario, out, "--model", six)
    assert len(made) == PICKS and any(d.result == "clean" for d in made)
    assert {d.class_names for d in made} == {(*CLASSES, SIXTH)}
    seen = [instance.class_name for d in made for instance in d.instances]
    assert SIXTH in seen and "carton" not in seen
    assert SIXTH in (out / "report.html").read_text()

    picture = next(out / d.images["color"] for d in made if SIXTH in {i.class_name for i in d.instances}).parent
    done = robin("plan", "--folder", picture, "--model", six, "--cell", FOUR_CUPS, "--json", answer)
    assert done.status == 0, done.err
    planned = json.loads(answer.read_text())
    assert planned["code"] == 0 and planned["grasps"]
    assert SIXTH in {instance["class"] for instance in planned["instances"]}
    assert all(list(i["class_probabilities"]) == [*CLASSES, SIXTH] for i in planned["instances"])
    assert all(max(grasp["cups"]) < 4 for grasp in planned["grasps"])


def test_what_is_recorded_with_both_is_replayed_to_the_bit(
    robin: Robin, scenario: Path, six: Path, tmp_path: Path
) -> None:
    bag, result = tmp_path / "bag", tmp_path / "replay.json"
    recorded = ("record", "--out", bag, "--scenario", scenario, "--picks", PICKS, "--seed", 6)
    done = robin(*recorded, "--model", six, "--cell", FOUR_CUPS)
    assert done.status == 0, done.err
    done = robin("replay", bag, "--model", six, "--tolerance", "exact", "--json", result)
    assert done.status == 0, done.err
    found = json.loads(result.read_text())
    assert found["same"] and found["compared"] >= PICKS and not found["differing"]
