"""``robin cups``: what it shows of the cups, and that a reset is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.cli_helpers import Robin
from helpers.cup_picks import ALL, TOOL, grasp_with, pressed

from robin_grasp.cup_health_file import CupHealthKeeper


@pytest.fixture
def robin(capsys: pytest.CaptureFixture[str]) -> Robin:
    return Robin(capsys)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    keeper = CupHealthKeeper(TOOL, tmp_path / "cups.json")
    while not keeper.health.findings:
        keeper.note(grasp_with(ALL), pressed({cup: 0.55 for cup in ALL if cup != 4}), 7.0)
    return tmp_path / "cups.json"


def test_it_shows_which_cup_to_replace(robin: Robin, state: Path, tmp_path: Path) -> None:
    shown = robin("cups", "--state", state, "--json", tmp_path / "told.json")
    assert shown.status == 0
    assert "E661 CUP_BLOCKED: cup 4" in shown.err
    told = json.loads((tmp_path / "told.json").read_text())["cups"]
    assert [cup["state"] for cup in told] == ["good"] * 4 + ["blocked"] + ["good"] * 3
    assert told[4]["share"] == 0.0
    assert told[4]["since"] == "1970-01-01T00:00:07+00:00"


def test_a_reset_is_written(robin: Robin, state: Path) -> None:
    assert robin("cups", "reset", "4", "--state", state).status == 0
    keeper = CupHealthKeeper(TOOL, state)
    assert keeper.health.findings == ()
    assert [report.picks > 0 for report in keeper.health.cups] == [True] * 4 + [False] + [True] * 3
    assert robin("cups", "reset", "all", "--state", state).status == 0
    assert all(report.picks == 0 for report in CupHealthKeeper(TOOL, state).health.cups)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("mend",), "known are show, reset"),
        (("reset",), "needs the numbers of cups, or all"),
        (("show", "3"), "show takes none"),
        (("reset", "-1x"), "E4"),
        (("reset", "eight"), "'eight' is no number of a cup"),
        (("reset", "8"), "E665 CUPS_MISMATCH: there is no cup 8"),
        (("--cell", "no_such_cell.yaml"), "E101"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(
    robin: Robin, state: Path, arguments: tuple[str, ...], text: str
) -> None:
    before = state.read_bytes()
    refused = robin("cups", *arguments, "--state", state)
    assert refused.status != 0
    assert text in refused.err
    assert state.read_bytes() == before


def test_a_missing_or_damaged_file_is_named_and_stays(robin: Robin, state: Path) -> None:
    missing = robin("cups", "--state", state.with_name("other.json"))
    assert missing.status == 2
    assert "E101 INPUT_MISSING" in missing.err
    state.write_text("{}")
    damaged = robin("cups", "--state", state)
    assert damaged.status == 1
    assert "E663 CUPS_STATE_DAMAGED" in damaged.err
    assert state.read_text() == "{}"
