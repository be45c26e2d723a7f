"""The report holds every pick, needs no other file, and is written whole or not at all."""

from __future__ import annotations

import re
import resource
from html.parser import HTMLParser
from pathlib import Path

import pytest
from helpers.decision_samples import RESULTS, record_samples

from edge_adapt.decision_store import read_decisions
from edge_adapt.report import MAX_FULL_PICKS, render_report, write_report
from robin_perception.core.errors import Code, RobinError

VOID = {"meta", "img", "br", "link", "input", "hr"}


class _Checker(HTMLParser):
    """Collects every reference, and fails on elements that are closed out of order."""

    def __init__(self) -> None:
        super().__init__()
        self.references: list[str] = []
        self.open: list[str] = []
        self.articles: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        found = dict(attrs)
        self.references += [found[name] or "" for name in ("src", "href", "srcset", "data") if name in found]
        if tag == "article":
            self.articles.append(found["id"] or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    record_samples(folder)
    return folder


def _checked(html: str) -> _Checker:
    checker = _Checker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    return checker


def test_every_pick_is_in_the_report(recorded: Path) -> None:
    html = render_report(read_decisions(recorded))
    ids = [d.decision_id for d in read_decisions(recorded).decisions]
    assert _checked(html).articles == ids
    for result in RESULTS:
        assert f'data-result="{result}"' in html
    assert html.count("<summary>Rejected candidates (403)</summary>") == len(ids)


def test_the_report_needs_no_other_file(recorded: Path) -> None:
    html = render_report(read_decisions(recorded))
    references = _checked(html).references
    assert references and all(r.startswith(("data:image/", "#")) for r in references)
    assert not re.search(r"@import|url\(|https?://", html)


def test_pictures_masks_cups_terms_and_reasons_are_shown(recorded: Path) -> None:
    html = render_report(read_decisions(recorded))
    assert html.count("data:image/webp") == 3 * 4 - 1  # colour, depth, after; nothing after the infeasible one
    assert html.count('class="mask chosen"') == 3
    for text in ("holding_margin", "no cup would seal there", "2 parcels, no grasp", "1.25", "55"):
        assert text in html


def test_text_from_records_is_escaped(recorded: Path) -> None:
    html = render_report(read_decisions(recorded), title="<script>alert(1)</script>")
    assert "<script>alert" not in html
    assert "<no cup sealed>" not in html
    assert "&lt;no cup sealed&gt;" in html


def test_results_are_embedded_safely(recorded: Path) -> None:
    html = render_report(read_decisions(recorded), {"picks_per_hour": 612.4, "note": "</script>"})
    assert "612" in html
    assert html.count("</script>") == 2


def test_written_whole(recorded: Path, tmp_path: Path) -> None:
    path = write_report(recorded, tmp_path / "report.html")
    assert path.read_text().rstrip().endswith("</html>")
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_report_before(recorded: Path, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))  # the system refuses, as it does on a full disk
    try:
        with pytest.raises(RobinError, match=r"report\.html") as info:
            write_report(recorded, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert info.value.code is Code.DISK_FULL
    assert list(tmp_path.iterdir()) == [path] and path.read_text() == "old"


def test_missing_images_leave_their_place_empty(tmp_path: Path) -> None:
    decisions = record_samples(tmp_path, ("clean",))
    (tmp_path / decisions[0].images["after"]).unlink()
    (tmp_path / decisions[0].images["depth"]).write_bytes(b"not a picture")
    html = render_report(read_decisions(tmp_path))
    assert "no image after" in html and "no depth image kept" in html


def test_long_runs_picture_failures_first(tmp_path: Path) -> None:
    record_samples(tmp_path, ("clean",) * (MAX_FULL_PICKS + 2) + ("miss",))
    html = render_report(read_decisions(tmp_path))
    checker = _checked(html)
    assert len(checker.articles) == MAX_FULL_PICKS + 3
    assert html.count("<h3>Why</h3>") == MAX_FULL_PICKS
    assert html.count("colour image before") == MAX_FULL_PICKS
    miss = html[html.index('data-result="miss">') :]
    assert "colour image before" in miss


def test_no_picks_at_all(tmp_path: Path) -> None:
    record_samples(tmp_path, ())
    assert "0 decisions" in render_report(read_decisions(tmp_path))


def test_report_of_no_records(tmp_path: Path) -> None:
    with pytest.raises(RobinError) as info:
        write_report(tmp_path, tmp_path / "report.html")
    assert info.value.code is Code.INPUT_MISSING
    assert list(tmp_path.iterdir()) == []
