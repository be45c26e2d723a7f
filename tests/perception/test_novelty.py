"""How unlike known goods a parcel looks: appearances, statistics, limits, and the numbered reasons for having none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.novelty_samples import frame_with, samples, scene_of, statistics

from robin_perception.core.errors import Code, RobinError
from robin_perception.engines.testing.tiny_bundle import tiny_bundle
from robin_perception.model.bundle import MANIFEST_FILE, NETWORK_FILE, NOVELTY_FILE, add_file, load_bundle
from robin_perception.novelty.appearance import SIZE, appearance, skin_maps
from robin_perception.novelty.calibration import (
    NoveltyCalibration,
    calibrate,
    conformal_limit,
    read_calibration,
    write_calibration,
)
from robin_perception.novelty.fit import fit
from robin_perception.novelty.methods import METHODS
from robin_perception.novelty.scorer import NoveltyConfig, NoveltyScorer, confident
from robin_perception.novelty.statistics import load_statistics, parse_statistics
from robin_perception.segmentation.segmenter import SegmenterConfig, load_segmenter
from robin_perception.segmentation.view import View


def test_histograms_of_an_appearance_each_add_up_to_one() -> None:
    frame, scene = frame_with((200, 40, 40), (40, 40, 200)), scene_of(2)
    view = View.of(frame, (512, 384), 0.0)
    found = appearance(skin_maps(view), view, scene)
    assert found.shape == (2, SIZE)
    assert np.sum(found**2, axis=1) == pytest.approx([15, 15], abs=1e-3)


def test_another_skin_is_another_appearance_and_another_exposure_is_not() -> None:
    view, scene = View.of(frame_with((200, 40, 40), (40, 40, 200)), (512, 384), 0.0), scene_of(2)
    red, blue = appearance(skin_maps(view), view, scene)
    view = View.of(frame_with((200, 40, 40), (200, 40, 40)), (512, 384), 0.0)
    same, again = appearance(skin_maps(view), view, scene)
    assert np.linalg.norm(red - blue) > 1
    assert np.linalg.norm(same - again) < 0.1


def test_an_appearance_is_measured_at_the_networks_size_whatever_the_cameras() -> None:
    small, scene = frame_with((180, 120, 60), (60, 160, 80)), scene_of(2)
    large, large_scene = frame_with((180, 120, 60), (60, 160, 80), scale=2), scene_of(2, scale=2)
    views = [View.of(frame, (512, 384), 0.0) for frame in (small, large)]
    one, other = (appearance(skin_maps(v), v, s) for v, s in zip(views, (scene, large_scene), strict=True))
    assert np.linalg.norm(one - other, axis=1).max() < 0.8


def test_a_scene_without_instances_has_no_appearances() -> None:
    view = View.of(frame_with((180, 120, 60), (60, 160, 80)), (512, 384), 0.0)
    assert appearance(skin_maps(view), view, scene_of(0)).shape == (0, SIZE)


def test_statistics_tell_odd_from_known_and_are_the_same_each_time() -> None:
    taught = samples()
    found, again = (fit(taught, "0" * 64, {}) for _ in range(2))
    assert found.digest == again.digest
    score = found.score(taught.appearance)
    assert np.median(score[taught.odd]) > found.limit
    assert np.mean(score[~taught.odd & ~taught.faulty] > found.limit) < 0.1


def test_what_lies_between_two_kinds_of_known_goods_is_unlike_either() -> None:
    given, rng = statistics(), np.random.default_rng(5)
    low = np.abs(rng.normal(0.2, 0.01, (40, SIZE))).astype(np.float32)
    high = np.abs(rng.normal(0.6, 0.01, (40, SIZE))).astype(np.float32)
    two = replace(given, reference=np.concatenate([low, high]))
    between, same = np.full((1, SIZE), 0.4, np.float32), np.full((1, SIZE), 0.2, np.float32)
    apart, near = two.terms(between)[0, 2], two.terms(same)[0, 2]
    assert apart == pytest.approx(0.2 * SIZE**0.5, rel=0.05) and near < 0.1 * apart


def test_too_few_parcels_give_no_limit() -> None:
    few = samples(count=60)
    with pytest.raises(RobinError) as caught:
        fit(few, "0" * 64, {})
    assert caught.value.code is Code.NOVELTY_TOO_FEW


def test_a_conformal_limit_is_the_rank_that_its_rate_asks_for() -> None:
    assert conformal_limit(np.arange(1, 100), 0.1) == 90
    assert conformal_limit(np.arange(1, 20), 0.05) == 19
    with pytest.raises(RobinError, match="needs 19"):
        conformal_limit(np.arange(18), 0.05)


def test_statistics_survive_the_file() -> None:
    given = statistics()
    found = parse_statistics(given.to_bytes(), "file")
    assert found.digest == given.digest
    assert found.score(np.ones((2, SIZE), dtype=np.float32)) == pytest.approx(
        given.score(np.ones((2, SIZE), dtype=np.float32))
    )


@pytest.mark.parametrize("damage", [b"", b"\x00" * 40, b"{}"])
def test_damaged_statistics_are_a_numbered_reason(damage: bytes) -> None:
    with pytest.raises(RobinError) as caught:
        parse_statistics(damage, "file")
    assert caught.value.code is Code.NOVELTY_STATISTICS_INVALID


def test_statistics_that_hold_nan_are_a_numbered_reason() -> None:
    given = statistics()
    broken = replace(given, mean=np.full(SIZE, np.nan, dtype=np.float32))
    with pytest.raises(RobinError, match="'mean'") as caught:
        parse_statistics(broken.to_bytes(), "file")
    assert caught.value.code is Code.NOVELTY_STATISTICS_INVALID


def test_statistics_of_too_few_known_goods_are_a_numbered_reason() -> None:
    given = statistics()
    with pytest.raises(RobinError, match="'reference' is float16") as caught:
        parse_statistics(replace(given, reference=given.reference[:4]).to_bytes(), "file")
    assert caught.value.code is Code.NOVELTY_STATISTICS_INVALID


def test_a_bundle_without_statistics_has_novelty_off_and_says_so(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "m")
    segmenter = load_segmenter(tmp_path / "m", "onnxruntime")
    assert segmenter.novelty is None
    assert segmenter.novelty_off is not None
    assert segmenter.novelty_off.code is Code.NOVELTY_STATISTICS_MISSING


def test_novelty_that_is_switched_off_is_no_fault(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "m")
    config = SegmenterConfig(novelty=NoveltyConfig(enabled=False))
    segmenter = load_segmenter(tmp_path / "m", "onnxruntime", config)
    assert (segmenter.novelty, segmenter.novelty_off) == (None, None)


def test_statistics_of_another_network_have_novelty_off_and_say_so(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "m")
    add_file(tmp_path / "m", NOVELTY_FILE, statistics(trunk="0" * 64).to_bytes())
    with pytest.raises(RobinError) as caught:
        load_statistics(load_bundle(tmp_path / "m"))
    assert caught.value.code is Code.NOVELTY_STATISTICS_MISMATCH
    segmenter = load_segmenter(tmp_path / "m", "onnxruntime")
    assert segmenter.novelty is None


def test_statistics_in_a_bundle_change_neither_its_name_nor_its_other_files(tmp_path: Path) -> None:
    before = tiny_bundle(tmp_path / "m")
    (tmp_path / "m/extra.txt").write_text("kept")
    add_file(tmp_path / "m", NOVELTY_FILE, statistics(before.manifest.files[NETWORK_FILE]).to_bytes())
    after = load_bundle(tmp_path / "m")
    assert after.model_id == before.model_id
    assert after.manifest.files.keys() - before.manifest.files.keys() == {NOVELTY_FILE}
    assert (tmp_path / "m/extra.txt").read_text() == "kept"
    assert NoveltyScorer(after, NoveltyConfig()).limit_text.startswith("the bundle's")


def test_statistics_that_were_changed_on_disk_are_refused_with_the_bundle(tmp_path: Path) -> None:
    before = tiny_bundle(tmp_path / "m")
    add_file(tmp_path / "m", NOVELTY_FILE, statistics(before.manifest.files[NETWORK_FILE]).to_bytes())
    path = tmp_path / "m" / NOVELTY_FILE
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(RobinError) as caught:
        load_bundle(tmp_path / "m")
    assert caught.value.code is Code.MODEL_HASH_MISMATCH
    assert (tmp_path / "m" / MANIFEST_FILE).is_file()


def station(limit: float = 3.0) -> NoveltyCalibration:
    scores = np.concatenate([np.linspace(0, 1, 200), np.full(8, limit)])
    return calibrate(scores, statistics(), station="cell 4", frames=40)


def test_a_stations_limit_survives_the_file(tmp_path: Path) -> None:
    write_calibration(tmp_path / "limit.json", station())
    assert read_calibration(tmp_path / "limit.json", statistics()) == station()


def test_a_stations_limit_is_the_novelty_of_one(tmp_path: Path) -> None:
    before = tiny_bundle(tmp_path / "m")
    given = statistics(before.manifest.files[NETWORK_FILE])
    add_file(tmp_path / "m", NOVELTY_FILE, given.to_bytes())
    seen = samples().appearance
    scores = given.score(seen)
    limit = calibrate(scores, given, station="cell 4", frames=40)
    write_calibration(tmp_path / "limit.json", limit)
    scorer = NoveltyScorer(load_bundle(tmp_path / "m"), NoveltyConfig(calibration=tmp_path / "limit.json"))
    assert np.mean(scorer.novelty_of(seen) > 1) == pytest.approx(0.02, abs=0.01)
    assert np.median(scorer.novelty_of(seen)) == pytest.approx(0, abs=0.05)
    assert "cell 4" in scorer.limit_text


@pytest.mark.parametrize("damage", ["changed", "other", "text", "list", "key"])
def test_a_limit_that_cannot_be_had_is_a_numbered_reason(tmp_path: Path, damage: str) -> None:
    path, own = tmp_path / "limit.json", statistics()
    write_calibration(path, station())
    values = json.loads(path.read_text())
    if damage == "changed":
        values["calibration"]["limit"] = 99.0
    elif damage == "key":
        values["calibration"]["colour"] = 1
    elif damage == "other":
        own = replace(own, limit=own.limit + 1)
    path.write_text("{" if damage == "text" else "[]" if damage == "list" else json.dumps(values))
    with pytest.raises(RobinError) as caught:
        read_calibration(path, own)
    assert caught.value.code in (Code.NOVELTY_CALIBRATION_INVALID, Code.INPUT_UNREADABLE)


def test_one_frame_again_and_again_gives_no_limit() -> None:
    with pytest.raises(RobinError) as caught:
        calibrate(np.full(500, 2.0), statistics(), station="cell 4", frames=100)
    assert caught.value.code is Code.NOVELTY_CALIBRATION_INVALID


def test_only_confident_instances_are_measured() -> None:
    view, scene = View.of(frame_with((200, 40, 40), (40, 40, 200)), (512, 384), 0.0), scene_of(2)
    doubtful = [
        replace(scene.instances[0], **{name: 0.3}) for name in ("detection", "mask_quality", "visible_fraction")
    ]
    small = replace(scene.instances[0], area_px=300)
    for one in (*doubtful, small):
        other = replace(scene, instances=(one, scene.instances[1]))
        assert confident(other, view, NoveltyConfig()).tolist() == [False, True]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_of_the_comparison_tells_what_stands_apart(name: str) -> None:
    rng = np.random.default_rng(1)
    classes = (np.arange(300) % 2).astype(np.intp)
    known, apart = rng.normal(0, 0.5, (300, 6)), rng.normal(0, 0.5, (20, 6))
    known[:, 0] += 5
    apart[:, 0] += 5  # between the two classes
    known[:, 1] += np.where(classes == 1, 4, -4)
    low, high = METHODS[name](known, classes, known[:100]), METHODS[name](known, classes, apart)
    assert np.median(high) > np.quantile(low, 0.95)
