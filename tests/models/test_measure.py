"""Two models on the same labelled frames, from image folders to the gate's verdict."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.perception_graphs import blocks, colour_bundle, colour_frame, colour_network
from helpers.store_samples import Steps

from edge_adapt.labels.label import MaskLabel, Origin
from edge_adapt.models.gate import Compared, GateConfig, judge_candidate
from edge_adapt.models.measure import (
    compare_models,
    folder_frames,
    picks_truth,
    recalibrated,
    time_networks,
    with_packaging,
)
from robin_perception.core.image_folder import IGNORE_LABEL, save_frame
from robin_perception.engines import EngineConfig
from robin_perception.engines.ort.engine import OnnxRuntimeEngine
from robin_perception.engines.testing.tiny_bundle import tiny_bundle
from robin_perception.model.bundle import Bundle, CalibrationTables, IsotonicTable, write_bundle
from robin_perception.segmentation.segmenter import Segmenter

SCENES = 8


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for number in range(SCENES):
        labels = blocks(96, 128, 2, 2 + number % 3, 6)
        scene = folder / f"{number:03d}"
        save_frame(scene, colour_frame(labels), labels)
        kinds = [{"id": int(n), "kind": "carton", "variant": "plain"} for n in np.unique(labels) if n]
        (scene / "scene.json").write_text(json.dumps({"instances": kinds}))
    return folder


def bundle_that_sees(folder: Path, seen: int) -> Bundle:
    """Parcels up to number ``seen``."""
    head = {"head.detect.weight": (np.arange(20) < seen).astype(np.float32)}
    return write_bundle(folder, colour_network(), head, name="colours", max_instances=20)


def segmenter_of(bundle: Bundle) -> Segmenter:
    return Segmenter(bundle, OnnxRuntimeEngine(bundle, EngineConfig(intra_threads=1)))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Segmenter, Segmenter]]:
    folder = tmp_path_factory.mktemp("models")
    made = segmenter_of(bundle_that_sees(folder / "poor", 2)), segmenter_of(bundle_that_sees(folder / "good", 20))
    yield made
    for each in made:
        each.close()


def test_a_better_head_passes_and_the_way_back_does_not(data: Path, pair: tuple[Segmenter, Segmenter]) -> None:
    poor, good = pair
    steps = Steps()
    site = compare_models(poor, good, folder_frames(data), lambda done, total: steps.take())
    assert (steps.taken, site.independent) == (SCENES, SCENES)
    config = GateConfig(core_frames=SCENES, replicates=100)
    core = Compared(site.candidate, site.candidate, site.blocks)
    rng = np.random.default_rng(0)
    verdict = judge_candidate(site, core, time_networks(poor.engine, good.engine, []), rng, config)
    assert verdict.accepted, verdict.text
    back = Compared(site.candidate, site.running, site.blocks)
    worse = judge_candidate(back, back, None, rng, config)
    assert "site gain" in {check.name for check in worse.checks if not check.passed}


def test_packaging_is_named_by_kind_and_variant(data: Path) -> None:
    frame = next(folder_frames(data, 1))
    strata = [instance["strata"] for instance in with_packaging(frame.info)["instances"]]
    assert strata == [["carton", "carton/plain"]] * 4
    assert with_packaging({"instances": [{"id": 1}]}) == {"instances": [{"id": 1, "strata": []}]}


def test_networks_are_timed_in_turns(tmp_path: Path, pair: tuple[Segmenter, Segmenter]) -> None:
    tiny = segmenter_of(tiny_bundle(tmp_path / "tiny"))
    asked: list[str] = []

    class Asked:
        def __init__(self, name: str, bundle: Bundle) -> None:
            self.name, self.bundle = name, bundle

        def run(self, inputs: object) -> None:
            asked.append(self.name)

    times = time_networks(Asked("a", tiny.bundle), Asked("b", pair[0].bundle), [{}], 6)  # type: ignore[arg-type]
    assert times is not None
    assert (len(times.running_ms), len(times.candidate_ms)) == (6, 6)
    assert asked[-12:].count("a") == 6
    assert asked[-4:] in (["a", "b", "b", "a"], ["b", "a", "a", "b"])
    tiny.close()


def test_tables_with_too_little_stay_as_they_were(data: Path, tmp_path: Path) -> None:
    """Twenty parcels are no ground for a table."""
    own = CalibrationTables(detection=IsotonicTable(x=(0.0, 1.0), y=(0.0, 0.9)), class_temperature=1.3)
    base = colour_bundle(tmp_path / "colours")
    head = dict(base.head)
    made = write_bundle(tmp_path / "own", colour_network(), head, name="own", max_instances=20, calibration=own)
    segmenter = segmenter_of(made)
    tables = recalibrated(segmenter, sorted(data.iterdir())[:2])
    assert (tables.detection, tables.class_temperature) == (own.detection, own.class_temperature)
    assert tables.fitted_on == "2 frames"
    segmenter.close()


def test_tables_with_enough_are_fitted_anew(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_adapt.models.measure._LEAST_ROWS", 20)
    own = CalibrationTables(detection=IsotonicTable(x=(0.0, 1.0), y=(0.0, 0.5)))
    head = {"head.detect.weight": np.ones(20, dtype=np.float32)}
    made = write_bundle(tmp_path / "own", colour_network(), head, name="own", max_instances=20, calibration=own)
    segmenter = segmenter_of(made)
    tables = recalibrated(segmenter, sorted(data.iterdir()))
    assert float(tables.detection.apply(np.array([0.95], dtype=np.float32))[0]) > 0.9
    segmenter.close()


def test_what_picks_do_not_tell_is_ignored() -> None:
    mask, band = np.zeros((6, 8), dtype=bool), np.zeros((6, 8), dtype=bool)
    mask[1:4, 1:4], band[1, 1:4] = True, True
    label = MaskLabel(mask, band, 0.95, Origin.PICK, 0.0)
    truth = picks_truth([label])
    assert set(np.unique(truth)) == {1, IGNORE_LABEL}
    assert (truth[2, 2], truth[1, 2], truth[5, 7]) == (1, IGNORE_LABEL, IGNORE_LABEL)
    belt = np.zeros((6, 8), dtype=bool)
    belt[4:] = True
    assert picks_truth([label], belt)[5, 7] == 0
