"""Lock-step replay of conditions, judgements and actions: the same from the same bag, else what differs is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from helpers.bag_samples import SECOND, TOPICS
from helpers.cli_helpers import Robin, colours, pickable_folder
from helpers.decision_samples import sample_scene
from helpers.pick_samples import load_view, pick_traces

from edge_adapt.bag.messages import OUTCOME_TYPE, SCENE_TYPE, grasp_as_recorded, scene_message
from edge_adapt.bag.outcome_messages import outcome_as_recorded, outcome_message, recorded_outcome
from edge_adapt.bag.pick_writer import FrameInput, PickWriter, RecordedLoad, RecordedPick
from edge_adapt.bag.pipeline import (
    PipelineRecord,
    bundle_calibration,
    code_digest,
    judged_with,
    start_planner,
    start_segmenter,
    this_machine,
)
from edge_adapt.bag.replay import Replay, ReplayOptions
from edge_adapt.bag.replay_conditions import ConditionReplay, puts_right, start_monitor
from edge_adapt.bag.writer import BagWriter
from edge_adapt.decision import DecisionContext, build_decision
from robin_grasp.picks.outcome import PickOutcome, PickResult
from robin_grasp.picks.outcome_report import OutcomeReport, Stage
from robin_grasp.picks.pick_check import PickCheckConfig, judge_pick
from robin_grasp.picks.plan_server import IssuedPlan
from robin_grasp.plan import Grasp
from robin_grasp.recovery.action import Action
from robin_grasp.recovery.config import RecoveryConfig
from robin_grasp.recovery.help_desk import HelpDesk
from robin_grasp.recovery.help_request import SET_DOWN, HelpRequest, load_cause
from robin_grasp.recovery.machine import Fate, PickTarget, Recovery, Step
from robin_grasp.tool import CellConfig, WorkspaceConfig
from robin_perception.bags import cdr
from robin_perception.bags.definitions import full_text, parse_full_text
from robin_perception.bags.frames import BagFrames, ImageCoding, stamp_ns
from robin_perception.bags.reader import BagReader
from robin_perception.core.condition import Condition, Family, PickingEffect
from robin_perception.core.errors import Code
from robin_perception.core.frame import Frame
from robin_perception.core.image_folder import load_frame
from robin_perception.core.scene import Scene
from robin_perception.engines import EngineConfig
from robin_perception.monitors.config import MonitorsConfig

CELL = CellConfig(workspace=WorkspaceConfig(centre_m=(0.0, 0.0), size_m=(3.0, 3.0), reach_min_m=0.0, reach_max_m=3.0))
FATES = {Action.SET_DOWN: Fate.BACK, Action.ASK_HELP: Fate.BACK}
Spoil = Callable[[OutcomeReport], OutcomeReport]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colours(tmp_path_factory.mktemp("model") / "colours")


def weighs(weight_n: float) -> PickOutcome:
    vacuum = (0.0, 40_000.0, 40_000.0, 0.0, 0.0, 38_000.0, 40_000.0, 0.0)
    return PickOutcome(PickResult.CLEAN, vacuum, weight_n, 2.5, {}, pick_traces(), load_view())


def nothing_left(frame: Frame) -> Frame:
    """The belt, bare, half a second later."""
    depth = np.full_like(frame.depth, float(frame.depth.max()))
    depth[0, 0] -= 0.01
    return replace(frame, depth=depth, rgb=np.full_like(frame.rgb, 90), stamp_s=frame.stamp_s + 0.5)


@dataclass
class Station:
    """A cell that judges what it lifts, asks the policy what to do, and records all of it. spoil: changes a report
    before it is written. later: a load is judged with a frame that comes after the first one since the pick."""

    folder: Path
    bundle: Path
    scratch: Path
    spoil: Spoil = lambda report: report
    later: bool = False
    actions: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.recovery = Recovery(RecoveryConfig(set_downs=1, doubtful_set_downs=1))
        self.desk = HelpDesk(prefix="t")
        engine = EngineConfig(intra_threads=1, spin=False)
        self.record = PipelineRecord(
            engine="onnxruntime",
            engine_config=engine,
            planner="geometric",
            cell=CELL,
            **judged_with(PickCheckConfig()),
            recovery=self.recovery.config,
        )

    def run(self, outcomes: list[PickOutcome]) -> None:
        segmenter, planner = start_segmenter(self.record, self.bundle), start_planner(self.record)
        changes = {"model_id": segmenter.model_id, "calibration": bundle_calibration(segmenter.bundle)}
        record = self.record.model_copy(update={**changes, "machine": this_machine(), "code": code_digest()})
        source = load_frame(pickable_folder(self.scratch / "boxes"))
        frames = FrameInput(TOPICS.frames, ImageCoding())
        monitor = None if record.monitors is None else start_monitor(record)
        with BagWriter(self.folder) as writer:
            picks = PickWriter(writer, ImageCoding(), TOPICS)
            picks.pipeline(record, SECOND)
            for index, outcome in enumerate(outcomes):
                taken = replace(source, stamp_s=1.0 + 10 * index)
                after = replace(taken, stamp_s=taken.stamp_s + 2.5)
                scene = segmenter.segment(frames.of(taken))
                if monitor is not None:
                    scene = replace(scene, conditions=monitor.observe(frames.of(taken), scene))
                plan = planner.plan(frames.of(taken), scene, self.recovery.memory.failed)
                issued = IssuedPlan(f"p-{index}", True, plan, frames.of(taken), scene, self.recovery.memory.failed)
                decision = build_decision(
                    DecisionContext(run_id="t", pile=0, pick=index), frames.of(taken), scene, plan, None
                )
                self.recovery.look(scene.conditions)
                loads = self._loads(issued, outcome, frames, after, plan.grasps[0], scene)
                picks.pick(RecordedPick(frames.encoded(taken), issued, decision, loads))
        segmenter.close()

    def _loads(
        self, issued: IssuedPlan, outcome: PickOutcome, frames: FrameInput, after: Frame, grasp: Grasp, scene: Scene
    ) -> tuple[RecordedLoad, ...]:
        seen, encoded = outcome_as_recorded(outcome), frames.encoded(after)
        target = PickTarget(grasp_as_recorded(grasp), issued.frame, scene)
        last = frames.encoded(nothing_left(after)) if self.later else encoded
        judgement = judge_pick(target.grasp, scene, issued.frame, last.frame, seen, CELL, PickCheckConfig())
        step = self.recovery.held(target, judgement.probabilities)
        ns, helps = stamp_ns(encoded.frame), self._asked(step)
        report = OutcomeReport.of(issued.plan_id, encoded.frame.stamp_s, seen)
        held = replace(report, result=None, stage=Stage.HELD).judged(judgement)
        end = self.recovery.ended(target, judgement.result, FATES.get(step.action, Fate.DELIVERED))
        self.actions += [step.action.value, end.action.value]
        return (
            RecordedLoad(self.spoil(_with(held, step)), ns, encoded, helps),
            RecordedLoad(_with(replace(report, traces=None, load=None), end), stamp_ns(last.frame), last),
        )

    def _asked(self, step: Step) -> tuple[HelpRequest, ...]:
        if step.action is not Action.ASK_HELP:
            return ()
        request = self.desk.ask(load_cause("look at it", self.recovery.config.help))
        self.recovery.answered(SET_DOWN)
        return (self.desk.answer(request.help_id, SET_DOWN, "eve"),)


def _with(report: OutcomeReport, step: Step) -> OutcomeReport:
    return replace(report, action=step.action.value, action_reason=step.reason)


LOADS = [weighs(4.0), weighs(30.0), weighs(0.0)]


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Station:
    folder = tmp_path_factory.mktemp("bag")
    made = Station(folder / "station", bundle, folder)
    made.run(LOADS)
    return made


def test_judgements_and_actions_are_made_again_to_the_last_bit(
    station: Station, bundle: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    done = Robin(capsys)(
        "replay", station.folder, "--model", bundle, "--json", tmp_path / "r.json", "--out", tmp_path / "o"
    )
    assert done.status == 0, done.out + done.err
    assert done.out.splitlines()[-1] == "same: 3 of 3 plans agree to the last bit, and 6 of 6 judgements"
    report = json.loads((tmp_path / "r.json").read_text())
    assert (report["judged"], report["judged_differing"], report["same"]) == (6, 0, True)
    assert len(set(station.actions)) >= 2, station.actions


def replayed(folder: Path, bundle: Path, tolerance: str = "exact") -> Replay:
    replay = Replay(folder, bundle, ReplayOptions(tolerance=tolerance))
    for _ in replay.run():
        pass
    return replay


@pytest.mark.parametrize(
    ("spoil", "field_name"),
    [
        (lambda r: replace(r, probability=0.5 * (r.probability or 1.0)), "outcome.probability"),
        (lambda r: replace(r, action="stop"), "outcome.action"),
        (lambda r: replace(r, reasons=("because",)), "outcome.reasons"),
        (lambda r: replace(r, lifted_weight_n=r.lifted_weight_n + 0.5), "outcome.reasons"),
    ],
)
def test_another_judgement_or_action_is_told(spoil: Spoil, field_name: str, bundle: Path, tmp_path: Path) -> None:
    Station(tmp_path / "bag", bundle, tmp_path, spoil).run(LOADS[:1])
    report = replayed(tmp_path / "bag", bundle).report
    assert (report.compared, report.judged, report.judged_differing, report.same) == (1, 2, 1, False)
    ((name, index, differences),) = report.differing
    assert (name, index) == ("t-00000-000", 0)
    assert any(d.field.startswith(field_name) for d in differences), differences


def test_another_judge_is_named(bundle: Path, tmp_path: Path) -> None:
    station = Station(tmp_path / "bag", bundle, tmp_path)
    station.record = station.record.model_copy(update={"judge_sha256": "0" * 64})
    station.run(LOADS[:1])
    assert any(
        line.startswith("judge_sha256: recorded 000") for line in replayed(tmp_path / "bag", bundle).report.changes
    )


def test_across_machines_small_differences_are_allowed_and_others_are_not(bundle: Path, tmp_path: Path) -> None:
    def nudged(report: OutcomeReport) -> OutcomeReport:
        return replace(report, probability=(report.probability or 0.0) - 0.02, reasons=("0.01 N more",))

    Station(tmp_path / "near", bundle, tmp_path / "a", nudged).run(LOADS[:1])
    assert replayed(tmp_path / "near", bundle, "machine").report.judged_differing == 0
    Station(tmp_path / "far", bundle, tmp_path / "b", lambda r: replace(r, action="stop")).run(LOADS[:1])
    assert replayed(tmp_path / "far", bundle, "machine").report.judged_differing == 1


def test_a_load_that_cannot_be_judged_now_is_a_difference_with_its_number(bundle: Path, tmp_path: Path) -> None:
    def of_another_tool(report: OutcomeReport) -> OutcomeReport:
        return replace(report, vacuum_pa=report.vacuum_pa[:7], traces=pick_traces(cups=7))

    Station(tmp_path / "bag", bundle, tmp_path, of_another_tool).run(LOADS[:1])
    differing = replayed(tmp_path / "bag", bundle).report.differing
    assert differing and all("E614" in found[0].replayed for _, _, found in differing[:1])


def test_a_load_is_judged_again_with_the_frame_that_it_was_judged_with(bundle: Path, tmp_path: Path) -> None:
    Station(tmp_path / "named", bundle, tmp_path, later=True).run(LOADS[:2])
    assert replayed(tmp_path / "named", bundle).report.judged_differing == 0

    def of_an_older_bag(report: OutcomeReport) -> OutcomeReport:
        return replace(report, features={}, after_s=None)

    Station(tmp_path / "older", bundle, tmp_path, of_an_older_bag).run(LOADS[:2])
    assert replayed(tmp_path / "older", bundle).report.judged_differing == 0

    def of_another_frame(report: OutcomeReport) -> OutcomeReport:
        return replace(report, after_s=(report.after_s or 0.0) - 0.5)

    Station(tmp_path / "other", bundle, tmp_path, of_another_frame, later=True).run(LOADS[:1])
    assert replayed(tmp_path / "other", bundle).report.judged_differing == 1


def test_a_bag_in_which_nobody_judged_is_replayed_as_before(bundle: Path, tmp_path: Path) -> None:
    station = Station(tmp_path / "bag", bundle, tmp_path)
    changes = {"pick_check": None, "judge_sha256": "", "recovery": None}
    station.record = station.record.model_copy(update=changes)
    station.run(LOADS[:1])
    report = replayed(tmp_path / "bag", bundle).report
    assert (report.compared, report.judged, report.same) == (1, 0, True)


def test_a_frame_is_written_once(bundle: Path, station: Station) -> None:
    """The frame after a load is that of both its reports."""
    topics = BagReader(station.folder).topics()
    assert topics[TOPICS.frames.color][1] == 2 * len(LOADS) and topics[TOPICS.outcome][1] == 2 * len(LOADS)


def test_depth_of_the_look_is_what_was_judged(station: Station) -> None:
    """What is decided on is what is recorded: whole millimetres."""
    fine = weighs(1.0)
    assert fine.load is not None
    shifted = replace(fine.load.frame, depth=fine.load.frame.depth + np.float32(0.0002) * (fine.load.frame.depth > 0))
    seen = outcome_as_recorded(replace(fine, load=replace(fine.load, frame=shifted)))
    assert seen.load is not None and np.array_equal(seen.load.frame.depth, fine.load.frame.depth)
    assert outcome_as_recorded(seen).load is not None and seen.result is fine.result


def test_a_bag_whose_outcomes_have_a_look_from_above_is_read_without_it(tmp_path: Path) -> None:
    text = full_text(OUTCOME_TYPE).replace("LoadView load_view ", "LoadView load_view_above\nLoadView load_view ")
    sent = weighs(9.0)
    message = outcome_message(OutcomeReport.of("p1", 2.0, sent), SECOND)
    message["load_view_above"] = message["load_view"]
    with BagWriter(tmp_path / "bag") as writer:
        writer.add_topic(TOPICS.outcome, OUTCOME_TYPE, definition=text)
        writer.write_cdr(TOPICS.outcome, cdr.encode(OUTCOME_TYPE, message, parse_full_text(OUTCOME_TYPE, text)), SECOND)
    (read,) = BagReader(tmp_path / "bag").messages({TOPICS.outcome: [OUTCOME_TYPE]})
    back = recorded_outcome(read.values())
    assert read.values()["load_view_above"]["color"]["height"] == 48 and back == sent
    assert back.load is not None and sent.load is not None
    assert np.array_equal(back.load.frame.rgb, sent.load.frame.rgb)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Path:
    """A station whose camera shows the same picture again and again: its monitors say so from some frame on."""
    folder = tmp_path_factory.mktemp("watched")
    station = Station(folder / "station", bundle, folder)
    changes = {"monitors": MonitorsConfig(), "pick_check": None, "recovery": None, "complete": True}
    station.record = station.record.model_copy(update=changes)
    station.run([weighs(1.0)] * 8)
    return folder / "station"


def recorded_conditions(bag: Path) -> list[list[str]]:
    scenes = (m.values() for m in BagReader(bag).messages({TOPICS.scene: (SCENE_TYPE,)}))
    return [[c["name"] for c in scene["conditions"]] for scene in scenes]


def test_conditions_of_the_station_are_made_again_to_the_last_bit(watched: Path, bundle: Path) -> None:
    told = recorded_conditions(watched)
    assert told[0] == [] and "frozen" in told[-1], told
    report = replayed(watched, bundle).report
    assert (report.compared, report.same) == (8, True), report.differing


def test_conditions_that_others_said_are_told(watched: Path, bundle: Path, tmp_path: Path) -> None:
    """The same bag, whose monitors would have needed twice as many frames."""
    changed = tmp_path / "changed"
    with BagWriter(changed) as writer:
        for topic, (kind, qos) in TOPICS.types().items():
            writer.add_topic(topic, kind, qos)
        for message in BagReader(watched).messages():
            values = message.values()
            if message.topic == TOPICS.pipeline:
                record = PipelineRecord.model_validate_json(values["data"])
                monitors = MonitorsConfig(frozen_after=100)
                values = {"data": record.model_copy(update={"monitors": monitors}).model_dump_json()}
            writer.write(message.topic, values, message.log_ns)
    for tolerance in ("exact", "machine"):
        report = replayed(changed, bundle, tolerance).report
        assert not report.same
        assert any("scene.conditions" in d.field for _, _, found in report.differing for d in found)


def test_conditions_made_with_a_baseline_are_not_compared(watched: Path, bundle: Path, tmp_path: Path) -> None:
    """No bag holds the baseline: what it made is left alone, and nothing else is."""
    record = PipelineRecord(monitors=MonitorsConfig(), baseline_sha256="a" * 64, complete=True)
    assert not ConditionReplay(record).wanted
    values = {"flags": [], "conditions": [{"name": "dark", "family": "environment", "action": "go_on"}]}
    assert ConditionReplay(record).compared(values) == {"flags": []}


def test_a_bag_that_lacks_frames_takes_conditions_as_recorded(bundle: Path, watched: Path) -> None:
    """Sums over frames cannot be made again without the frames; the policy is asked with what held."""
    stop = PickingEffect.STOP
    frozen = Condition(
        Code.PICTURE_FROZEN, "frozen", Family.ENVIRONMENT, 1.5, 1.0, "pictures", 7.25, stop, "stuck", (3,)
    )
    frame = next(iter(BagFrames(watched))).frame
    scene = sample_scene(frame)
    told = scene_message(replace(scene, conditions=(frozen,)), 8_000_000_000)
    replay = ConditionReplay(PipelineRecord(monitors=MonitorsConfig()))
    assert not replay.wanted and replay.look(frame, scene).conditions == ()
    assert replay.held(scene, told).conditions == (frozen,)
    assert "conditions" not in replay.compared(told)
    every_frame = ConditionReplay(PipelineRecord(monitors=MonitorsConfig(), complete=True))
    assert every_frame.held(scene, told) is scene


def test_what_a_station_has_collected_of_its_goods_is_left_alone() -> None:
    """Its own limit of novelty, and the flag that holds novelty back, are not in the bag."""
    scene = {
        "flags": ["novelty_held", "instances_truncated"],
        "conditions": [],
        "instances": [{"id": 1, "novelty": 1.5}],
    }
    own = ConditionReplay(PipelineRecord(novelty_limit_sha256="b" * 64)).compared(scene)
    assert own == {"flags": ["instances_truncated"], "instances": [{"id": 1, "novelty": 0.0}]}
    assert ConditionReplay(PipelineRecord()).compared(scene)["instances"][0]["novelty"] == 1.5


def test_monitors_begin_anew_when_a_person_has_put_the_station_right(bundle: Path, watched: Path) -> None:
    frames = [f.frame for f in BagFrames(watched)]
    record = PipelineRecord(monitors=MonitorsConfig(), complete=True)
    replay, scene = ConditionReplay(record), sample_scene(frames[0])
    before = [replay.look(frame, scene).conditions for frame in frames]
    assert before[-1]
    replay.help({"code": 125, "answer": "done"})
    assert replay.look(frames[0], scene).conditions == ()
    assert not puts_right(652, "done") and not puts_right(125, "stop")
