"""The closed loop: it picks, it tells what happened, and the seed alone decides."""

from __future__ import annotations

import json
import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.perception_graphs import colour_bundle

import robin_sim.open_pile as pile_module
from edge_adapt.decision_store import read_decisions
from edge_adapt.store.store import StoreReader
from robin_grasp.picks.outcome import PickOutcome, PickResult
from robin_grasp.plan import Grasp
from robin_grasp.recovery.failure_memory import FailureMemory
from robin_grasp.tool import CellConfig, WorkspaceConfig, tote_workspace
from robin_perception.core.errors import Code, RobinError
from robin_sim.goods import draw_goods
from robin_sim.model import Pile, RenderedView
from robin_sim.oracle import dominant_parcel, oracle_scene
from robin_sim.parcels import BASE_TRAINING_MIX, draw_parcels
from robin_sim.physics import UnstableSimulationError
from robin_sim.pick import PickResultSim
from robin_sim.reasons import failure_reason
from robin_sim.runs.request import RunRequest
from robin_sim.runs.run import run_scenario
from robin_sim.runs.simulated import run_simulated, summary_rows
from robin_sim.scenario import CameraConfig, CountRange, Scenario, ScenarioConfig

KEYS = {
    "scenario", "seed", "planner", "model", "attempts", "clean", "missed", "dropped", "multi", "wrong", "infeasible",
    "picks_per_hour", "latency_ms",
}  # fmt: skip


def small(**changes: object) -> Scenario:
    """Few parcels, a small picture, no pile for longer than two picks: seconds instead of minutes."""
    values: dict[str, object] = {
        "description": "small",
        "arrangements": {"single_layer": 1.0},
        "belt_parcels": CountRange(least=3, most=4),
        "camera": CameraConfig(width=320, height=240),
        "picks_per_pile": 2,
        **changes,
    }
    return Scenario("small", ScenarioConfig.model_validate(values))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("closed_loop")
    ticks: list[tuple[int, int, str]] = []
    result = run_simulated(RunRequest(small(), 3, 11, "geometric", "oracle"), out, lambda *tick: ticks.append(tick))
    assert result.attempts == 3
    assert [done for done, _, result in ticks if result != "infeasible"] == [1, 2, 3]
    return out


def test_short_closed_loop_picks_and_tells(recorded: Path) -> None:
    results = json.loads((recorded / "results.json").read_text())
    assert set(results) >= KEYS
    assert results["attempts"] == 3 == sum(results[k] for k in ("clean", "missed", "dropped", "multi", "wrong"))
    assert results["clean"] >= 2, results["failures"]  # single parcels on a belt, perfect masks
    assert set(results["latency_ms"]) == {"p50", "p95"}
    assert results["rates"]["clean"]["low"] <= results["clean"] / 3 <= results["rates"]["clean"]["high"]
    assert results["picks_per_hour"] > 0
    assert len(results["failures"]) == results["plans"] - results["clean"]


def test_every_turn_has_its_record_and_images(recorded: Path) -> None:
    decisions = read_decisions(recorded).decisions
    results = json.loads((recorded / "results.json").read_text())
    assert len(decisions) == results["plans"]
    for decision in decisions:
        assert len(decision.model_dump_json()) < 50_000
        assert all((recorded / path).exists() for path in decision.images.values())
        assert decision.chosen is None or decision.outcome is not None
    first, second = next((a, b) for a, b in pairwise(decisions) if a.context.pile == b.context.pile)
    assert (recorded / first.images["after"]).read_bytes() == (recorded / second.images["color"]).read_bytes()
    assert f'id="{first.decision_id}"' in (recorded / "report.html").read_text()


def test_a_second_run_replaces_the_first(tmp_path: Path) -> None:
    for seed in (1, 2):
        run_simulated(RunRequest(small(), 1, seed, "single_cup", "oracle"), tmp_path, report=False)
    decisions = read_decisions(tmp_path).decisions
    assert {d.context.seed for d in decisions} == {2}
    assert len(list((tmp_path / "images").iterdir())) == len(decisions)


def test_a_store_takes_the_images_of_a_run(tmp_path: Path) -> None:
    request = RunRequest(small(), 2, 11, "geometric", "oracle")
    run_simulated(request, tmp_path / "run", report=False, store=tmp_path / "store")
    decisions = read_decisions(tmp_path / "run").decisions
    assert not (tmp_path / "run" / "images").exists()
    with StoreReader(tmp_path / "store") as store:
        rows = list(store.samples())
        assert [row.decision for row in rows] == [decision.decision_id for decision in decisions]
        for row, decision in zip(rows, decisions, strict=True):
            sample = store.read(row)
            assert sample.decision() == decision
            assert set(np.unique(sample.labels())) - {0} == {one.id for one in decision.instances}
        assert (store.read(rows[0]).colour("after") == store.read(rows[1]).colour()).all()


def test_a_run_that_cannot_start_leaves_an_earlier_one_alone(recorded: Path) -> None:
    before = (recorded / "decisions.jsonl").read_bytes()
    with pytest.raises(RobinError, match="nonsense"):
        run_simulated(RunRequest(small(), 1, 1, "nonsense", "oracle"), recorded)
    assert (recorded / "decisions.jsonl").read_bytes() == before


def test_images_of_something_else_are_not_replaced(tmp_path: Path) -> None:
    """``robin sim run --out docs`` must not delete docs/images."""
    picture = tmp_path / "images" / "mine.png"
    picture.parent.mkdir()
    picture.write_bytes(b"mine")
    with pytest.raises(RobinError, match="images") as info:
        run_simulated(RunRequest(small(), 1, 1, "geometric", "oracle"), tmp_path)
    assert info.value.code is Code.OPTION_INVALID
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [picture]


@pytest.mark.slow
def test_same_figures_in_one_process_and_in_two() -> None:
    one = run_scenario(RunRequest(small(), 4, 5, "geometric", "oracle", workers=1))
    two = run_scenario(RunRequest(small(), 4, 5, "geometric", "oracle", workers=2))
    assert one.outcome_key() == two.outcome_key()
    assert one.attempts == two.attempts == 4


def test_failures_travel_whole_between_processes() -> None:
    error = pickle.loads(pickle.dumps(RobinError(Code.OPTION_INVALID, "unknown planner 'x'")))
    assert (error.code, error.text, str(error)) == (
        Code.OPTION_INVALID,
        "unknown planner 'x'",
        "E405 OPTION_INVALID: unknown planner 'x'",
    )


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"picks": 0}, Code.OPTION_INVALID),
        ({"workers": 0}, Code.OPTION_INVALID),
        ({"masks": "guessed"}, Code.OPTION_INVALID),
        ({"scenario": "nonsense"}, Code.SCENARIO_UNKNOWN),
        ({"planner": "nonsense"}, Code.OPTION_INVALID),
        ({"masks": "predicted", "model": None}, Code.MODEL_MISSING),
        ({"masks": "predicted", "model": Path("/nonexistent/bundle")}, Code.MODEL_MISSING),
    ],
)
def test_bad_options_are_refused(changes: dict[str, object], code: Code) -> None:
    options: dict[str, object] = {"scenario": small(), "picks": 1, "seed": 0, "planner": "geometric", "masks": "oracle"}
    with pytest.raises(RobinError) as info:
        run_scenario(RunRequest(**{**options, **changes}))  # type: ignore[arg-type]
    assert info.value.code is code


def test_summary_rows_cover_every_outcome() -> None:
    result = run_scenario(RunRequest(small(), 1, 5, "single_cup", "oracle"))
    names = [row[0] for row in summary_rows(result)]
    assert names[:7] == ["attempts", "clean", "missed", "dropped", "multi", "wrong", "infeasible"]


def _grasp(x: float, cups: int = 0b11) -> Grasp:
    pose = np.eye(4)
    pose[0, 3] = x
    return Grasp(pose, cups, 1, 0.5)


def test_memory_counts_repeats_and_forgets_what_is_gone() -> None:
    memory = FailureMemory()
    memory.note(_grasp(0.50), PickResult.MISS)
    memory.note(_grasp(0.51), PickResult.DROP)
    assert [f.times for f in memory.failed] == [2]
    memory.note(_grasp(0.51, cups=0b1), PickResult.MISS)
    assert [f.times for f in memory.failed] == [2, 1]
    assert memory.stuck
    memory.note(_grasp(0.52), PickResult.CLEAN)
    assert memory.failed == () and not memory.stuck


def test_failures_far_apart_are_a_jam_when_they_go_on() -> None:
    memory = FailureMemory()
    for x in (0.5, 0.7, 0.5):
        memory.note(_grasp(x), PickResult.MISS)
    assert not memory.stuck
    assert len(memory.failed) == 2
    memory.note(_grasp(0.9), PickResult.MISS)
    assert memory.stuck


def _view(labels: np.ndarray, count: int) -> RenderedView:
    blank = np.zeros((*labels.shape, 3), dtype=np.float32)
    visible = np.linspace(1.0, 0.5, count, dtype=np.float32)
    return RenderedView(blank.astype(np.uint8), blank[..., 0], labels.astype(np.uint16), blank, visible)


def test_oracle_scene_is_the_visible_truth() -> None:
    parcels = draw_parcels(np.random.default_rng(0), 3, BASE_TRAINING_MIX)
    pile = Pile(parcels, np.tile(np.eye(4), (3, 1, 1)), WorkspaceConfig())
    labels = np.zeros((96, 128), dtype=int)
    labels[10:40, 10:50] = 1
    labels[60:62, 60:62] = 2  # too small to count
    labels[50:90, 80:120] = 3
    scene = oracle_scene(pile, _view(labels, 3), stamp_s=2.0)
    assert [i.id for i in scene.instances] == [1, 2]
    assert scene.instances[1].bbox == (80, 50, 120, 90)
    assert [scene.class_name(i) for i in scene.instances] == [parcels[0].kind.value, parcels[2].kind.value]
    assert scene.instances[1].visible_fraction == pytest.approx(0.5)
    np.testing.assert_array_equal(scene.labels == 2, labels == 3)
    assert scene.boundary.shape == (24, 32)
    assert scene.boundary[2, 2] == 1.0 and scene.boundary[6, 8] == 0.0


def test_target_is_what_most_of_the_mask_shows() -> None:
    labels = np.zeros((10, 10), dtype=int)
    labels[:, :4] = 1
    labels[:, 4:] = 2
    view = _view(labels, 2)
    mask = np.zeros((10, 10), dtype=bool)
    mask[:, 3:9] = True
    assert dominant_parcel(view, mask) == 1
    assert dominant_parcel(_view(np.zeros((10, 10)), 2), mask) == -1
    assert dominant_parcel(view, np.zeros((10, 10), dtype=bool)) == -1


def test_goods_fit_their_container() -> None:
    goods = draw_goods(np.random.default_rng(3), 8, BASE_TRAINING_MIX, tote_workspace(), 15.0)
    assert 6 <= len(goods) <= 8
    assert sum(float(np.prod(p.size_m)) for p in goods) <= 0.015
    assert all(sorted(p.size_m)[2] <= 0.74 and sorted(p.size_m)[1] <= 0.56 for p in goods)


def _outcome(result: str, **truth: object) -> PickOutcome:
    return PickOutcome(PickResult(result), (0.0,) * 8, 0.0, 1.0, truth)


def test_reasons_name_what_the_physics_saw() -> None:
    sealed = {"pressure_pa": 5e4, "held": ((2, 1.0),)}
    open_air = {"pressure_pa": 0.0, "held": ()}
    other = {"pressure_pa": 5e4, "held": ((3, 1.0),)}
    release = {"reason": "peel", "phase": "lift"}
    assert failure_reason(_outcome("clean", target=2, seals=[sealed])) == ""
    assert "no parcel" in failure_reason(_outcome("miss", target=None, seals=[sealed]))
    assert "none of 2" in failure_reason(_outcome("miss", target=2, seals=[open_air, open_air]))
    assert "2 parcels" in failure_reason(_outcome("multi", target=2, seals=[sealed, other], lifted=[2, 3]))
    assert "1 more" in failure_reason(_outcome("multi", target=2, seals=[sealed], lifted=[2, 3]))
    assert "another parcel" in failure_reason(_outcome("wrong", target=2, seals=[other]))
    assert failure_reason(_outcome("drop", target=2, seals=[sealed, sealed], releases=[release])) == (
        "1 of 2 cups let go, first in lift (1 peel)"
    )


def test_the_cell_is_configuration() -> None:
    """A cell whose pump is off lifts nothing; the loop gives the pile up and goes on."""
    weak = CellConfig()
    weak = weak.model_copy(update={"tool": weak.tool.model_copy(update={"vacuum_pa": 5.0})})
    result = run_scenario(RunRequest(small(picks_per_pile=1), 1, 3, "centroid", "oracle", cell=weak))
    assert result.count("clean") == 0


def test_predicted_masks_run_through_the_segmenter(tmp_path: Path) -> None:
    """A bundle that takes shades of red for parcels: poor masks, but the real way from frame to record."""
    bundle = colour_bundle(tmp_path / "bundle")
    result = run_simulated(RunRequest(small(), 1, 4, "centroid", "predicted", model=bundle.directory), tmp_path / "run")
    assert result.attempts == 1
    decision = read_decisions(tmp_path / "run").decisions[-1]
    assert decision.model_id == result.model == result.picks[0].model_id
    assert decision.model_id != "oracle"
    assert decision.context.engine == result.engine == "onnxruntime"  # what "auto" became, and not the request
    assert set(decision.context.digests) == {"cell", "scenario", "planner"}
    assert decision.context.thresholds["least_clean"] == 0.76
    assert decision.timings_ms["frame_to_plan"] > decision.timings_ms["network"] > 0


def test_physics_that_diverges_ends_the_pile_and_not_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = pile_module.execute_pick, []

    def diverges_once(*args: Any) -> PickResultSim:
        calls.append(1)
        if len(calls) == 2:
            raise UnstableSimulationError("speed 1e9 m/s")
        return real(*args)

    monkeypatch.setattr(pile_module, "execute_pick", diverges_once)
    result = run_scenario(RunRequest(small(), 2, 11, "geometric", "oracle"))
    assert [pick.result for pick in result.picks] == ["clean", "unstable", "clean"]
    assert [pick.pile for pick in result.picks] == [0, 0, 1]
    assert (result.attempts, result.to_json()["unstable"]) == (2, 1)
    assert "1e9" in result.picks[1].reason
