"""The help desk: what is asked survives, and nobody's answer is taken for another's."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from helpers.grasp_scenes import Box, box_scene

from robin_grasp.plan import Grasp
from robin_grasp.recovery.config import HelpConfig
from robin_grasp.recovery.help_desk import HelpDesk
from robin_grasp.recovery.help_request import load_cause, parcel_cause
from robin_grasp.recovery.picture import help_picture
from robin_perception.core import disk
from robin_perception.core.errors import Code, RobinError

CAUSE = load_cause("two on the tool?", HelpConfig(load_timeout_s=10.0))


class Desk:
    """A desk with clocks that tests turn, and what it told."""

    def __init__(self, folder: Path | None, **options: object) -> None:
        self.wall, self.steady, self.told = 1000.0, 50.0, list[tuple[Code, str]]()
        self.folder, self.options = folder, options
        self.desk = self.again()

    def again(self) -> HelpDesk:
        """As after a restart."""
        self.desk = HelpDesk(
            self.folder,
            clock=lambda: self.wall,
            steady=lambda: self.steady,
            on_fault=lambda code, text: self.told.append((code, text)),
            **self.options,  # type: ignore[arg-type]
        )
        return self.desk

    def passes(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


def refused(code: Code, *answer: str, desk: HelpDesk, **more: str) -> str:
    with pytest.raises(RobinError) as caught:
        desk.answer(*answer, **more)
    assert caught.value.code is code
    return caught.value.text


def test_a_request_is_asked_shown_and_answered(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "help").desk
    asked = desk.ask(CAUSE, "plan-1", b"jpeg")
    assert desk.requests() == (asked,) and asked.is_open and asked.asked_s == 1000.0
    assert (tmp_path / "help" / asked.picture).read_bytes() == b"jpeg" and desk.picture(asked.help_id) == b"jpeg"
    closed = desk.answer(asked.help_id, "set_down", "Kim\n")
    assert closed.answer == "set_down" and closed.answered_by == "Kim\\n"
    assert desk.requests() == () and desk.requests(answered=True) == (closed,)


def test_answers_that_fit_nothing_are_refused(tmp_path: Path) -> None:
    desk = Desk(tmp_path).desk
    asked = desk.ask(CAUSE, "plan-1")
    assert "set_down" in refused(Code.HELP_ANSWER_INVALID, asked.help_id, "perhaps", desk=desk)
    refused(Code.HELP_NOT_OPEN, "h000099", "done", desk=desk)
    assert "plan-1" in refused(Code.HELP_NOT_OPEN, asked.help_id, "done", desk=desk, plan_id="plan-2")
    assert desk.requests() == (asked,)  # nothing was taken
    desk.answer(asked.help_id, "done", "Kim", plan_id="plan-1")
    assert "Kim" in refused(Code.HELP_NOT_OPEN, asked.help_id, "set_down", desk=desk)


def test_what_is_over_cannot_be_answered(tmp_path: Path) -> None:
    desk = Desk(tmp_path).desk
    asked = desk.ask(CAUSE)
    desk.withdraw(asked.help_id, "the light is back")
    assert "the light is back" in refused(Code.HELP_NOT_OPEN, asked.help_id, "done", desk=desk)
    desk.withdraw(asked.help_id, "again")
    assert desk.request(asked.help_id).answered_by == "the light is back"


def test_nobody_answers(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    asked = desk.desk.ask(CAUSE)
    desk.passes(9.9)
    assert desk.desk.tick() == () and desk.told == []
    desk.passes(0.2)
    (closed,) = desk.desk.tick()
    assert (closed.help_id, closed.answer, closed.answered_by) == (asked.help_id, "set_down", "timeout")
    ((code, text),) = desk.told
    assert code is Code.HELP_TIMED_OUT and "10 s" in text and "set_down" in text
    assert desk.desk.tick() == ()


def test_a_timeout_of_zero_waits(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.desk.ask(parcel_cause("a sack", HelpConfig(parcel_timeout_s=0.0)))
    desk.passes(1e7)
    assert desk.desk.tick() == () and len(desk.desk.requests()) == 1


def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    first = desk.desk.ask(CAUSE, "plan-1", b"jpeg")
    answered = desk.desk.ask(CAUSE)
    desk.desk.answer(answered.help_id, "done", "Kim")
    desk.passes(6.0)
    again = desk.again()
    assert again.requests() == (first,) and len(again.requests(answered=True)) == 2
    assert again.picture(first.help_id) == b"jpeg"
    assert again.ask(CAUSE).help_id not in (first.help_id, answered.help_id)
    desk.passes(4.1)  # the time before the restart counts
    assert [request.help_id for request in again.tick()] == [first.help_id]


def test_a_clock_that_is_set_back_makes_nobody_wait_for_ever(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    asked = desk.desk.ask(CAUSE)
    desk.wall -= 1e6
    desk.steady += 10.1
    assert len(desk.desk.tick()) == 1  # a desk that runs counts by a clock that nobody sets
    other = Desk(tmp_path / "other")
    other.desk.ask(CAUSE)
    other.wall -= 1e6
    again = other.again()
    other.passes(9.0)
    assert again.tick() == ()
    other.passes(1.1)
    assert len(again.tick()) == 1
    assert asked.asked_s == 1000.0


def test_another_process_answers(tmp_path: Path) -> None:
    cell, person = Desk(tmp_path), Desk(tmp_path)
    asked = cell.desk.ask(CAUSE)
    person.desk.answer(asked.help_id, "done", "Kim")
    (closed,) = cell.desk.tick()
    assert closed.answer == "done" and closed.answered_by == "Kim"
    refused(Code.HELP_NOT_OPEN, asked.help_id, "set_down", desk=cell.desk)


def test_the_person_comes_too_late(tmp_path: Path) -> None:
    cell, person = Desk(tmp_path), Desk(tmp_path)
    asked = cell.desk.ask(CAUSE)
    assert person.again().requests() == (asked,)
    cell.passes(11.0)
    cell.desk.tick()
    assert "timeout" in refused(Code.HELP_NOT_OPEN, asked.help_id, "done", desk=person.desk)


def test_a_full_disk_loses_no_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(tmp_path)

    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(disk, "write_synced", full)
    asked = desk.desk.ask(CAUSE)
    assert desk.desk.requests() == (asked,) and not desk.desk.is_kept(asked.help_id)
    assert desk.told[0][0] is Code.HELP_NOT_KEPT and asked.help_id in desk.told[0][1]
    assert desk.desk.answer(asked.help_id, "done").answer == "done"
    monkeypatch.undo()
    assert desk.again().requests(answered=True) == ()


@pytest.mark.parametrize("content", [b"", b"{", b'{"help_id": "h000001"}', bytes(range(192, 256))])
def test_a_damaged_file_is_put_aside_and_told(tmp_path: Path, content: bytes) -> None:
    desk = Desk(tmp_path)
    good = desk.desk.ask(CAUSE)
    (tmp_path / "h000007.json").write_bytes(content)
    again = desk.again()
    assert again.requests() == (good,)
    assert [code for code, _ in desk.told] == [Code.HELP_RECORD_DAMAGED]
    assert (tmp_path / "h000007.damaged").read_bytes() == content


def test_a_file_under_another_name_is_damaged(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    asked = desk.desk.ask(CAUSE)
    os.replace(tmp_path / f"{asked.help_id}.json", tmp_path / "h000005.json")
    assert desk.again().requests() == () and desk.told[0][0] is Code.HELP_RECORD_DAMAGED


def test_old_answered_requests_are_removed(tmp_path: Path) -> None:
    desk = Desk(tmp_path, kept=2)
    for _ in range(4):
        asked = desk.desk.ask(CAUSE, picture=b"jpeg")
        desk.desk.answer(asked.help_id, "done")
    still_open = desk.desk.ask(CAUSE)
    names = sorted(path.stem for path in tmp_path.glob("*.json"))
    assert names == ["h000003", "h000004", still_open.help_id]
    assert sorted(path.stem for path in tmp_path.glob("*.jpg")) == ["h000003", "h000004"]


def test_the_picture_is_small_and_shows_the_grasp() -> None:
    frame, _ = box_scene([Box(0.65, 0.0, 0.2, 0.2, 0.1)])
    pose = np.eye(4)
    pose[:3, 3] = (0.65, 0.0, 0.1)
    marked, plain = help_picture(frame, Grasp(pose, 1, 1, 0.5)), help_picture(frame)
    assert marked[:2] == b"\xff\xd8" and len(marked) < 20_000 and marked != plain


def test_files_are_plain_json(tmp_path: Path) -> None:
    asked = Desk(tmp_path).desk.ask(CAUSE, "plan-1")
    values = json.loads((tmp_path / f"{asked.help_id}.json").read_text())
    assert values["code"] == int(Code.LOAD_DOUBTFUL) and values["answers"][0] == "deliver"
