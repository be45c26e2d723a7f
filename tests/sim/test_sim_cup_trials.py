"""Trials of the cups: fitted tables, figures, and that what is done is not done again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.cli_helpers import Robin

from robin_grasp.cup_health import CupHealth, CupState
from robin_grasp.cup_health_fit import CupHealthFit
from robin_grasp.tool import ToolConfig
from robin_perception.core.config import load_config
from robin_sim.cup_trials.evaluate import CupTrials, blamed, evaluate_cups
from robin_sim.cup_trials.fitting import fit_tables, write_fit
from robin_sim.cup_trials.presses import Press, append_presses, read_presses

TOOL = ToolConfig()


def press(level: float, torn: int = -1, cups: int = 0xFF, nothing: bool = False, pile: int = 0) -> Press:
    """All open cups reach ``level``, a torn one a fifth; or none anything."""
    opened = [bool(cups >> cup & 1) for cup in range(8)]
    reached = [0.0 if nothing or not use else 0.2 if cup == torn else level for cup, use in enumerate(opened)]
    return Press("mixed", pile, 1, "carton", cups, torn, tuple(0.98 if use else None for use in opened), tuple(reached))


def some_presses(torn: bool = False) -> list[Press]:
    rng = np.random.default_rng(3)
    return [
        press(
            float(rng.choice([0.4, 0.55, 0.7])), int(rng.integers(8)) if torn else -1, nothing=not torn and k % 20 == 0
        )
        for k in range(200)
    ]


@pytest.fixture(scope="module")
def fit() -> CupHealthFit:
    return fit_tables(some_presses(), some_presses(torn=True), "made", "a test")


def test_fitted_tables_tell_a_torn_cup_from_leaky_goods(fit: CupHealthFit) -> None:
    health = CupHealth(TOOL, fit=fit)
    for number in range(20):
        health.note(*press(0.2).as_pick(TOOL.vacuum_pa), float(number))
    assert health.findings == ()
    number = 0
    while not health.findings:
        number += 1
        health.note(*press(0.55, torn=6).as_pick(TOOL.vacuum_pa), float(number))
    assert number <= 8
    assert [(report.cup, report.state) for report in health.findings] == [(6, CupState.WEAK)]


def test_a_fit_is_written_as_it_is_read_and_says_what_it_was_made_of(fit: CupHealthFit, tmp_path: Path) -> None:
    write_fit(fit, tmp_path / "fit.yaml")
    read = load_config(CupHealthFit, tmp_path / "fit.yaml")
    assert read == fit
    assert read.provenance[0].data == "200 presses of good cups and 200 of a torn one, a test"


def test_presses_are_read_as_they_were_written(tmp_path: Path) -> None:
    assert read_presses(tmp_path / "none.jsonl") == []
    append_presses(tmp_path / "some.jsonl", some_presses()[:3])
    append_presses(tmp_path / "some.jsonl", some_presses()[3:5])
    assert read_presses(tmp_path / "some.jsonl") == some_presses()[:5]


def test_a_good_cup_that_is_blamed_is_counted() -> None:
    assert blamed(some_presses())["false_findings"] == 0
    figures = blamed([press(0.55, torn=2)] * 12)
    assert figures["false_findings"] >= 1
    assert figures["found"][0]["cup"] == 2
    assert (figures["picks"], figures["cup_uses"]) == (12, 96)


@pytest.mark.slow
def test_what_is_done_is_not_done_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = Robin(capsys)("eval", "cups", "--seed", 3, "--presses", 4, "--trials", 0, "--picks", 1,
                         "--work", tmp_path / "work", "--json", tmp_path / "cups.json")  # fmt: skip
    assert done.status == 0, done.err
    figures = json.loads((tmp_path / "cups.json").read_text())
    assert figures["healthy"]["picks"] == 4
    assert figures["faults"]["torn"]["trials"] == 0
    assert figures["closed_loop"]["blocked_cup"]["without"]["clean_rate"]["of"] == 1
    told: list[str] = []
    again = evaluate_cups(CupTrials(3, 4, 0, 1, tmp_path / "work"), lambda done, of, what: told.append(what))
    assert told == []
    assert again == figures | {"closed_loop": again["closed_loop"]}
    assert again["closed_loop"]["mixed"]["with"]["attempts"] == 1
