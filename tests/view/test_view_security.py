"""The door: who may ask by what name, from which page, with which word, and what leaves with every answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.view_server import ViewServer, view_server

from robin_perception.core.errors import Code, RobinError
from robin_view.changes import Audit
from robin_view.settings import ViewSettings
from robin_view.sources import Sources, find_sources

TOKEN = "a-word-of-more-than-sixteen"
PAGE = {"accept": "text/html"}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ViewServer]:
    folder = tmp_path_factory.mktemp("page")
    with view_server(Sources((folder / "<script>alert(1)</script>",)), folder) as server:
        yield server


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ViewServer]:
    with view_server(Sources(), tmp_path_factory.mktemp("guarded"), token=TOKEN, names=("cell-7",)) as server:
        yield server


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.4", "::", "cell-7.example"])
def test_it_does_not_start_elsewhere_without_a_token(host: str) -> None:
    with pytest.raises(RobinError, match="--token") as caught:
        ViewSettings(host=host).checked()
    assert caught.value.code is Code.OPTION_INVALID
    assert ViewSettings(host=host, token=TOKEN).checked()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "localhost"])
def test_it_starts_here_without_one(host: str) -> None:
    assert ViewSettings(host=host).checked().loopback


def test_a_short_token_and_half_a_certificate_are_refused(tmp_path: Path) -> None:
    for wrong in ({"token": "short"}, {"tls_cert": tmp_path / "c.pem"}, {"tls_clients": tmp_path / "c.pem"}):
        with pytest.raises(RobinError):
            ViewSettings(**wrong).checked()


def test_every_answer_carries_the_policy(page: ViewServer) -> None:
    for path in ("/", "/nothing", "/login", page.view.pages.static("page.js")):
        policy = page.ask(path, headers=PAGE).headers["content-security-policy"]
        assert "default-src 'self'" in policy and "unsafe" not in policy


def test_names_are_escaped(page: ViewServer) -> None:
    text = page.ask("/", headers=PAGE).text
    assert "<script>alert" not in text and "&lt;script&gt;" in text


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8780", "127.0.0.1.evil.example", ""])
def test_a_foreign_name_is_refused(page: ViewServer, host: str) -> None:
    answer = page.ask("/", headers={"Host": host})
    assert answer.status == 400 and answer.json()["code"] == Code.VIEW_HOST_FOREIGN


@pytest.mark.parametrize("host", ["localhost:8780", "127.0.0.1", "[::1]:99", "192.168.1.4:8780", "Cell-7"])
def test_own_names_and_addresses_are_not(guarded: ViewServer, host: str) -> None:
    assert guarded.ask("/login", headers={"Host": host}).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"},
    ],
)
def test_foreign_pages_read_and_change_nothing(page: ViewServer, headers: dict[str, str]) -> None:
    for method in ("GET", "POST"):
        answer = page.ask("/", method, headers=headers)
        assert answer.status == 403 and answer.json()["code"] == Code.VIEW_ORIGIN_FOREIGN


def test_foreign_pages_may_link_here(page: ViewServer) -> None:
    linked = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", **PAGE}
    assert page.ask("/", headers=linked).status == 200
    assert page.ask("/logout", "POST", headers=linked).status == 403


@pytest.mark.parametrize(
    "path", ["/static/x/../app.py", "/static/x/%2e%2e/app.py", "/static/x//etc/passwd", "/static/x/"]
)
def test_no_path_leads_out(page: ViewServer, path: str) -> None:
    answer = page.ask(path)
    assert answer.status == 404 and b"import" not in answer.body


def test_without_the_token_there_is_only_the_login(guarded: ViewServer) -> None:
    asked = guarded.ask("/", headers=PAGE)
    assert asked.status == 303 and asked.headers["location"] == "/login"
    assert guarded.ask("/").status == 401
    assert guarded.ask("/", headers={"authorization": "Bearer wrong"}).status == 401
    assert guarded.ask("/", headers={"cookie": "robin_view="}).status == 401


def test_the_token_opens_and_leaving_closes(guarded: ViewServer) -> None:
    form = {"origin": guarded.url, "content-type": "application/x-www-form-urlencoded"}
    wrong = guarded.ask("/login", "POST", "token=wrong&name=Ada", form)
    assert wrong.status == 403 and "set-cookie" not in wrong.headers
    right = guarded.ask("/login", "POST", f"token={TOKEN}&name=Ada", form)
    cookie = right.headers["set-cookie"]
    assert right.status == 303 and "HttpOnly" in cookie and "samesite=strict" in cookie.lower()
    inside = {"cookie": cookie.split(";")[0], **PAGE}
    assert "Ada: leave" in guarded.ask("/", headers=inside).text
    assert guarded.ask("/", headers={"authorization": f"Bearer {TOKEN}"}).status == 200
    guarded.ask("/logout", "POST", headers={**inside, "origin": guarded.url})
    assert guarded.ask("/", headers=inside).status == 303


def test_a_failure_of_ours_is_a_numbered_line(page: ViewServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("secret <b>")

    monkeypatch.setattr(page.view.pages, "page", broken)
    answer = page.ask("/login")
    assert answer.status == 500 and answer.json()["code"] == Code.INTERNAL_ERROR
    assert "content-security-policy" in answer.headers and answer.headers["content-type"] == "application/json"


def test_the_audit_is_only_appended(tmp_path: Path) -> None:
    audit = Audit(tmp_path / "new" / "audit.jsonl")
    audit.write("Ada\n", "help answered", help_id="h1", answer="done")
    audit.write("Bob", "mask saved")
    lines = [json.loads(line) for line in audit.path.read_text().splitlines()]
    assert [line["who"] for line in lines] == ["Ada\n", "Bob"]
    assert lines[0]["action"] == "help answered" and lines[0]["answer"] == "done" and lines[0]["at"]


def test_sources_are_told_apart(tmp_path: Path) -> None:
    for name in ("a/decisions.jsonl", "b/decisions.jsonl", "store/index.sqlite", "fleet/fleet.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_sources([tmp_path], fleet=tmp_path / "fleet")
    assert found.runs == (tmp_path / "a", tmp_path / "b") and found.store == tmp_path / "store"
    empty = tmp_path / "new"
    empty.mkdir()
    assert find_sources([empty]).runs == (empty,)
    with pytest.raises(RobinError, match="no such folder"):
        find_sources([tmp_path / "nowhere"])
