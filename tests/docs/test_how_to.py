"""Every how-to works exactly as written: its files are written down, its commands run, in order."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs" / "how-to").glob("*.md"))
BLOCK = re.compile(r'^```(?P<kind>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Step:
    """title: of a file to be written; empty for commands."""

    kind: str
    title: str
    text: str


def steps(page: Path) -> Iterator[Step]:
    for found in BLOCK.finditer(page.read_text()):
        yield Step(found["kind"], found["title"] or "", found["text"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a reader finds in the repository's folder, but for what the page makes."""
    for name in ("models", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_how_to_works_as_written(page: Path, folder: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    ran = 0
    for step in steps(page):
        if step.title:
            (folder / step.title).write_text(step.text)
            continue
        assert step.kind == "sh", f"{page.name}: a block of {step.kind} is neither a file nor commands"
        command = ["bash", "-euo", "pipefail", "-c", step.text]
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=280, check=False)
        assert done.returncode == 0, f"{step.text}\n{done.stdout}\n{done.stderr}"
        ran += 1
    assert ran > 0, f"{page.name} has nothing to run"


def test_there_are_five() -> None:
    assert len(PAGES) == 5
