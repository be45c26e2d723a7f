"""Trials of labels: what a mask is worth against the truth, resumption, and the figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.label_samples import Block, picture

from edge_adapt.labels.pile import FrameLabels
from robin_perception.core.scene import Scene
from robin_perception.segmentation.segmenter import load_segmenter
from robin_sim import label_trials
from robin_sim.label_trials import LabelTrials, best_iou, first_frame, label_pile, run_labels, subtracted, summary

BUNDLE = Path(__file__).resolve().parents[2] / "models" / "base"


def pick(label: float | None, judged: str = "clean", proposed: float = 0.95) -> dict[str, Any]:
    void = "" if label is not None else "LABEL_UNCLEAR"
    return {"judged": judged, "label": label, "proposed": proposed, "subtraction": 0.7, "void": void}


def line(index: int, picks: list[dict[str, Any]], ious: tuple[float, ...] = (0.9,)) -> dict[str, Any]:
    first = {"emptied": True, "ious": list(ious), "known": 0.9, "right": 0.99}
    job = LabelTrials(index + 1, 5).jobs()[index]
    return {"kind": job[0], "scenario": job[1], "seed": 5, "index": index, "picks": picks, "first": first, "cpu_s": 1.0}


def test_a_mask_is_held_against_the_parcel_that_it_shows_most_of() -> None:
    truth = np.zeros((10, 10), dtype=np.uint16)
    truth[:, 2:6], truth[:, 6:8] = 1, 2
    mask = np.zeros((10, 10), dtype=bool)
    mask[:, 2:7] = True
    assert best_iou(mask, truth) == pytest.approx(0.8)
    assert best_iou(truth == 0, truth) == 0.0


def test_subtraction_takes_the_largest_difference() -> None:
    small, large = Block(10, 10, 20, 20, 0.05, (200, 40, 40)), Block(80, 60, 60, 50, 0.05, (40, 40, 200))
    found = subtracted(picture([small, large], 1), picture([], 2))
    assert (found & large.mask).sum() > 0.9 * large.mask.sum() and not (found & small.mask).any()
    assert not subtracted(picture([], 1), picture([], 2)).any()


def test_a_first_frame_counts_parcels_without_a_label() -> None:
    truth = np.zeros((384, 512), dtype=np.uint16)
    truth[:100, :100], truth[200:300, 200:300], truth[380:, 508:] = 1, 2, 3  # the third is too small to count
    labels = (truth == 1).astype(np.uint16)
    found = first_frame(FrameLabels(labels, truth == 2, {}), truth)
    assert found["ious"] == [1.0, 0.0] and found["known"] == pytest.approx(1 - 1e4 / truth.size)


def test_figures_count_what_the_pick_check_called_clean() -> None:
    lines = [line(0, [pick(0.96), pick(None), pick(0.4, proposed=0.4)], (0.95, 0.2)), line(1, [pick(0.1, "multi")])]
    found = summary(lines)
    assert (found["picks"], found["clean"]) == (4, 3)
    assert [found[name]["count"] for name in ("labelled", "good", "wrong")] == [2, 1, 1]
    assert [found[name]["of"] for name in ("labelled", "good", "wrong")] == [3, 3, 2]
    assert found["median_iou"]["label"]["median"] == pytest.approx(0.68)
    assert found["void"] == {"LABEL_UNCLEAR": 1} and found["disputed"]["picks"] == 1
    assert found["first_frame"]["labelled"]["count"] == 2 and found["first_frame"]["labelled"]["of"] == 3


def test_nothing_labelled_is_told_too() -> None:
    found = summary([{**line(0, [pick(None)]), "first": None}])
    assert found["median_iou"]["label"]["median"] is None and found["first_frame"]["known"] is None


def test_a_run_goes_on_after_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def make(scenario: str, seed: int, index: int, see: object) -> dict[str, Any]:
        made.append(index)
        return line(index, [pick(0.9)])

    def blind(frame: object) -> Scene:
        raise AssertionError

    monkeypatch.setattr(label_trials, "label_pile", make)
    kept = tmp_path / "lines"
    kept.write_text(json.dumps(line(0, [pick(0.8)])) + "\n")
    found = run_labels(LabelTrials(2, 5), blind, kept, lambda done, of: None)
    assert made == [1] and found["median_iou"]["label"]["median"] == pytest.approx(0.85)
    run_labels(LabelTrials(2, 5), blind, kept, lambda done, of: None)
    assert made == [1]


def test_a_pick_of_a_simulated_pile_gives_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_trials, "MOST_PICKS", 1)
    found = label_pile("belt", 141050, 0, load_segmenter(BUNDLE, "onnxruntime").segment)
    assert len(found["picks"]) == 1 and 0 <= found["picks"][0]["proposed"] <= 1
    assert not found["first"]["emptied"] and json.loads(json.dumps(found)) == found
