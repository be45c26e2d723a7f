"""The learned ranker: what is written is what was fitted, monotone, verified on reading, and never fatal when
damaged."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest
from helpers.planner_fits import with_fit

from edge_adapt.ranker_training import (
    BETTER,
    RISKIER,
    SAFER,
    WORSE,
    Outcomes,
    RankerTrainingConfig,
    _constraints,
    outcomes_from_rows,
    train_ranker,
)
from robin_grasp.boosted_trees import LEAF, Trees
from robin_grasp.planner.config import PlannerConfig, RankConfig
from robin_grasp.planner.learned_ranker import LearnedRanker, load_ranker, load_ranker_or_none, save_ranker
from robin_grasp.planner.ranker import FEATURE_NAMES, GeometricRanker, Odds, utility
from robin_grasp.planner.registry import make_planner
from robin_grasp.tool import CellConfig
from robin_perception.core.errors import Code, RobinError

QUICK = RankerTrainingConfig(rounds=20, least_per_leaf=10)


def made_up(count: int = 600, seed: int = 0) -> Outcomes:
    """Outcomes that depend on three features only."""
    rng = np.random.default_rng(seed)
    features = rng.random((count, len(FEATURE_NAMES)))
    logit = 4 * features[:, FEATURE_NAMES.index("hold_probability")]
    logit += 4 * features[:, FEATURE_NAMES.index("visible_fraction")]
    logit -= 3 * features[:, FEATURE_NAMES.index("tool_tilt_rad")]
    clean = rng.random(count) < 1 / (1 + np.exp(-logit + 2))
    multi = ~clean & (rng.random(count) < 0.4)
    return Outcomes(features, clean, multi, np.arange(count) // 12, np.full(count, 0.6))


@pytest.fixture(scope="module")
def ranker_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ranker") / "ranker.npz"
    report = train_ranker(made_up(), path, seed=1, config=QUICK, provenance={"from": "a test"})
    assert report.auc > 0.65
    assert report.log_loss < report.log_loss_geometric
    return path


def as_terms(features: np.ndarray) -> dict[str, np.ndarray]:
    return {name: features[:, k] for k, name in enumerate(FEATURE_NAMES)}


def test_numpy_evaluates_the_trees_as_sklearn_does() -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier

    from edge_adapt.boosting import export_trees

    data = made_up()
    model = HistGradientBoostingClassifier(max_iter=15, monotonic_cst=_constraints(BETTER, WORSE), random_state=0)
    model.fit(data.features, data.clean)
    trees = export_trees(model, np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    fresh = made_up(seed=5).features
    assert np.allclose(trees.probability(fresh), model.predict_proba(fresh)[:, 1], atol=1e-9)


def test_odds_are_probabilities_and_monotone(ranker_file: Path) -> None:
    ranker = load_ranker(ranker_file)
    features = made_up(seed=3).features[:50]
    odds = ranker.odds(as_terms(features))
    assert ((odds.clean >= 0) & (odds.clean <= 1) & (odds.clean + odds.multi <= 1 + 1e-9)).all()
    better = features.copy()
    better[:, FEATURE_NAMES.index("hold_probability")] += 0.3
    better[:, FEATURE_NAMES.index("tool_tilt_rad")] -= 0.2
    assert (ranker.odds(as_terms(better)).clean >= odds.clean - 1e-9).all()


def test_training_is_deterministic(tmp_path: Path) -> None:
    train_ranker(made_up(), tmp_path / "a.npz", seed=1, config=QUICK)
    train_ranker(made_up(), tmp_path / "b.npz", seed=1, config=QUICK)
    features = as_terms(made_up(seed=9).features)
    a, b = load_ranker(tmp_path / "a.npz").odds(features), load_ranker(tmp_path / "b.npz").odds(features)
    assert np.array_equal(a.clean, b.clean) and np.array_equal(a.multi, b.multi)


def test_missing_damaged_and_foreign_files(ranker_file: Path, tmp_path: Path) -> None:
    with pytest.raises(RobinError) as missing:
        load_ranker(tmp_path / "none.npz")
    assert missing.value.code is Code.MODEL_MISSING
    cut = tmp_path / "cut.npz"
    cut.write_bytes(ranker_file.read_bytes()[:-200])
    with pytest.raises(RobinError) as damaged:
        load_ranker(cut)
    assert damaged.value.code is Code.MODEL_MANIFEST_INVALID
    with np.load(ranker_file) as data:
        arrays = {name: data[name] for name in data.files}
    changed = {**arrays, "clean.value": arrays["clean.value"] + 0.1}
    np.savez(tmp_path / "changed.npz", **changed)
    with pytest.raises(RobinError) as tampered:
        load_ranker(tmp_path / "changed.npz")
    assert tampered.value.code is Code.MODEL_HASH_MISMATCH
    np.savez(tmp_path / "part.npz", **{k: v for k, v in arrays.items() if k != "multi.root"})
    with pytest.raises(RobinError) as partial:
        load_ranker(tmp_path / "part.npz")
    assert partial.value.code is Code.MODEL_TENSOR_MISSING


def test_a_file_that_cannot_be_written_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    leaf, value = np.full(1, LEAF, np.int32), np.linspace(0.0, 1.0, 2)
    tree = Trees(leaf, value[:1], leaf, leaf, value[:1], np.zeros(1, np.int32), 0.0, value, value)
    ranker = LearnedRanker(tree, tree, {})
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RobinError, match="/file: cannot write") as unwritable:
        save_ranker(ranker, tmp_path / "file/out.npz")
    assert unwritable.value.code is Code.OPTION_INVALID
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # the system refuses, as it does on a full disk
    try:
        with pytest.raises(RobinError, match=r"out\.npz") as full:
            save_ranker(ranker, tmp_path / "out.npz")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert full.value.code is Code.DISK_FULL
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_planner_without_its_ranker_says_so(tmp_path: Path) -> None:
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"not a zip")
    assert load_ranker_or_none(broken) == (None, ("ranker_damaged",))
    planner = make_planner("learned", CellConfig(), ranker_path=broken)
    assert planner.flags == ("ranker_damaged",)  # type: ignore[attr-defined]
    assert make_planner("learned", CellConfig(), tmp_path / "none").flags == ("ranker_missing",)  # type: ignore[attr-defined]


def test_too_few_or_uniform_outcomes_are_refused(tmp_path: Path) -> None:
    few = made_up(50)
    with pytest.raises(RobinError, match="at least"):
        train_ranker(few, tmp_path / "x.npz", seed=0, config=QUICK)
    data = made_up()
    alike = Outcomes(data.features, np.ones(600, bool), np.zeros(600, bool), data.group, data.geometric)
    with pytest.raises(RobinError, match="alike"):
        train_ranker(alike, tmp_path / "x.npz", seed=0, config=QUICK)
    assert not (tmp_path / "x.npz").exists()


def test_rows_of_another_planner_are_refused() -> None:
    with pytest.raises(RobinError) as exc:
        outcomes_from_rows([({"cup_count": 1.0}, "clean", 0)])
    assert exc.value.code is Code.RECORD_INVALID


def test_rows_of_other_classes_are_rows_of_none_that_the_ranker_knows() -> None:
    known = {name: 0.5 for name in FEATURE_NAMES}
    other = {name: value for name, value in known.items() if not name.startswith("is_")} | {"is_crate": 1.0}
    found = outcomes_from_rows([(known, "clean", 0), (other, "miss", 0)]).features
    classes = [name.startswith("is_") for name in FEATURE_NAMES]
    assert found[0].tolist() == [0.5] * len(FEATURE_NAMES)
    assert found[1].tolist() == [0.0 if of_class else 0.5 for of_class in classes]


def test_constraint_names_are_features() -> None:
    assert set(BETTER) | set(WORSE) | set(RISKIER) | set(SAFER) <= set(FEATURE_NAMES)


def riskless(count: int) -> dict[str, np.ndarray]:
    """Terms of ``count`` candidates that nothing speaks against."""
    zero = ("cover", "push_m", "merged_probability", "tool_tilt_rad", "failed_near", "lever_m", "standing")
    names = (*FEATURE_NAMES, "single_probability")
    return {name: np.ones(count) for name in names} | {name: np.zeros(count) for name in zero}


def test_geometric_odds_fall_with_each_risk() -> None:
    ranker = GeometricRanker(PlannerConfig())
    good = riskless(1)
    best = ranker.odds(good).clean[0]
    assert best == pytest.approx(1.0)
    for name, value in (("hold_probability", 0.5), ("free_probability", 0.5), ("single_probability", 0.5),
                        ("detection", 0.5), ("push_m", 0.02), ("tool_tilt_rad", 0.5), ("failed_near", 1.0),
                        ("merged_probability", 0.5), ("carry_room_m", -0.2), ("standing", 0.2),
                        ("lever_m", 0.03), ("mask_quality", 0.9), ("cover", 0.3), ("short_side_m", 0.06)):  # fmt: skip
        assert ranker.odds(good | {name: np.full(1, value)}).clean[0] < best


def test_geometric_odds_are_a_power_of_the_product_and_share_the_rest_as_it_does() -> None:
    ranker = GeometricRanker(with_fit(rank={"odds_power": 0.25}))
    terms = riskless(3)
    terms |= {"free_probability": np.array([0.0625, 0.5, 1.0]), "hold_probability": np.array([1.0, 0.8, 1.0])}
    odds = ranker.odds(terms)
    np.testing.assert_allclose(odds.clean, [0.5, 0.4**0.25, 1.0])
    np.testing.assert_allclose(odds.multi, [0.5, (1 - 0.4**0.25) * 0.4 / 0.6, 0.0])


def test_no_candidate_has_better_odds_than_its_parcel_at_best() -> None:
    """So that what is ruled out by that bound would have been ruled out in the end."""
    ranker, rng = GeometricRanker(PlannerConfig()), np.random.default_rng(3)
    good = riskless(500)
    mixed = good | {name: rng.random(500) for name in (*FEATURE_NAMES, "single_probability")}
    for terms in (good | {"free_probability": rng.random(500), "cover": rng.random(500)}, mixed):
        bound = ranker.at_best(terms["free_probability"], terms["cover"])
        assert (ranker.odds(terms).clean <= bound + 1e-12).all()
    assert np.allclose(ranker.odds(good).clean, ranker.at_best(good["free_probability"], good["cover"]))


def test_utility_weighs_two_parcels_heavier_than_none() -> None:
    config = RankConfig()
    multi = utility(Odds(np.array([0.8]), np.array([0.2])), config)
    nothing = utility(Odds(np.array([0.8]), np.array([0.0])), config)
    assert multi[0] < nothing[0] < 0.8
