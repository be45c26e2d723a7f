"""The live page: it follows a growing run by events, and asks for help are answered here where changes are allowed."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.decision_samples import record_samples
from helpers.view_server import ViewServer, view_server

from robin_grasp.recovery.config import HelpConfig
from robin_grasp.recovery.help_desk import HelpDesk
from robin_grasp.recovery.help_request import load_cause
from robin_perception.core.errors import Code
from robin_view.live import stream
from robin_view.live.pages import per_hour
from robin_view.sources import Sources

PAGE = {"accept": "text/html"}
FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    record_samples(tmp_path / "all", ("clean", "miss", "drop"))
    (tmp_path / "all").rename(tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def desk(tmp_path: Path) -> HelpDesk:
    desk = HelpDesk(tmp_path / "desk")
    desk.ask(load_cause("two parcels <b>hang</b>", HelpConfig()), "sample-run-00000-001", b"\xff\xd8 a picture")
    return desk


@pytest.fixture
def page(run: Path, desk: HelpDesk, tmp_path: Path) -> Iterator[ViewServer]:
    with view_server(Sources((run,), desk=tmp_path / "desk"), tmp_path, allow_changes=True) as server:
        assert server.view.archive.wait(lambda: len(server.view.archive.index) == 3, 20)
        yield server


def answer(page: ViewServer, body: str, **headers: str):  # type: ignore[no-untyped-def]
    own = {"origin": page.url, "x-robin-token": page.view.sessions.page_token, **FORM}
    return page.ask("/live/help/h000001/answer", "POST", body, {**own, **headers})


def test_the_latest_pick_its_figures_and_the_last_ones(page: ViewServer) -> None:
    text = page.ask("/live", headers=PAGE).text
    assert 'data-decision="sample-run-00000-002"' in text and text.count('class="badge') == 1 + 3
    assert "clean of the last 3</dt><dd>1<" in text and "/quick/color" in text
    picture = page.ask("/d/sample-run-00000-002/quick/color")
    assert picture.headers["content-type"] == "image/jpeg" and picture.body[:2] == b"\xff\xd8"


def test_picks_of_piles_that_are_picked_side_by_side_are_no_faster_than_the_cell() -> None:
    lines = [{"at_s": at_s, "pick_s": 3.5} for at_s in (20.0, 10.0, 0.0)]
    assert per_hour(lines) == 360.0
    assert per_hour([{**line, "at_s": line["at_s"] / 10} for line in lines]) == pytest.approx(3600 / 3.5)
    assert per_hour([{**line, "pick_s": float("nan")} for line in lines]) == 360.0  # an older record
    assert per_hour(lines[:1]) is None


def test_nothing_yet(tmp_path: Path) -> None:
    with view_server(Sources((tmp_path,)), tmp_path) as server:
        assert "Nothing was picked yet" in server.ask("/live", headers=PAGE).text


def test_events_tell_of_every_new_pick(page: ViewServer, run: Path) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=20)
    connection.request("GET", "/live/events")
    events = connection.getresponse()
    assert events.headers["content-type"].startswith("text/event-stream")

    def next_pick() -> str:
        while not (line := events.readline()).startswith(b"event: pick"):
            assert line
        return str(json.loads(events.readline().removeprefix(b"data: "))["id"])

    assert next_pick() == "sample-run-00000-002"
    line = (run / "decisions.jsonl").read_text().splitlines()[0]
    with (run / "decisions.jsonl").open("a") as file:
        file.write(line.replace("sample-run-00000-000", "another-pick") + "\n")
    assert next_pick() == "another-pick"
    connection.close()


def test_too_many_followers_are_refused(page: ViewServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MOST_STREAMS", 0)
    refused = page.ask("/live/events")
    assert refused.status == 503 and f"E{int(Code.VIEW_BUSY)}" in refused.text


def test_help_is_shown_and_answered_here(page: ViewServer, desk: HelpDesk) -> None:
    text = page.ask("/live/help").text
    assert "two parcels &lt;b&gt;hang" in text and 'value="set_down"' in text and "disabled" not in text
    assert page.ask("/live/help/h000001/picture").body == b"\xff\xd8 a picture"
    done = answer(page, "answer=set_down&pick=sample-run-00000-001")
    assert done.status == 200 and "Nobody is asked for help" in done.text
    (closed,) = desk.tick()
    assert closed.answer == "set_down" and closed.answered_by
    (line,) = page.view.audit.path.read_text().splitlines()
    assert json.loads(line)["action"] == "help answered" and json.loads(line)["who"] == closed.answered_by
    assert answer(page, "answer=done&pick=sample-run-00000-001").status == 409


def test_a_request_about_no_pick_is_answered(page: ViewServer, desk: HelpDesk) -> None:
    asked = desk.ask(load_cause("look at tool and pile", HelpConfig()))
    own = {"origin": page.url, "x-robin-token": page.view.sessions.page_token, **FORM}
    done = page.ask(f"/live/help/{asked.help_id}/answer", "POST", "answer=done&pick=", own)
    assert done.status == 200, done.text
    assert [closed.answer for closed in desk.tick()] == ["done"]


def test_a_wrong_answer_and_another_pick_are_refused(page: ViewServer, desk: HelpDesk) -> None:
    assert answer(page, "answer=fly&pick=sample-run-00000-001").status == 400
    assert answer(page, "answer=done&pick=another").status == 409
    assert answer(page, "answer=done").status == 409
    assert page.ask("/live/help/..%2f..%2fx/picture").status == 404
    assert desk.tick() == ()


def test_changes_need_our_own_page(page: ViewServer, desk: HelpDesk) -> None:
    body = "answer=done&pick=sample-run-00000-001"
    wrong = [{"x-robin-token": "guessed"}, {"x-robin-token": ""}, {"origin": "http://evil.example"}, {"origin": "null"}]
    for headers in wrong:
        refused = answer(page, body, **headers)
        assert refused.status == 403 and str(int(Code.VIEW_ORIGIN_FOREIGN)) in refused.text
    assert desk.tick() == () and not page.view.audit.path.exists()


def test_a_page_that_only_shows_changes_nothing(run: Path, desk: HelpDesk, tmp_path: Path) -> None:
    with view_server(Sources((run,), desk=tmp_path / "desk"), tmp_path) as server:
        assert "disabled" in server.ask("/live/help").text
        refused = answer(server, "answer=done&pick=sample-run-00000-001")
        assert refused.status == 403 and f"E{int(Code.VIEW_READ_ONLY)}" in refused.text
    assert desk.tick() == ()
