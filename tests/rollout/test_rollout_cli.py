"""``robin bench rollout``, ``robin adapt fetch`` and ``robin fleet release|rollout|metrics|correlate``."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cli_helpers import Robin
from helpers.model_samples import bundles, model_of, running
from helpers.release_samples import ROBOT, SITE, world

from edge_adapt.releases.release import Assignment, Assignments
from robin_fleet.folder import make_fleet, open_fleet
from robin_fleet.ledger.metrics import add_fact, add_values
from robin_fleet.ledger.robots import enrol


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


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    """An aggregator with four robots of one line, and a published release of a repository made by commands."""
    folder = tmp_path / "fleet"
    make_fleet(folder)
    with open_fleet(folder) as opened, opened.ledger.write() as connection:
        for n in range(4):
            assert enrol(connection, f"cell-{n}", SITE, "belt", str(n) * 40, 0.0)
    return folder


def released(robin: Robin, tmp_path: Path, fleet: Path) -> None:
    bundle, keys = bundles(tmp_path / "bundles", 1)[1], tmp_path / "keys"
    assert robin("fleet", "release", "init", "--fleet", fleet, "--keys", keys, "--site", SITE).status == 0
    assert "targets 2 waits" in robin("fleet", "release", "add", "spring", "--bundle", bundle, "--fleet", fleet).out
    assert "published" in robin("fleet", "release", "sign", "--keys", keys, "--fleet", fleet).out


def told(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text())
    return values


def test_releases_by_command(robin: Robin, tmp_path: Path, fleet: Path) -> None:
    released(robin, tmp_path, fleet)
    out = tmp_path / "f.json"
    assert robin("fleet", "release", "list", "--fleet", fleet, "--json", out).status == 0
    found = told(out)
    assert [one["name"] for one in found["releases"]] == ["spring"] and found["waiting"] == []
    assert found["sites"] == [SITE] and set(found["expires_s"]) == {"root", "targets", "snapshot", "timestamp"}
    assert "fresh until" in robin("fleet", "release", "refresh", "--fleet", fleet).out
    done = robin("fleet", "release", "verify", "--fleet", fleet)
    assert done.status == 0 and done.out.startswith("1 releases of ")
    (damaged,) = (fleet / "releases" / "targets" / "parts").rglob("*.network.onnx")
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    done = robin("fleet", "release", "verify", "--fleet", fleet)
    assert done.status == 1 and "E866 RELEASE_TAMPERED" in done.error_line
    for words, code in (
        (("add", "other", "--base", "none"), "E865"),
        (("add", "other"), "E862"),
        (("renew", "snapshot"), "E405"),
        (("sign", "--keys", tmp_path / "bundles"), "E861"),
    ):
        assert code in robin("fleet", "release", *words, "--fleet", fleet).error_line
    assert "root 2 waits" in robin("fleet", "release", "renew", "root", "--fleet", fleet).out
    assert "targets 3 waits" in robin("fleet", "release", "site", "south", "--fleet", fleet).out


def test_roll_outs_by_command(robin: Robin, tmp_path: Path, fleet: Path) -> None:
    released(robin, tmp_path, fleet)
    out = tmp_path / "f.json"
    done = robin("fleet", "rollout", "start", "spring", "--fleet", fleet, "--pilot", "cell-2", "--json", out)
    assert done.status == 0 and told(out)["stage"] == "replay" and told(out)["test"]["stop_at"] == 50
    for stage, picks, following in (
        ("replay", 200, "shadow"),
        ("shadow", 50, "acceptance"),
        ("acceptance", 100, "robot"),
    ):
        words = ("report", "r0001", stage, "--picks", str(picks), "--fleet", fleet, "--json", out)
        assert robin("fleet", "rollout", *words).status == 0
        assert told(out)["rollouts"][0]["stage"] == following
    assert told(out)["rollouts"][0]["robots"] == ["cell-2"]
    assert "paused" in robin("fleet", "rollout", "pause", "r0001", "--why", "stock-taking", "--fleet", fleet).out
    assert "running" in robin("fleet", "rollout", "resume", "r0001", "--fleet", fleet).out
    assert "nothing is due" in robin("fleet", "rollout", "step", "--fleet", fleet).out
    assert robin("fleet", "rollout", "hold", SITE, "--site", "--fleet", fleet).status == 0
    assert "site north stays" in robin("fleet", "rollout", "status", "--fleet", fleet).out
    assert robin("fleet", "rollout", "free", SITE, "--site", "--fleet", fleet).status == 0
    assert "aborted" in robin("fleet", "rollout", "abort", "r0001", "--why", "no more", "--fleet", fleet).out
    robin("fleet", "rollout", "status", "r0001", "--fleet", fleet, "--json", out)
    kinds = [event["kind"] for event in told(out)["events"]]
    assert kinds[0] == "started" and kinds[-3:] == ["paused", "resumed", "aborted"]
    for words, code in (
        (("abort", "r0001"), "E874"),
        (("pause", "r9"), "E873"),
        (("start", "winter"), "E865"),
        (("report", "r0001", "line", "--picks", "1"), "E405"),
        (("free", "cell-1"), "E405"),
    ):
        done = robin("fleet", "rollout", *words, "--fleet", fleet)
        assert done.status == 2 and code in done.error_line


def test_metrics_and_correlate_by_command(robin: Robin, tmp_path: Path, fleet: Path) -> None:
    rng, now_s = np.random.default_rng(1), time.time()
    with open_fleet(fleet) as opened, opened.ledger.write() as connection:
        add_values(connection, "cell-1", now_s - 60, {"robin_uplink_code": 0.0, "robin_uplink_sent_mb": 5.0})
        for n in range(400):
            parcels = int(rng.integers(1, 30))
            facts = {"parcels": parcels, "latency_ms": 40.0 + parcels, "hour": int(rng.integers(24)), "result": "clean"}
            add_fact(connection, "cell-1", f"d{n}", now_s - n, False, facts)
    out, sheet = tmp_path / "f.json", tmp_path / "ends.png"
    assert robin("fleet", "metrics", "--fleet", fleet, "--json", out).status == 0
    assert {one["name"]: one["value"] for one in told(out)["metrics"]}["robin_uplink_sent_mb"] == 5.0
    assert robin("fleet", "metrics", "--fleet", fleet, "--name", "robin_uplink_code", "--json", out).status == 0
    assert len(told(out)["metrics"]) == 1
    done = robin("fleet", "correlate", "latency_ms", "--fleet", fleet, "--json", out, "--pictures", sheet)
    assert done.status == 0 and sheet.read_bytes().startswith(b"\x89PNG")
    first = told(out)["found"][0]
    assert first["name"] == "parcels" and first["discovered"] and told(out)["score"] > 0.8
    done = robin("fleet", "correlate", "failed", "--fleet", fleet)
    assert done.status == 1 and "E882 CORRELATE_TOO_LITTLE" in done.error_line
    done = robin("fleet", "correlate", "weight", "--fleet", fleet)
    assert done.status == 2 and "E883" in done.error_line
