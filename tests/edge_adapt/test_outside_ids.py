"""Ids from a peer or a file become no path before they were matched, and no failure deletes what is not its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.decision_samples import sample_decision, sample_frame, sample_plan, sample_scene
from pydantic import ValidationError

from edge_adapt import decision_store
from edge_adapt.decision import Decision, DecisionContext
from edge_adapt.decision_store import DecisionStore, read_decisions
from edge_adapt.node_config import RecorderNodeConfig
from edge_adapt.pick_recorder import PickRecorder
from robin_grasp.picks.open_picks import OpenPick, PlanNotice
from robin_grasp.plan import Plan
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.ids import plain_id

HOSTILE = (
    "",
    ".",
    "..",
    "../../victim",
    "a/b",
    "/etc",
    "a\\b",
    "-rf",
    ".hidden",
    "a b",
    "a\n",
    "a\x00",
    "ä",
    "a" * 129,
)
PICTURES = {"color.png": b"x"}


def sample() -> Decision:
    frame = sample_frame(np.random.default_rng(0))
    return sample_decision(0, "clean", frame, sample_scene(frame))


def named(name: str) -> Decision:
    """A record whose id was set without validation, as a copy can be."""
    return sample().model_copy(update={"decision_id": name})


def notice_of(name: str, plan: Plan) -> OpenPick:
    frame = sample_frame(np.random.default_rng(0))
    return OpenPick(PlanNotice(name, frame.stamp_s, plan), frame, sample_scene(frame))


def everything_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("name", HOSTILE)
def test_an_id_that_is_no_plain_name_is_refused_everywhere(name: str, tmp_path: Path) -> None:
    with pytest.raises(RobinError) as refused:
        plain_id(name, "plan_id")
    assert refused.value.code is Code.ID_INVALID and "\n" not in str(refused.value)
    with pytest.raises(ValidationError):
        Decision.model_validate({**sample().model_dump(), "decision_id": name})
    with pytest.raises(ValidationError):
        DecisionContext(run_id=name, pile=0, pick=0)
    if name:
        with pytest.raises(ValidationError):
            RecorderNodeConfig(run_id=name)
    with DecisionStore(tmp_path / "run") as store, pytest.raises(RobinError) as refused:
        store.append(named(name), PICTURES)
    assert refused.value.code is Code.ID_INVALID
    assert everything_below(tmp_path) == {"run", "run/decisions.jsonl"}


def test_ids_of_the_product_pass(tmp_path: Path) -> None:
    for name in ("p1-000001", "00000-003", "belt-s71-geometric-00000-001", "run-20260101-120000", "a" * 128):
        assert plain_id(name, "plan_id") == name
    assert RecorderNodeConfig().run_id == ""


@pytest.mark.parametrize("feasible", [True, False])
def test_the_recorder_opens_no_pick_under_a_foreign_id(feasible: bool, tmp_path: Path) -> None:
    recorder = PickRecorder(tmp_path / "run", DecisionContext(run_id="r", pile=0, pick=0))
    with pytest.raises(RobinError) as refused:
        recorder.open(notice_of("../../victim", sample_plan(feasible)))
    assert refused.value.code is Code.ID_INVALID and recorder.recording and recorder.open_id is None
    recorder.open(notice_of("p1-000001", sample_plan()))
    assert recorder.open_id == "p1-000001"


def test_a_failing_append_leaves_a_folder_that_it_did_not_make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with DecisionStore(tmp_path) as store:
        first = store.append(sample(), PICTURES)
        monkeypatch.setattr(decision_store, "write_atomic", _no_room)
        with pytest.raises(RobinError):
            store.append(first, PICTURES)  # the same id again
    assert (tmp_path / first.images["color"]).read_bytes() == b"x"
    assert len(read_decisions(tmp_path).decisions) == 1


def test_a_failing_append_removes_the_folder_it_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision_store, "write_atomic", _no_room)
    with DecisionStore(tmp_path) as store, pytest.raises(RobinError):
        store.append(sample(), PICTURES)
    assert list((tmp_path / "images").iterdir()) == []


def _no_room(path: Path, data: bytes) -> None:
    raise RobinError(Code.DISK_FULL, f"{path}: no room")


def test_a_line_of_an_error_stays_one_short_line() -> None:
    error = RobinError(Code.INPUT_MISSING, "a\nE0 OK: forged\x1b[2J\ud800" + "x" * 100_000)
    assert len(str(error)) < 1300 and str(error).isprintable()
    assert RobinError(error.code, error.text).text == error.text
