"""``robin fleet``: the folder of an aggregator, and what is told of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.cli_helpers import Robin

from robin_cli.fleet.options import moment_s
from robin_fleet.folder import FleetConfig, make_fleet, open_fleet
from robin_fleet.ledger import events, robots, samples
from robin_fleet.ledger.samples import SampleRow
from robin_perception.core.errors import Code, RobinError


@pytest.fixture
def robin(capsys: pytest.CaptureFixture[str]) -> Robin:
    return Robin(capsys)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An aggregator with two samples of two robots."""
    make_fleet(tmp_path / "fleet")
    with open_fleet(tmp_path / "fleet") as fleet, fleet.ledger.write() as connection:
        for number, (robot, result) in enumerate((("r1", "clean"), ("r2", "miss"))):
            name = f"{number}" * 64 + ".json"
            place = ("lyon", f"belt-{number}")
            robots.enrol(connection, robot, *place, f"key{number}", 1.0)
            sample = SampleRow(
                name,
                robot,
                *place,
                f"d{number}",
                1,
                "carton",
                result,
                result == "miss",
                "core",
                "m",
                5.0,
                1e9,
                9,
                False,
            )
            samples.add_blobs(connection, {name: 9}, 1e9)
            samples.add_samples(connection, {sample: {}})
        events.add_refused(connection, "x", "r1", Code.BLOB_REFUSED, "torn", 1e9)
        events.add_event(connection, 1e9, "quarantined", "x: torn", robot="r1")
    return tmp_path / "fleet"


def test_status(robin: Robin, folder: Path, tmp_path: Path) -> None:
    done = robin("fleet", "status", "--fleet", folder, "--json", tmp_path / "s.json")
    assert done.status == 0
    assert "2 robots, 2 samples, 2 blobs" in done.out and "quarantined  r1  x: torn" in done.out
    values = json.loads((tmp_path / "s.json").read_text())
    assert values["robots"] == {"enrolled": 2, "revoked": 0}
    assert (values["quarantined"], values["quarantined_by_code"]) == (1, {"832": 1})
    assert [(s["station"], s["failed"]) for s in values["stations"]] == [("belt-0", 0), ("belt-1", 1)]


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ((), {"d0", "d1"}),
        (("--robot", "r1"), {"d0"}),
        (("--station", "belt-1"), {"d1"}),
        (("--site", "turin"), set()),
        (("--result", "miss"), {"d1"}),
        (("--novel",), {"d1"}),
        (("--known",), {"d0"}),
        (("--goods", "carton"), {"d0", "d1"}),
        (("--since", "2001-09-09T01:46:40"), {"d0", "d1"}),
        (("--since", "2001-09-09T01:46:41"), set()),
        (("--since", "2001-09-09T03:46:40+02:00"), {"d0", "d1"}),
    ],
)
def test_samples(robin: Robin, folder: Path, tmp_path: Path, arguments: tuple[str, ...], found: set[str]) -> None:
    done = robin("fleet", "samples", "--fleet", folder, *arguments, "--json", tmp_path / "s.json")
    assert done.status == 0
    values = json.loads((tmp_path / "s.json").read_text())
    assert {sample["decision_id"] for sample in values["samples"]} == found
    assert values["total"] == len(found)
    assert all(decision in done.out for decision in found)


def test_the_limit_is_told(robin: Robin, folder: Path) -> None:
    assert "1 of 2 samples" in robin("fleet", "samples", "--fleet", folder, "--limit", 1).out


@pytest.mark.parametrize("command", ["status", "samples"])
def test_no_aggregator(robin: Robin, tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done = robin("fleet", command, "--fleet", tmp_path / "nowhere")
    assert done.status == 2 and "E821 FLEET_MISSING" in done.error_line
    assert not (tmp_path / "nowhere").exists()
    monkeypatch.delenv("ROBIN_FLEET", raising=False)
    assert "--fleet" in robin("fleet", command).error_line
    monkeypatch.setenv("ROBIN_FLEET", str(tmp_path / "there"))
    assert str(tmp_path / "there") in robin("fleet", command).error_line


def test_bad_settings_name_the_key(robin: Robin, folder: Path) -> None:
    (folder / "fleet.yaml").write_text("ledgers: x\n")
    done = robin("fleet", "status", "--fleet", folder)
    assert done.status == 2 and "unknown key 'ledgers'" in done.error_line
    (folder / "fleet.yaml").write_text("objects: http://x\n")
    assert "file:///folder or s3://bucket/prefix" in robin("fleet", "status", "--fleet", folder).error_line


def test_settings_are_kept(tmp_path: Path) -> None:
    elsewhere = f"sqlite:///{tmp_path}/elsewhere.sqlite"
    make_fleet(tmp_path / "fleet", FleetConfig(ledger=elsewhere))
    make_fleet(tmp_path / "fleet")
    with open_fleet(tmp_path / "fleet") as fleet:
        assert fleet.config.ledger == elsewhere
    assert (tmp_path / "elsewhere.sqlite").exists() and not (tmp_path / "fleet/ledger.sqlite").exists()


def test_moments() -> None:
    assert moment_s("36h", 1e6) == 1e6 - 36 * 3600
    assert moment_s("2d", 1e6) == 1e6 - 2 * 86_400
    assert moment_s("1970-01-02", 0.0) == 86_400
    assert moment_s(None, 0.0) is None
    for text in ("yesterday", "5", "-3h", "2026-13-01"):
        with pytest.raises(RobinError, match="OPTION_INVALID"):
            moment_s(text, 0.0)
