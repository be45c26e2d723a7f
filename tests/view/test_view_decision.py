"""The page of a decision: what it shows, pictures and layers, and what the planner says when it is asked again."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.decision_samples import record_samples
from helpers.pick_samples import record_told
from helpers.view_run import record_run
from helpers.view_server import ViewServer, view_server

from edge_adapt.decision_store import DecisionStore, read_decisions
from robin_perception.core.errors import Code, RobinError
from robin_view.sources import Sources

PAGE = {"accept": "text/html"}
EVIL = '"><img src=x onerror=alert(1)><script>alert(2)</script>'


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ViewServer]:
    run, told = tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("told")
    record_run(run, 2)
    record_told(told)
    with view_server(Sources((run, told)), run) as server:
        assert server.view.archive.wait(lambda: len(server.view.archive.index) == 3, 20)
        yield server


FIRST = "/d/view-run-00000-000"


def test_everything_of_a_decision_is_shown(page: ViewServer) -> None:
    told = next(i for i in page.view.archive.index.names(page.view.archive.index.latest(9)) if "view-run" not in i)
    text = page.ask(f"/d/{told}", headers=PAGE).text
    for expected in (
        "Vacuum and weight over time",
        "The load, seen from below",
        "Judgement: multi 70%",
        "put back once",
    ):
        assert expected in text, expected
    for expected in (
        "Pose and score",
        "Rejected candidates",
        "holding_margin",
        "no cup would seal there",
        "Cups: 6 not",
    ):
        assert expected in text, expected
    assert 'class="condition environment stops"' in text and "mask chosen unfamiliar" in text


def test_nothing_in_the_page_needs_more_than_the_policy_allows(page: ViewServer) -> None:
    for path in (FIRST, f"{FIRST}/why?parcel=5"):
        text = page.ask(path, headers=PAGE).text
        assert not re.search(r"\sstyle=|\son\w+=|javascript:|data:image", text)
        assert all(found.strip() == "" for found in re.findall(r"<script[^>]*>(.*?)</script>", text, re.DOTALL))


def test_pictures_come_small_and_only_once(page: ViewServer) -> None:
    answer = page.ask(f"{FIRST}/picture/color?w=200")
    assert answer.headers["content-type"] == "image/webp"
    picture = cv2.imdecode(np.frombuffer(answer.body, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[1] == 320
    again = page.ask(f"{FIRST}/picture/color?w=200", headers={"if-none-match": answer.headers["etag"]})
    assert again.status == 304 and again.body == b""
    assert answer.headers["cache-control"] == "no-cache"  # the same name may stand for another picture tomorrow
    named = re.search(rf'src="({FIRST}/picture/color[^"]*)"', page.ask(FIRST, headers=PAGE).text)
    assert named is not None
    assert "immutable" in page.ask(named[1].replace("&amp;", "&")).headers["cache-control"]


@pytest.mark.parametrize("name", ["depth", "height", "novelty"])
def test_layers(page: ViewServer, name: str) -> None:
    picture = cv2.imdecode(np.frombuffer(page.ask(f"{FIRST}/layer/{name}").body, np.uint8), cv2.IMREAD_UNCHANGED)
    assert picture.shape[:2] == (384, 512) and picture.std() > 5
    assert picture.shape[2] == (4 if name == "novelty" else 3)


@pytest.mark.parametrize(
    "path",
    [
        "/d/nothing",
        f"{FIRST}/picture/..%2f..%2fcamera",
        f"{FIRST}/picture/labels.png",
        f"{FIRST}/layer/x",
        f"{FIRST}/model/0",
        "/d/..%2f..%2fetc%2fpasswd",
        "/d/%2e%2e/picture/color",
    ],
)
def test_what_is_not_there_is_one_line(page: ViewServer, path: str) -> None:
    answer = page.ask(path)
    assert answer.status == 404 and answer.text.startswith("E") and answer.text.count("\n") == 0


@pytest.mark.parametrize("query", ["x=-1&y=2", "parcel=0", "cups=9", "x=a&y=1", "cups=" + "1%20" * 40])
def test_questions_are_bounded(page: ViewServer, query: str) -> None:
    assert page.ask(f"{FIRST}/why?{query}").status == 400


def test_the_planner_answers_for_a_parcel(page: ViewServer) -> None:
    decision = page.view.archive.evidence("view-run-00000-000").decision
    chosen = decision.chosen
    assert chosen is not None
    text = page.ask(f"{FIRST}/why?parcel={chosen.instance}").text
    assert "No other parcel has a better grasp" in text and f"{chosen.score:.4g}" in text
    texts = [page.ask(f"{FIRST}/why?parcel={seen.id}&cups=7").text for seen in decision.instances]
    left = [text for text in texts if "No grasp is left there" in text]
    assert left and all(re.search(r"\d+ [A-Z_]{6,}</span>", text) for text in left)


def test_the_planner_answers_for_a_spot_and_for_cups(page: ViewServer) -> None:
    evidence = page.view.archive.evidence("view-run-00000-000")
    labels, chosen = evidence.labels(), evidence.decision.chosen
    assert labels is not None and chosen is not None
    v, u = (int(np.median(at)) for at in np.nonzero(labels == chosen.instance))
    text = page.ask(f"{FIRST}/why?x={u}&y={v}&cups=2%203").text
    assert "with cups 2 3 alone" in text and " mm away" in text
    opened = re.search(r"score [\d.]+[^<]*cups ([\d ]+)", text)
    assert opened is None or set(opened[1].split()) <= {"2", "3"}
    v, u = (int(at[0]) for at in np.nonzero(labels == 0))
    assert "Nothing was detected there" in page.ask(f"{FIRST}/why?x={u}&y={v}").text


def test_an_unknown_planner_is_a_numbered_line(tmp_path: Path) -> None:
    record_samples(tmp_path, ("clean",))  # planned by "sample"
    with view_server(Sources((tmp_path,)), tmp_path) as server:
        server.view.archive.wait(lambda: len(server.view.archive.index) == 1, 20)
        answer = server.ask("/d/sample-run-00000-000/why?parcel=1")
        assert answer.status == 400 and "unknown planner 'sample'" in answer.text


def test_text_of_records_is_escaped_everywhere(tmp_path: Path) -> None:
    record_samples(tmp_path / "made", ("miss",))
    (decision,) = read_decisions(tmp_path / "made").decisions
    seen = tuple(replace_text(one, class_name=EVIL) for one in decision.instances)
    candidates = tuple(replace_text(one, terms={EVIL: 1.0}) for one in decision.candidates)
    changes = {"message": EVIL, "model_id": EVIL, "flags": (EVIL,), "instances": seen, "candidates": candidates}
    changes |= {"rejected_counts": {EVIL: 3}, "class_names": (EVIL,), "timings_ms": {EVIL: 1.0}, "planner": EVIL}
    with DecisionStore(tmp_path / "run") as store:
        store.append(decision.model_copy(update=changes))
    with view_server(Sources((tmp_path / "run",)), tmp_path) as server:
        server.view.archive.wait(lambda: len(server.view.archive.index) == 1, 20)
        for path in ("/", f"/d/{decision.decision_id}", "/search", "/live", f"/search?q={EVIL[:5]}&like=%3Cscript%3E"):
            text = server.ask(path.replace(" ", "%20").replace('"', "%22").replace(">", "%3E"), headers=PAGE).text
            assert "<script>alert" not in text and "<img src=x" not in text, path


def replace_text(one, **changes):  # type: ignore[no-untyped-def]
    return one.model_copy(update=changes)


def test_a_worker_that_died_is_replaced_and_one_that_dies_of_a_question_is_told(page: ViewServer) -> None:
    worker = page.view.worker
    page.ask(f"{FIRST}/why?parcel=5")
    assert worker._pool is not None
    for process in worker._pool._processes.values():
        process.kill()
    assert page.ask("/d/view-run-00000-001/why?parcel=3").status == 200
    with pytest.raises(RobinError) as caught:
        worker.asked("deadly", partial(os._exit, 3))
    assert caught.value.code is Code.VIEW_WORKER_LOST
