"""Cases of simulated picks: kept whole, made again alike, and judged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.grasp_scenes import Box, box_scene
from helpers.judged_picks import OTHER, TARGET, grasp, load_view, outcome, scene_of, traces

from robin_cli.main import main
from robin_grasp.picks.outcome import PickResult
from robin_grasp.picks.pick_features import FEATURE_NAMES, pick_evidence
from robin_grasp.picks.pick_judge import RESULTS, SHIPPED_JUDGE, shipped_judge
from robin_grasp.plan import Plan
from robin_grasp.tool import CellConfig
from robin_perception.core.errors import Code, RobinError
from robin_sim.pick_cases.careless import CarelessConfig, CarelessEyes, CarelessPlanner, merge, touching
from robin_sim.pick_cases.evaluate import VIEWS, calibration_error, case_row, figures, picks_to_learn_from
from robin_sim.pick_cases.make import KINDS, CaseKind, CaseMaker, kinds_named
from robin_sim.pick_cases.run import CaseWork, case_files, make_cases
from robin_sim.pick_cases.store import DEPTH_UNIT_M, PickCase, case_count, load_cases, save_cases

BEFORE, SCENE = scene_of()
AFTER, REST = scene_of([OTHER])
MODEL = Path(__file__).resolve().parents[2] / "models" / "base"


def case(number: int, result: PickResult = PickResult.CLEAN, after: object = AFTER) -> PickCase:
    made = outcome(traces=traces(), load=load_view([(0.0, 0.0, 0.20, 0.16, 0.10)]))
    made = replace(made, result=result, truth={"target": 0, "lifted": [0], "delivered": [0]})
    return PickCase("made-by_hand-s7-00000", number, CellConfig(), SCENE, BEFORE, after, grasp(), made)  # type: ignore[arg-type]


def test_a_case_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "pile.npz"
    cases = [case(0), case(1, PickResult.MULTI)]
    save_cases(path, cases)
    assert case_count(path) == 2
    again = list(load_cases(path))
    assert [c.outcome.result for c in again] == [PickResult.CLEAN, PickResult.MULTI]
    for old, new in zip(cases, again, strict=True):
        assert np.array_equal(new.before.rgb, old.before.rgb) and np.array_equal(new.scene.labels, old.scene.labels)
        assert np.abs(new.after.depth - old.after.depth).max() <= DEPTH_UNIT_M / 2 + 1e-6
        assert new.grasp.terms == old.grasp.terms and new.outcome.truth == old.outcome.truth
        assert new.outcome.traces is not None and new.outcome.load is not None and old.outcome.traces is not None
        assert np.array_equal(new.outcome.traces.vacuum_pa, old.outcome.traces.vacuum_pa)
        rows = [pick_evidence(c.grasp, c.scene, c.before, c.after, c.outcome, c.cell).row() for c in (old, new)]
        assert np.allclose(*rows, atol=0.02, equal_nan=True)


def test_a_look_from_above_in_a_file_of_before_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "pile.npz"
    save_cases(path, [case(0)])
    arrays = dict(np.load(path))
    header = json.loads(str(arrays.pop("header")))
    looks = header["picks"][0]["outcome"]["looks"]
    looks["load_above"] = looks["load"]
    arrays |= {f"0.load_above.{kind}": arrays[f"0.load.{kind}"] for kind in ("color", "depth")}
    np.savez(tmp_path / "before.npz", header=np.array(json.dumps(header)), **arrays)
    (new,), (old,) = load_cases(path), load_cases(tmp_path / "before.npz")
    assert case_count(tmp_path / "before.npz") == 1 and old.outcome == new.outcome
    assert np.array_equal(case_row(old, None).features, case_row(new, None).features, equal_nan=True)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    for name, data in (("text.npz", b"no"), ("arrays.npz", None)):
        path = tmp_path / name
        if data is None:
            np.savez(path, header=np.array("{}"))
        else:
            path.write_bytes(data)
        with pytest.raises(RobinError, match=name) as caught:
            case_count(path)
        assert caught.value.code is Code.RECORD_INVALID
    with pytest.raises(RobinError) as missing:
        case_files([tmp_path / "nothing"])
    assert missing.value.code is Code.INPUT_MISSING


def test_kinds_of_piles_are_chosen_by_name() -> None:
    assert kinds_named(()) == KINDS
    assert kinds_named(("mixed/geometric", "flush/alike")) == (
        CaseKind("mixed", "geometric"),
        CaseKind("flush", "alike"),
    )
    with pytest.raises(RobinError, match="'clear/none': no kind of piles; there are blocked_cup/careless") as caught:
        kinds_named(("clear/none",))
    assert caught.value.code is Code.OPTION_INVALID


def test_only_what_looks_like_one_is_merged_where_that_is_asked() -> None:
    small = replace(OTHER, size_x=0.08)
    for other, merged in ((OTHER, True), (small, False), (replace(OTHER, kind="poly_bag"), False)):
        frame, scene = box_scene([TARGET, other])
        eyes = CarelessEyes(
            lambda _, scene=scene: scene, CarelessConfig(merge=1.0, alike=True), np.random.default_rng(1)
        )
        assert len(touching(scene)) == 1
        assert len(eyes(frame).instances) == (1 if merged else 2) and (eyes.merged is not None) is merged


def test_masks_that_touch_are_merged() -> None:
    far = Box(1.0, -0.2, 0.1, 0.1, 0.1)
    _, scene = box_scene([TARGET, OTHER, far])
    pairs = touching(scene)
    assert [(a.id, b.id) for a, b in pairs] == [(1, 2)]
    merged = merge(scene, *pairs[0])
    assert [i.id for i in merged.instances] == [1, 3]
    whole = merged.instances[0]
    assert (merged.labels == 1).sum() == (scene.labels == 1).sum() + (scene.labels == 2).sum() == whole.area_px
    x0, y0, x1, y1 = whole.bbox
    assert (merged.labels[y0:y1, x0:x1] == 1).sum() == whole.area_px


def careless(**shares: float) -> Plan:
    config = CarelessConfig(**{"merge": 0.0, "any_parcel": 0.0, "wide": 0.0, "few": 0.0, **shares})
    rng = np.random.default_rng(3)
    eyes = CarelessEyes(lambda frame: SCENE, config, rng)
    scene = eyes(BEFORE)
    return CarelessPlanner(CellConfig(), rng, eyes).plan(BEFORE, scene)


def test_a_careless_planner_does_what_it_is_told() -> None:
    careful = careless().best
    few, wide, merged = careless(few=1.0).best, careless(wide=1.0).best, careless(merge=1.0).best
    assert careful is not None and few is not None and wide is not None and merged is not None
    assert few.cups.bit_count() <= 2 <= careful.cups.bit_count()
    seam_y = (OTHER.y - OTHER.size_y / 2 + TARGET.y + TARGET.size_y / 2) / 2
    for grasp_ in (wide, merged):
        assert grasp_.cups == 0b1111_1111
        assert grasp_.T_base_tool[1, 3] == pytest.approx(seam_y, abs=0.03)
    assert merged.terms["mass_kg"] > 1.5 * careful.terms["mass_kg"]  # what is expected of both


def test_figures_of_a_judge_beside_the_former_one() -> None:
    rows = [case_row(case(k, result), None) for k, result in enumerate([PickResult.CLEAN] * 4 + [PickResult.MISS])]
    found = figures(rows, shipped_judge())
    assert found["picks"] == 5 and found["truth"]["clean"] == 4
    assert set(found["views"]) == {*VIEWS, "former"}
    assert set(found["confusion"]) == {r.value for r in RESULTS}
    for part in found["views"].values():
        assert sum(sum(row.values()) for row in part["confusion"].values()) == 5
    assert found["confusion"]["clean"]["clean"] == 4  # and the miss, which looks like these, is none
    picks, facts = picks_to_learn_from(rows)
    assert picks.features.shape == (5, len(FEATURE_NAMES)) and facts == {"piles": 1, "seeds": [7], "cases": 5}


def test_calibration_error() -> None:
    belief = np.repeat([0.55, 0.95], 100)
    right = np.concatenate([np.arange(100) < 55, np.arange(100) < 75])
    assert calibration_error(right, belief) == pytest.approx(0.10)
    assert np.isnan(calibration_error(right[:0], belief[:0]))


@pytest.mark.slow
def test_cases_are_made_once_and_alike(tmp_path: Path) -> None:
    made = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        paths = make_cases(folder, 130499, 3, CaseWork(MODEL, "onnxruntime"))
        made.append([row for path in paths for row in load_cases(path)])
    stamps = [path.stat().st_mtime_ns for path in paths]
    assert make_cases(tmp_path / "b", 130499, 3, CaseWork(MODEL, "onnxruntime")) == paths
    assert [path.stat().st_mtime_ns for path in paths] == stamps
    for one, two in zip(*made, strict=True):
        assert one.outcome.truth == two.outcome.truth and np.array_equal(one.after.rgb, two.after.rgb)
    assert all(c.outcome.traces is not None for c in made[0])
    told = tmp_path / "told.json"
    command = f"eval pickcheck --cases {tmp_path / 'b'} --seed 130499 --picks 3 --beside {SHIPPED_JUDGE} --json {told}"
    assert main(command.split()) == 0
    found = json.loads(told.read_text())
    assert found["picks"] == len(made[0]) and found["beside"]["views"] == found["views"]


def test_piles_take_turns_in_their_kinds(tmp_path: Path) -> None:
    kinds = (CaseKind("flush", "careless"), CaseKind("mixed", "geometric"))
    maker = CaseMaker(5, MODEL, "onnxruntime", tmp_path, kinds)
    assert maker.path(0).name == "flush-careless-s5-00000.npz"
    assert maker.path(3).name == "mixed-geometric-s5-00003.npz"
