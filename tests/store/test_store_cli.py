"""``robin store`` and the ways into a store: a simulated run, a station's recorder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.cli_helpers import Robin
from helpers.decision_samples import RESULTS, sample_decision, sample_frame, sample_outcome, sample_plan, sample_scene
from helpers.store_samples import SMALL, quick_folder

from edge_adapt.decision import Decision, DecisionContext
from edge_adapt.decision_store import read_decisions
from edge_adapt.pick_recorder import PickRecorder
from edge_adapt.store.config import SHARES, StoreConfig
from edge_adapt.store.export import FORMATS
from edge_adapt.store.sample import sample_of
from edge_adapt.store.store import SampleStore, StoreReader
from edge_adapt.store.verify import verify
from robin_cli.commands import store as commands
from robin_grasp.picks.open_picks import OpenPick, PlanNotice
from robin_grasp.picks.outcome_report import OutcomeReport
from robin_perception.bags.frames import BagFrames
from robin_perception.core.frame import depth_units
from robin_perception.core.image_folder import load_frame, load_labels, scene_folders

CONTEXT = DecisionContext(run_id="r", pile=0, pick=0)


@pytest.fixture
def robin(capsys: pytest.CaptureFixture[str]) -> Robin:
    return Robin(capsys)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A store of one pick of each result."""
    rng = np.random.default_rng(140814)
    with quick_folder() as path:
        with SampleStore(path, StoreConfig(least_free_mb=0, core_per_stratum=0)) as store:
            for pick, result in enumerate(RESULTS):
                frame = sample_frame(rng)
                scene = sample_scene(frame)
                after = None if result == "infeasible" else sample_frame(rng)
                outcome = None if result == "infeasible" else sample_outcome(result)
                store.add(sample_of(sample_decision(pick, result, frame, scene), frame, scene, after, outcome))
        yield path


def opened(recorder: PickRecorder, rng: np.random.Generator) -> None:
    """A pick is handed out."""
    frame = sample_frame(rng)
    recorder.open(OpenPick(PlanNotice("p1-000001", frame.stamp_s, sample_plan()), frame, sample_scene(frame)))


def ended() -> OutcomeReport:
    """And missed."""
    told = sample_outcome("miss")
    return OutcomeReport("p1-000001", 0, 3.0, told.result, told.vacuum_pa, told.lifted_weight_n, told.duration_s, {})


def told(path: Path) -> dict[str, object]:
    values: dict[str, object] = json.loads(path.read_text())
    return values


def test_status(robin: Robin, folder: Path, tmp_path: Path) -> None:
    done = robin("store", "status", folder, "--json", tmp_path / "s.json")
    assert done.status == 0 and "4 samples" in done.out
    values = told(tmp_path / "s.json")
    assert (values["samples"], values["offered"], values["pending"], values["lost"]) == (4, 4, 4, 0)
    assert values["pending_by_share"] == {"failure": 3, "balanced": 1}
    assert {(s["share"], s["result"]) for s in values["strata"]} == {  # type: ignore[attr-defined]
        ("balanced", "clean"),
        ("failure", "miss"),
        ("failure", "infeasible"),
        ("failure", "multi"),
    }


def test_verify_tells_and_repairs(robin: Robin, folder: Path, tmp_path: Path) -> None:
    assert robin("store", "verify", folder).status == 0
    with StoreReader(folder) as store:
        row = next(store.samples())
        name = store.read(row).record.files["color.png"][0]
        store.blobs.path(name).write_bytes(b"no picture")
    done = robin("store", "verify", folder, "--json", tmp_path / "v.json")
    assert done.status == 1
    assert "E704 STORE_BLOB_DAMAGED" in done.error_line and name in done.error_line
    values = told(tmp_path / "v.json")
    assert values["damaged"] == [name] and values["whole"] is False
    assert robin("store", "verify", folder, "--repair").status == 0
    assert robin("store", "verify", folder).status == 0


def test_prune_keeps_to_a_budget_from_now_on(robin: Robin, folder: Path, tmp_path: Path) -> None:
    done = robin("store", "prune", folder, "--budget-mb", "0.3", "--json", tmp_path / "p.json")
    assert done.status == 0
    values = told(tmp_path / "p.json")
    assert values["bytes"] <= 300_000 and values["removed"] + values["samples"] == 4  # type: ignore[operator]
    with SampleStore(folder) as store:
        assert store.config.budget_mb == 0.3
        assert verify(store).whole


def test_export_as_image_folders(robin: Robin, folder: Path, tmp_path: Path) -> None:
    assert robin("store", "export", folder, "--out", tmp_path / "out").status == 0
    scenes = scene_folders(tmp_path / "out")
    assert len(scenes) == 4
    rng = np.random.default_rng(140814)
    frame = sample_frame(rng)
    loaded = load_frame(scenes[0])
    assert np.array_equal(loaded.rgb, frame.rgb) and np.allclose(loaded.depth, frame.depth, atol=1e-4)
    assert np.allclose(loaded.T_base_camera, frame.T_base_camera)
    assert np.array_equal(load_labels(scenes[0]), sample_scene(frame).labels)
    assert Decision.model_validate_json((scenes[0] / "decision.json").read_text()).result == "clean"
    after = cv2.imread(str(scenes[0] / "after_depth.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(after, depth_units(sample_frame(rng).depth, 1e-4))
    assert not (scenes[2] / "after.png").exists()


def test_export_as_coco(robin: Robin, folder: Path, tmp_path: Path) -> None:
    done = robin("store", "export", folder, "--out", tmp_path / "out", "--format", "coco", "--share", "failure")
    assert done.status == 0 and done.out.startswith("3 samples")
    values = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert {image["result"] for image in values["images"]} == {"miss", "infeasible", "multi"}
    for image in values["images"]:
        picture = cv2.imread(str(tmp_path / "out" / image["file_name"]))
        assert picture.shape == (image["height"], image["width"], 3)
    names = {category["id"]: category["name"] for category in values["categories"]}
    first = values["annotations"][0]
    assert names[first["category_id"]] == "flat_mailer"
    assert first["bbox"] == [20, 20, 50, 40] and first["area"] == 2000
    assert first["segmentation"]["size"] == [120, 160] and isinstance(first["segmentation"]["counts"], str)


def test_export_as_a_bag(robin: Robin, folder: Path, tmp_path: Path) -> None:
    done = robin("store", "export", folder, "--out", tmp_path / "bag", "--format", "mcap", "--result", "clean")
    assert done.status == 0
    frames = [one.frame for one in BagFrames(tmp_path / "bag")]
    assert len(frames) == 2  # before and after
    assert np.array_equal(frames[0].rgb, sample_frame(np.random.default_rng(140814)).rgb)


@pytest.mark.parametrize(
    ("arguments", "text", "status"),
    [
        (("status", "NOWHERE"), "E701 STORE_MISSING", 2),
        (("verify", "NOWHERE"), "E701 STORE_MISSING", 2),
        (("verify", "NOWHERE", "--repair"), "E701 STORE_MISSING", 2),
        (("prune", "NOWHERE"), "E701 STORE_MISSING", 2),
        (("export", "NOWHERE", "--out", "OUT"), "E701 STORE_MISSING", 2),
        (("export", "STORE", "--out", "OUT", "--format", "zip"), "--format 'zip': known are folders, coco, mcap", 2),
        (("export", "STORE", "--out", "OUT", "--share", "best"), "--share 'best': known are", 2),
        (("export", "STORE", "--out", "STORE"), "exists already", 2),
    ],
)
def test_bad_input_is_one_line(
    robin: Robin, folder: Path, tmp_path: Path, arguments: tuple[str, ...], text: str, status: int
) -> None:
    names = {"NOWHERE": tmp_path / "nowhere", "STORE": folder, "OUT": tmp_path / "out"}
    done = robin("store", *(names.get(word, word) for word in arguments))
    assert done.status == status
    assert text in done.error_line
    assert not (tmp_path / "nowhere").exists()


def test_a_store_that_is_written_is_busy(robin: Robin, folder: Path) -> None:
    with SampleStore(folder):
        done = robin("store", "prune", folder)
        assert done.status == 1 and "E702 STORE_BUSY" in done.error_line
        assert robin("store", "verify", folder).status == 0


def test_the_options_are_those_of_the_store() -> None:
    assert commands.FORMATS == FORMATS and commands.SHARES == SHARES


def test_a_station_keeps_its_images_in_the_store(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    with quick_folder() as folder:
        recorder = PickRecorder(tmp_path, CONTEXT, samples=SampleStore(folder, StoreConfig(least_free_mb=0)))
        opened(recorder, rng)
        after = sample_frame(rng)
        recorder.close(ended(), after)
        assert recorder.samples_failure is None
        recorder.shut()
        (record,) = read_decisions(tmp_path).decisions
        assert record.images == {} and not (tmp_path / "images").exists()
        with StoreReader(folder) as store:
            (row,) = store.samples()
            assert row.decision == record.decision_id
            assert np.array_equal(store.read(row).colour("after"), after.rgb)
            assert store.read(row).decision().outcome == record.outcome


def test_a_store_without_room_costs_no_record(tmp_path: Path) -> None:
    with quick_folder() as folder:
        samples = SampleStore(folder, SMALL, free_bytes=lambda: 0)
        recorder = PickRecorder(tmp_path, CONTEXT, samples=samples)
        opened(recorder, np.random.default_rng(8))
        recorder.close(ended(), None)
        assert recorder.samples_failure is not None and "E708 STORE_FULL" in str(recorder.samples_failure)
        recorder.shut()
        assert len(read_decisions(tmp_path).decisions) == 1


@pytest.mark.slow
def test_the_bench_measures_all_of_it(robin: Robin, tmp_path: Path) -> None:
    size = ("--width", 320, "--height", 240, "--picks", 3)
    done = robin("bench", "store", "--kills", 2, "--cuts", 0, "--samples", 50, *size, "--json", tmp_path / "b.json")
    assert done.status == 0
    values = told(tmp_path / "b.json")
    assert (values["kills"], values["cuts"], values["missing"], values["torn"], values["samples"]) == (2, 0, 0, 0, 50)
    assert set(values["insert_ms"]) >= {"p50", "p99"} and values["open_s"] is not None  # type: ignore[arg-type]
