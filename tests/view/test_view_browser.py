"""Every page in a real browser: click paths, the keyboard alone, what axe finds, light and dark."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.view_browser import browser, faults, keep, tab
from helpers.view_run import record_run
from helpers.view_server import ViewServer, view_server
from playwright.sync_api import Browser, Page, expect

from edge_adapt.live_picture import LivePicture, LiveReader
from robin_grasp.recovery.config import HelpConfig
from robin_grasp.recovery.help_desk import HelpDesk
from robin_grasp.recovery.help_request import load_cause
from robin_view.sources import Sources, find_sources

FIRST = "view-run-00000-000"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("view")
    record_run(folder / "run", 4)
    HelpDesk(folder / "desk").ask(load_cause("two parcels hang on the tool", HelpConfig()), FIRST)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ViewServer]:
    sources = Sources((folder / "run",), desk=folder / "desk")
    with view_server(sources, folder, allow_changes=True) as running:
        assert running.view.archive.wait(lambda: len(running.view.archive.index) == 4, 20)
        yield running


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    with tab(chromium) as opened:
        yield opened


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("path", ["/", "/live", f"/d/{FIRST}", "/search", f"/d/{FIRST}/cloud", "/nothing"])
def test_nobody_is_kept_out(chromium: Browser, server: ViewServer, path: str, dark: bool) -> None:
    with tab(chromium, dark, known="404") as page:
        page.goto(server.url + path)
        expect(page.get_by_role("main")).to_be_visible()
        assert faults(page) == []
        name = path.strip("/").replace(FIRST, "one").replace("/", "-") or "first"
        keep(page, f"{name}-{'dark' if dark else 'light'}")


def test_layers_opacity_and_zoom(page: Page, server: ViewServer) -> None:
    page.goto(f"{server.url}/d/{FIRST}")
    over = page.locator("img[data-is=height]")
    expect(over).to_be_hidden()
    page.get_by_role("button", name="height").click()
    expect(over).to_be_visible()
    expect(over).not_to_have_js_property("naturalWidth", 0)
    page.locator("#opacity").fill("20")
    assert page.evaluate("getComputedStyle(document.querySelector('img[data-is=height]')).opacity") == "0.2"
    page.get_by_role("button", name="zoom in").click()
    assert "scale(1.4)" in page.locator(".sheet").evaluate("sheet => sheet.style.transform")
    page.get_by_role("button", name="scores").click()
    expect(page.locator("g.scores text").first).to_be_visible()
    keep(page, "layers")


def test_a_click_on_a_parcel_asks_why(page: Page, server: ViewServer) -> None:
    evidence = server.view.archive.evidence(FIRST)
    labels, chosen = evidence.labels(), evidence.decision.chosen
    assert labels is not None and chosen is not None
    v, u = (int(np.median(at)) for at in np.nonzero(labels == chosen.instance))
    page.goto(f"{server.url}/d/{FIRST}")
    stage = page.locator("#stage")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    assert box is not None
    scale = box["width"] / labels.shape[1]
    stage.click(position={"x": u * scale, "y": v * scale})
    expect(page.locator("#answer")).to_contain_text(f"Parcel {chosen.instance}", timeout=60_000)
    keep(page, "why")


def test_why_not_with_the_keyboard_alone(page: Page, server: ViewServer) -> None:
    page.goto(f"{server.url}/d/{FIRST}")
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.name") == "parcel":
            break
    page.keyboard.press("ArrowDown")
    while page.evaluate("document.activeElement.textContent") != "Ask the planner":
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#answer")).to_contain_text("Planned in", timeout=60_000)
    page.locator("#stage").focus()
    page.keyboard.press("+")
    assert "scale(1.4)" in page.locator(".sheet").evaluate("sheet => sheet.style.transform")
    page.keyboard.press("0")
    assert "scale(1)" in page.locator(".sheet").evaluate("sheet => sheet.style.transform")


def test_search_by_facet_and_by_words(page: Page, server: ViewServer) -> None:
    page.goto(f"{server.url}/search")
    expect(page.locator(".grid li")).to_have_count(4)
    page.get_by_role("checkbox", name="miss").check()
    expect(page.locator(".grid li")).to_have_count(1)
    assert "result=miss" in page.url
    expect(page.get_by_role("checkbox", name="clean")).to_be_visible()  # others can still be chosen
    page.get_by_role("checkbox", name="miss").uncheck()
    expect(page.locator(".grid li")).to_have_count(4)
    page.locator("#q").fill(f"{FIRST} hold")
    expect(page.locator(".grid li")).to_have_count(1)
    expect(page.locator(".grid a")).to_have_attribute("href", f"/d/{FIRST}")
    page.locator(".grid a").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/d/{FIRST}")


def test_the_cloud_is_drawn(page: Page, server: ViewServer) -> None:
    page.goto(f"{server.url}/d/{FIRST}/cloud")
    expect(page.locator("#told")).to_contain_text("points", timeout=30_000)
    page.get_by_role("button", name="from above").click()
    picture = page.locator("#cloud canvas").screenshot()
    assert len(picture) > 20_000  # an empty one has a tenth of that
    page.get_by_role("button", name="colour by parcel").click()
    assert page.locator("#cloud canvas").screenshot() != picture
    page.locator("#grasp").select_option(index=1)
    keep(page, "cloud-second")


def test_live_follows_and_a_person_answers(chromium: Browser, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "run", tmp_path / "run")
    records = tmp_path / "run/decisions.jsonl"
    lines = records.read_text().splitlines(keepends=True)
    records.write_text(lines[0])
    desk = HelpDesk(tmp_path / "desk")
    desk.ask(load_cause("a load that may be wrong", HelpConfig()), FIRST)
    sources = Sources((tmp_path / "run",), desk=tmp_path / "desk")
    with view_server(sources, tmp_path, allow_changes=True) as server, tab(chromium) as page:
        page.goto(f"{server.url}/live")
        expect(page.locator("#state")).to_have_text("following")
        with records.open("a") as file:
            file.writelines(lines[1:])
        expect(page.locator("#now .live")).to_have_attribute("data-decision", "view-run-00000-003", timeout=20_000)
        page.get_by_role("button", name="set down").focus()
        keep(page, "help")
        page.keyboard.press("Enter")
        expect(page.locator("#help")).to_contain_text("Nobody is asked for help")
        assert [closed.answer for closed in desk.tick()] == ["set_down"]
        desk.ask(load_cause("another one", HelpConfig()))
        expect(page.locator("#help")).to_contain_text("another one")
        assert json.loads(server.view.audit.path.read_text())["answer"] == "set_down"


def test_pictures_keep_up_with_a_fast_cell(chromium: Browser, folder: Path, tmp_path: Path) -> None:
    """Ten picks a second: what cannot be shown in time is passed over, and the last one is shown."""
    shutil.copytree(folder / "run", tmp_path / "run")
    records = tmp_path / "run/decisions.jsonl"
    line = records.read_text().splitlines(keepends=True)[0]
    records.write_text(line)
    with view_server(Sources((tmp_path / "run",)), tmp_path) as server, tab(chromium) as page:
        page.goto(f"{server.url}/live")
        page.wait_for_selector("#now[data-shown='1']")
        with records.open("a") as file:
            for number in range(30):
                file.write(
                    line.replace(FIRST, f"fast-{number:03d}").replace(f"images/fast-{number:03d}", f"images/{FIRST}")
                )
                file.flush()
                time.sleep(0.1)  # the cell's own pace
        expect(page.locator("#now .live")).to_have_attribute("data-decision", "fast-029", timeout=20_000)
        assert int(page.locator("#now").get_attribute("data-shown") or 0) > 3


def test_the_camera_is_shown_beside_the_picks(chromium: Browser, folder: Path, tmp_path: Path) -> None:
    """Fifty pictures a second come; the page shows what it can, and the last one for certain."""
    shutil.copytree(folder / "run", tmp_path / "run")
    with (
        contextlib.closing(LivePicture(tmp_path / "run/live", rate_hz=50)) as picture,
        view_server(find_sources([tmp_path / "run"]), tmp_path) as server,
        tab(chromium) as page,
    ):
        page.goto(f"{server.url}/live")
        expect(page.locator("#eyes")).to_be_hidden()
        for level in range(20, 60):
            picture.offer(np.full((480, 640, 3), level, dtype=np.uint8))
            time.sleep(0.02)  # the camera's own pace
        expect(page.locator("#eyes")).to_be_visible()
        expect(page.locator("#look")).to_have_attribute("src", f"/live/picture?{LiveReader(picture.folder).stamp()}")
        assert int(page.locator("#look").get_attribute("data-shown") or 0) > 3
        expect(page.locator("#rate")).to_contain_text("no picture since", timeout=20_000)
        assert faults(page) == []
        keep(page, "live-camera")


def test_the_token_is_asked_for(chromium: Browser, folder: Path, tmp_path: Path) -> None:
    with (
        view_server(Sources((folder / "run",)), tmp_path, token="a-word-for-the-tablet") as server,
        tab(chromium) as page,
    ):
        page.goto(server.url)
        page.wait_for_url("**/login")
        assert faults(page) == []
        keep(page, "login")
        page.get_by_label("Your name").fill("Ada")
        page.get_by_label("Token").fill("a-word-for-the-tablet")
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Ada: leave")).to_be_visible()
        page.get_by_role("button", name="Ada: leave").click()
        page.wait_for_url("**/login")
