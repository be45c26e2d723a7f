"""What a record tells of conditions, judgement, actions, help and cups, what lies beside it, and earlier versions."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.decision_samples import sample_frame, sample_plan, sample_scene
from helpers.pick_samples import (
    CONDITIONS,
    FILM_FACE,
    judged_report,
    load_view,
    pick_traces,
    record_told,
    told_decision,
)
from pydantic import ValidationError

from edge_adapt.decision import RECORD_VERSION, Decision, DecisionContext, build_decision, run_context
from edge_adapt.decision_store import read_decisions
from edge_adapt.pick_recorder import PickRecorder
from edge_adapt.record_build import frame_digest
from edge_adapt.record_parts import CupRecord, HelpRecord, InstanceRecord, RecoveryStepRecord, VersionsRecord
from edge_adapt.report import render_report
from edge_adapt.trace import trace_text
from edge_adapt.traces_file import read_traces, traces_bytes
from robin_grasp.picks.open_picks import OpenPick, PlanNotice
from robin_grasp.picks.outcome import PickResult
from robin_grasp.picks.outcome_report import Stage
from robin_grasp.tool import CellConfig
from robin_perception.core.errors import Code, RobinError

STORED = Path(__file__).parents[1] / "data/records"


def test_a_told_record_survives_json() -> None:
    decision = told_decision()
    assert decision.version == RECORD_VERSION == 6
    assert Decision.model_validate_json(decision.model_dump_json()) == decision


def test_a_record_tells_conditions_novelty_and_seals() -> None:
    decision = told_decision()
    first, second = decision.conditions
    assert (first.name, first.code, first.value, first.limit, first.since_s, first.effect) == (
        ("frozen", int(CONDITIONS[0].code), 11.5, 10.0, decision.stamp_s - 7.25, "stop")
    )
    assert second.family == "novelty" and second.instances == (1, 2)
    assert [seen.novelty for seen in decision.instances] == [1.375, None]
    assert [seen.film_depth for seen in decision.instances] == [FILM_FACE, ()]
    assert "Clear film: planned on the face" in trace_text(decision)
    with pytest.raises(ValidationError):
        InstanceRecord.model_validate({**decision.instances[0].model_dump(), "film_depth": FILM_FACE[:3]})
    assert decision.chosen is not None
    assert decision.chosen.cup_seal == (None, 0.75, 0.5, None, None, 1.0, 0.25, None)
    assert decision.candidates[1].cup_seal == ()


def test_a_record_tells_judgement_and_actions_in_order() -> None:
    decision = told_decision()
    assert decision.outcome is not None and decision.result == "drop"
    outcome = decision.outcome
    assert (outcome.judged, outcome.probability, outcome.probabilities["multi"]) == ("multi", 0.7, 0.7)
    assert outcome.features == {"weight_ratio": 1.9, "load_area_ratio": None}
    assert [(step.state, step.action) for step in decision.steps] == [
        ("held", "ask_help"),
        ("held", "set_down"),
        ("ended", "other_cups"),
    ]
    assert decision.steps[0].help is not None and decision.steps[0].help.answer == "set_down"
    assert decision.cup_health[6].share == 0.0
    digests = decision.context.digests
    assert digests["monitors"] == "a" * 64 and "cup_health" not in digests


def test_traces_and_look_lie_beside_the_record(tmp_path: Path) -> None:
    decision = record_told(tmp_path)
    assert decision.outcome is not None and decision.outcome.load is not None
    traces, sent = read_traces(tmp_path / decision.images["traces"], 8), pick_traces()
    assert np.array_equal(traces.vacuum_pa, sent.vacuum_pa) and np.array_equal(traces.weight_n, sent.weight_n)
    assert (traces.rate_hz, traces.marks) == (sent.rate_hz, sent.marks)
    assert decision.outcome.traces is not None and decision.outcome.traces.marks == sent.marks
    assert {"load", "load_depth"} <= decision.images.keys()
    assert decision.outcome.load.frame.digest == frame_digest(load_view().frame)
    assert decision.outcome.load.tool_position_m == (0.7, 0.8, 0.35)


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda data: data[:60], Code.RECORD_INVALID),
        (lambda data: b"\x80\x04K\x01." + data, Code.RECORD_INVALID),
        (lambda data: data.replace(b"rate_hz", b"rate_kz"), Code.RECORD_INVALID),
        (lambda data: data.replace(b"vacuum_pa", b"pressures"), Code.RECORD_INVALID),
        (lambda data: data.replace(b'"50.0"', b'"-1.0"'), Code.TRACES_INVALID),
        (lambda data: data + bytes(2_000_000), Code.INPUT_TOO_LARGE),
    ],
)
def test_damaged_traces_are_refused(tmp_path: Path, spoil: Callable[[bytes], bytes], code: Code) -> None:
    path = tmp_path / "traces.safetensors"
    path.write_bytes(spoil(traces_bytes(pick_traces())))
    with pytest.raises(RobinError) as error:
        read_traces(path, 8)
    assert error.value.code == code and (code is Code.TRACES_INVALID or path.name in error.value.text)


def test_traces_of_another_tool_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "traces.safetensors"
    path.write_bytes(traces_bytes(pick_traces(cups=4)))
    with pytest.raises(RobinError) as error:
        read_traces(path, 8)
    assert error.value.code == Code.TRACES_INVALID


@pytest.mark.parametrize("version", [3, 4, 5])
def test_stored_records_of_late_versions_are_read_and_told(version: int, tmp_path: Path) -> None:
    (tmp_path / "decisions.jsonl").write_text((STORED / f"version_{version}.jsonl").read_text())
    log = read_decisions(tmp_path)
    (decision,) = log.decisions
    assert decision.version == version and decision.steps and decision.conditions and decision.cup_health
    assert decision.versions == VersionsRecord()
    assert decision.outcome is not None and decision.outcome.load is not None
    assert decision.decision_id in trace_text(decision) and decision.decision_id in render_report(log)


def test_the_look_from_above_that_a_record_of_version_5_may_have_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "decisions.jsonl").write_text((STORED / "version_5.jsonl").read_text())
    assert json.loads((tmp_path / "decisions.jsonl").read_text())["outcome"]["load_above"]["frame"]["width"] == 80
    (decision,) = read_decisions(tmp_path).decisions
    assert decision.outcome is not None and "load_above" not in decision.outcome.model_dump()
    assert "load_above" in decision.images  # the files may lie there still
    assert Decision.model_validate_json(decision.model_dump_json()) == decision


@pytest.mark.parametrize("version", [1, 2])
def test_stored_records_of_earlier_versions_are_read_and_told(version: int, tmp_path: Path) -> None:
    text = (STORED / f"version_{version}.jsonl").read_text()
    assert json.loads(text)["version"] == version
    (tmp_path / "decisions.jsonl").write_text(text)
    log = read_decisions(tmp_path)
    (decision,) = log.decisions
    assert decision.version == version and decision.steps == () and decision.conditions == ()
    assert decision.outcome is not None and decision.outcome.traces is None and decision.instances[0].novelty is None
    assert decision.decision_id in trace_text(decision) and decision.decision_id in render_report(log)
    if version == 2:
        assert decision.outcome.probability == 0.65 and "expected weight" in decision.outcome.reasons[1]


def test_a_record_of_a_later_version_is_refused(tmp_path: Path) -> None:
    values = json.loads(told_decision().model_dump_json())
    (tmp_path / "decisions.jsonl").write_text(json.dumps({**values, "version": RECORD_VERSION + 1}) + "\n")
    with pytest.raises(RobinError) as error:
        read_decisions(tmp_path)
    assert error.value.code == Code.RECORD_INVALID and "version" in error.value.text


def test_a_turn_in_which_a_person_was_asked_before_the_pick_has_waited() -> None:
    frame = sample_frame(np.random.default_rng(2))
    context = DecisionContext(run_id="r", pile=0, pick=0)
    asked = RecoveryStepRecord(state="look", action="ask_help", help=HelpRecord(help_id="h1"))
    decision = build_decision(context, frame, sample_scene(frame), sample_plan(), None, steps=(asked,))
    assert decision.result == "waited"
    held = asked.model_copy(update={"state": "held"})
    assert decision.model_copy(update={"steps": (asked, held)}).result == "unfinished"


def opened(folder: Path) -> tuple[PickRecorder, OpenPick]:
    frame = sample_frame(np.random.default_rng(2))
    recorder = PickRecorder(folder, run_context("run", "robot", CellConfig()))
    pick = OpenPick(PlanNotice("p1-000001", frame.stamp_s, sample_plan()), frame, sample_scene(frame))
    assert recorder.open(pick) == []
    return recorder, pick


def test_a_recorder_keeps_what_was_judged_and_done_while_the_load_hung(tmp_path: Path) -> None:
    recorder, _ = opened(tmp_path)
    held = replace(judged_report(), grasp=0, action="ask_help", help_id="h000003")
    recorder.note_held(held)
    recorder.note_help(HelpRecord(help_id="h000003", code=651, text="look", answer="deliver"))
    recorder.note_help(HelpRecord(help_id="h000009"))
    recorder.note_held(replace(held, action="deliver", help_id=""))
    ended = replace(held, stage=Stage.ENDED, traces=None, load=None, action="", help_id="", result=PickResult.CLEAN)
    written = recorder.close(ended, None)
    assert [(step.state, step.action) for step in written.steps] == [("held", "ask_help"), ("held", "deliver")]
    assert written.steps[0].help is not None and written.steps[0].help.answer == "deliver"
    assert written.steps[0].judged == "multi" and written.result == "clean"
    assert written.outcome is not None and written.outcome.judged == "multi"
    assert (tmp_path / written.images["traces"]).is_file() and (tmp_path / written.images["load"]).is_file()
    assert written.context.digests["pick_check"] == "c" * 64


def test_a_recorder_keeps_what_is_believed_of_the_cups_when_a_pick_is_planned(tmp_path: Path) -> None:
    recorder = PickRecorder(tmp_path, run_context("run", "robot", CellConfig()))
    recorder.note_cup(CupRecord(cup=6, state="good"))
    recorder.note_cup(CupRecord(cup=1, state="good"))
    recorder.note_cup(CupRecord(cup=6, state="blocked", share=0.0))
    frame = sample_frame(np.random.default_rng(2))
    pick = OpenPick(PlanNotice("p1-000001", frame.stamp_s, sample_plan()), frame, sample_scene(frame))
    recorder.open(pick)
    recorder.note_cup(CupRecord(cup=1, state="weak", share=0.5))
    (written,) = recorder.abandon("enough")
    assert [(cup.cup, cup.state) for cup in written.cup_health] == [(1, "good"), (6, "blocked")]


def test_steps_of_a_held_load_survive_the_recorder(tmp_path: Path) -> None:
    recorder, _ = opened(tmp_path)
    recorder.note_held(replace(judged_report(), grasp=0))
    recorder.shut()
    again = PickRecorder(tmp_path, run_context("run", "robot", CellConfig()))
    (written,) = again.abandon("the cell was started again")
    assert written.result == "unfinished" and [step.action for step in written.steps] == ["put_back"]


def test_a_held_load_of_another_pick_is_refused(tmp_path: Path) -> None:
    recorder, _ = opened(tmp_path)
    with pytest.raises(RobinError) as error:
        recorder.note_held(replace(judged_report(), plan_id="p1-000002"))
    assert error.value.code == Code.PLAN_UNKNOWN


def test_figures_that_are_none_stay_none() -> None:
    frame = sample_frame(np.random.default_rng(2))
    odd = replace(CONDITIONS[0], value=math.inf, limit=math.nan)
    scene = replace(sample_scene(frame), conditions=(odd,))
    context = DecisionContext(run_id="r", pile=0, pick=0)
    (told,) = build_decision(context, frame, scene, sample_plan(), None).conditions
    assert told.value is None and told.limit is None


GIGANTIC = 10**400
HOSTILE: dict[str, Callable[[dict[str, Any]], object]] = {
    "a family of its own": lambda d: d["conditions"][0].update(family="weather"),
    "an effect of its own": lambda d: d["conditions"][0].update(effect="dance"),
    "gigantic time": lambda d: d["conditions"][0].update(since_s=1e308),
    "gigantic parcel": lambda d: d["conditions"][1].update(instances=[GIGANTIC]),
    "a parcel that is not there": lambda d: d["conditions"][1].update(instances=[60_000]),
    "gigantic novelty": lambda d: d["instances"][0].update(novelty=1e308),
    "a result of its own": lambda d: d["outcome"].update(judged="great"),
    "odds of a result of its own": lambda d: d["outcome"].update(probabilities={"<b>": 0.5}),
    "odds beyond one": lambda d: d["outcome"].update(probabilities={"clean": 2.0}),
    "judged without odds": lambda d: d["outcome"].update(probabilities={}, probability=None),
    "figures that are text": lambda d: d["outcome"].update(features={"x": "y"}),
    "gigantic figure": lambda d: d["outcome"].update(features={"<x>": 1e308}),
    "samples without end": lambda d: d["outcome"]["traces"].update(samples=GIGANTIC),
    "no rate": lambda d: d["outcome"]["traces"].update(rate_hz=0),
    "marks without end": lambda d: d["outcome"]["traces"].update(marks={"lift": GIGANTIC}),
    "no rotation of the tool": lambda d: d["outcome"]["load"].update(tool_quaternion_xyzw=[0, 0, 0, 0]),
    "markup for an action": lambda d: d["steps"][0].update(action="<script>", reason="\x1b[2J"),
    "a state of its own": lambda d: d["steps"][0].update(state="asleep"),
    "help of a path": lambda d: d["steps"][0]["help"].update(help_id="../x"),
    "a picture of a person that is none": lambda d: d["steps"][0]["help"].update(picture="load_depth"),
    "a picture that is not there": lambda d: d["steps"][0]["help"].update(picture="help_9"),
    "a cup that is none": lambda d: d["cup_health"][0].update(cup=99),
    "a share beyond one": lambda d: d["cup_health"][0].update(share=1.5),
    "traces that are a picture": lambda d: d["images"].update(traces=d["images"]["load"]),
    "a load that is traces": lambda d: d["images"].update(load=d["images"]["traces"]),
    "traces outside": lambda d: d["images"].update(traces="../x.safetensors"),
    "gigantic mass": lambda d: d["candidates"][0]["terms"].update(mass_kg=1e300),
    "seal beyond one": lambda d: d["candidates"][0].update(cup_seal=[3.0]),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_strangers_record_is_told_and_drawn_or_refused_in_one_line(
    change: Callable[[dict[str, Any]], object], tmp_path: Path
) -> None:
    record_told(tmp_path)
    path = tmp_path / "decisions.jsonl"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values) + "\n")
    try:
        log = read_decisions(tmp_path)
    except RobinError as refusal:
        assert refusal.code is Code.RECORD_INVALID and ":1:" in refusal.text
        return
    text, page = trace_text(log.decisions[0]), render_report(log)
    assert "\x1b" not in text and "<script>" not in page.split("<main>")[1].split("</main>")[0]
