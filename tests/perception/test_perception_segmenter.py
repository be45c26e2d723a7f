"""Frame to scene on a graph whose right answer is known, and decoding of hand-made tensors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.perception_graphs import blocks, colour_bundle, colour_frame

from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import GateReport, GateWarning
from robin_perception.core.scene import CLASSES, Scene
from robin_perception.engines import EngineConfig
from robin_perception.engines.testing.tiny_bundle import tiny_bundle
from robin_perception.model.bundle import Bundle, CalibrationTables, IsotonicTable
from robin_perception.segmentation.decode import (
    DecodeConfig,
    clean_fragments,
    decode,
    distinct,
    edge_uncertainty,
    painted,
)
from robin_perception.segmentation.mask_grid import MaskGrid
from robin_perception.segmentation.refine import RefineConfig
from robin_perception.segmentation.segmenter import Segmenter, SegmenterConfig, load_segmenter
from robin_perception.segmentation.view import Letterbox

COUNT = 12
WARNING = GateWarning(Code.DEPTH_UNIT_SUSPECT, "is that the unit?")
SQUARE = Letterbox((512, 384))
GRID = MaskGrid(SQUARE)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return colour_bundle(tmp_path_factory.mktemp("model") / "colours", COUNT)


@pytest.fixture(scope="module")
def segmenter(bundle: Bundle) -> Segmenter:
    return load_segmenter(bundle.directory, engine_config=EngineConfig(intra_threads=1))


def ious(scene: Scene, truth: np.ndarray) -> list[float]:
    values = []
    for instance in scene.instances:
        mask = scene.mask(instance)
        own = truth == np.bincount(truth[mask]).argmax()
        values.append((mask & own).sum() / (mask | own).sum())
    return values


@pytest.mark.parametrize("size", [(512, 384), (1280, 720), (640, 480), (848, 480), (320, 240), (300, 700)])
@pytest.mark.parametrize("refine", [True, False])
def test_parcels_are_found_where_they_are_at_every_frame_size(
    segmenter: Segmenter, size: tuple[int, int], refine: bool
) -> None:
    truth = blocks(size[1], size[0], 3, 4, gap=size[1] // 24)
    decode = DecodeConfig(refine=RefineConfig(enabled=refine))
    scene = Segmenter(segmenter.bundle, segmenter.engine, SegmenterConfig(decode=decode)).segment(colour_frame(truth))
    assert scene.labels.shape == truth.shape and scene.labels.dtype == np.uint16
    assert len(scene.instances) == COUNT and min(ious(scene, truth)) > 0.85
    for instance in scene.instances:
        ys, xs = np.nonzero(scene.mask(instance))
        assert instance.bbox == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        assert instance.area_px == len(ys) == scene.crop(instance).sum()
        # The masks are centred on the parcels: no shift from the scaling. (Refined, the darkest of them hardly shows.)
        own = truth == np.bincount(truth[ys, xs]).argmax()
        cell = max(size[0] / 128, size[1] / 96)
        assert np.allclose(np.argwhere(own).mean(axis=0), (ys.mean(), xs.mean()), atol=(0.4 if refine else 0.25) * cell)
        assert np.isclose(np.linalg.norm(instance.embedding), 1, atol=1e-5)
        assert 0 < instance.boundary_uncertainty_px < 4 * cell
    assert [i.id for i in scene.instances] == list(range(1, COUNT + 1))
    assert set(np.unique(scene.labels)) == set(range(COUNT + 1))
    assert set(scene.timings_ms) == {"prepare", "network", "decode", "segment"}


@pytest.mark.parametrize(
    ("raised_m", "flags"), [(0.0, ()), (0.025, ("pose_doubtful",)), (0.15, ("pose_contradicted",))]
)
def test_a_scene_tells_where_the_surface_under_its_parcels_lies(
    segmenter: Segmenter, raised_m: float, flags: tuple[str, ...]
) -> None:
    frame = colour_frame(blocks(480, 640, 3, 4, gap=30))
    pose = frame.T_base_camera.copy()
    pose[2, 3] += raised_m
    scene = segmenter.segment(replace(frame, T_base_camera=pose, gate=GateReport(warnings=(WARNING,))))
    assert scene.support is not None and scene.support.height_m == pytest.approx(raised_m, abs=0.002)
    assert "depth_unit_suspect" in scene.flags
    assert tuple(flag for flag in scene.flags if flag.startswith("pose_")) == flags


def test_the_same_frame_gives_the_same_scene(segmenter: Segmenter) -> None:
    frame = colour_frame(blocks(480, 640, 3, 4, 6))
    first, second = segmenter.segment(frame), segmenter.segment(frame)
    assert np.array_equal(first.labels, second.labels) and np.array_equal(first.boundary, second.boundary)
    assert [i.detection for i in first.instances] == [i.detection for i in second.instances]


def test_an_empty_belt_is_an_empty_scene_with_a_flag(segmenter: Segmenter) -> None:
    scene = segmenter.segment(colour_frame(np.zeros((480, 640), dtype=np.uint16)))
    assert scene.instances == () and "no_instances" in scene.flags and not scene.labels.any()


def test_more_candidates_than_places_is_flagged(segmenter: Segmenter) -> None:
    config = DecodeConfig(detection_threshold=0.0)
    _, look = segmenter.analyse(colour_frame(blocks(384, 512, 3, 4, 8)))
    assert segmenter.decode(look.view, look.tensors, look.guide, config).truncated


def test_a_parcel_in_a_picture_without_depth_is_left_out_and_flagged(segmenter: Segmenter) -> None:
    frame = colour_frame(blocks(384, 512, 3, 4, 8))
    whole = segmenter.segment(frame)
    depth = frame.depth.copy()
    depth[:, :256] = 0
    scene = segmenter.segment(replace(frame, depth=depth))
    assert "depthless_masks" in scene.flags and "depthless_masks" not in whole.flags
    assert 0 < len(scene.instances) < len(whole.instances)
    assert not scene.labels[:, :200].any()


def test_frames_with_little_depth_are_flagged_and_empty_ones_refused(segmenter: Segmenter) -> None:
    frame = colour_frame(blocks(384, 512, 2, 2, 8))
    depth = frame.depth.copy()
    depth[100:] = 0
    assert "low_depth" in segmenter.segment(frame.with_depth(depth)).flags
    with pytest.raises(RobinError) as caught:
        segmenter.segment(frame.with_depth(np.zeros_like(depth)))
    assert caught.value.code == Code.DEPTH_EMPTY


def test_a_new_head_takes_effect_and_changes_the_model_id(bundle: Bundle) -> None:
    segmenter = load_segmenter(bundle.directory, engine_config=EngineConfig(intra_threads=1))
    frame = colour_frame(blocks(384, 512, 3, 4, 8))
    before = segmenter.segment(frame)
    weights = np.ones(COUNT, dtype=np.float32)
    weights[6:] = 0.1
    new_id = segmenter.set_head({"head.detect.weight": weights})
    after = segmenter.segment(frame)
    assert len(before.instances) == COUNT and len(after.instances) == 6
    assert after.model_id == new_id != before.model_id == bundle.model_id
    assert segmenter.set_head(bundle.head) == before.model_id


def test_features_come_with_the_analysis_when_asked_for(segmenter: Segmenter) -> None:
    frame = colour_frame(blocks(384, 512, 3, 4, 8))
    scene, look = segmenter.analyse(frame, ("trunk_stride4",))
    assert look.tensors["trunk_stride4"].shape == (COUNT, 96 * 128)
    assert len(look.decoded.candidates) == len(scene.instances)


def test_a_bundle_of_six_classes_segments_and_names_them(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny", (*CLASSES, "bucket"))
    segmenter = load_segmenter(bundle.directory, engine_config=EngineConfig(intra_threads=1))
    config = SegmenterConfig(decode=DecodeConfig(detection_threshold=0.0, min_area_px=0.0, min_kept_fraction=0.0))
    scene = Segmenter(bundle, segmenter.engine, config).segment(colour_frame(blocks(96, 128, 2, 2, 4)))
    assert scene.class_names == (*CLASSES, "bucket") and scene.instances
    assert all(i.class_probabilities.shape == (6,) for i in scene.instances)
    assert {scene.class_name(i) for i in scene.instances} <= set(scene.class_names)


def test_unknown_and_bad_settings_are_refused() -> None:
    for values in ({"belt": 0}, {"decode": {"duplicate_iou": 2}}, {"belt_z_m": float("nan")}):
        with pytest.raises(ValueError):
            SegmenterConfig.model_validate(values)


# Decoding of hand-made tensors


def ramp(x: float, y: float, w: float, h: float, slope: float = 2.0) -> np.ndarray:
    """Logits [96, 128] of a box in cells, linear across its edges with ``slope`` per cell."""
    rows, columns = np.mgrid[:96, :128].astype(np.float32)
    inside = np.minimum(w / 2 - np.abs(columns - x), h / 2 - np.abs(rows - y))
    return np.clip(slope * inside, -8, 8).astype(np.float32)


def tensors(masks: list[np.ndarray], detection: list[float], quality: list[float] | None = None) -> dict:
    n = len(masks)
    return {
        "mask_logits": np.stack(masks),
        "detection": np.array(detection, dtype=np.float32),
        "mask_quality": np.array(quality or [0.9] * n, dtype=np.float32),
        "visible_fraction": np.full(n, 0.8, dtype=np.float32),
        "class_probabilities": np.full((n, 5), 0.2, dtype=np.float32),
        "embedding": np.ones((n, 16), dtype=np.float32),
    }


def run(
    raw: dict, config: DecodeConfig | None = None, tables: CalibrationTables | None = None, box: Letterbox = SQUARE
):
    return decode(raw, box, tables or CalibrationTables(), 0.5, config or DecodeConfig())


def test_duplicates_go_and_the_better_one_stays() -> None:
    raw = tensors([ramp(40, 40, 20, 12), ramp(41, 40, 20, 12), ramp(90, 60, 10, 10)], [0.7, 0.9, 0.6])
    decoded = run(raw)
    assert decoded.candidates == (1, 2)
    assert [round(i.detection, 2) for i in decoded.instances] == [0.9, 0.6]


def test_quality_counts_in_the_order() -> None:
    raw = tensors([ramp(40, 40, 20, 12), ramp(41, 40, 20, 12)], [0.9, 0.8], [0.3, 0.9])
    assert run(raw).candidates == (1,)


def test_a_small_parcel_on_a_large_one_keeps_its_pixels() -> None:
    raw = tensors([ramp(60, 48, 40, 30, slope=0.5), ramp(60, 48, 10, 8, slope=6.0)], [0.9, 0.85])
    decoded = run(raw)
    assert len(decoded.instances) == 2
    assert decoded.labels[4 * 48, 4 * 60] == 2  # the surer logits win inside


def test_a_mask_that_is_covered_by_better_ones_goes() -> None:
    raw = tensors([ramp(40, 40, 20, 20, 4), ramp(60, 40, 20, 20, 4), ramp(50, 40, 14, 10, 0.5)], [0.95, 0.95, 0.6])
    assert run(raw).candidates == (0, 1)


def test_fragments_go_and_real_halves_stay() -> None:
    crumbs = np.maximum(ramp(40, 40, 20, 20), ramp(100, 80, 3, 3))
    halves = np.maximum(ramp(40, 40, 10, 20), ramp(60, 40, 10, 20))
    logits = np.stack([crumbs, halves, np.full((96, 128), -5, dtype=np.float32)])
    areas = clean_fragments(logits, 0.2)
    assert logits[0, 80, 100] < 0 and logits[0, 40, 40] > 0
    assert logits[1, 40, 40] > 0 and logits[1, 40, 60] > 0
    assert areas[0] == (logits[0] > 0).sum() and areas[1] == (logits[1] > 0).sum() and areas[2] == 0


def test_tiny_masks_go() -> None:
    assert run(tensors([ramp(40, 40, 1, 1)], [0.99])).instances == ()
    assert run(tensors([ramp(40, 5, 10, 6)], [0.99]), box=Letterbox((1280, 720))).instances == ()  # on the padding only


@pytest.mark.parametrize(
    ("hole", "kept"),
    [((60, 116), (0,)), ((74, 106), (0, 1)), ((0, 128), (0, 1))],
    ids=["nothing near it has depth", "depth around it", "no depth anywhere"],
)
def test_a_mask_where_the_sensor_saw_nothing_goes(hole: tuple[int, int], kept: tuple[int, ...]) -> None:
    """hole: columns of the mask grid without depth. Where all masks are in it they stay, for the planner to refuse."""
    raw = tensors([ramp(30, 48, 30, 30), ramp(90, 48, 30, 30)], [0.9, 0.95])
    depth = np.ones((384, 512), np.float32)
    depth[:, 4 * hole[0] : 4 * hole[1]] = 0
    decoded = decode(raw, SQUARE, CalibrationTables(), 0.5, DecodeConfig(), depth=depth)
    assert sorted(decoded.candidates) == list(kept)
    assert decoded.depthless == 2 - len(kept)


def test_edges_are_interpolated_before_they_are_cut() -> None:
    """A box whose edges lie between cells comes back with sub-cell accuracy."""
    mask = ramp(40.3, 40.6, 21.0, 13.4)
    labels, boxes, areas = painted(mask[None], np.ones(1, np.float32), GRID)
    width, height = boxes[0][2] - boxes[0][0], boxes[0][3] - boxes[0][1]
    assert abs(width - 84) <= 1 and abs(height - 53.6) <= 1
    assert abs((boxes[0][0] + boxes[0][2] - 1) / 2 - (4 * 40.3 + 1.5)) <= 0.75
    assert labels.sum() == areas[0]


def test_a_contested_pixel_goes_to_the_best_product_of_odds_and_rank() -> None:
    rng = np.random.default_rng(3)
    masks = np.stack([ramp(*rng.uniform((40, 30), (80, 60)), *rng.uniform(20, 50, 2), slope=0.4) for _ in range(8)])
    rank = np.sort(rng.uniform(0.3, 1, 8))[::-1].astype(np.float32)
    labels, _, _ = painted(masks, rank, GRID)
    fine = np.stack([GRID.rows @ mask @ GRID.columns.T for mask in masks])
    score = np.where(fine > 0, np.minimum(fine, 8) + np.log(rank)[:, None, None], -100.0)
    expected = np.where((fine > 0).any(axis=0), score.argmax(axis=0) + 1, 0)
    best = np.sort(score, axis=0)
    level = 8 / 127.5
    clear = ((best[-1] - best[-2] > 2 * level) | (best[-1] < -99)) & (np.abs(fine) > level).all(axis=0)  # no near draw
    assert clear.mean() > 0.9 and np.array_equal(labels[clear], expected[clear])


def test_what_a_mask_alone_claims_it_gets_whatever_its_rank() -> None:
    masks = np.stack([ramp(30, 48, 20, 20), ramp(90, 48, 20, 20)])
    _, _, areas = painted(masks, np.array([1.0, 1e-6], np.float32), GRID)
    assert areas[0] == areas[1] > 0


def test_more_masks_than_a_byte_counts() -> None:
    masks = np.full((300, 96, 128), -4, dtype=np.float32)
    for i in range(300):
        masks[i, 4 + i // 20 * 6 : 8 + i // 20 * 6, 4 + i % 20 * 6 : 8 + i % 20 * 6] = 4
    labels, _, areas = painted(masks, np.ones(300, np.float32), GRID)
    assert labels.dtype == np.uint16 and set(np.unique(labels)) == set(range(301)) and min(areas) > 0


def test_each_mask_has_the_edge_uncertainty_of_its_own_slope() -> None:
    """Also with an empty mask among them, and one that the frame cuts off: the frame's rim is no edge."""
    masks = [ramp(20, 20, 20, 20, 1.0), np.full((96, 128), -5, np.float32), ramp(90, 60, 30, 30, 4.0)]
    sigma = edge_uncertainty(np.stack([*masks, ramp(128, 48, 60, 50, 4.0)]), GRID, 1.0, 0.3)
    assert sigma[0] == pytest.approx(4 * sigma[2], rel=0.02) and sigma[1] == pytest.approx(0.3)
    assert sigma[3] == pytest.approx(sigma[2], rel=0.05)


@pytest.mark.parametrize("slope", [1.0, 2.0, 4.0])
def test_edge_uncertainty_follows_the_slope_of_the_logits(slope: float) -> None:
    mask = ramp(64, 48, 60, 50, slope)[None]
    sigma = edge_uncertainty(mask, GRID, 1.0, 0.0)[0]
    assert np.isclose(sigma, np.pi / np.sqrt(3) * 4 / slope, rtol=0.1)
    large = edge_uncertainty(mask, MaskGrid(Letterbox((1280, 960))), 0.5, 0.0)[0]
    assert np.isclose(large, 0.5 * 2.5 * sigma, rtol=1e-5)


def test_calibration_is_applied_before_the_threshold() -> None:
    tables = CalibrationTables(detection=IsotonicTable(x=(0.0, 0.5, 1.0), y=(0.0, 0.2, 0.9)), class_temperature=2.0)
    raw = tensors([ramp(40, 40, 20, 12), ramp(90, 60, 10, 10)], [0.5, 1.0])
    raw["class_probabilities"] = np.array([[0.9, 0.1, 0, 0, 0]] * 2, dtype=np.float32)
    decoded = run(raw, tables=tables)
    assert [round(i.detection, 3) for i in decoded.instances] == [0.9]
    best = decoded.instances[0].class_probabilities
    assert np.isclose(best.sum(), 1, atol=1e-5) and np.isclose(best[0] / best[1], 3.0, rtol=1e-3)


def test_no_mask_is_lost_among_many_random_ones() -> None:
    """Labels, ids, areas and boxes agree whatever overlaps whatever."""
    rng = np.random.default_rng(5)
    masks = [ramp(*rng.uniform((5, 20), (120, 76)), *rng.uniform(4, 30, 2)) for _ in range(60)]
    for box in (SQUARE, Letterbox((1280, 720)), Letterbox((848, 480))):
        decoded = run(tensors(masks, list(rng.uniform(0.3, 1, 60))), box=box)
        counts = np.bincount(decoded.labels.ravel(), minlength=len(decoded.instances) + 1)
        assert len(counts) == len(decoded.instances) + 1
        for instance in decoded.instances:
            x0, y0, x1, y1 = instance.bbox
            assert counts[instance.id] == instance.area_px > 0
            assert (decoded.labels[y0:y1, x0:x1] == instance.id).sum() == instance.area_px


def test_distinct_keeps_all_that_do_not_touch() -> None:
    masks = np.stack([ramp(20 + 25 * i, 40, 10, 10) for i in range(4)])
    assert list(distinct(masks, np.ones(4, np.float32), DecodeConfig())) == [0, 1, 2, 3]


def test_a_bundle_path_that_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(RobinError, match="nothing_here") as caught:
        load_segmenter(tmp_path / "nothing_here")
    assert caught.value.code == Code.MODEL_MISSING
