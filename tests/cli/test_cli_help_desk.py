"""``robin help`` and ``robin recovery`` as typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.cli_helpers import Robin

from robin_grasp.recovery.config import HelpConfig
from robin_grasp.recovery.help_desk import HelpDesk
from robin_grasp.recovery.help_request import load_cause


@pytest.fixture
def robin(capsys: pytest.CaptureFixture[str]) -> Robin:
    return Robin(capsys)


def test_a_person_lists_and_answers(robin: Robin, tmp_path: Path) -> None:
    desk = tmp_path / "help"
    cell = HelpDesk(desk)
    asked = cell.ask(load_cause("two on the tool?", HelpConfig()), "plan-7", b"jpeg")
    out = tmp_path / "list.json"
    listed = robin("help", "list", "--desk", desk, "--json", out)
    assert listed.status == 0 and asked.help_id in listed.out and "E652 LOAD_DOUBTFUL" in listed.out
    (request,) = json.loads(out.read_text())["requests"]
    assert request["plan_id"] == "plan-7" and request["answers"] == ["deliver", "set_down", "done", "stop"]
    assert Path(request["picture"]).read_bytes() == b"jpeg"

    assert "plan-7" in robin("help", "answer", asked.help_id, "done", "--desk", desk, "--pick", "plan-8").err
    wrong = robin("help", "answer", asked.help_id, "perhaps", "--desk", desk)
    assert wrong.status == 2 and "E656 HELP_ANSWER_INVALID" in wrong.err
    done = robin("help", "answer", asked.help_id, "set_down", "--desk", desk, "--by", "Kim", "--json", out)
    assert done.status == 0 and json.loads(out.read_text())["answer"] == "set_down"
    (closed,) = cell.tick()
    assert (closed.answer, closed.answered_by) == ("set_down", "Kim")
    assert "E654 HELP_NOT_OPEN" in robin("help", "answer", asked.help_id, "done", "--desk", desk).err
    assert "nobody" in robin("help", "list", "--desk", desk).out
    assert "Kim" in robin("help", "list", "--desk", desk, "--all").out


def test_a_desk_that_is_not_there(robin: Robin, tmp_path: Path) -> None:
    done = robin("help", "list", "--desk", tmp_path / "none")
    assert done.status == 2 and "E101 INPUT_MISSING" in done.err


def test_the_table_follows_its_limits(robin: Robin, tmp_path: Path) -> None:
    config, out = tmp_path / "limits.yaml", tmp_path / "table.json"
    config.write_text("set_downs: 4\n")
    done = robin("recovery", "table", "--config", config, "--json", out)
    assert done.status == 0 and "below 4" in done.out
    assert {"state", "seen", "doubt", "tries", "action", "next", "why"} == set(json.loads(out.read_text())["rows"][0])
    config.write_text("set_down: 4\n")
    refused = robin("recovery", "table", "--config", config)
    assert refused.status == 2 and "E402" in refused.err and "set_down" in refused.err
