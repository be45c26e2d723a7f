"""The learned judge: training, its file, and judgements of picks made by hand with the one that is shipped."""

from __future__ import annotations

import math
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.judged_picks import OTHER, TARGET, WEIGHT_N, grasp, load_view, outcome, scene_of, traces

from edge_adapt.judge_training import LESS, MORE, JudgeTrainingConfig, train_judge
from robin_grasp.boosted_trees import LEAF, Trees, save_trees
from robin_grasp.picks.outcome import PickOutcome, PickResult
from robin_grasp.picks.pick_check import PickCheckConfig, PickChecker, PickJudgement
from robin_grasp.picks.pick_features import FEATURE_GROUPS, FEATURE_NAMES, PLACE
from robin_grasp.picks.pick_judge import JUDGE_SETS, RESULTS, JudgedPicks, judge_set, load_judge, shipped_judge
from robin_grasp.tool import CellConfig
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame

BEFORE, SCENE = scene_of()
TARGET_GONE, BOTH_GONE = scene_of([OTHER])[0], scene_of([])[0]
ALONE, BESIDE = (0.0, 0.0, 0.20, 0.16, 0.10), (0.0, -0.164, 0.20, 0.16, 0.10)
QUICK = JudgeTrainingConfig(rounds=8, folds=2, least_per_leaf=5)


def check(after: Frame | None, made: PickOutcome, judge_file: Path | None = None) -> PickJudgement:
    checker = PickChecker(CellConfig(), PickCheckConfig(judge_file=judge_file))
    return checker.check(grasp(), SCENE, BEFORE, after, made)


def made_up(count: int = 400, seed: int = 0) -> JudgedPicks:
    """Doubles hang outside the footprint, wrong picks miss it, drops lose weight, misses have none."""
    rng = np.random.default_rng(seed)
    features = rng.uniform(0.0, 0.1, (count, len(FEATURE_NAMES)))
    result = rng.choice([r.value for r in RESULTS], count, p=[0.5, 0.1, 0.1, 0.2, 0.1])
    for name, of in (("outside_share", "multi"), ("missing_share", "wrong"), ("lost_n", "drop")):
        features[result == of, PLACE[name]] += 1.0
    features[result == "multi", PLACE["log_load"]] += 0.8
    features[result == "wrong", PLACE["target_kept"]] += 0.8
    features[:, PLACE["held_share"]] = np.where(result == "miss", 0.0, 1.0)
    features[:, PLACE["log_arrive_load"]] = np.where(rng.random(count) < 0.2, math.nan, features[:, PLACE["log_load"]])
    return JudgedPicks(features, result, rng.integers(0, 20, count))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("judge") / "judge.npz"
    train_judge(made_up(), path, 0, QUICK, {"seeds": [0]})
    return path


def test_there_is_a_set_for_whatever_is_missing() -> None:
    assert len(JUDGE_SETS) == len(set(JUDGE_SETS)) == 12
    assert judge_set(["change", "tool"]) in JUDGE_SETS
    assert all(name.split("+")[0] == "tool" for name in JUDGE_SETS)
    assert set().union(*(name.split("+") for name in JUDGE_SETS)) == set(FEATURE_GROUPS)


def test_constraints_name_features_and_never_both_ways() -> None:
    for result in RESULTS:
        assert set(MORE[result]) | set(LESS[result]) <= set(FEATURE_NAMES)
        assert not set(MORE[result]) & set(LESS[result])


def test_a_trained_judge_is_read_back_and_tells_the_results_apart(trained: Path) -> None:
    judge, picks = load_judge(trained), made_up(seed=1)
    odds = judge.probabilities("tool+traces+change+load+segmented", picks.features)
    assert np.allclose(odds.sum(axis=1), 1.0)
    judged = np.array([r.value for r in RESULTS])[odds.argmax(axis=1)]
    assert (judged == picks.result).mean() > 0.95
    assert judge.provenance["seeds"] == [0] and sum(judge.provenance["picks"].values()) == 400


def test_numpy_and_scikit_learn_agree_where_figures_are_missing() -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier

    from edge_adapt.boosting import export_trees

    picks = made_up()
    features = np.where(np.random.default_rng(0).random(picks.features.shape) < 0.3, math.nan, picks.features)
    model = HistGradientBoostingClassifier(max_iter=20, max_leaf_nodes=6).fit(features, picks.result == "multi")
    flat = np.array([0.0, 1.0])
    trees = export_trees(model, flat, flat, missing=True)
    assert np.allclose(trees.raw(features), model.decision_function(features))


def test_a_judge_does_not_look_at_what_it_does_without(trained: Path) -> None:
    judge, picks = load_judge(trained), made_up(seed=1)
    spoiled = picks.features.copy()
    for group in ("load", "segmented"):
        for name in FEATURE_GROUPS[group]:
            spoiled[:, PLACE[name]] = 1e3
    chosen = "tool+traces+change"
    assert np.array_equal(judge.probabilities(chosen, picks.features), judge.probabilities(chosen, spoiled))


def test_more_outside_the_footprint_never_speaks_against_two(trained: Path) -> None:
    judge, picks = load_judge(trained), made_up(seed=2)
    more = picks.features.copy()
    more[:, PLACE["outside_share"]] += 0.5
    trees = judge.models["tool+load"][PickResult.MULTI]
    assert (trees.raw(more) >= trees.raw(picks.features) - 1e-12).all()


def test_too_few_picks_are_refused(tmp_path: Path) -> None:
    few = made_up(50)
    with pytest.raises(RobinError, match="at least 200 picks, got 50") as caught:
        train_judge(few, tmp_path / "judge.npz", 0)
    assert caught.value.code is Code.OPTION_INVALID


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda data: None, Code.MODEL_MISSING),
        (lambda data: data[:1000], Code.MODEL_MANIFEST_INVALID),
        (lambda data: b"{}", Code.MODEL_MANIFEST_INVALID),
    ],
)
def test_a_damaged_judge_is_named(trained: Path, tmp_path: Path, spoil: object, code: Code) -> None:
    path = tmp_path / "damaged.npz"
    if (data := spoil(trained.read_bytes())) is not None:  # type: ignore[operator]
        path.write_bytes(data)
    with pytest.raises(RobinError, match=r"damaged\.npz") as caught:
        PickChecker(CellConfig(), PickCheckConfig(judge_file=path))
    assert caught.value.code is code


def test_a_changed_number_is_noticed(trained: Path, tmp_path: Path) -> None:
    arrays = dict(np.load(trained))
    name = "tool.clean.bias"
    arrays[name] = arrays[name] + 1.0
    np.savez_compressed(tmp_path / "changed.npz", **arrays)
    with pytest.raises(RobinError) as caught:
        load_judge(tmp_path / "changed.npz")
    assert caught.value.code is Code.MODEL_HASH_MISMATCH


def test_a_file_that_cannot_be_written_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    leaf, value = np.full(1, LEAF, np.int32), np.linspace(0.0, 1.0, 2)
    tree = Trees(leaf, value[:1], leaf, leaf, value[:1], np.zeros(1, np.int32), 0.0, value, value)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RobinError, match="/file: cannot write") as unwritable:
        save_trees(tmp_path / "file/out.npz", "a-form-1", ("a",), {"clean": tree}, {})
    assert unwritable.value.code is Code.OPTION_INVALID
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # the system refuses, as it does on a full disk
    try:
        with pytest.raises(RobinError, match=r"out\.npz") as full:
            save_trees(tmp_path / "out.npz", "a-form-1", ("a",), {"clean": tree}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert full.value.code is Code.DISK_FULL
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_shipped_judge_tells_where_it_comes_from() -> None:
    facts = shipped_judge().provenance
    assert facts["command"] and facts["seeds"] and facts["cases"] == sum(facts["picks"].values())
    assert min(facts["picks"].values()) >= 20


ALL = {"traces": traces(), "load": load_view([ALONE])}


def test_a_clean_pick() -> None:
    found = check(TARGET_GONE, outcome(**ALL))
    assert found.result is PickResult.CLEAN and found.probability > 0.9 and not found.lacks
    assert sum(found.probabilities.values()) == pytest.approx(1.0)
    assert found.probabilities[found.result] == found.probability == max(found.probabilities.values())
    assert found.target_gone > 0.9 and found.neighbours_gone == ()


def test_a_miss() -> None:
    empty = traces(dict.fromkeys(range(8), 0.0), [(0.0, 0.0)])
    found = check(BEFORE, outcome(0.0, (), empty))
    assert found.result is PickResult.MISS and found.probability > 0.5


def test_a_drop() -> None:
    lost = traces(dict.fromkeys(range(8), 1.4), [(0.0, WEIGHT_N), (1.4, 0.0)])
    found = check(TARGET_GONE, outcome(traces=lost, load=load_view([])))
    assert found.result is PickResult.DROP


def test_two_at_once() -> None:
    made = outcome(2 * WEIGHT_N, traces=traces(weight_n=[(0.0, 2 * WEIGHT_N)]), load=load_view([ALONE, BESIDE]))
    found = check(BOTH_GONE, made)
    assert found.result is PickResult.MULTI
    assert found.neighbours_gone == (2,)
    assert len(found.reasons) > 2 and all(text and text == text.strip() for text in found.reasons)


def test_the_other_parcel() -> None:
    found = check(scene_of([TARGET])[0], outcome(traces=traces(), load=load_view([BESIDE])))
    assert found.result is PickResult.WRONG
    assert found.target_gone < 0.1


def test_what_is_missing_is_told_and_lowers_what_is_claimed() -> None:
    whole, poor = check(TARGET_GONE, outcome(**ALL)), check(None, outcome())
    assert {lack.code for lack in poor.lacks} == {
        Code.TRACES_MISSING,
        Code.FRAME_AFTER_MISSING,
        Code.LOAD_VIEW_MISSING,
    }
    assert [text for text in poor.reasons if text.startswith("E6")] == [str(lack) for lack in poor.lacks]
    assert poor.probability < whole.probability
    assert math.isnan(poor.target_gone)


def test_the_reported_result_is_not_read() -> None:
    made = outcome(**ALL)
    for result in RESULTS:
        assert check(TARGET_GONE, replace(made, result=result)).result is PickResult.CLEAN
