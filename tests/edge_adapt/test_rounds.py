"""Learning to see from stored picks: lessons, the gate, the shadow, and what stays when something goes wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.label_samples import iou, scene
from helpers.stored_piles import fill, truth
from helpers.training_scenes import write_toy_dataset

from edge_adapt.annotations.read import labelled_frames
from edge_adapt.learn import see
from edge_adapt.learn.lessons import lesson_frames, stored_picks, write_lesson
from edge_adapt.learn.rounds import PAGE, STATE_FILE, RoundsConfig, RoundsState, SeeRounds, split_rows
from edge_adapt.learn.see import TeachConfig
from edge_adapt.learn.see_job import QuickConfig
from edge_adapt.models.gate import GateConfig, GateVerdict
from edge_adapt.models.registry import ModelRegistry
from edge_adapt.models.shadow import ShadowConfig
from edge_adapt.store.store import StoreReader
from edge_adapt.training.export import random_bundle
from robin_grasp.picks.outcome import PickResult
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.image_folder import IGNORE_LABEL
from robin_perception.evaluation.evaluate import Prediction, compare
from robin_perception.model.bundle import Bundle

PATIENT = pytest.mark.timeout(900)  # each starts a process that loads torch


def lessons(store: Path, per_pile: int = 3):  # type: ignore[no-untyped-def]
    with StoreReader(store) as reader:
        return list(lesson_frames(stored_picks(reader, list(reader.samples())), 0.0, per_pile))


def test_clean_picks_label_the_frames_of_their_pile(tmp_path: Path) -> None:
    fill(tmp_path / "store", 2)
    found = lessons(tmp_path / "store")
    assert [lesson.pile for lesson in found] == ["piles-00000"] * 3 + ["piles-00001"] * 3
    assert [lesson.parcels for lesson in found[:3]] == [3, 2, 1]
    known = truth(0, 0)
    for parcel in (1, 2, 3):
        assert iou(found[0].labels == parcel, known == parcel) > 0.8
    bare = found[0].labels == 0
    assert bare.mean() > 0.3 and not known[bare].any()
    assert (found[0].labels == IGNORE_LABEL).any()


def test_labels_come_back_from_the_disk_with_their_pile(tmp_path: Path) -> None:
    fill(tmp_path / "store", 1)
    found = lessons(tmp_path / "store", per_pile=2)
    write_lesson(tmp_path / "lesson", found)
    read = list(labelled_frames(tmp_path / "lesson"))
    assert len(read) == 2 and {frame.pile for frame in read} == {"piles-00000"}
    assert np.array_equal(read[0].labels, found[0].labels)


def test_figures_of_edges_that_no_pick_tells_are_left_out(tmp_path: Path) -> None:
    fill(tmp_path / "store", 2)
    seen = []
    for lesson in lessons(tmp_path / "store", per_pile=2):
        own = scene([lesson.labels == parcel for parcel in range(1, lesson.parcels + 1)])
        seen.append(compare(Prediction(own, own), lesson.labels, {}))
    assert set(see.differences(seen, seen)) == {"overlap_f", "ap50", "ap75"}


def test_missed_picks_and_a_station_out_of_order_teach_nothing(tmp_path: Path) -> None:
    fill(tmp_path / "missed", 1, judged=PickResult.MISS)
    fill(tmp_path / "dark", 1, dark=True)
    assert not lessons(tmp_path / "missed") and not lessons(tmp_path / "dark")


def test_later_piles_judge(tmp_path: Path) -> None:
    fill(tmp_path / "store", 8)
    with StoreReader(tmp_path / "store") as reader:
        learn, judge = split_rows(list(reader.samples()))
    piles = [sorted({row.decision[:11] for row in part}) for part in (learn, judge)]
    assert len(piles[1]) == 2 and max(piles[0]) < min(piles[1])
    assert int(min(piles[1])[6:]) - int(max(piles[0])[6:]) == 2  # the one between is left out


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return random_bundle(tmp_path_factory.mktemp("factory") / "random", 3)


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_dataset(tmp_path_factory.mktemp("core") / "core", 4, seed=1, boxes=4)


def rounds_of(tmp_path: Path, factory: Bundle, core: Path, **shadow: object) -> SeeRounds:
    quick = QuickConfig(steps=2, batch=2, variants=1)
    gate = GateConfig(site_frames=2, core_frames=2, site_parcels=2)
    config = RoundsConfig(
        first_picks=12,
        growth=2.0,
        pile_frames=1,
        shadow=ShadowConfig(frames=3, **shadow),  # type: ignore[arg-type]
        teach=TeachConfig(core_scenes=2, judged_scenes=2, niceness=0, quick=quick, gate=gate),
    )
    registry = ModelRegistry(tmp_path / "models", factory.directory)
    return SeeRounds(tmp_path / "store", registry, tmp_path / "work", lambda *_: core, config)


def quiet(what: str, done: int, total: int) -> None:
    pass


@PATIENT
def test_a_round_is_due_by_its_picks_and_a_refused_one_changes_nothing(
    tmp_path: Path, factory: Bundle, core: Path
) -> None:
    rounds = rounds_of(tmp_path, factory, core)
    fill(tmp_path / "store", 2)
    assert rounds.step(quiet) is None
    fill(tmp_path / "store", 3, first=2)
    step = rounds.step(quiet)
    assert step is not None and not step.passed and step.version == 0
    registry = ModelRegistry(tmp_path / "models", factory.directory)
    assert registry.load().version == 0
    assert registry.story().entries[-1].event == "refused"
    assert step.text in registry.story().entries[-1].why
    folder = tmp_path / "work" / "round-0001"
    assert [path.name for path in folder.iterdir()] == [PAGE]
    assert rounds.step(quiet) is None  # until there are twice the picks


@PATIENT
def test_an_accepted_one_waits_in_the_shadow(
    tmp_path: Path, factory: Bundle, core: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(see, "judge_candidate", lambda *_: GateVerdict(Code.OK, ()))
    rounds = rounds_of(tmp_path, factory, core, found=0.0, fewest=0.0)
    fill(tmp_path / "store", 4)
    registry = ModelRegistry(tmp_path / "models", factory.directory)
    step = rounds.step(quiet)
    assert step is not None and step.version == 1 and registry.load().version == 0
    assert rounds.step(quiet) is None  # nothing came after
    fill(tmp_path / "store", 1, first=4)
    step = rounds.step(quiet)
    assert step is not None and step.what == "shadow" and step.passed
    assert registry.load().version == 1 and rounds.state().pending == 0


def test_a_candidate_waits_while_a_version_is_pinned(tmp_path: Path, factory: Bundle, core: Path) -> None:
    rounds = rounds_of(tmp_path, factory, core, found=0.0, fewest=0.0)
    registry = ModelRegistry(tmp_path / "models", factory.directory)
    version = registry.add(factory.directory, "a test", "accepted")
    (tmp_path / "work" / STATE_FILE).write_text(RoundsState(done=1, clean=12, pending=version).model_dump_json())
    registry.pin("a test", "an acceptance run")
    fill(tmp_path / "store", 2)
    assert rounds.pinned and rounds.step(quiet) is None and rounds.state().pending == version
    registry.unpin("a test", "it is over")
    step = rounds.step(quiet)
    assert step is not None and step.passed and registry.load().version == version


def test_one_that_does_not_see_what_was_picked_is_not_used(tmp_path: Path, factory: Bundle, core: Path) -> None:
    rounds = rounds_of(tmp_path, factory, core, found=1.0)
    registry = ModelRegistry(tmp_path / "models", factory.directory)
    version = registry.add(factory.directory, "a test", "accepted")  # it is untrained, and sees nothing
    fill(tmp_path / "store", 1)
    state = RoundsState(done=1, clean=12, pending=version)
    (tmp_path / "work" / STATE_FILE).write_text(state.model_dump_json())
    step = rounds.step(quiet)
    assert step is not None and not step.passed and "of 3 cleanly picked parcels" in step.text
    assert registry.load().version == 0 and rounds.state().pending == 0


def test_too_little_counts_as_refused(tmp_path: Path, factory: Bundle, core: Path) -> None:
    rounds = rounds_of(tmp_path, factory, core)
    fill(tmp_path / "store", 4, dark=True)
    step = rounds.step(quiet)
    assert step is not None and not step.passed and step.text.startswith(f"E{int(Code.TAUGHT_TOO_LITTLE)}")
    assert rounds.state().clean == 12


def test_a_damaged_state_is_told(tmp_path: Path, factory: Bundle, core: Path) -> None:
    rounds = rounds_of(tmp_path, factory, core)
    fill(tmp_path / "store", 1)
    (tmp_path / "work" / STATE_FILE).write_text('{"done": -1}')
    with pytest.raises(RobinError) as caught:
        rounds.step(quiet)
    assert caught.value.code is Code.RECORD_INVALID
