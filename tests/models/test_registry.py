"""Versions of a model: one of them runs, whatever happens to the disk, and the journal says why."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
from helpers.model_samples import WHO, model_of, registry_of, running
from helpers.store_samples import FullFiles

from edge_adapt.models import registry as module
from edge_adapt.models.journal import FILE_BYTES
from edge_adapt.models.registry import ModelRegistry
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.output import locked


def events(registry: ModelRegistry) -> list[str]:
    return [entry.event for entry in registry.story().entries]


def refused(code: Code, call, *arguments: object) -> str:  # type: ignore[no-untyped-def]
    with pytest.raises(RobinError) as caught:
        call(*arguments)
    assert caught.value.code is code
    return caught.value.text


def test_the_factory_runs_until_a_version_does(tmp_path: Path) -> None:
    registry, paths = registry_of(tmp_path, 2)
    assert (registry.load().version, registry.load().problem) == (0, None)
    first = registry.add(paths[1], WHO, "better on 12 frames", {"gate": {"accepted": True}})
    assert running(registry) == model_of(paths[0])
    registry.activate(first, WHO, "the gate let it through")
    assert running(registry) == model_of(paths[1])
    other = ModelRegistry(registry.folder, registry.factory)
    other.activate(other.add(paths[2], WHO, "again"), WHO, "better still")
    assert running(registry) == model_of(paths[2])
    assert events(registry) == ["added", "active", "added", "active"]
    entry = registry.story().entries[0]
    assert (entry.by, entry.why, entry.data) == (WHO, "better on 12 frames", {"gate": {"accepted": True}, "version": 1})


def test_rollback_goes_back_step_by_step_and_is_quick(tmp_path: Path) -> None:
    registry, paths = registry_of(tmp_path)
    for path in paths[1:]:
        registry.activate(registry.add(path, WHO, ""), WHO, "")
    started = time.perf_counter()
    assert registry.rollback(WHO, "picks got worse").active == 2
    assert time.perf_counter() - started < 10  # 0.03 s on a quiet machine; this is a guard, no measurement
    assert running(registry) == model_of(paths[2])
    assert [registry.rollback(WHO, "").active for _ in range(2)] == [1, 0]
    assert "none ran before" in refused(Code.VERSION_UNKNOWN, registry.rollback, WHO, "")
    assert running(registry) == model_of(paths[0])


def test_what_was_rolled_back_is_not_gone_back_to(tmp_path: Path) -> None:
    registry, paths = registry_of(tmp_path)
    for path in paths[1:3]:
        registry.activate(registry.add(path, WHO, ""), WHO, "")
    registry.rollback(WHO, "2 was bad")
    registry.activate(registry.add(paths[3], WHO, ""), WHO, "")
    assert registry.state().earlier == (1, 0)


def test_a_pinned_version_stays(tmp_path: Path) -> None:
    registry, paths = registry_of(tmp_path)
    first, second = (registry.add(path, WHO, "") for path in paths[1:3])
    registry.pin(WHO, "shown to the customer", first)
    for call in ((registry.activate, second, WHO, ""), (registry.rollback, WHO, ""), (registry.pin, WHO, "", second)):
        refused(Code.VERSION_PINNED, *call)
    assert running(registry) == model_of(paths[1])
    registry.pin(WHO, "once more")
    registry.unpin(WHO, "")
    registry.activate(second, WHO, "")
    assert running(registry) == model_of(paths[2])


def test_unknown_and_damaged_versions_are_not_run(tmp_path: Path) -> None:
    registry, paths = registry_of(tmp_path)
    assert "there are none but the factory's" in refused(Code.VERSION_UNKNOWN, registry.activate, 7, WHO, "")
    number = registry.add(paths[1], WHO, "")
    (registry.path(number) / "head.safetensors").write_bytes(b"\0" * 100)
    refused(Code.VERSION_DAMAGED, registry.activate, number, WHO, "")
    assert running(registry) == model_of(paths[0])


@pytest.mark.parametrize("file", ["network.onnx", "head.safetensors", "manifest.json"])
def test_a_damaged_version_gives_way_to_the_last_good_one(tmp_path: Path, file: str) -> None:
    registry, paths = registry_of(tmp_path)
    for path in paths[1:]:
        registry.activate(registry.add(path, WHO, ""), WHO, "")
    for number, expected in ((3, 2), (2, 1), (1, 0)):
        damaged = registry.path(number) / file
        data = bytearray(damaged.read_bytes())
        data[len(data) // 2] ^= 1
        damaged.write_bytes(data)
        loaded = registry.load()
        assert loaded.version == expected
        assert loaded.problem is not None
        assert loaded.problem.code is Code.VERSION_DAMAGED
        assert loaded.bundle.model_id == model_of(paths[expected])
    registry.pin(WHO, "", 0)
    assert registry.load().problem is None


def test_a_whole_bundle_in_place_of_a_version_is_damage(tmp_path: Path) -> None:
    registry, paths = registry_of(tmp_path)
    number = registry.add(paths[1], WHO, "")
    registry.activate(number, WHO, "")
    shutil.rmtree(registry.path(number))
    shutil.copytree(paths[2], registry.path(number))
    loaded = registry.load()
    assert (loaded.version, loaded.problem is not None) == (0, True)


def test_falling_back_is_told_and_lasts(tmp_path: Path) -> None:
    registry, paths = registry_of(tmp_path)
    for path in paths[1:3]:
        registry.activate(registry.add(path, WHO, ""), WHO, "")
    registry.pin(WHO, "")
    shutil.rmtree(registry.path(2))
    state = registry.fall_back(registry.load(), WHO)
    assert (state.active, state.pinned, registry.load().problem) == (1, False, None)
    told = registry.story().entries[-1]
    assert (told.event, told.data["from"], told.data["code"]) == ("fell_back", 2, 734)
    assert registry.fall_back(registry.load(), WHO) == state


def test_a_candidate_that_is_not_whole_is_not_taken_in(tmp_path: Path) -> None:
    registry, paths = registry_of(tmp_path)
    (paths[1] / "head.safetensors").write_bytes(b"")
    refused(Code.MODEL_HASH_MISMATCH, registry.add, paths[1], WHO, "")
    refused(Code.MODEL_MISSING, registry.add, tmp_path / "nowhere", WHO, "")
    assert registry.state().versions == ()


def test_a_refused_candidate_is_told(tmp_path: Path) -> None:
    registry, _ = registry_of(tmp_path)
    registry.refuse(WHO, "core AP50: may lose .002", {"gate": {"accepted": False}})
    assert events(registry) == ["refused"]
    assert registry.load().version == 0


def test_prune_keeps_what_runs_and_the_one_before(tmp_path: Path) -> None:
    registry, paths = registry_of(tmp_path, 4)
    for path in paths[1:]:
        registry.activate(registry.add(path, WHO, ""), WHO, "")
    size = registry.state().versions[0].size_bytes
    assert registry.prune(3 * size + 2000, WHO) == (1,)
    assert registry.prune(0, WHO) == (2,)
    assert [v.number for v in registry.state().versions] == [3, 4]
    assert sorted(path.name for path in (registry.folder / "versions").iterdir()) == ["000003", "000004"]
    assert registry.rollback(WHO, "").active == 3
    registry.unpin(WHO, "")
    assert registry.add(paths[1], WHO, "") == 5


def test_two_writers_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry, paths = registry_of(tmp_path)
    registry.add(paths[1], WHO, "")
    monkeypatch.setattr(module, "_WAIT_S", 0.0)
    with locked(registry.folder):
        refused(Code.MODELS_BUSY, registry.activate, 1, WHO, "")
        assert running(registry) == model_of(paths[0])
    registry.activate(1, WHO, "")


def test_a_clock_that_jumps_changes_no_order(tmp_path: Path) -> None:
    registry, paths = registry_of(tmp_path)
    clock = iter([2e9, 0.0, 1e18, -5.0, float("nan"), 3.0])
    jumping = ModelRegistry(registry.folder, registry.factory, clock=lambda: next(clock))
    for path in paths[1:]:
        jumping.activate(jumping.add(path, WHO, ""), WHO, "")
    assert [entry.sequence for entry in registry.story().entries] == [1, 2, 3, 4, 5, 6]
    assert (registry.state().active, registry.state().earlier) == (3, (2, 1, 0))


def test_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    registry, paths = registry_of(tmp_path)
    registry.activate(registry.add(paths[1], WHO, ""), WHO, "")
    whole = sum(path.stat().st_size for path in paths[2].iterdir())
    for room in (0, 10, whole // 2, whole, whole + 100, whole + 900, whole + 1500):
        full = ModelRegistry(registry.folder, registry.factory, files=FullFiles(room))
        refused(Code.DISK_FULL, full.add, paths[2], WHO, "")
        assert running(registry) == model_of(paths[1])
        assert registry.story().torn is None
    assert registry.rollback(WHO, "").active == 0


def test_a_torn_last_line_is_cut_and_told(tmp_path: Path) -> None:
    registry, paths = registry_of(tmp_path)
    registry.add(paths[1], WHO, "")
    journal = next((registry.folder / "journal").iterdir())
    whole = journal.read_bytes()
    journal.write_bytes(whole + whole[:70])
    assert (registry.story().torn, registry.story().problem) == (len(whole), None)
    registry.activate(1, WHO, "")
    assert events(registry) == ["added", "journal_cut", "active"]
    assert registry.story().torn is None


def test_a_changed_journal_is_found_and_the_model_goes_on(tmp_path: Path) -> None:
    registry, paths = registry_of(tmp_path)
    registry.activate(registry.add(paths[1], WHO, "once"), WHO, "")
    journal = next((registry.folder / "journal").iterdir())
    journal.write_bytes(journal.read_bytes().replace(b'"once"', b'"twice"'))
    problem = registry.story().problem
    assert problem is not None
    assert problem.code is Code.MODELS_DAMAGED
    assert (running(registry), registry.load().problem) == (model_of(paths[1]), None)
    registry.rollback(WHO, "")
    assert events(registry) == ["journal_damaged", "rolled_back"]
    registry.activate(1, WHO, "")
    assert events(registry) == ["journal_damaged", "rolled_back", "active"]


def test_an_entry_that_was_taken_out_is_found(tmp_path: Path) -> None:
    registry, paths = registry_of(tmp_path)
    for path in paths[1:]:
        registry.add(path, WHO, "")
    journal = next((registry.folder / "journal").iterdir())
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(lines[0] + lines[2])
    problem = registry.story().problem
    assert problem is not None
    assert "does not follow" in problem.text


@pytest.mark.parametrize("harm", ["gone", "empty", "garbage", "edited"])
def test_without_its_state_the_journal_tells_what_runs(tmp_path: Path, harm: str) -> None:
    registry, paths = registry_of(tmp_path)
    for path in paths[1:3]:
        registry.activate(registry.add(path, WHO, ""), WHO, "")
    state = registry.folder / "active.json"
    if harm == "gone":
        state.unlink()
    elif harm == "edited":
        values = json.loads(state.read_text())
        values["state"]["active"] = 1
        state.write_text(json.dumps(values))
    else:
        state.write_bytes(b"" if harm == "empty" else b"\xff{")
    loaded = registry.load()
    assert (loaded.version, loaded.problem is not None) == (2, True)
    assert loaded.problem.code is Code.MODELS_DAMAGED  # type: ignore[union-attr]
    assert registry.rollback(WHO, "").active == 1
    assert events(registry)[-2:] == ["state_damaged", "rolled_back"]
    assert registry.load().problem is None


def test_with_neither_state_nor_journal_the_versions_are_kept(tmp_path: Path) -> None:
    registry, paths = registry_of(tmp_path)
    registry.activate(registry.add(paths[1], WHO, ""), WHO, "")
    shutil.rmtree(registry.folder / "journal")
    (registry.folder / "active.json").write_bytes(b"")
    assert registry.load().version == 0
    registry.activate(1, WHO, "it is still there")
    assert running(registry) == model_of(paths[1])
    assert registry.add(paths[2], WHO, "") == 2


def test_a_long_journal_goes_on_in_another_file(tmp_path: Path) -> None:
    registry, _ = registry_of(tmp_path)
    long = {"text": "x" * 900_000}
    for _ in range(FILE_BYTES // 900_000 + 2):
        registry.refuse(WHO, "", long)
    assert len(list((registry.folder / "journal").iterdir())) == 2
    story = registry.story()
    assert (len(story.entries), story.problem) == (FILE_BYTES // 900_000 + 2, None)
    refused(Code.OPTION_INVALID, registry.refuse, WHO, "", {"text": "x" * 1_100_000})
    registry.refuse(WHO, "short")
