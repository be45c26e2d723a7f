"""Figures with known answers: average precision by hand, merges, splits, ignore regions, boundaries, strata."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.perception_graphs import blocks, colour_bundle, colour_frame
from hypothesis import given, settings
from hypothesis import strategies as st

from robin_perception.core.errors import RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.image_folder import save_frame
from robin_perception.core.scene import Instance, Scene
from robin_perception.engines import EngineConfig
from robin_perception.evaluation.depth_rule import depthless_dropped
from robin_perception.evaluation.evaluate import Prediction, compare, evaluate, segmenter_predictor, summarise
from robin_perception.evaluation.metrics import IGNORE_LABEL, agreement, average_precision, boundary_map, overlap
from robin_perception.segmentation.segmenter import load_segmenter


def image(*boxes: tuple[int, int, int, int, int], size: tuple[int, int] = (60, 80)) -> np.ndarray:
    """Label image with boxes (label, y0, y1, x0, x1), later ones on top."""
    labels = np.zeros(size, dtype=np.uint16)
    for label, y0, y1, x0, x1 in boxes:
        labels[y0:y1, x0:x1] = label
    return labels


def scene(labels: np.ndarray, scores: dict[int, float] | None = None) -> Scene:
    instances = tuple(
        Instance(int(i), (0, 0, 1, 1), 1, np.full(5, 0.2), (scores or {}).get(int(i), 0.9), 1, 1, 1, np.ones(16))
        for i in np.unique(labels[labels > 0])
    )
    return Scene(0.0, "hand", labels, instances, np.zeros((1, 1), np.float32))


def figures(predicted: np.ndarray, truth: np.ndarray, info: dict | None = None, scores: dict | None = None) -> dict:
    made = scene(predicted, scores)
    result = compare(Prediction(made, made), truth, info or {})
    return summarise([result], np.random.default_rng(0), replicates=5)


@pytest.mark.parametrize(
    ("hits", "truths", "wanted"),
    [
        ([True, True], 2, 1.0),
        ([False, False], 2, 0.0),
        ([True], 2, 51 / 101),  # recall .5 at precision 1: recall points 0 .. .50
        ([False, True], 1, 0.5),  # found at rank two: precision 1/2 at every recall
        ([True, False, True], 2, (51 * 1 + 50 * 2 / 3) / 101),
    ],
)
def test_average_precision_by_hand(hits: list[bool], truths: int, wanted: float) -> None:
    scores = np.linspace(0.9, 0.1, len(hits))
    assert np.isclose(average_precision(scores, np.array(hits), truths), wanted)


def test_one_parcel_more_moves_a_fine_figure_by_one_parcel() -> None:
    scores = np.linspace(0.9, 0.1, 600)
    fewer, more = (np.arange(600) < found for found in (569, 571))  # of 600: recall .948 and .952
    coarse = [average_precision(scores, hits, 600) for hits in (fewer, more)]
    fine = [average_precision(scores, hits, 600, recall_points=1001) for hits in (fewer, more)]
    assert coarse[1] - coarse[0] > 0.009
    assert fine[1] - fine[0] == pytest.approx(2 / 600, abs=0.001)


def test_average_precision_without_anything() -> None:
    assert average_precision(np.zeros(0), np.zeros(0, bool), 3) == 0.0
    assert np.isnan(average_precision(np.zeros(0), np.zeros(0, bool), 0))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), n=st.integers(1, 30))
def test_weights_count_like_repetitions(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    scores, hits, times = rng.permutation(n) / n, rng.random(n) < 0.6, rng.integers(0, 4, n)
    truths = float((hits * times).sum() + 2)
    repeated = average_precision(np.repeat(scores, times), np.repeat(hits, times), truths)
    assert np.isclose(average_precision(scores, hits, truths, times.astype(float)), repeated, atol=0.02 + 1e-9 * n)


def test_perfect_masks_are_perfect() -> None:
    truth = blocks(120, 160, 3, 4, 3)
    got = figures(truth, truth)
    for key in ("ap50", "ap75", "ap", "overlap_f", "boundary_f", "detected75"):
        assert got[key] == 1.0
    assert got["merge_rate"] == got["split_rate"] == 0.0
    assert (got["scenes"], got["truths"], got["predictions"]) == (1, 12, 12)


def test_nothing_found_is_zero() -> None:
    got = figures(np.zeros((120, 160), np.uint16), blocks(120, 160, 2, 2, 3))
    assert got["ap50"] == got["overlap_f"] == got["boundary_f"] == got["detected75"] == 0.0
    assert got["merge_rate"] is None and got["split_rate"] == 0.0


def test_half_a_parcel_by_hand() -> None:
    truth, predicted = image((1, 10, 30, 10, 50)), image((7, 10, 30, 10, 30))
    got = figures(predicted, truth)
    assert got["overlap_p"] == 1.0 and got["overlap_r"] == 0.5 and np.isclose(got["overlap_f"], 2 / 3)
    assert got["ap50"] == 0.0  # IoU is .5, not above
    bigger = figures(image((7, 10, 30, 10, 32)), truth)
    assert bigger["ap50"] == 1.0 and bigger["ap75"] == 0.0


def test_figures_are_weighted_by_size() -> None:
    truth = image((1, 0, 40, 0, 40), (2, 45, 55, 45, 55))
    got = figures(image((1, 0, 40, 0, 40)), truth)
    assert np.isclose(got["overlap_r"], 1600 / 1700) and got["detected75"] == 0.5


def test_merges_and_splits() -> None:
    two = image((1, 10, 30, 10, 30), (2, 10, 30, 30, 50))
    one = image((1, 10, 30, 10, 50))
    merged = figures(one, two)
    assert merged["merge_rate"] == 1.0 and merged["split_rate"] == 0.0
    split = figures(two, one)
    assert split["split_rate"] == 1.0 and split["merge_rate"] == 0.0
    nibbled = figures(image((1, 10, 30, 10, 38)), two)  # all of the first, two fifths of the second
    assert nibbled["merge_rate"] == 0.0


def test_ignored_pixels_count_on_neither_side() -> None:
    truth = image((1, 10, 30, 10, 30), (IGNORE_LABEL, 10, 30, 30, 60))
    got = figures(image((1, 10, 30, 10, 36), (2, 12, 28, 40, 58)), truth, scores={1: 0.5, 2: 0.99})
    assert got["ap50"] == got["ap75"] == got["overlap_f"] == got["boundary_f"] == 1.0
    assert got["predictions"] == 1 and got["truths"] == 1


def test_a_confident_phantom_costs_precision() -> None:
    truth = image((1, 10, 30, 10, 30))
    predicted = image((1, 10, 30, 10, 30), (2, 40, 55, 50, 70))
    assert figures(predicted, truth, scores={1: 0.9, 2: 0.8})["ap50"] == 1.0
    assert figures(predicted, truth, scores={1: 0.8, 2: 0.9})["ap50"] == 0.5


def test_boundaries_match_within_the_tolerance_only() -> None:
    """At 480x640 the tolerance is ceil(.003 * 800) = 3 pixels."""
    truth = image((1, 100, 300, 100, 300), size=(480, 640))
    for shift, wanted in ((0, 1.0), (3, 1.0)):
        moved = image((1, 100 + shift, 300 + shift, 100 + shift, 300 + shift), size=(480, 640))
        assert figures(moved, truth)["boundary_f"] == pytest.approx(wanted, abs=0.01)
    far = image((1, 110, 310, 110, 310), size=(480, 640))
    assert figures(far, truth)["boundary_f"] < 0.15


def test_boundary_map_of_a_box() -> None:
    mask = np.zeros((6, 6), dtype=bool)
    mask[2:4, 2:4] = True
    wanted = np.zeros((6, 6), dtype=bool)
    wanted[1:4, 1:4] = True
    wanted[2, 2] = False
    assert np.array_equal(boundary_map(mask), wanted)


def test_each_prediction_is_paired_once_and_for_the_most() -> None:
    truth = image((1, 0, 20, 0, 40), (2, 20, 40, 0, 40))
    predicted = image((5, 0, 30, 0, 40), (6, 30, 40, 0, 40))
    pairs = agreement(predicted, truth)
    assert list(pairs.owner) == [0, 1]
    assert list(pairs.true_hit) == [800, 400]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_overlap_agrees_with_masks_counted_one_by_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = np.kron(rng.integers(0, 5, (6, 8)), np.ones((5, 5))).astype(np.uint16)
    truth[truth == 4] = IGNORE_LABEL
    predicted = np.kron(rng.choice([0, 3, 700, 65000], (10, 8)), np.ones((3, 5))).astype(np.uint16)
    table = overlap(predicted, truth)
    for i, p in enumerate(table.pred_ids):
        mask = (predicted == p) & (truth != IGNORE_LABEL)
        assert table.pred_area[i] == mask.sum()
        for j, t in enumerate(table.true_ids):
            assert table.shared[i, j] == (mask & (truth == t)).sum()
            assert np.isclose(table.iou[i, j], (mask & (truth == t)).sum() / max((mask | (truth == t)).sum(), 1))
    assert list(table.true_area) == [(truth == t).sum() for t in table.true_ids]


def test_strata_hold_their_own_parcels_only() -> None:
    truth = image((1, 5, 25, 5, 25), (2, 5, 25, 30, 50), (3, 30, 50, 5, 25))
    info = {
        "strata": ["dim"],
        "instances": [{"id": 1, "strata": ["flush"]}, {"id": 2, "strata": ["flush", "occluded"]}, {"id": 3}],
    }
    predicted = image((1, 5, 25, 5, 25), (2, 5, 25, 30, 36), (3, 30, 50, 5, 25), (4, 52, 58, 60, 70))
    got = figures(predicted, truth, info)
    assert set(got["strata"]) == {"flush", "occluded"}, "what holds for the scene does not tag its parcels"
    flush, occluded = got["strata"]["flush"], got["strata"]["occluded"]
    assert flush["truths"] == 2 and flush["predictions"] == 2 and flush["ap50"] == pytest.approx(51 / 101)
    assert occluded["truths"] == 1 and occluded["ap50"] == 0.0 and occluded["overlap_r"] == pytest.approx(0.3)


def test_sizes_that_differ_are_refused() -> None:
    with pytest.raises(RobinError):
        overlap(np.zeros((4, 4), np.uint16), np.zeros((4, 5), np.uint16))


@pytest.mark.parametrize("both", [False, True])
def test_the_published_rule_drops_predictions_with_little_depth(both: bool) -> None:
    labels = image((1, 0, 20, 0, 20), (2, 30, 50, 0, 20))
    depth = np.ones(labels.shape, np.float32)
    depth[0:5, 0:20] = 0  # a quarter of the first
    found = Prediction(scene(labels), scene(labels)) if both else scene(labels)
    frame = Frame(np.zeros((60, 80, 3), np.uint8), depth, np.eye(3), np.eye(4))
    for share, kept in ((0.7, {1, 2}), (0.8, {2})):
        got = depthless_dropped(lambda _: found, share)(frame)
        for left in (got.operating, got.candidates) if isinstance(got, Prediction) else (got,):
            assert {i.id for i in left.instances} == set(np.unique(left.labels)) - {0} == kept


def test_a_data_set_from_disk_gives_all_the_keys(tmp_path: Path) -> None:
    colour_bundle(tmp_path / "model", 12)
    segmenter = load_segmenter(tmp_path / "model", engine_config=EngineConfig(intra_threads=1))
    for index in range(3):
        labels = blocks(384, 512, 3, 4, 5 * index)
        folder = tmp_path / "data" / f"{index:06d}"
        save_frame(folder, colour_frame(labels), labels)
        instances = [{"id": i, "kind": "carton", "strata": ["flush"] if index == 0 else []} for i in range(1, 13)]
        instances[0]["visible_fraction"] = 0.3
        (folder / "scene.json").write_text(json.dumps({"strata": [], "instances": instances}))
    got = evaluate(segmenter_predictor(segmenter), tmp_path / "data")
    for key in ("scenes", "ap50", "ap75", "overlap_f", "boundary_f", "merge_rate", "split_rate"):
        assert key in got and key in got["strata"]["flush"]
    assert got["scenes"] == 3 and got["strata"]["flush"]["scenes"] == 1
    assert got["ap50"] > 0.95 and got["overlap_f"] > 0.95
    low, high = got["intervals"]["overlap_f"]
    assert low <= got["overlap_f"] <= high
    assert json.loads(json.dumps(got)) == got
    seen = evaluate(segmenter_predictor(segmenter), tmp_path / "data", min_visible=0.5)
    assert got["truths"] == 36 and seen["truths"] == 33, "a parcel that is mostly covered is ignored"
    assert seen["ap50"] > 0.95, "and its mask is no false one"
    again = evaluate(segmenter_predictor(segmenter), tmp_path / "data")
    assert {k: v for k, v in again.items() if k != "predict_ms"} == {k: v for k, v in got.items() if k != "predict_ms"}
