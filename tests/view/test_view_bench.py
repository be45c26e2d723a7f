"""``robin bench view`` and what must not grow: what the page loads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.cli_helpers import Robin

from edge_adapt.decision_store import read_decisions
from robin_cli.bench.view_records import CROWDED, PARCELS, write_records


@pytest.fixture
def robin(capsys: pytest.CaptureFixture[str]) -> Robin:
    return Robin(capsys)


def test_made_up_records_are_records(tmp_path: Path) -> None:
    write_records(tmp_path, 40, 7, lambda *_: None)
    log = read_decisions(tmp_path)  # reads every one of them whole
    assert len(log.decisions) == 40 and len(set(log.decisions.ids)) == 40
    crowded = log.find(CROWDED)
    assert len(crowded.instances) == PARCELS and (tmp_path / crowded.images["color"]).is_file()
    assert len({d.result for d in log.decisions}) >= 4


def test_the_figures_that_others_rely_on(robin: Robin, tmp_path: Path) -> None:
    done = robin(
        "bench", "view", "--decisions", "30", "--repeats", "2", "--rounds", "0", "--json", str(tmp_path / "f.json")
    )
    assert done.status == 0, done.err
    values = json.loads((tmp_path / "f.json").read_text())
    assert values["decisions"] == 30
    assert all(values[key] > 0 for key in ("first_ms", "decision_ms", "search_ms", "memory_mb"))


def test_the_page_loads_neither_networks_nor_scipy() -> None:
    """They are half of what the server would take; the worker loads them."""
    code = "import sys, robin_view.app, robin_view.serve\nprint([m for m in %r if m in sys.modules])"
    heavy = ("scipy", "onnxruntime", "sklearn", "torch", "sqlalchemy", "open3d", "mujoco", "robin_sim")
    done = subprocess.run(
        [sys.executable, "-c", code % (heavy,)], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"
