"""A learned cell's recording: each plan holds what it was told of holding, and is made again with that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.bag_samples import SECOND, TOPICS
from helpers.cli_helpers import colours, pickable_folder

import edge_adapt.bag.replay as replaying
from edge_adapt.bag.messages import PLAN_TYPE
from edge_adapt.bag.pick_writer import FrameInput, PickWriter, RecordedPick
from edge_adapt.bag.pipeline import (
    PipelineRecord,
    bundle_calibration,
    code_digest,
    start_planner,
    start_segmenter,
    this_machine,
)
from edge_adapt.bag.recorded_holding import RecordedHolding
from edge_adapt.bag.replay import Replay
from edge_adapt.bag.writer import BagWriter
from edge_adapt.decision import DecisionContext, build_decision
from robin_grasp.holding import PLACES, HoldTerms
from robin_grasp.learned import LearnedState
from robin_grasp.picks.plan_server import IssuedPlan
from robin_grasp.tool import CellConfig, WorkspaceConfig
from robin_perception.bags.frames import ImageCoding
from robin_perception.bags.reader import BagReader
from robin_perception.core.frame import Frame
from robin_perception.core.image_folder import load_frame
from robin_perception.core.scene import Scene
from robin_perception.engines import EngineConfig

CELL = CellConfig(workspace=WorkspaceConfig(centre_m=(0.0, 0.0), size_m=(3.0, 3.0), reach_min_m=0.0, reach_max_m=3.0))
STATES = (LearnedState(0, "a" * 64), LearnedState(9, "b" * 64))


class Knows:
    """Nothing of the first plan's goods; of the second's something else of each, and one comes last; then nobody
    learns any more."""

    def __init__(self) -> None:
        self.plans = 0

    def expected(self, frame: Frame, scene: Scene) -> HoldTerms | None:
        number, count = self.plans, len(scene.instances)
        self.plans += 1
        if number == 0:
            return replace(HoldTerms.factory(count), state=STATES[0])
        if number == 2:
            return None
        rng = np.random.default_rng(3)
        seal, (vacuum, mass, clean, steep) = -rng.random((count, len(PLACES))), rng.random((4, count)) / 3
        tries, last = np.arange(count, dtype=float), np.arange(count) == 0
        level = np.arange(count) == count - 1
        return HoldTerms(seal, -vacuum, mass, -clean, -steep, tries, level, last, STATES[1])


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colours(tmp_path_factory.mktemp("model") / "colours")


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Path:
    folder = tmp_path_factory.mktemp("bag")
    engine = EngineConfig(intra_threads=1, spin=False)
    record = PipelineRecord(engine="onnxruntime", engine_config=engine, planner="geometric", cell=CELL)
    segmenter, planner = start_segmenter(record, bundle), start_planner(record, holding=Knows())
    changes = {"model_id": segmenter.model_id, "calibration": bundle_calibration(segmenter.bundle)}
    record = record.model_copy(update={**changes, "machine": this_machine(), "code": code_digest()})
    source = load_frame(pickable_folder(folder / "boxes"))
    frames = FrameInput(TOPICS.frames, ImageCoding())
    with BagWriter(folder / "station") as writer:
        picks = PickWriter(writer, ImageCoding(), TOPICS)
        picks.pipeline(record, SECOND)
        for index in range(3):
            taken = replace(source, stamp_s=1.0 + index / 3)
            frame = frames.of(taken)
            scene = segmenter.segment(frame)
            plan = planner.plan(frame, scene)
            done = IssuedPlan(f"p-{index}", True, plan, frame, scene)
            decision = build_decision(DecisionContext(run_id="test", pile=0, pick=index), frame, scene, plan, None)
            picks.pick(RecordedPick(frames.encoded(taken), done, decision))
    segmenter.close()
    return folder / "station"


def differing(bag: Path, bundle: Path) -> list[bool]:
    return [bool(plan.differences) for plan in Replay(bag, bundle).run()]


def test_a_learned_cells_plans_are_made_again_to_the_last_bit(bag: Path, bundle: Path) -> None:
    plans = [message.values() for message in BagReader(bag).messages() if message.type == PLAN_TYPE]
    assert [plan["holding"] for plan in plans] == [
        {"picks": state.picks, "digest": state.digest} for state in (*STATES, LearnedState())
    ]
    assert [bool(plan["hold_terms"]) for plan in plans] == [True, True, False]
    assert plans[1]["hold_terms"][0]["last"] and plans[1]["hold_terms"][0]["instance_id"] == 1
    assert [("learned_tries" in plan["term_names"]) for plan in plans] == [True, True, False]
    assert differing(bag, bundle) == [False, False, False]


def test_without_what_they_were_told_they_differ(bag: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgets(RecordedHolding):
        def expected(self, frame: Frame, scene: Scene) -> HoldTerms | None:
            return None

    monkeypatch.setattr(replaying, "RecordedHolding", Forgets)
    assert differing(bag, bundle) == [True, True, False]
