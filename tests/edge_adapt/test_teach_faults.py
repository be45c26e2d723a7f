"""Teaching on a disk that fills up, killed at any point, beside another lesson, under a clock that jumps: a code, and
the model that runs stays."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from helpers.full_disk import files_up_to
from helpers.teach_samples import DEEP, QUICK, toy_job
from helpers.training_scenes import write_toy_dataset

from edge_adapt.learn import see, see_child
from edge_adapt.learn.see import TeachConfig, TeachRequest, teach
from edge_adapt.learn.see_child import run_job
from edge_adapt.learn.see_job import TeachJob
from edge_adapt.training.data import PackedDataset
from edge_adapt.training.export import random_bundle
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.output import locked
from robin_perception.model.bundle import Bundle, load_bundle
from robin_perception.model.derived import derive_bundle

PATIENT = pytest.mark.timeout(900)  # each starts processes that load torch


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return random_bundle(tmp_path_factory.mktemp("bundle") / "random", 3)


@pytest.fixture
def core(tmp_path: Path) -> Path:
    return write_toy_dataset(tmp_path / "core", 4, seed=1, boxes=4)


@pytest.fixture
def taught(tmp_path: Path) -> Path:
    return write_toy_dataset(tmp_path / "taught", 3, seed=2, boxes=3)


def nothing(what: str, done: int, total: int) -> None:
    del what, done, total


def refused(job: TeachJob, code: Code, where: str = "") -> None:
    """Nothing is left that could be taken for a bundle. where: name of the file or folder that is told."""
    with pytest.raises(RobinError) as caught:
        run_job(job, nothing)
    assert caught.value.code is code and where in caught.value.text, caught.value
    assert not job.out.exists()


@PATIENT
def test_a_disk_that_fills_up_ends_the_lesson_and_the_same_order_goes_on(
    bundle: Bundle, core: Path, taught: Path, tmp_path: Path
) -> None:
    """In the packed scenes, in the features, in the bundle, each of which needs more room than the one before has."""
    few = QUICK.model_copy(update={"variants": 1})
    job = toy_job(bundle, core, taught, tmp_path / "work", quick_config=few)
    with files_up_to(1_000_000):
        refused(job, Code.DISK_FULL, "packed")
    for folder in (core, taught):
        list(PackedDataset(folder).pack())
    for room, where in ((300_000, "core"), (600_000, "bundle")):
        with files_up_to(room):
            refused(job, Code.DISK_FULL, where)
    made = run_job(job, nothing)
    again = run_job(toy_job(bundle, core, taught, tmp_path / "other", quick_config=few), nothing)
    assert made.model_id == again.model_id, "what the full disk left behind changes nothing"


@PATIENT
def test_a_full_disk_ends_a_deep_lesson_between_its_checkpoints(
    bundle: Bundle, core: Path, taught: Path, tmp_path: Path
) -> None:
    job = toy_job(bundle, core, taught, tmp_path / "work", deep=True)
    with files_up_to(bundle.network_path.stat().st_size):  # less than a checkpoint with its moments
        refused(job, Code.DISK_FULL)
    run_job(job, nothing)


@PATIENT
@pytest.mark.parametrize("stage", ["features of the core set", "teaching"])
def test_a_lesson_that_is_killed_at_any_stage_goes_on(
    bundle: Bundle, core: Path, taught: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def kept(*args: object, **kwargs: object) -> subprocess.Popen[bytes]:
        started.append(popen(*args, **kwargs))  # type: ignore[call-overload]
        return started[-1]

    def kill(what: str, done: int, total: int) -> None:
        if what == stage:
            started[0].kill()

    monkeypatch.setattr(see_child.subprocess, "Popen", kept)
    job = toy_job(bundle, core, taught, tmp_path / "work", quick_config=QUICK.model_copy(update={"steps": 20}))
    with pytest.raises(RobinError, match="SIGKILL") as caught:
        run_job(job, kill)
    assert caught.value.code is Code.TEACHING_ENDED and not job.out.exists()
    assert run_job(job, nothing).manifest.provenance.parent == bundle.model_id


@PATIENT
def test_features_that_another_lesson_is_filling_are_left_alone(
    bundle: Bundle, core: Path, taught: Path, tmp_path: Path
) -> None:
    """Two lessons share the features of the core set."""
    job = toy_job(bundle, core, taught, tmp_path / "work")
    job.core_features.mkdir(parents=True)
    with locked(job.core_features):
        refused(job, Code.OPTION_INVALID)
    run_job(job, nothing)


def quickly(bundle: Bundle, job: TeachJob) -> Bundle:
    """In place of the process."""
    return derive_bundle(
        bundle, job.out, {**bundle.head, "head.heat2.bias": bundle.head["head.heat2.bias"] + 0.1}, notes=""
    )


@pytest.fixture
def request_for(bundle: Bundle, core: Path, taught: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.setattr(see, "run_job", lambda job, progress: quickly(bundle, job))
    return lambda out: TeachRequest((taught,), (taught,), bundle.directory, lambda *_: core, out)


CONFIG = TeachConfig(core_scenes=2, judged_scenes=2, niceness=0, quick=QUICK, deep=DEEP)


def test_two_lessons_in_one_folder_are_refused(request_for, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / "lesson"
    first = teach(request_for(out), CONFIG, nothing).candidate.model_id
    with locked(out), pytest.raises(RobinError, match="another process writes there") as caught:
        teach(request_for(out), CONFIG, nothing)
    assert caught.value.code is Code.OPTION_INVALID
    assert load_bundle(out / "bundle").model_id == first, "the other's bundle is whole"


def test_a_full_disk_leaves_the_bundle_of_the_lesson_before(
    request_for, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / "lesson"
    first = teach(request_for(out), CONFIG, nothing).candidate.model_id
    with files_up_to(bundle.network_path.stat().st_size - 1), pytest.raises(RobinError) as caught:
        teach(request_for(out), CONFIG.model_copy(update={"core_scenes": 3, "judged_scenes": 1}), nothing)
    assert caught.value.code is Code.DISK_FULL
    assert load_bundle(out / "bundle").model_id == first
    assert sorted(path.name for path in out.iterdir()) == ["bundle", "work"]


def test_a_clock_that_jumps_changes_no_lesson(request_for, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    first = teach(request_for(tmp_path / "one"), CONFIG, nothing)
    jumps = iter([2e9, 0.0, 1e10, -5.0] * 1000)
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    other = teach(request_for(tmp_path / "two"), CONFIG, nothing)
    assert other.candidate.model_id == first.candidate.model_id
    assert all(seconds >= 0 for seconds in other.seconds.values())
    assert other.verdict.to_json() == first.verdict.to_json()
