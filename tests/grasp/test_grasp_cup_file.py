"""The cups' health on disk, and what goes wrong with it."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
from helpers.cup_picks import ALL, GOOD, TOOL, grasp_with, pressed

from robin_grasp.cup_health import CupState
from robin_grasp.cup_health_file import CupHealthKeeper
from robin_grasp.cup_health_fit import SHIPPED_CUP_FIT, CupHealthFit
from robin_grasp.tool import ToolConfig
from robin_perception.core import disk
from robin_perception.core.config import load_config
from robin_perception.core.errors import Code, RobinError


def keeper_with_a_blocked_cup(path: Path) -> CupHealthKeeper:
    keeper = CupHealthKeeper(TOOL, path)
    while not keeper.health.findings:
        keeper.note(grasp_with(ALL), pressed({cup: GOOD for cup in ALL if cup != 4}), 7.0)
    return keeper


def test_what_is_believed_survives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "state" / "cups.json"
    before = keeper_with_a_blocked_cup(path)
    after = CupHealthKeeper(TOOL, path, now_s=100.0)
    assert after.problem is None
    assert after.health.cups == before.health.cups
    assert after.health.trust == before.health.trust
    assert after.health.cups[4].state is CupState.BLOCKED


def test_a_later_start_with_an_earlier_clock_leaves_no_change_in_the_future(tmp_path: Path) -> None:
    keeper_with_a_blocked_cup(tmp_path / "cups.json")
    assert CupHealthKeeper(TOOL, tmp_path / "cups.json", now_s=3.0).health.cups[4].changed_s == 3.0


@pytest.mark.parametrize("damage", ["cut", "flipped", "other", "impossible"])
def test_a_damaged_file_is_set_aside_and_said(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "cups.json"
    keeper_with_a_blocked_cup(path)
    text = path.read_text()
    damaged = {
        "cut": text[: len(text) // 2],
        "flipped": text.replace('"blocked"', '"good"', 1).replace('"picks": 0', '"picks": 1'),
        "other": json.dumps({"format": "something else"}),
        "impossible": json.dumps({"format": "robin-cup-health-1", "sha256": "", "cups": None}),
    }[damage]
    assert damaged != text
    path.write_text(damaged)
    keeper = CupHealthKeeper(TOOL, path)
    assert keeper.problem is not None
    assert keeper.problem.code is Code.CUPS_STATE_DAMAGED
    assert str(path) in keeper.problem.text
    assert keeper.health.findings == ()
    assert (tmp_path / "cups.json.damaged").read_text() == damaged
    keeper.note(grasp_with(ALL), pressed(dict.fromkeys(ALL, GOOD)), 1.0)
    assert CupHealthKeeper(TOOL, path).problem is None, "the next pick writes a whole one"


def test_a_file_of_another_tool_is_set_aside_and_said(tmp_path: Path) -> None:
    path = tmp_path / "cups.json"
    keeper_with_a_blocked_cup(path)
    keeper = CupHealthKeeper(ToolConfig(cup_centres_m=((0.0, 0.0), (0.05, 0.0))), path)
    assert keeper.problem is not None
    assert keeper.problem.code is Code.CUPS_MISMATCH
    assert "8 cups, this one has 2" in keeper.problem.text
    assert len(keeper.health.cups) == 2


def test_a_full_disk_is_said_and_the_health_goes_on_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cups.json"
    keeper = CupHealthKeeper(TOOL, path)
    keeper.note(grasp_with(ALL), pressed(dict.fromkeys(ALL, GOOD)), 1.0)
    whole = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(disk, "write_synced", full)
        while not keeper.health.findings:
            keeper.note(grasp_with(ALL), pressed({cup: GOOD for cup in ALL if cup != 4}), 2.0)
            assert keeper.problem is not None
            assert keeper.problem.code is Code.CUPS_NOT_SAVED
        assert path.read_bytes() == whole
    keeper.note(grasp_with(ALL), pressed({cup: GOOD for cup in ALL if cup != 4}), 3.0)
    assert keeper.problem is None
    assert CupHealthKeeper(TOOL, path, now_s=9.0).health.findings == keeper.health.findings


def test_a_reset_by_somebody_else_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "cups.json"
    node = keeper_with_a_blocked_cup(path)
    CupHealthKeeper(TOOL, path, now_s=9.0).reset((4,), 9.0)
    node.refresh(10.0)
    assert node.health.findings == ()


def test_without_a_file_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    keeper = CupHealthKeeper(TOOL)
    keeper.note(grasp_with(ALL), pressed(dict.fromkeys(ALL, GOOD)), 1.0)
    assert keeper.problem is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("weak", [[1.0]], "must have shape"),
        ("blocked", [0.5] * 8, "sum to 1"),
        ("good", [[1.0], [1.0, 2.0]], "good"),
        ("seal_edges", [0.9, 0.8, 0.95], "must ascend"),
        ("class_share", [0.0] * 18, "class_share"),
    ],
)
def test_a_fit_that_cannot_be_is_refused(tmp_path: Path, key: str, value: object, text: str) -> None:
    fit = load_config(CupHealthFit, SHIPPED_CUP_FIT).model_dump(mode="json")
    path = tmp_path / "fit.yaml"
    path.write_text(json.dumps({**fit, key: value}))
    with pytest.raises(RobinError, match=text) as wrong:
        load_config(CupHealthFit, path)
    assert wrong.value.code is Code.CONFIG_OUT_OF_RANGE
