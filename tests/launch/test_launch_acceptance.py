"""The verdict of an acceptance: figures against thresholds, a candidate beside the current model, the report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.decision_samples import sample_decision, sample_frame, sample_scene
from helpers.perception_graphs import blocks, colour_bundle, colour_frame
from helpers.pick_samples import told_decision

from edge_adapt.decision import Decision, DecisionContext, build_decision
from edge_adapt.decision_store import DecisionStore
from edge_adapt.recording import pick_images
from robin_bringup.acceptance import (
    AcceptanceThresholds,
    Candidate,
    CandidateThresholds,
    FrameComparison,
    PickThresholds,
    candidate_failed,
    judge,
)
from robin_bringup.acceptance_report import HTML_FILE, JSON_FILE, write_acceptance
from robin_bringup.candidate import PlannerFiles, SideBySide
from robin_grasp.planner.config import PlannerConfig
from robin_grasp.tool import CellConfig
from robin_perception.core.errors import RobinError
from robin_perception.segmentation.segmenter import Segmenter, load_segmenter

RESULTS = ("clean", "clean", "clean", "miss", "infeasible")
SAME = FrameComparison("d", 1.0, 3, 3, True, True, True, 50.0, 60.0)


def thresholds(picks: int = 4, **current: float) -> AcceptanceThresholds:
    return AcceptanceThresholds(picks=picks, current=PickThresholds.model_validate(current))


@pytest.fixture(scope="module")
def decisions() -> list[Decision]:
    frame = sample_frame(np.random.default_rng(5))
    scene = sample_scene(frame)
    return [sample_decision(pick, result, frame, scene) for pick, result in enumerate(RESULTS)]


def test_passes_when_every_figure_keeps_its_threshold(decisions: list[Decision]) -> None:
    limits = thresholds(min_clean_rate=0.75, max_missed_rate=0.25, max_multi_rate=0.0, max_infeasible_share=0.2)
    verdict = judge(decisions, None, limits)
    assert verdict.passed
    assert verdict.line == "PASS: 5 checks"
    assert verdict.figures["current"]["clean"] == 3


@pytest.mark.parametrize(
    ("limit", "value", "said"),
    [
        ("min_clean_rate", 0.76, "clean rate 0.75, needs >= 0.76 (3 of 4"),
        ("max_missed_rate", 0.24, "missed rate 0.25, needs <= 0.24"),
        ("max_infeasible_share", 0.19, "plans without a grasp 0.2, needs <= 0.19"),
    ],
)
def test_fails_just_beyond_a_threshold(decisions: list[Decision], limit: str, value: float, said: str) -> None:
    verdict = judge(decisions, None, thresholds(**{limit: value}))
    assert not verdict.passed
    assert verdict.line.startswith(f"FAIL: {said}")


def test_too_few_picks_fail_and_say_why(decisions: list[Decision]) -> None:
    verdict = judge(decisions, None, thresholds(picks=5), ended="no pick for 120 s: camera lost")
    assert not verdict.passed
    assert "picks made 4, needs >= 5 (no pick for 120 s: camera lost)" in verdict.line


def test_what_was_not_measured_fails(decisions: list[Decision]) -> None:
    """The samples know no simulator's truth of the result: that the pick check was right cannot be shown."""
    verdict = judge(decisions, None, thresholds(min_judged_right=0.5))
    assert not verdict.passed
    assert "judged right: not measured" in verdict.line


def test_nothing_at_all_fails() -> None:
    assert not judge([], None, thresholds(picks=1, min_clean_rate=0.0)).passed


def watched(**limits: float) -> AcceptanceThresholds:
    return AcceptanceThresholds.model_validate({"picks": 1, "watch": limits})


def test_what_watches_the_station_is_judged() -> None:
    """Of each pick: judged, one condition that lasts, one request for help, one parcel measured, cup 6."""
    told = told_decision()
    figures = judge([told, told], None, watched()).figures["watch"]
    assert figures["judged_share"]["rate"] == 1.0 and figures["helps"] == 2 and figures["help_rate"] == 1.0
    assert figures["conditions"] == {"frozen": 1} and figures["cups_found"] == [6]
    assert figures["unfamiliar_share"]["rate"] == 1.0 and figures["uncaught_rate"] is None
    assert judge([told], None, watched(min_judged_share=1, max_help_rate=1, max_conditions=1, max_cups_found=1)).passed


@pytest.mark.parametrize(
    ("limit", "value", "said"),
    [
        ("max_help_rate", 0.5, "requests for help a pick 1, needs <= 0.5"),
        ("max_conditions", 0, "conditions raised 1, needs <= 0 (frozen 1x)"),
        ("max_unfamiliar_share", 0.5, "unfamiliar parcels 1, needs <= 0.5"),
        ("max_cups_found", 0, "cups not trusted 1, needs <= 0 (cup 6)"),
        ("max_uncaught_rate", 0.1, "bad picks that nobody noticed: not measured"),
    ],
)
def test_what_watches_fails_just_beyond_a_threshold(limit: str, value: float, said: str) -> None:
    verdict = judge([told_decision()], None, watched(**{limit: value}))
    assert verdict.line.startswith(f"FAIL: {said}"), verdict.line


def test_picks_that_nobody_judged_fail_the_share_of_judged_ones(decisions: list[Decision]) -> None:
    assert not judge(decisions, None, watched(min_judged_share=0.1)).passed


@pytest.mark.parametrize(
    ("truth", "judged", "action", "uncaught"),
    [
        ("multi", "clean", "deliver", 1),
        ("multi", "multi", "deliver", 0),
        ("wrong", "clean", "set_down", 0),
        ("clean", "multi", "deliver", 0),
    ],
)
def test_a_bad_pick_is_uncaught_where_neither_judge_nor_policy_said_so(
    truth: str, judged: str, action: str, uncaught: int
) -> None:
    told = told_decision()
    assert told.outcome is not None
    outcome = told.outcome.model_copy(update={"truth": {"result": truth}, "judged": judged})
    steps = (told.steps[1].model_copy(update={"action": action}),)
    decision = told.model_copy(update={"outcome": outcome, "steps": steps})
    assert judge([decision], None, watched()).figures["watch"]["uncaught_rate"]["count"] == uncaught


def test_a_candidate_that_differs_fails_by_its_own_thresholds(decisions: list[Decision]) -> None:
    limits = AcceptanceThresholds(
        picks=4,
        candidate=CandidateThresholds(
            min_frames=4, min_mask_overlap_f=0.9, min_grasp_found_share=0.7, max_segment_time_ratio=1.2
        ),
    )
    assert judge(decisions, Candidate("c", "m", (SAME,) * 4), limits).passed
    cases = {
        "frames compared": (SAME,) * 3,
        "mask overlap F": (replace(SAME, mask_overlap_f=0.5), *(SAME,) * 3),
        "grasp found": (replace(SAME, candidate_has_grasp=False, same_parcel=None),) * 2 + (SAME,) * 2,
        "time ratio": (replace(SAME, candidate_segment_ms=61.0),) * 4,
        "failed on": (*(SAME,) * 4, FrameComparison("d", failure="E206 ENGINE_FAILED: out of memory")),
    }
    for name, frames in cases.items():
        verdict = judge(decisions, Candidate("c", "m", frames), limits)
        failed = [check.name for check in verdict.checks if not check.passed]
        assert len(failed) == 1, failed
        assert name in failed[0]


def test_a_damaged_candidate_fails_with_its_number(tmp_path: Path, decisions: list[Decision]) -> None:
    colour_bundle(tmp_path / "bundle")
    network = tmp_path / "bundle" / "network.onnx"
    network.write_bytes(network.read_bytes()[:-1] + b"\0")
    with pytest.raises(RobinError) as caught:
        load_segmenter(tmp_path / "bundle", "onnxruntime")
    verdict = judge(decisions, candidate_failed("bundle", caught.value), thresholds(min_clean_rate=0.1))
    assert not verdict.passed
    assert verdict.line.startswith("FAIL: loading the candidate: E202 MODEL_HASH_MISMATCH")


def recorded_pick(folder: Path, segmenter: Segmenter) -> Decision:
    """One pick of six flat parcels, with the images a recorder keeps."""
    frame = colour_frame(blocks(240, 320, 2, 3, 12), depth_m=1.2)
    scene = segmenter.segment(frame)
    plan = PlannerFiles("geometric", CellConfig(), PlannerConfig()).make().plan(frame, scene)
    context = DecisionContext(run_id="run", pile=0, pick=0)
    with DecisionStore(folder, fresh=True) as store:
        return store.append(build_decision(context, frame, scene, plan, None), pick_images(frame, scene, None))


def test_both_models_see_the_frames_that_were_kept(tmp_path: Path) -> None:
    """A copy of the current bundle agrees on everything; one that sees half the parcels does not."""
    for name, count in (("current", 20), ("copy", 20), ("blind", 3)):
        colour_bundle(tmp_path / name, count)
    current = load_segmenter(tmp_path / "current", "onnxruntime")
    decision = recorded_pick(tmp_path / "run", current)
    record = tmp_path / "run" / "decisions.jsonl"
    planning = PlannerFiles("geometric", CellConfig(), PlannerConfig())
    found = {}
    for name in ("copy", "blind"):
        beside = SideBySide(current, load_segmenter(tmp_path / name, "onnxruntime"), planning)
        found[name] = beside.compare(decision, record)
    assert found["copy"].failure == ""
    assert found["copy"].mask_overlap_f == pytest.approx(1.0)
    assert found["copy"].candidate_instances == found["copy"].current_instances == 6
    assert found["copy"].same_parcel in (True, None)
    assert found["copy"].current_has_grasp == found["copy"].candidate_has_grasp
    assert found["blind"].candidate_instances == 3
    assert 0.4 < (found["blind"].mask_overlap_f or 0) < 0.9
    (record.parent / decision.images["depth"]).unlink()
    assert "E101 INPUT_MISSING" in SideBySide(current, current, planning).compare(decision, record).failure


def test_report_says_the_verdict_to_people_and_machines(tmp_path: Path, decisions: list[Decision]) -> None:
    verdict = judge(decisions, Candidate("<c>", "m", (SAME,)), thresholds(min_clean_rate=0.9))
    page = write_acceptance(tmp_path / "report", "<station>", verdict, tuple(decisions))
    assert page.name == HTML_FILE
    text = page.read_text()
    assert "FAIL: clean rate 0.75" in text
    assert "&lt;station&gt;" in text
    assert "<station>" not in text
    values = json.loads((tmp_path / "report" / JSON_FILE).read_text())
    assert values["passed"] is False
    assert [pick["result"] for pick in values["picks"]] == list(RESULTS)
    assert values["candidate"]["model"] == "m"
