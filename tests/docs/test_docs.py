"""The pages: every link leads somewhere, every page has a place, sentences are short."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MOST_WORDS = 25
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
GENERATED = {"ros-parameters.md"}
NO_PROSE = ("|", "#", "!", ":::", "<")
ITEM = re.compile(r"^([-*]|\d+\.)\s+")


def sentences(text: str) -> Iterator[str]:
    """Sentences of the running text, not of code, tables or headings."""
    text = re.sub(r"```.*?```", "\n\n", text, flags=re.DOTALL)
    blocks: list[list[str]] = [[]]
    for line in (raw.strip() for raw in text.splitlines()):
        if not line or line.startswith(NO_PROSE) or ITEM.match(line):
            blocks.append([])
        if line and not line.startswith(NO_PROSE):
            blocks[-1].append(ITEM.sub("", line, count=1))
    for block in blocks:
        prose = re.sub(r"`[^`]*`", "code", " ".join(block).replace("**", ""))
        prose = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", prose)
        yield from re.split(r"(?<=[.!?])\s+", prose)


def words(sentence: str) -> int:
    return len(re.findall(r"\w[\w.'/%×-]*", sentence))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_sentences_are_short(page: Path) -> None:
    if page.name in GENERATED:
        pytest.skip("made from the code")
    long = [f"{words(s)} words: {s}" for s in sentences(page.read_text()) if words(s) > MOST_WORDS]
    assert long == []


def test_a_long_sentence_is_found() -> None:
    code = "```\n" + "code " * 40 + "\n```\n"
    text = f"Short one. {'word ' * 26}end.\n\n{code}| {'cell ' * 40}|\n- {'a ' * 27}\n\n**Bold.** {'b ' * 26}.08. End."
    assert [words(s) for s in sentences(text) if words(s) > MOST_WORDS] == [27, 27, 27]


@pytest.mark.slow
def test_the_site_builds_with_every_link_and_page(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SuctionPlanner" in (tmp_path / "api" / "grasp.html").read_text()
    pages = [*tmp_path.glob("*.html"), *tmp_path.glob("how-to/*.html")]
    assert [line for page in pages for line in raw_markup(page)] == []


def raw_markup(page: Path) -> list[str]:
    """Lines of tables and lists that stand in running text, for want of an empty line before the first of them."""
    paragraphs = re.findall(r"<p>.*?</p>", page.read_text(), flags=re.DOTALL)
    return [f"{page.name}: {line}" for text in paragraphs for line in re.findall(r"\n(?:[-|*]|\d+\.) .*", text)]
