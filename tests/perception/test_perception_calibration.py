"""Calibration with known answers, the classical baseline on clean blocks, and overlays."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.perception_graphs import blocks, colour_bundle, colour_frame, colour_network

from robin_perception.core.image_folder import save_frame
from robin_perception.engines import EngineConfig
from robin_perception.evaluation.evaluate import evaluate
from robin_perception.model.bundle import CalibrationTables, load_bundle, update_manifest, write_bundle
from robin_perception.model.calibration import (
    Samples,
    collect,
    edge_error_px,
    expected_calibration_error,
    fit_calibration,
    fit_tables,
    isotonic_table,
)
from robin_perception.segmentation.classical import ClassicalSegmenter
from robin_perception.segmentation.overlay import colour_depth, draw_labels, draw_masks, instance_colour
from robin_perception.segmentation.segmenter import load_segmenter


def samples(n: int = 4000, seed: int = 0) -> Samples:
    """Scores that are overconfident in a known way: P(hit) is the square of the raw detection."""
    rng = np.random.default_rng(seed)
    raw = rng.random(n)
    hit = (rng.random(n) < raw**2).astype(float)
    quality = rng.random(n)
    sharp = rng.dirichlet(np.ones(5), n)
    true_class = np.array([rng.choice(5, p=row) for row in sharp])
    overconfident = sharp**2 / (sharp**2).sum(axis=1, keepdims=True)
    return Samples(
        raw, quality, quality, overconfident, hit, np.where(hit > 0, 0.5 + 0.5 * quality, 0.1),
        np.where(hit > 0, np.sqrt(quality), np.nan), np.where(hit > 0, true_class, -1),
        np.where(hit > 0, 1.5, np.nan), rng.normal((0.4, -0.3), 1.0, (n, 2)), np.arange(n) // 20,
    )  # fmt: skip


def test_known_distortions_are_undone() -> None:
    tables = fit_tables(samples(), "made up")
    x = np.array([0.2, 0.5, 0.8], dtype=np.float32)
    assert np.allclose(tables.detection.apply(x), x**2, atol=0.06)
    assert np.allclose(tables.mask_quality.apply(x), 0.5 + 0.5 * x, atol=0.03)
    assert np.allclose(tables.visible_fraction.apply(x), np.sqrt(x), atol=0.03)
    assert 1.6 < tables.class_temperature < 2.5
    assert tables.boundary_scale == pytest.approx(1.5)
    assert tables.mask_shift_px == pytest.approx((0.4, -0.3), abs=0.06)
    figures = tables.reliability
    for score in ("detection", "mask_quality", "visible_fraction", "class"):
        assert figures[f"{score}_ece_after"] < 0.5 * figures[f"{score}_ece_before"]
        assert figures[f"{score}_ece_after"] < 0.04


def test_tables_are_monotone_and_small_sets_change_nothing() -> None:
    rng = np.random.default_rng(1)
    table = isotonic_table(rng.random(3000), rng.random(3000))
    assert len(table.x) <= 48 and (np.diff(table.x) > 0).all() and (np.diff(table.y) >= 0).all()
    few = fit_tables(samples(10), "few")
    assert (
        few.detection == CalibrationTables().detection
        and few.class_temperature == 1.0
        and few.mask_shift_px == (0.0, 0.0)
    )


def test_calibration_error_by_hand() -> None:
    predicted = np.array([0.15, 0.15, 0.85, 0.85])
    assert expected_calibration_error(predicted, np.array([0.0, 0.0, 1.0, 1.0])) == pytest.approx(0.15)
    assert expected_calibration_error(predicted, predicted) == pytest.approx(0.0)
    assert expected_calibration_error(np.zeros(0), np.zeros(0)) == 0.0


def test_edge_error_by_hand() -> None:
    truth, moved = np.zeros((80, 80), np.uint16), np.zeros((80, 80), np.uint16)
    truth[20:60, 20:60], moved[20:60, 23:63] = 7, 2
    # Two of four sides are three pixels off; corners a little less.
    assert edge_error_px(moved, 2, truth, 7, (23, 20, 63, 60)) == pytest.approx(3 / np.sqrt(2), abs=0.2)
    assert edge_error_px(truth, 7, truth, 7, (20, 20, 60, 60)) == 0.0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data")
    for index in range(4):
        labels = blocks(384, 512, 3, 4, 4 + 3 * index)
        frame = colour_frame(labels)
        depth = np.where(labels > 0, 1.2 - 0.04 * (1 + labels % 3), 1.2).astype(np.float32)
        save_frame(out / f"{index:06d}", frame.with_depth(depth), labels)
        instances = [{"id": i, "kind": "carton", "visible_fraction": 0.7, "strata": []} for i in range(1, 13)]
        (out / f"{index:06d}" / "scene.json").write_text(json.dumps({"strata": [], "instances": instances}))
    return out


def test_a_bundle_is_calibrated_from_a_folder(tmp_path: Path, data: Path) -> None:
    colour_bundle(tmp_path / "m", 12)
    segmenter = load_segmenter(tmp_path / "m", engine_config=EngineConfig(intra_threads=1))
    tables = fit_calibration(segmenter, data)
    assert tables.fitted_on.endswith("4 scenes")
    assert tables.reliability["mask_quality_ece_after"] < tables.reliability["mask_quality_ece_before"]
    update_manifest(tmp_path / "m", calibration=tables)
    assert load_bundle(tmp_path / "m").manifest.calibration == tables
    again = load_segmenter(tmp_path / "m", engine_config=EngineConfig(intra_threads=1))
    scene = again.segment(colour_frame(blocks(384, 512, 3, 4, 6)))
    assert all(abs(i.visible_fraction - 0.7) < 0.02 and i.mask_quality > 0.9 for i in scene.instances)


def test_true_classes_are_numbered_as_the_bundle_names_them(tmp_path: Path, data: Path) -> None:
    names = ("bucket", "carton", "crate", "tube", "tyre")
    head = {"head.detect.weight": np.ones(12, dtype=np.float32)}
    write_bundle(tmp_path / "m", colour_network(12), head, name="colours", max_instances=12, classes=names)
    segmenter = load_segmenter(tmp_path / "m", engine_config=EngineConfig(intra_threads=1))
    found = collect(segmenter, data / "000000")
    assert (found.hit > 0).sum() == 12 and set(found.true_class[found.hit > 0]) == {1}


def test_classical_baseline_separates_blocks_of_different_height(data: Path) -> None:
    figures = evaluate(ClassicalSegmenter().segment, data)
    assert figures["scenes"] == 4 and figures["ap50"] > 0.9 and figures["overlap_f"] > 0.8


def test_classical_baseline_finds_nothing_on_an_empty_belt() -> None:
    frame = colour_frame(np.zeros((240, 320), dtype=np.uint16))
    scene = ClassicalSegmenter().segment(frame)
    assert scene.instances == () and not scene.labels.any()


def test_classical_instances_agree_with_the_labels(data: Path) -> None:
    labels = blocks(240, 320, 2, 3, 10)
    frame = colour_frame(labels)
    frame = frame.with_depth(np.where(labels > 0, 1.1, 1.2).astype(np.float32))
    scene = ClassicalSegmenter().segment(frame)
    assert len(scene.instances) == 6
    for instance in scene.instances:
        assert scene.crop(instance).sum() == instance.area_px == (scene.labels == instance.id).sum()
        assert 0 < instance.detection < 1


def test_overlays_have_the_frame_s_size_and_leave_it_alone() -> None:
    labels = blocks(120, 160, 2, 2, 6)
    frame = colour_frame(labels)
    frame = frame.with_depth(np.where(labels > 0, 1.0, 1.2).astype(np.float32))
    before = frame.rgb.copy()
    scene = ClassicalSegmenter().segment(frame)
    for picture in (draw_masks(frame.rgb, scene), draw_labels(frame.rgb, labels), colour_depth(frame.depth)):
        assert picture.shape == frame.rgb.shape and picture.dtype == np.uint8 and picture.any()
    assert np.array_equal(frame.rgb, before)
    assert not colour_depth(np.zeros((4, 5), np.float32)).any()
    assert len({instance_colour(i) for i in range(1, 40)}) == 39
