"""The scripted annotator: what it does, what that costs, and that masks are right afterwards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from robin_cli.bench.annotate_session import SESSION, Effort, Scene, Session, _Annotator, _drawn, measure
from robin_perception.core.frame import Frame
from robin_perception.segmentation.segmenter import load_segmenter
from robin_view.annotate.hints import PlainHints

ROOT = Path(__file__).resolve().parents[2]


def boxes() -> tuple[Scene, PlainHints]:
    """Three boxes of different heights; the first two touch."""
    depth = np.full((120, 160), 1.0, np.float32)
    places = ((slice(20, 70), slice(20, 60)), (slice(20, 60), slice(60, 100)), (slice(80, 110), slice(100, 140)))
    truth = []
    for place, height_m, kind in zip(places, (0.2, 0.1, 0.1), ("carton", "tube", "carton"), strict=True):
        depth[place] = 1.0 - height_m
        mask = np.zeros(depth.shape, bool)
        mask[place] = True
        truth.append((mask, kind))
    K = np.array([[150.0, 0, 79.5], [0, 150.0, 59.5], [0, 0, 1]])
    frame = Frame(np.full((120, 160, 3), 100, np.uint8), depth, K, np.eye(4))
    return Scene(truth, np.ones(depth.shape, bool)), PlainHints(frame)


def test_seconds_are_those_of_the_model_of_keystrokes() -> None:
    assert Session(1.1, 0.2, 0.28, 1.35) == SESSION
    effort = Effort()
    effort.act(clicks=2, keys=1)
    assert effort.seconds == pytest.approx(2 * 1.3 + 0.28 + 1.35)


def test_outlines_have_as_few_corners_as_are_needed() -> None:
    scene, _ = boxes()
    effort, iou = _drawn(scene)
    assert effort.clicks == 4 * 3 and iou > 0.9
    assert effort.seconds == pytest.approx(12 * 1.3 + 9 * 0.28 + 3 * 1.35)


def test_masks_that_are_right_cost_a_look_each() -> None:
    scene, hints = boxes()
    annotator = _Annotator(scene, hints)
    annotator.masks = list(scene.truth)
    annotator.correct()
    assert annotator.actions == {} and annotator.effort.seconds == pytest.approx(3 * (1.35 + 0.28))


def test_a_mask_of_two_is_cut_what_lacks_is_added_what_is_nothing_removed() -> None:
    scene, hints = boxes()
    (first, _), (second, _), _ = scene.truth
    nothing = np.zeros_like(first)
    nothing[90:110, 10:40] = True
    annotator = _Annotator(scene, hints)
    annotator.masks = [(first | second, "carton"), (nothing, "carton")]
    before = annotator.iou()
    annotator.correct()
    assert {"split": 1, "add": 1, "remove": 1}.items() <= annotator.actions.items()
    assert annotator.actions["name"] == 2  # the tube, and the added one, for which no network told a name
    assert before < 0.5 and annotator.iou() > SESSION.enough_iou
    assert annotator.effort.seconds < _drawn(scene)[0].seconds


def test_a_box_stands_for_an_outline_where_three_clicks_are_enough() -> None:
    scene, hints = boxes()
    annotator = _Annotator(scene, hints)
    shifted = np.roll(scene.truth[0][0], 18, axis=0)  # too far off for a stroke
    annotator.masks = [(shifted & ~scene.truth[1][0], "carton"), *scene.truth[1:]]
    annotator.correct()
    assert annotator.actions == {"box": 1} and annotator.iou() > 0.95
    assert annotator.effort.seconds == pytest.approx(3 * 1.3 + 0.28 + 3 * (1.35 + 0.28))


def test_it_measures_labelled_scenes() -> None:
    segmenter = load_segmenter(ROOT / "models" / "base", "onnxruntime")
    found = measure(ROOT / "tests" / "data" / "labelled", 1, segmenter, lambda done, total: None)
    assert found["scenes"] == 1 and found["parcels"] > 3
    assert found["corrected"]["iou"]["mean"] >= max(SESSION.enough_iou, found["untouched"]["iou"]["mean"])
    assert found["corrected"]["seconds"]["mean"] < found["outlines"]["seconds"]["mean"]
