"""``robin bench rollout`` and ``robin adapt fetch``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers.cli_helpers import Robin
from helpers.model_samples import model_of, running
from helpers.release_samples import ROBOT, SITE, world

from edge_adapt.releases.release import Assignment, Assignments


@pytest.fixture
def robin(capsys: pytest.CaptureFixture[str]) -> Robin:
    return Robin(capsys)


def test_bench_rollout_stops_the_bad_one_alone(robin: Robin, tmp_path: Path) -> None:
    done = robin("bench", "rollout", "--runs", "4", "--robots", "60", "--json", tmp_path / "f.json")
    assert done.status == 0 and "before 10 %" in done.out
    found = json.loads((tmp_path / "f.json").read_text())
    assert found["worse"]["stopped"]["count"] == 4 and found["worse"]["reached_all"]["count"] == 0
    assert found["equal"]["stopped"]["count"] <= 1 and found["better"]["reached_all"]["count"] == 4
    assert found["worse"]["extra_lost"]["p50"] > 0 > found["better"]["extra_lost"]["p50"]


def test_adapt_fetch_takes_what_is_assigned(robin: Robin, tmp_path: Path) -> None:
    made = world(tmp_path)
    made.release("one", bundle=made.bundles[1])
    made.repository.assign(SITE, Assignments(robots={ROBOT: Assignment(release="one")}))
    shutil.rmtree(made.robot)
    known = ("--models", made.registry.folder, "--model", made.bundles[0], "--releases", made.robot)
    asked = ("adapt", "fetch", "--url", made.served, "--site", SITE, "--robot", ROBOT, *known)
    untrusted = robin(*asked)
    assert untrusted.status == 2 and "E872 RELEASE_ROOT_INVALID" in untrusted.error_line
    root = made.served / "metadata" / "1.root.json"
    done = robin(*asked, "--root", root, "--json", tmp_path / "f.json")
    assert done.status == 0 and "runs from now on" in done.out, done.err
    assert json.loads((tmp_path / "f.json").read_text())["fetched"]["release"] == "one"
    assert running(made.registry) == model_of(made.bundles[1])
    assert "nothing new" in robin(*asked).out


def test_adapt_fetch_says_what_is_missing(robin: Robin, tmp_path: Path) -> None:
    done = robin("adapt", "fetch", "--url", tmp_path / "no", "--models", tmp_path / "m", "--release", "x")
    assert done.status == 2 and "E405" in done.error_line
    done = robin("adapt", "fetch", "--url", tmp_path, "--models", tmp_path / "m")
    assert done.status == 2 and "--site and --robot" in done.error_line
