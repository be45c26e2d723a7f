"""What trace and report tell of conditions, judgement, traces, the load, actions and cups."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from helpers.pick_samples import pick_traces, record_told, told_decision

from edge_adapt.decision_store import read_decisions
from edge_adapt.record_parts import JudgementRecord
from edge_adapt.report import render_report
from edge_adapt.report_plots import percent, probability_bars, traces_plot
from edge_adapt.told import code_text, odds_text, since_text
from edge_adapt.trace import trace_text
from robin_grasp.picks.traces import PickTraces


def page(folder: Path) -> str:
    return render_report(read_decisions(folder))


@pytest.mark.parametrize(
    "expected",
    [
        "E125 PICTURE_FROZEN environment: frozen, 11.5 frames, limit 10 frames, for 7.2 s; no picking",
        "novelty: novel-03 (parcels 1, 2), 1.75, limit 1, for 3.0 days; picking goes on: seen 12 times",
        "1 of 2 parcels look unfamiliar (limit 1): 1 (1.4)",
        "expected to seal: 1: 75%, 2: 50%, 5: 100%, 6: 25%",
        "cup 6 blocked (good 1%, weak 2%, blocked 97%), share 0%, held in 1 of 12 picks: replace it",
        "the pick check calls it multi 70% (wrong 10%, clean 10%, miss 5%, drop 5%): 4 of 4 cups hold",
        "traces of 0.8 s at 50 Hz: vacuum 0.00 s, lift 0.24 s",
        "1. load on the tool: judged multi 70%",
        "ask help: put back once already",
        "asked a person (h000003, E651",
        "answered 'set_down' by eve",
        "set down -> back (4.5 s)",
        "3. after the pick: other cups: it failed with these",
    ],
)
def test_a_trace_tells_the_chain_in_words(expected: str) -> None:
    assert expected in trace_text(told_decision())


def test_a_report_shows_all_of_it(tmp_path: Path) -> None:
    decision = record_told(tmp_path)
    found = page(tmp_path)
    for expected in (
        'class="condition environment stops"',
        'class="condition novelty"',
        "1 unfamiliar parcel: 1",
        "mask chosen unfamiliar",
        'class="traces"',
        "The load, seen from below",
        "Judgement: multi 70%",
        "ask help → set down → other cups",
        "answered &#39;set_down&#39; by eve",
        "Cups: 6 not trusted",
        "Figures that it was judged by (2)",
    ):
        assert expected in found, expected
    assert found.count("data:image/webp") >= 3 + 2 + 2  # before, depth, after; the load twice; two parcels of novel-03
    assert decision.decision_id in found


def test_what_is_missing_or_damaged_leaves_its_place_empty(tmp_path: Path) -> None:
    decision = record_told(tmp_path)
    (tmp_path / decision.images["traces"]).write_bytes(b"nothing of the kind")
    (tmp_path / decision.images["load_depth"]).unlink()
    found = page(tmp_path)
    assert 'class="traces"' not in found and "Judgement: multi 70%" in found
    assert "load, colour" in found and "load, depth" not in found


def test_traces_are_read_only_below_the_records(tmp_path: Path) -> None:
    decision = record_told(tmp_path / "run")
    inner = tmp_path / "run" / decision.images["traces"]
    inner.rename(tmp_path / "outside.safetensors")
    inner.symlink_to(tmp_path / "outside.safetensors")
    assert 'class="traces"' not in page(tmp_path / "run")


def test_a_plot_draws_every_cup_and_marks_the_phases() -> None:
    svg = traces_plot(pick_traces(), (1, 2, 5, 6), 60_000.0, 6.5)
    assert (
        svg.count('class="trace"') == 8
        and svg.count('class="trace weight"') == 1
        and svg.count(", closed</title>") == 4
    )
    assert [name for name in ("vacuum", "lift", "weigh", "transfer", "arrive") if f">{name}</text>" in svg] == [
        "vacuum",
        "lift",
        "weigh",
        "transfer",
        "arrive",
    ]
    assert "6.5 N expected" in svg and ">cup 5: 0 kPa</text>" in svg


def test_labels_of_cups_do_not_lie_on_each_other() -> None:
    flat = np.full((40, 8), 30_000.0, dtype=np.float32)
    svg = traces_plot(PickTraces(50.0, flat, np.ones(40, dtype=np.float32)), tuple(range(8)), 60_000.0, None)
    heights = sorted(float(y) for y in re.findall(r'y="([0-9.]+)">cup', svg))
    assert len(heights) == 8 and min(np.diff(heights)) >= 11.9


def test_a_short_dip_in_long_traces_stays_visible() -> None:
    samples = 20_000
    vacuum = np.full((samples, 1), 60_000.0, dtype=np.float32)
    vacuum[12_345] = 0
    svg = traces_plot(PickTraces(200.0, vacuum, np.ones(samples, dtype=np.float32)), (0,), 60_000.0, None)
    (line,) = re.findall(r'class="trace" stroke="#1f6feb" d="M([^"]*)"', svg)
    points = [tuple(map(float, point.split())) for point in line.split("L")]
    assert len(points) <= 320 and max(y for _, y in points) - min(y for _, y in points) > 140


def test_a_single_sample_is_drawn() -> None:
    one = PickTraces(50.0, np.zeros((1, 2), dtype=np.float32), np.zeros(1, dtype=np.float32), {"vacuum": 0})
    assert "<svg" in traces_plot(one, (0,), 60_000.0, None)


def test_bars_name_every_result_and_tell_sure_from_nearly_sure() -> None:
    bars = probability_bars({"clean": 0.9991, "multi": 0.0009}, "clean")
    assert 'font-weight="700">clean' in bars and "99.91%" in bars and "0.09%" in bars
    assert (percent(1.0), percent(0.25), percent(0.0)) == ("100.0%", "25.0%", "0.0%")
    assert odds_text(JudgementRecord(judged="clean", probability=0.9981)) == "clean 99.81%"
    assert odds_text(JudgementRecord(judged="clean", probability=1.0)) == "clean 100%"


def test_codes_of_another_version_and_clocks_that_jumped_are_told_plainly() -> None:
    assert code_text(125) == "E125 PICTURE_FROZEN" and code_text(60_000) == "E60000"
    condition = told_decision().conditions[0]
    assert since_text(condition, condition.since_s) == "since this frame"
    assert "was the clock set" in since_text(condition, condition.since_s - 5.0)
    assert since_text(condition, condition.since_s + 600.0) == "for 10.0 minutes"
