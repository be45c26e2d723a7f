"""Learning to see from labelled frames, with a small untrained network and toy scenes."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.teach_samples import DEEP, QUICK, lesson_of, toy_job
from helpers.training_scenes import write_toy_dataset

from edge_adapt.learn import see, see_child
from edge_adapt.learn.see import TeachConfig, TeachRequest, teach
from edge_adapt.learn.see_child import run_job
from edge_adapt.learn.see_data import split_by_order
from edge_adapt.learn.see_job import TeachJob
from edge_adapt.learn.see_judge import judge, with_packaging
from edge_adapt.learn.see_page import write_page
from edge_adapt.training.distillation import at_peaks
from edge_adapt.training.export import export_bundle, random_bundle
from edge_adapt.training.features import Maps
from edge_adapt.training.losses import Criterion, LossConfig
from edge_adapt.training.operating_point import peak_scores, rescaled
from edge_adapt.training.targets import collate
from edge_adapt.training.teach_deep import network_like
from edge_adapt.training.teach_head import Lesson, Teacher, background_loss, set_rate, teach_head
from edge_adapt.training.warm_start import read_head, start_from_bundle
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.scene import CLASSES
from robin_perception.engines import EngineConfig, make_engine
from robin_perception.engines.golden import golden_frames
from robin_perception.model.bundle import FRAME_INPUTS, Bundle, CalibrationTables, IsotonicTable, load_bundle
from robin_perception.model.derived import derive_bundle

CONFIG = TeachConfig(core_scenes=2, judged_scenes=2, niceness=0, quick=QUICK, deep=DEEP)
PATIENT = pytest.mark.timeout(900)  # each starts processes that load torch


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return random_bundle(tmp_path_factory.mktemp("bundle") / "random", 3)


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_dataset(tmp_path_factory.mktemp("core") / "core", 4, seed=1, boxes=4)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_dataset(tmp_path_factory.mktemp("taught") / "taught", 3, seed=2, boxes=3)


@pytest.fixture(scope="module")
def lessons(
    bundle: Bundle, core: Path, taught: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Lesson, Lesson]:
    cache = tmp_path_factory.mktemp("features")
    return lesson_of(taught, bundle, cache / "taught", 3), lesson_of(core, bundle, cache / "core", 2)


def nothing(done: int, total: int, loss: float) -> None:
    pass


def test_a_head_learns_what_it_is_taught(bundle: Bundle, lessons: tuple[Lesson, Lesson]) -> None:
    losses: list[float] = []
    config = QUICK.model_copy(update={"steps": 40, "learning_rate": 0.01, "most_change": 10.0})
    teach_head(bundle, *lessons, config, 0, lambda done, total, loss: losses.append(loss))
    assert np.mean(losses[-8:]) < 0.8 * np.mean(losses[:8])


def test_the_same_seed_teaches_the_same_head(bundle: Bundle, lessons: tuple[Lesson, Lesson]) -> None:
    first, again, other = (teach_head(bundle, *lessons, QUICK, seed, nothing) for seed in (0, 0, 1))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert any(not np.array_equal(first[name], other[name]) for name in first)
    assert any(not np.array_equal(first[name], bundle.head[name]) for name in first)


def test_no_layer_goes_farther_from_the_factory_than_allowed(bundle: Bundle, lessons: tuple[Lesson, Lesson]) -> None:
    config = QUICK.model_copy(update={"learning_rate": 0.1, "most_change": 0.05})
    found = teach_head(bundle, *lessons, config, 0, nothing)
    for name, value in found.items():
        if value.ndim == 2:
            moved = np.linalg.norm(value - bundle.head[name]) / np.linalg.norm(bundle.head[name])
            assert moved <= 0.0501, name
            assert name.startswith("head.embedding") or moved > 0.01, name


def test_the_factory_agrees_with_itself(bundle: Bundle, lessons: tuple[Lesson, Lesson]) -> None:
    """Replayed scenes cost nothing and pull nowhere as long as the head is the factory's; then they pull it back."""
    head = read_head(bundle)
    rows = list(range(len(lessons[1].scenes)))
    batch = collate([lessons[1].scenes[row] for row in rows], 16, np.random.default_rng(0), classes=CLASSES)
    maps = tuple(
        torch.from_numpy(level[rows].astype(np.float32)).unflatten(2, grid)
        for level, grid in ((lessons[1].maps.stride4, (96, 128)), (lessons[1].maps.stride8, (48, 64)))
    )
    teacher = Teacher(read_head(bundle), QUICK.distillation)

    def loss() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            outputs = head(*maps)
        return teacher.replayed(head, outputs, maps, batch)

    at_first = loss()
    at_first.backward()
    slopes = [float(p.grad.abs().max()) for p in head.parameters() if p.grad is not None]
    assert abs(float(at_first.detach())) < 1e-4 and max(slopes) < 1e-3
    with torch.no_grad():
        head.layer("heat2").bias.add_(1.0)
    moved = loss()
    moved.backward()
    assert float(moved.detach()) > 0.01
    assert float(head.layer("heat2").bias.grad) > 0, "down, to where it was"


def test_known_scenes_are_held_at_the_likeliest_peaks(lessons: tuple[Lesson, Lesson]) -> None:
    """Also where no parcel is labelled; of two neighbours the likelier alone."""
    batch = collate(list(lessons[1].scenes), 16, np.random.default_rng(0), classes=CLASSES)
    noise = torch.rand(2, 1, 48, 64, generator=torch.Generator().manual_seed(1))
    heat = noise - 9.0
    heat[0, 0, 10, 20], heat[0, 0, 10, 21], heat[1, 0, 30, 5] = 3.0, 2.0, -1.0
    asked = at_peaks(batch, heat)
    cells = [asked.cell[asked.image == image].tolist() for image in (0, 1)]
    assert len(cells[0]) == len(cells[1]) > 2
    assert cells[0][0] == 10 * 64 + 20 and 10 * 64 + 21 not in cells[0]
    assert cells[1][0] == 30 * 64 + 5


def test_a_quarter_of_the_cells_says_what_all_of_them_say(bundle: Bundle, lessons: tuple[Lesson, Lesson]) -> None:
    """The four phases see different cells; the mean of their losses is about that of the whole grid."""
    head = read_head(bundle)
    batch = collate([lessons[1].scenes[0]], 16, np.random.default_rng(0), classes=CLASSES)
    grid = torch.arange(96 * 128).view(96, 128)
    maps = torch.from_numpy(lessons[1].maps.stride4[:1].astype(np.float32)), _stride8(lessons[1])

    def terms(cells: torch.Tensor) -> dict[str, float]:
        criterion = Criterion(LossConfig(), cells)
        outputs = head(maps[0][:, :, cells].unsqueeze(-1), maps[1])
        located = criterion.locate(head, outputs, batch)
        return {name: float(value.detach()) for name, value in criterion.terms(outputs, located, batch).items()}

    whole = terms(grid.reshape(-1))
    parts = [terms(grid[y::2, x::2].reshape(-1)) for y in (0, 1) for x in (0, 1)]
    for name in ("heat", "boundary", "offset", "mask", "dice"):
        assert np.mean([part[name] for part in parts]) == pytest.approx(whole[name], rel=0.05), name
    assert len({part["mask"] for part in parts}) == 4


def _stride8(lesson: Lesson) -> torch.Tensor:
    return torch.from_numpy(lesson.maps.stride8[:1].astype(np.float32)).unflatten(2, (48, 64))


def test_scores_come_back_to_the_factorys_scale(bundle: Bundle, lessons: tuple[Lesson, Lesson]) -> None:
    """A head whose peaks are all lower finds with its own table what the factory's found with its own."""
    core = lessons[1].maps
    low, high = np.quantile(peak_scores(bundle.head, core), (0.2, 0.8)).tolist()
    table = IsotonicTable(x=(0.0, low, high, 1.0), y=(0.0, 0.2, 0.9, 1.0))
    tables = CalibrationTables(detection=table)
    lower = {**bundle.head, "head.heat2.bias": bundle.head["head.heat2.bias"] - 1.0}
    found = rescaled(tables, bundle.head, lower, core)
    before, after = (t.detection.apply(peak_scores(head, core)) for t, head in ((tables, bundle.head), (found, lower)))
    for score in (0.2, 0.4, 0.6, 0.9):
        assert abs(np.sum(before > score) - np.sum(after > score)) <= 2, score
    assert np.sum(table.apply(peak_scores(lower, core)) > 0.4) < np.sum(before > 0.4) - 2, "it matters"
    assert rescaled(tables, bundle.head, bundle.head, core).detection.x == pytest.approx(table.x, abs=0.01)


def test_a_false_peak_of_background_costs_until_it_is_low() -> None:
    target = torch.zeros(1, 48, 64)
    target[0, 5, 5] = 1.0
    target[0, 20, 20] = -1.0
    quiet = torch.full((1, 48, 64), -8.0)
    loud, elsewhere = quiet.clone(), quiet.clone()
    loud[0, 30, 30] = -0.5
    elsewhere[0, 5, 5] = elsewhere[0, 20, 20] = 9.0
    assert background_loss(loud, target) > 10 * background_loss(quiet, target)
    assert background_loss(elsewhere, target) == background_loss(quiet, target), "parcels and what is ignored are none"


def test_the_rate_rises_before_it_falls() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    rates = []
    for step in range(100):
        set_rate(optimizer, 0.1, step, 100)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[0] < 0.02 and max(rates) == pytest.approx(0.1, rel=0.05) and rates[-1] < 0.001
    assert np.argmax(rates) == 9


def test_a_loss_that_is_no_number_ends_the_lesson(bundle: Bundle, lessons: tuple[Lesson, Lesson]) -> None:
    own, replay = lessons
    broken = Lesson(own.scenes, Maps(np.full_like(own.maps.stride4, np.nan), np.array(own.maps.stride8)))
    with pytest.raises(RobinError, match="no number") as caught:
        teach_head(bundle, broken, replay, QUICK, 0, nothing)
    assert caught.value.code is Code.TEACHING_DIVERGED


def test_a_head_of_another_shape_is_refused(bundle: Bundle, lessons: tuple[Lesson, Lesson]) -> None:
    odd = replace(bundle, head={**bundle.head, "head.kernel.weight": np.zeros((7, 128), dtype=np.float32)})
    with pytest.raises(RobinError) as caught:
        teach_head(odd, *lessons, QUICK, 0, nothing)
    assert caught.value.code is Code.MODEL_TENSOR_MISSING


def test_features_of_another_trunk_are_refused(
    bundle: Bundle, taught: Path, lessons: tuple[Lesson, Lesson], tmp_path: Path
) -> None:
    lesson_of(taught, bundle, tmp_path / "features", 1)
    other = random_bundle(tmp_path / "other", 4)
    with pytest.raises(RobinError, match="'trunk'") as caught:
        lesson_of(taught, other, tmp_path / "features", 1)
    assert caught.value.code is Code.FEATURES_FOREIGN


def test_features_that_were_cut_short_are_made_again(
    bundle: Bundle, taught: Path, lessons: tuple[Lesson, Lesson], tmp_path: Path
) -> None:
    lesson_of(taught, bundle, tmp_path, 2)
    os.truncate(tmp_path / "stride8.bin", (tmp_path / "stride8.bin").stat().st_size - 5)
    again = lesson_of(taught, bundle, tmp_path, 3)
    assert np.array_equal(again.maps.stride8, lessons[0].maps.stride8)
    assert np.array_equal(again.maps.stride4, lessons[0].maps.stride4)


def test_the_network_that_is_taught_deep_begins_as_the_bundle(bundle: Bundle, tmp_path: Path) -> None:
    """The trunk's weights come back out of the graph: exported again, it computes the same."""
    network = network_like(bundle)
    frame = golden_frames(bundle, 1)[0]
    rgb, depth, intrinsics, plane = (torch.from_numpy(frame[name][None]) for name in FRAME_INPUTS)
    start_from_bundle(network, bundle.directory, [(rgb, depth, intrinsics, plane)])
    again = export_bundle(network.eval(), tmp_path / "again", "again")
    found = []
    for each in (bundle, again):
        engine = make_engine("onnxruntime", each, EngineConfig())
        found.append(engine.run(frame))
        engine.close()
    for name, value in found[0].items():
        np.testing.assert_allclose(found[1][name], value, rtol=1e-3, atol=1e-3)


@PATIENT
@pytest.mark.parametrize("deep", [False, True])
def test_the_process_writes_a_whole_bundle(
    bundle: Bundle, core: Path, taught: Path, tmp_path: Path, deep: bool
) -> None:
    told: list[str] = []
    made = run_job(toy_job(bundle, core, taught, tmp_path, deep=deep), lambda what, done, total: told.append(what))
    assert made.manifest.provenance.parent == bundle.model_id and made.model_id != bundle.model_id
    assert (made.manifest.files["network.onnx"] != bundle.manifest.files["network.onnx"]) is deep
    assert told.count("teaching") == (DEEP if deep else QUICK).steps
    assert not any("tmp" in path.name for path in tmp_path.iterdir())


@PATIENT
def test_a_process_that_is_killed_leaves_nothing_half(
    bundle: Bundle, core: Path, taught: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the middle of a deep lesson; the same order goes on with its checkpoint."""
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def kept(*args: object, **kwargs: object) -> subprocess.Popen[bytes]:
        started.append(popen(*args, **kwargs))  # type: ignore[call-overload]
        return started[-1]

    monkeypatch.setattr(see_child.subprocess, "Popen", kept)
    job = toy_job(bundle, core, taught, tmp_path, deep=True, deep_config=DEEP.model_copy(update={"steps": 4}))

    def kill(what: str, done: int, total: int) -> None:
        if done == 2:
            started[0].kill()

    with pytest.raises(RobinError, match="SIGKILL") as caught:
        run_job(job, kill)
    assert caught.value.code is Code.TEACHING_ENDED and not job.out.exists()
    steps: list[int] = []
    run_job(job, lambda what, done, total: steps.append(done))
    assert steps[0] >= 3 and steps[-1] == 4


@PATIENT
def test_what_fails_in_the_process_is_told_by_code(bundle: Bundle, core: Path, taught: Path, tmp_path: Path) -> None:
    job = toy_job(bundle, core, taught, tmp_path, quick_config=QUICK.model_copy(update={"learning_rate": 0.1}))
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "features.json").write_text("{}\n")
    with pytest.raises(RobinError) as caught:
        run_job(job, lambda what, done, total: None)
    assert caught.value.code is Code.FEATURES_FOREIGN and not job.out.exists()


def test_a_derived_bundle_refuses_a_damaged_head(bundle: Bundle, tmp_path: Path) -> None:
    head = {name: value.copy() for name, value in bundle.head.items()}
    head["head.kernel.bias"][0] = np.nan
    with pytest.raises(RobinError) as caught:
        derive_bundle(bundle, tmp_path / "out", head, notes="")
    assert caught.value.code is Code.MODEL_TENSOR_MISSING and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("frames", "folds", "judged"), [(2, 2, 2), (3, 3, 3), (8, 4, 8), (23, 4, 23), (24, 1, 6), (40, 1, 10)]
)
def test_frames_are_split_by_order(frames: int, folds: int, judged: int) -> None:
    split = split_by_order(frames)
    assert len(split.folds) == folds and sum(len(fold.judge) for fold in split.folds) == judged
    for fold in split.folds:
        assert not set(fold.learn) & set(fold.judge) and fold.learn
    if folds == 1:
        assert split.folds[0].judge == tuple(range(frames - judged, frames)), "the last ones"
    else:
        assert sorted(row for fold in split.folds for row in fold.judge) == list(range(frames))


def test_one_frame_is_too_little() -> None:
    with pytest.raises(RobinError) as caught:
        split_by_order(1)
    assert caught.value.code is Code.TAUGHT_TOO_LITTLE


@pytest.mark.parametrize("judge", [False, True])
def test_teach_judges_before_and_after(
    bundle: Bundle, core: Path, taught: Path, tmp_path: Path, judge: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In place of the process stands one that writes the factory's head with another bias for each set of rows."""

    def quickly(job: TeachJob, progress: object) -> Bundle:
        head = {**bundle.head, "head.heat2.bias": bundle.head["head.heat2.bias"] + 0.1 * (1 + sum(job.rows))}
        return derive_bundle(bundle, job.out, head, notes=job.notes)

    monkeypatch.setattr(see, "run_job", quickly)
    asked: list[tuple[int, int]] = []

    def known(now: int, later: int) -> Path:
        asked.append((now, later))
        return core

    others = (taught,) if judge else ()
    request = TeachRequest((taught,), others, bundle.directory, known, tmp_path / "lesson", at_once=judge)
    lesson = teach(request, CONFIG, lambda what, done, total: None)
    result = lesson.to_json()
    assert result["parent"] == bundle.model_id and result["model"] == lesson.candidate.model_id
    assert result["site"]["overlap_f"]["frames"] == 3 and result["core"]["overlap_f"]["frames"] == 2
    assert result["gate"]["code"] == int(Code.CANDIDATE_UNJUDGED), "two frames of a core set are too few"
    page = tmp_path / "lesson.html"
    write_page(page, lesson)
    assert page.read_text().count('alt="after"') == 3 and "Refused: " in page.read_text()
    assert ("judged on 3 others" in result["how"]) is judge
    first, all_of_them = CONFIG.core_scenes, CONFIG.core_scenes + CONFIG.judged_scenes
    assert asked == [(first, all_of_them), (all_of_them, all_of_them)], "those that are judged may come later"
    assert lesson.rows == (0, 1, 2), "all are taught where none is held out"
    assert load_bundle(tmp_path / "lesson" / "bundle").model_id == lesson.candidate.model_id


def test_each_packaging_is_judged_alone() -> None:
    told = {"instances": [{"id": 1, "kind": "carton", "variant": "plain", "strata": ["flush"]}, {"id": 2}]}
    assert [one["strata"] for one in with_packaging(told)["instances"]] == [["carton", "carton/plain"], []]


def test_lessons_are_judged_by_packaging(bundle: Bundle, core: Path) -> None:
    judged = judge(bundle.directory, "onnxruntime", [core / "000000"], lambda: None)
    assert set().union(*judged.as_they_are[0].tags) >= {"carton", "carton/a"}
