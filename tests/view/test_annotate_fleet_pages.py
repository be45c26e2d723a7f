"""Novelties, models and stations: what is shown, what is decided there, and who may."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from helpers.annotate_samples import record_boxes
from helpers.model_samples import registry_of
from helpers.view_browser import browser, faults, keep, tab
from helpers.view_fleet import HOSTILE, make_view_fleet
from helpers.view_server import Answer, ViewServer, view_server
from playwright.sync_api import Browser, Page, expect

from edge_adapt.record_parts import CupRecord
from robin_fleet.folder import open_fleet
from robin_fleet.ledger.rollouts import all_rollouts
from robin_fleet.novelties.review import of_novelty, ranked
from robin_view.sources import Sources

HTML = {"accept": "text/html"}
VERDICT = {
    "accepted": True,
    "checks": [
        {"name": "site gain", "passed": True, "value": 0.03, "bound": 0.0, "low": 0.01, "high": 0.05, "text": "better"},
        {"name": "latency", "passed": True, "value": 1.0, "bound": 1.02, "low": None, "high": None, "text": HOSTILE},
    ],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fleet")
    make_view_fleet(folder)
    return folder / "fleet"


@pytest.fixture()
def server(made: Path, tmp_path: Path) -> Iterator[ViewServer]:
    shutil.copytree(made, tmp_path / "fleet")
    registry, paths = registry_of(tmp_path / "robot", 2)
    for path in paths[1:]:
        number = registry.add(path, "a lesson", "learned", {"gate": VERDICT, "learned": {"frames": 12}})
        registry.activate(number, "a lesson", "the gate let it through")
    sources = Sources(fleet=tmp_path / "fleet", versions=tmp_path / "robot" / "models", models=(paths[0],))
    with view_server(sources, tmp_path, allow_changes=True) as running:
        assert running.view.archive.whole.wait(20)
        yield running


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture()
def page(chromium: Browser) -> Iterator[Page]:
    with tab(chromium) as opened:
        yield opened


def post(server: ViewServer, path: str, **form: str) -> Answer:
    """As htmx sends a form of ours."""
    headers = {"origin": server.url, "x-robin-token": server.view.sessions.page_token, "hx-request": "true"}
    headers["content-type"] = "application/x-www-form-urlencoded"
    return server.ask(path, "POST", urlencode(form), headers)


def novelties(server: ViewServer) -> list[str]:
    assert server.view.fleet is not None
    return [one.row.novelty for one in ranked(server.view.fleet.ledger)]


def test_novelties_are_ranked_with_their_pictures(server: ViewServer) -> None:
    first, second = novelties(server)
    text = server.ask("/novelties", headers=HTML).text
    assert text.index(first) < text.index(second) and "failed picks" in text
    one = server.ask(f"/novelties/{first}", headers=HTML).text
    assert "north/belt-1" in one and "/annotate/" in one
    picture = server.ask(f"/novelties/{first}/picture/-1?w=320")
    assert picture.status == 200 and picture.headers["content-type"] == "image/webp"
    assert server.ask(f"/novelties/{first}/picture/99").status == 404


def test_a_person_confirms_names_merges_and_dismisses(server: ViewServer, tmp_path: Path) -> None:
    first, second = novelties(server)
    assert server.view.fleet is not None
    ledger = server.view.fleet.ledger
    assert post(server, f"/novelties/{first}/confirm").headers["hx-redirect"] == f"/novelties/{first}"
    assert of_novelty(ledger, first)[0].state == "confirmed"
    post(server, f"/novelties/{first}/name", called=HOSTILE)
    assert of_novelty(ledger, first)[0].name == HOSTILE and of_novelty(ledger, first)[0].decided_by
    text = server.ask(f"/novelties/{first}", headers=HTML).text
    assert HOSTILE not in text and "&lt;script&gt;" in text
    post(server, f"/novelties/{first}/merge", other=second)
    assert novelties(server) == [first]
    assert post(server, f"/novelties/{first}/dismiss").headers["hx-redirect"] == "/novelties"
    assert novelties(server) == []
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [line["action"].split()[0] for line in lines] == ["confirm", "name", "merge", "dismiss"]


def test_what_cannot_be_decided_is_one_line(server: ViewServer) -> None:
    first = novelties(server)[0]
    assert "OPTION_INVALID" in post(server, f"/novelties/{first}/name", called=" ").text
    refused = post(server, "/novelties/nov-9999/confirm")
    assert refused.status == 404 and "NOVELTY_UNKNOWN" in refused.text
    assert post(server, f"/novelties/{first}/merge").status == 400


def test_roll_outs_are_paused_and_aborted_with_a_reason(server: ViewServer) -> None:
    text = server.ask("/models", headers=HTML).text
    assert "spring" in text and "replay" in text and HOSTILE not in text
    post(server, "/models/rollout/r0001/pause", why="stock-taking")
    assert "paused" in server.ask("/models", headers=HTML).text
    post(server, "/models/rollout/r0001/resume", why="done")
    post(server, "/models/rollout/r0001/abort", why="drops bags")
    assert server.view.fleet is not None
    with server.view.fleet.ledger.read() as connection:
        (state,) = all_rollouts(connection)
    assert state.phase.value == "aborted" and "drops bags" in state.reason
    assert "ROLLOUT_STATE" in post(server, "/models/rollout/r0001/pause", why="late").text
    assert post(server, "/models/rollout/r0001/burn", why="x").status == 404


def test_versions_are_explained_pinned_and_gone_back_from(server: ViewServer) -> None:
    text = server.ask("/models", headers=HTML).text
    assert "runs version 2" in text and 'class="curve"' in text
    gate = server.ask("/models/version/2", headers=HTML).text
    assert "+0.0100 to +0.0500" in gate and "site gain" in gate and HOSTILE not in gate
    post(server, "/models/pin", why="acceptance", version="2")
    assert "pinned" in server.ask("/models", headers=HTML).text
    assert "VERSION_PINNED" in post(server, "/models/rollback", why="no").text
    post(server, "/models/unpin", why="over")
    post(server, "/models/rollback", why="drops bags")
    assert "runs version 1" in server.ask("/models", headers=HTML).text
    assert server.ask("/models/version/9", headers=HTML).status == 404


def test_a_report_is_shown_as_it_was_signed_and_runs_nothing(server: ViewServer) -> None:
    answer = server.ask("/models/training/goods-1-0000")
    assert "as it was signed" in answer.text
    policy = answer.headers["content-security-policy"]
    assert "sandbox" in policy and "default-src 'none'" in policy and "script-src" not in policy
    assert server.ask("/models/training/none").status == 404


def test_stations_tell_technicians_what_to_see_to(server: ViewServer) -> None:
    text = server.ask("/stations", headers=HTML).text
    assert "north/belt-1" in text and "dark" in text and "cell-0" in text and "never" in text


def test_stations_tell_of_cups(tmp_path: Path) -> None:
    record_boxes(tmp_path / "run", cups=(CupRecord(cup=3, state="blocked", share=0.1, picks=40, held=2),))
    with view_server(Sources((tmp_path / "run",)), tmp_path) as running:
        assert running.view.archive.whole.wait(20)
        text = running.ask("/stations", headers=HTML).text
    assert "cup 3" in text and "blocked" in text and "held 2 of 40" in text


def test_nothing_changes_without_leave(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "fleet")
    with view_server(Sources(fleet=tmp_path / "fleet"), tmp_path) as running:
        first = novelties(running)[0]
        for path in (f"/novelties/{first}/confirm", "/novelties/look", "/models/rollout/r0001/abort", "/models/pin"):
            refused = post(running, path, why="x", version="0")
            assert refused.status == 403 and "VIEW_READ_ONLY" in refused.text
        assert "<form" not in running.ask(f"/novelties/{first}", headers=HTML).text.split("<main")[1]
    with open_fleet(tmp_path / "fleet") as fleet:
        assert of_novelty(fleet.ledger, first)[0].state == "open"
    assert not (tmp_path / "audit.jsonl").exists()


def test_a_robot_has_no_novelties_of_a_fleet(tmp_path: Path) -> None:
    with view_server(Sources(), tmp_path) as running:
        assert running.ask("/novelties", headers=HTML).status == 404
        for path in ("/models", "/stations"):
            text = running.ask(path, headers=HTML).text
            assert "No" in text and 'href="/novelties"' not in text


def test_with_a_pointer(server: ViewServer, page: Page) -> None:
    first, second = novelties(server)
    page.goto(f"{server.url}/novelties")
    keep(page, "novelties")
    page.get_by_text(first).first.click()
    page.fill("#called", "red film")
    page.get_by_role("button", name="name it").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("red film")
    page.select_option("#other", second)
    page.get_by_role("button", name="merge").click()
    expect(page.locator("#other")).to_have_count(0)
    keep(page, "novelty")
    page.goto(f"{server.url}/models")
    keep(page, "models")
    page.fill("#why-r0001", "stock-taking")
    page.get_by_role("button", name="pause").click()
    expect(page.get_by_role("button", name="resume")).to_be_visible()
    page.on("dialog", lambda dialog: dialog.accept())
    page.fill("#why-r0001", "drops bags")
    page.get_by_role("button", name="abort").click()
    expect(page.locator("#why-r0001")).to_have_count(0)
    page.goto(f"{server.url}/stations")
    keep(page, "stations")


def test_with_keys_alone(server: ViewServer, page: Page) -> None:
    page.goto(f"{server.url}/novelties/{novelties(server)[0]}")

    def go(selector: str) -> None:
        for _ in range(80):
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
            page.keyboard.press("Tab")
        raise AssertionError(f"no way by keys to {selector}")

    go("#called")
    page.keyboard.type("blue box")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("blue box")
    page.goto(f"{server.url}/models")
    go("#why-pin")
    page.keyboard.type("acceptance")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="unpin")).to_be_visible()
    go("#why-r0001")
    page.keyboard.type("stock-taking")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="resume")).to_be_visible()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_everybody_can_use_them(chromium: Browser, server: ViewServer, dark: bool) -> None:
    first = novelties(server)[0]
    with tab(chromium, dark) as page:
        for path in ("/novelties", f"/novelties/{first}", "/models", "/models/version/2", "/stations"):
            page.goto(server.url + path)
            page.wait_for_load_state("networkidle")
            assert faults(page) == [], path
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
