"""Records name the versions of what is learned: to see, to hold, and of the tool."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.cup_picks import pressed
from helpers.decision_samples import sample_frame, sample_plan, sample_scene
from helpers.hold_picks import CELL, SACK, SACK_ID, goods, pick, plan_with
from helpers.model_samples import WHO, registry_of
from helpers.perception_graphs import blocks, colour_frame

from edge_adapt.decision import Decision, DecisionContext, build_decision
from edge_adapt.decision_store import DecisionStore, read_decisions
from edge_adapt.learn.hold_file import HoldKeeper
from edge_adapt.record_parts import LearnedRecord, VersionsRecord
from edge_adapt.report import render_report
from edge_adapt.trace import trace_text
from robin_grasp.cup_health_file import CupHealthKeeper
from robin_grasp.holding import HoldTerms
from robin_grasp.learned import LearnedState
from robin_grasp.plan import ALL_SOUND, PlanBasis
from robin_grasp.planner.registry import make_planner
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.scene import parsed_version
from robin_perception.engines import EngineConfig
from robin_perception.engines.ort.engine import OnnxRuntimeEngine
from robin_perception.segmentation.segmenter import Segmenter

CONTEXT = DecisionContext(run_id="r", pile=0, pick=0)
HOLD, TOOL = LearnedState(57, "ab" * 32), LearnedState(60, "cd" * 32)


def versioned(see: int | None = 3) -> Decision:
    frame = sample_frame(np.random.default_rng(2))
    scene = replace(sample_scene(frame), model_version=see)
    holding = replace(HoldTerms.factory(len(scene.instances)), state=HOLD)
    plan = replace(sample_plan(), holding=holding, basis=PlanBasis(tool=TOOL))
    return build_decision(CONTEXT, frame, scene, plan, None)


def test_a_record_names_the_versions_of_all_three(tmp_path: Path) -> None:
    with DecisionStore(tmp_path) as store:
        store.append(versioned())
    log = read_decisions(tmp_path)
    (decision,) = log.decisions
    assert decision.versions == VersionsRecord(
        see=3, hold=LearnedRecord(picks=57, digest="ab" * 32), tool=LearnedRecord(picks=60, digest="cd" * 32)
    )
    told = "version 3 of the model, holding learned from 57 picks (abababababab), cups learned from 60 picks"
    assert told in trace_text(decision) and told in render_report(log)


def test_where_nobody_learns_no_version_is_told() -> None:
    frame = sample_frame(np.random.default_rng(2))
    decision = build_decision(CONTEXT, frame, sample_scene(frame), sample_plan(), None)
    assert decision.versions == VersionsRecord() and "Made with" not in trace_text(decision)


def test_a_plan_tells_what_the_files_hold(tmp_path: Path) -> None:
    hold, cups = HoldKeeper(CELL, tmp_path / "hold.json"), CupHealthKeeper(CELL.tool, tmp_path / "cups.json")
    grasp = pick(hold, SACK_ID, 0.0)
    cups.note(grasp, pressed({}, traces=False), now_s=5.0)
    frame, scene = goods(SACK)
    plan = make_planner("geometric", CELL, holding=hold).plan(frame, scene, (), cups.health.trust)
    told = build_decision(CONTEXT, frame, scene, plan, None).versions
    files = [json.loads((tmp_path / name).read_text())["sha256"] for name in ("hold.json", "cups.json")]
    assert told.hold is not None and told.tool is not None
    assert [told.hold.digest, told.tool.digest] == files
    assert (told.hold.picks, told.tool.picks) == (1, 1)
    assert HoldKeeper(CELL, tmp_path / "hold.json").learner.learned.digest == files[0], "the same after a restart"


def test_cups_that_are_all_sound_have_a_version_too() -> None:
    cups = CupHealthKeeper(CELL.tool)
    trust = cups.health.trust
    assert trust == ALL_SOUND and trust.state.digest
    plan = plan_with(None, *goods())
    assert plan.holding is None and plan.basis.with_cups(trust).tool == trust.state


def test_a_version_of_the_registry_stands_in_its_scenes(tmp_path: Path) -> None:
    registry, paths = registry_of(tmp_path, 2)
    frame = colour_frame(blocks(48, 64, 2, 2, 4))
    registry.activate(registry.add(paths[1], WHO, ""), WHO, "")
    bundle = registry.load().bundle
    segmenter = Segmenter(bundle, OnnxRuntimeEngine(bundle, EngineConfig(intra_threads=1)))
    assert segmenter.segment(frame).model_version == 1
    segmenter.call_version(None)
    assert segmenter.segment(frame).model_version is None
    segmenter.close()


@pytest.mark.parametrize("text", ["-1", "1.0", "x", "²", "1234567890"])
def test_a_version_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(RobinError) as caught:
        parsed_version(text)
    assert caught.value.code is Code.INPUT_UNREADABLE
