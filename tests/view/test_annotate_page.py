"""The annotation page in a real browser: with a pointer, with keys alone, over a reload, and for everybody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.annotate_samples import APART, HIGH, LOW, record_boxes
from helpers.view_browser import browser, faults, keep, tab
from helpers.view_server import ViewServer, view_server
from playwright.sync_api import Browser, Page, expect

from edge_adapt.annotations.read import labelled_frames
from robin_view.sources import Sources

KEY = "boxes-00000-000"
MIDDLE = {"high": (105, 110), "low": (190, 110), "apart": (275, 200)}


@pytest.fixture()
def server(tmp_path: Path) -> Iterator[ViewServer]:
    record_boxes(tmp_path / "run", 2)
    with view_server(Sources((tmp_path / "run",)), tmp_path, allow_changes=True) as running:
        assert running.view.archive.whole.wait(20)
        yield running


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture()
def page(chromium: Browser, server: ViewServer) -> Iterator[Page]:
    with tab(chromium) as opened:
        load(opened, server)
        yield opened


def load(page: Page, server: ViewServer, key: str = KEY) -> None:
    page.goto(f"{server.url}/annotate/{key}")
    page.wait_for_selector("#annotate[data-state=ready]")


def click(page: Page, where: str, **how: Any) -> None:
    """Click on a pixel of the picture."""
    x, y = MIDDLE[where]
    box = page.locator("canvas").bounding_box()
    scale, left, top, dense = page.evaluate(
        "(({scale, left, top}) => [scale, left, top, devicePixelRatio])(robinEditor.stage)"
    )
    at = box["x"] + ((x + 0.5) * scale + left) / dense, box["y"] + ((y + 0.5) * scale + top) / dense
    page.mouse.click(*at, **how)


def ids(page: Page) -> list[int]:
    found: list[int] = page.evaluate("robinEditor.labels.ids()")
    return found


def wait_for(page: Page, count: int) -> None:
    expect(page.locator("#masks li")).to_have_count(count, timeout=30_000)


def saved(page: Page) -> None:
    page.wait_for_selector("#annotate[data-state=saved]")


def split_and_load(page: Page, server: ViewServer) -> None:
    """Two of the one mask, and the page anew before that is saved."""
    page.keyboard.press("s")
    click(page, "high")
    click(page, "low")
    wait_for(page, 2)
    load(page, server)


def taught(server: ViewServer) -> Any:
    (frame,) = labelled_frames(server.view.sources.runs[0] / "annotations" / "labels")
    return frame


def iou(one: Any, place: tuple[slice, slice]) -> float:
    other = np.zeros(one.shape, bool)
    other[place] = True
    return float((one & other).sum() / (one | other).sum())


def test_with_a_pointer(server: ViewServer, page: Page) -> None:
    keep(page, "annotate-before")
    page.click("[data-tool=split]")
    click(page, "high")
    click(page, "low")
    wait_for(page, 2)
    page.click("[data-tool=add]")
    click(page, "apart")
    wait_for(page, 3)
    page.select_option("#class", "tube")
    page.fill("#visible", "80")
    page.dispatch_event("#visible", "change")
    page.click("[data-tool=select]")
    click(page, "low")
    page.select_option("#class", "poly_bag")
    saved(page)
    keep(page, "annotate-after")
    page.click("[data-do=finish]")
    page.wait_for_url("**/annotate/boxes-00000-001")
    frame = taught(server)
    by_name = {name: frame.labels == number for number, name in frame.names.items()}
    assert iou(by_name["carton"], HIGH) > 0.95 and iou(by_name["poly_bag"], LOW) > 0.95
    assert iou(by_name["tube"], APART) > 0.8


def test_with_keys_alone(server: ViewServer, page: Page) -> None:
    page.focus("canvas")

    def go(where: str) -> None:
        (x, y), (u, v) = page.evaluate("robinEditor.stage.cursor"), MIDDLE[where]
        for key, steps in (("ArrowRight", u - x), ("ArrowLeft", x - u), ("ArrowDown", v - y), ("ArrowUp", y - v)):
            for _ in range(max(0, steps) // 8):
                page.keyboard.press(key)

    page.keyboard.press("s")
    go("high")
    page.keyboard.press("Space")
    go("low")
    page.keyboard.press("Space")
    wait_for(page, 2)
    page.keyboard.press("a")
    go("apart")
    page.keyboard.press("Enter")
    wait_for(page, 3)
    page.keyboard.press("5")
    assert page.input_value("#class") == "tube"
    page.keyboard.press("n")
    page.keyboard.press("2")
    page.keyboard.press("Delete")
    wait_for(page, 2)
    page.keyboard.press("Control+z")
    wait_for(page, 3)
    page.keyboard.press("Control+y")
    wait_for(page, 2)
    page.keyboard.press("u")
    wait_for(page, 3)
    saved(page)
    while page.evaluate("document.activeElement.dataset.do") != "finish":
        page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    page.wait_for_url("**/annotate/boxes-00000-001")
    assert sorted(taught(server).names.values()) == ["carton", "flat_mailer", "tube"]


def test_brush_outline_and_join(page: Page) -> None:
    page.keyboard.press("p")
    corners = page.evaluate("[[20, 20], [60, 20], [60, 50], [20, 50]]")
    for corner in corners:
        page.evaluate("([x, y]) => robinEditor.click(x, y, false)", corner)
    page.keyboard.press("Enter")
    wait_for(page, 2)
    area = page.evaluate("robinEditor.labels.area(robinEditor.selected)")
    assert 1150 < area < 1300
    page.keyboard.press("b")
    page.evaluate("robinEditor.stroke([60, 30], [90, 30])")
    assert page.evaluate("robinEditor.labels.area(robinEditor.selected)") > area + 300
    page.keyboard.press("e")
    page.evaluate("robinEditor.stroke([20, 20], [90, 20])")
    assert page.evaluate("robinEditor.labels.at(70, 20)") == 0
    page.keyboard.press("v")
    click(page, "high")
    page.keyboard.press("j")
    page.evaluate("robinEditor.click(40, 35, false)")
    wait_for(page, 1)
    page.keyboard.press("x")
    wait_for(page, 0)
    saved(page)


def test_a_box_of_three_clicks_takes_what_no_other_mask_has(page: Page) -> None:
    before = page.evaluate("robinEditor.labels.area(1)")
    page.keyboard.press("c")
    for x, y in ((20, 20), (140, 20), (70, 120)):  # reaches into the mask that is there
        page.evaluate("([x, y]) => robinEditor.click(x, y, false)", [x, y])
    wait_for(page, 2)
    free = page.evaluate("robinEditor.labels.area(robinEditor.selected)")
    assert page.evaluate("robinEditor.labels.area(1)") == before and 3000 < free < 120 * 100
    for (x, y), shift in (((20, 20), False), ((140, 20), False), ((70, 120), True)):
        page.evaluate("([x, y, shift]) => robinEditor.click(x, y, shift)", [x, y, shift])
    assert abs(page.evaluate("robinEditor.labels.area(robinEditor.selected)") - 120 * 100) < 250
    page.keyboard.press("n")  # the proposal is more doubtful than what a person drew
    assert page.evaluate("robinEditor.selected") == 1
    saved(page)


def test_what_was_done_survives_a_reload_at_once(server: ViewServer, page: Page) -> None:
    split_and_load(page, server)
    assert len(ids(page)) == 2


def test_what_never_reached_the_server_is_there_after_a_reload(server: ViewServer, page: Page) -> None:
    page.evaluate(
        "() => { const ask = fetch;"
        " window.fetch = (to, how) => how?.method === 'PUT' ? new Promise(() => {}) : ask(to, how) }"
    )
    split_and_load(page, server)
    assert len(ids(page)) == 2
    load(page, server)
    with tab(page.context.browser) as other:
        load(other, server)
        assert len(ids(other)) == 2


def test_a_second_page_overwrites_nothing(server: ViewServer, page: Page) -> None:
    other = page.context.new_page()
    load(other, server)
    change = "robinEditor.select(1); robinEditor.name('tube')"
    page.evaluate(change)
    saved(page)
    other.evaluate(change)
    other.wait_for_selector("#annotate[data-state^='changed elsewhere']")
    assert "load the page again" in other.inner_text("#state")


def test_everybody_can_use_it(server: ViewServer, page: Page) -> None:
    assert faults(page) == []
    page.goto(f"{server.url}/annotate")
    page.wait_for_load_state("networkidle")
    keep(page, "annotate-list")
    assert faults(page) == []


def test_it_fits_a_tablet_in_the_dark(chromium: Browser, server: ViewServer) -> None:
    with tab(chromium, dark=True) as page:
        page.set_viewport_size({"width": 820, "height": 1180})
        load(page, server)
        page.click("[data-tool=split]")
        assert page.evaluate("document.documentElement.scrollWidth") <= 820
        keep(page, "annotate-tablet")
        assert faults(page) == []


def test_it_only_shows_without_changes(chromium: Browser, tmp_path: Path) -> None:
    record_boxes(tmp_path / "run")
    with view_server(Sources((tmp_path / "run",)), tmp_path) as running, tab(chromium) as page:
        assert running.view.archive.whole.wait(20)
        load(page, running)
        assert page.is_disabled("[data-tool=split]") and page.is_disabled("[data-do=finish]")
        page.keyboard.press("Delete")
        assert "only shows" in page.inner_text("#said")
        assert len(ids(page)) == 1
