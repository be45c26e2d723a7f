"""The search page: conditions from the address, facets, pages, what looks alike."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from helpers.decision_samples import record_samples
from helpers.stored_piles import fill
from helpers.view_server import ViewServer, view_server

from robin_perception.core.errors import Code
from robin_view.search.form import PER_PAGE
from robin_view.sources import Sources

PAGE = {"accept": "text/html"}
RESULTS = ("clean",) * 50 + ("miss", "multi", "infeasible")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ViewServer]:
    folder = tmp_path_factory.mktemp("run")
    record_samples(folder, RESULTS)
    fill(folder / "store", 2)
    with view_server(Sources((folder,), store=folder / "store"), folder) as server:
        assert server.view.archive.wait(lambda: len(server.view.archive.index) == 59, 30)
        yield server


def shown(page: ViewServer, query: str) -> list[str]:
    text = page.ask(f"/search?{query}", headers=PAGE).text
    return re.findall(r'<li><a href="/d/([^"]+)">', text)


def test_all_and_by_pages(page: ViewServer) -> None:
    first, second = shown(page, ""), shown(page, "page=1")
    assert len(first) == PER_PAGE and len(second) == 59 - PER_PAGE and not set(first) & set(second)


def test_conditions_from_the_address(page: ViewServer) -> None:
    assert [i[-3:] for i in shown(page, "result=miss&result=multi&order=oldest")] == ["050", "051"]
    assert shown(page, "q=no+grasp") == ["sample-run-00000-052"]
    assert len(shown(page, "station=sample&frame_to_plan_ms_min=90")) == 3
    assert shown(page, "until=1980-01-01T00:00") == []


def test_facets_have_counts_and_remember(page: ViewServer) -> None:
    text = page.ask("/search?result=miss", headers=PAGE).text
    assert re.search(r'name="result" value="miss" checked><span>miss</span><span class="count">1<', text)
    assert re.search(r'name="result" value="clean"><span>clean</span><span class="count">56<', text)


def test_a_part_of_the_page_is_enough_for_htmx(page: ViewServer) -> None:
    part = page.ask("/search?result=miss", headers={"hx-request": "true"}).text
    assert "<html" not in part and 'hx-swap-oob="true"' in part


@pytest.mark.parametrize(
    "query", ["score_min=a", "page=-1", "page=9999999999999", "order=x", "since=yesterday", "code=x"]
)
def test_what_is_no_condition_is_named(page: ViewServer, query: str) -> None:
    answer = page.ask(f"/search?{query}")
    assert answer.status == 400 and f"E{int(Code.OPTION_INVALID)}" in answer.text
    assert query.split("=")[0] in answer.text


def test_what_looks_alike_comes_first(page: ViewServer) -> None:
    """The first parcels of two piles have one skin, the others have others."""
    looks, index = page.view.looks, page.view.archive.index
    for _ in range(2):  # the second time everything is measured
        page.ask("/search?like=piles-00000-000&run=piles")
        assert looks._thread is not None
        looks._thread.join(60)
    found = shown(page, "like=piles-00000-000&run=piles")
    assert set(found[:2]) == {"piles-00000-000", "piles-00001-000"} and len(found) == 6
    assert len(index) == 59


def test_alike_to_nothing_is_refused(page: ViewServer) -> None:
    assert page.ask("/search?like=nothing").status == 404
    assert page.ask("/search?like=..%2f..").status == 404
