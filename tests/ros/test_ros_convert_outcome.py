"""Conditions, traces, a look at the load and judgements as messages: there and back, what is left out or refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from helpers.ros_environment import ROS_REASON

if ROS_REASON is not None:
    pytest.skip(ROS_REASON, allow_module_level=True)

from helpers.decision_samples import sample_frame, sample_plan, sample_scene
from helpers.pick_samples import CONDITIONS, judged_report, load_view, pick_traces
from rclpy.serialization import deserialize_message, serialize_message
from robin_msgs.msg import CupHealth, HelpRequest
from robin_msgs.msg import PickOutcome as PickOutcomeMsg

from edge_adapt.bag.compare import exact_differences
from edge_adapt.bag.messages import OUTCOME_TYPE, PLAN_TYPE, SCENE_TYPE, plan_message, scene_message
from edge_adapt.bag.outcome_messages import outcome_message, recorded_outcome
from edge_adapt.nodes.convert import cup_from_msg, help_from_msg
from robin_grasp.nodes.convert import outcome_from_msg, outcome_to_msg, plan_from_msg, plan_to_msg
from robin_grasp.picks.outcome import PickResult
from robin_grasp.picks.outcome_report import OutcomeReport, Stage
from robin_grasp.picks.plan_server import IssuedPlan
from robin_grasp.picks.traces import LoadView, PickTraces
from robin_grasp.tool import CellConfig
from robin_perception.bags import cdr
from robin_perception.bags.frames import stamp_ns
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.scene import Scene
from robin_perception.nodes.convert import frame_header, scene_from_msg, scene_to_msg, stamp_to_ns

SEALS = (math.nan, 0.75, 0.5, math.nan, math.nan, 1.0, 0.0, math.nan)


def over_the_wire(message: object) -> object:
    return deserialize_message(serialize_message(message), type(message))


def told_scene() -> Scene:
    seen = sample_scene(sample_frame(np.random.default_rng(0)))
    first, second = seen.instances
    return replace(seen, instances=(replace(first, novelty=1.375), second), conditions=CONDITIONS)


def same_traces(a: PickTraces, b: PickTraces) -> bool:
    arrays = np.array_equal(a.vacuum_pa, b.vacuum_pa) and np.array_equal(a.weight_n, b.weight_n)
    return arrays and (a.rate_hz, dict(a.marks)) == (b.rate_hz, dict(b.marks)) and a.vacuum_pa.dtype == np.float32


def same_look(a: LoadView, b: LoadView) -> bool:
    pictures = np.array_equal(a.frame.rgb, b.frame.rgb) and np.array_equal(a.frame.depth, b.frame.depth)
    poses = ((a.frame.T_base_camera, b.frame.T_base_camera), (a.T_base_tool, b.T_base_tool))
    close = all(np.allclose(one, other, rtol=0, atol=1e-12) for one, other in poses)
    named = (a.frame.camera_id, a.frame.stamp_s) == (b.frame.camera_id, b.frame.stamp_s)
    return pictures and close and named and np.array_equal(a.frame.K, b.frame.K)


def test_conditions_and_novelty_come_back() -> None:
    sent = told_scene()
    back = scene_from_msg(over_the_wire(scene_to_msg(sent, frame_header(sample_frame(np.random.default_rng(0))))))
    assert back.conditions == CONDITIONS
    assert back.instances[0].novelty == 1.375 and math.isnan(back.instances[1].novelty)


@pytest.mark.parametrize(("name", "value"), [("code", 9_999), ("family", "weather"), ("action", "dance")])
def test_conditions_of_another_version_are_refused(name: str, value: object) -> None:
    message = scene_to_msg(told_scene(), frame_header(sample_frame(np.random.default_rng(0))))
    setattr(message.conditions[0], name, value)
    with pytest.raises(RobinError) as error:
        scene_from_msg(message)
    assert error.value.code == Code.INPUT_UNREADABLE and "another version" in error.value.text


def sealed_plan(seals: tuple[float, ...]) -> IssuedPlan:
    frame = sample_frame(np.random.default_rng(0))
    plan = sample_plan()
    plan = replace(plan, grasps=(replace(plan.grasps[0], cup_seal=seals), *plan.grasps[1:]))
    return IssuedPlan("p1", True, plan, frame, told_scene())


def test_the_seal_of_each_cup_comes_back() -> None:
    back = plan_from_msg(over_the_wire(plan_to_msg(sealed_plan(SEALS), CellConfig())))
    assert np.array_equal(back.plan.grasps[0].cup_seal, SEALS, equal_nan=True)
    assert back.plan.grasps[1].cup_seal == ()


def test_the_seal_of_another_number_of_cups_is_refused() -> None:
    with pytest.raises(RobinError) as error:
        plan_from_msg(plan_to_msg(sealed_plan(SEALS[:7]), CellConfig()))
    assert error.value.code == Code.INPUT_UNREADABLE and "7 cups of 8" in error.value.text


@pytest.mark.parametrize("cups", [1, 4, 8])
def test_a_judged_report_comes_back(cups: int) -> None:
    sent = judged_report(cups)
    back = outcome_from_msg(over_the_wire(outcome_to_msg(sent)))
    assert back == sent and back.stage is Stage.HELD and back.lacking == ()
    assert back.traces is not None and sent.traces is not None and same_traces(back.traces, sent.traces)
    assert back.load is not None and sent.load is not None and same_look(back.load, sent.load)
    measured = back.measured()
    assert measured.traces is back.traces and measured.load is back.load


def test_a_report_without_traces_and_look_lacks_nothing() -> None:
    sent = replace(judged_report(), traces=None, load=None, stage=Stage.ENDED, probabilities={}, help_id="")
    message = outcome_to_msg(sent)
    assert message.traces.rate_hz == 0 and message.load_view.color.height == 0
    back = outcome_from_msg(over_the_wire(message))
    assert back == sent and back.traces is None and back.load is None and back.lacking == ()
    message.stage = ""
    assert outcome_from_msg(message).stage is Stage.ENDED


def _no_depth(message: PickOutcomeMsg) -> None:
    message.load_view.depth.data = bytes(len(message.load_view.depth.data))


def _setting(path: str, value: object) -> Callable[[PickOutcomeMsg], None]:
    def change(message: PickOutcomeMsg) -> None:
        holder, name = path.split(".")
        setattr(getattr(message, holder), name, value)

    return change


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (_setting("traces.rate_hz", math.nan), Code.TRACES_INVALID, "rate_hz"),
        (_setting("traces.rate_hz", -50.0), Code.TRACES_INVALID, "rate_hz"),
        (_setting("traces.cups", 7), Code.TRACES_INVALID, "7 cups"),
        (_setting("traces.cups", 4), Code.TRACES_INVALID, "4 cups"),
        (_setting("traces.cups", 0), Code.TRACES_INVALID, "0 cups"),
        (_setting("traces.weight_n", [1.0] * 39), Code.TRACES_INVALID, "39 samples"),
        (_setting("traces.weight_n", [math.nan] * 40), Code.TRACES_INVALID, "not finite"),
        (_setting("traces.mark_samples", [0, 9, 5, 20, 30]), Code.TRACES_INVALID, "not in order"),
        (_setting("traces.mark_samples", [0, 1, 2, 3, 40]), Code.TRACES_INVALID, "beyond"),
        (_setting("traces.mark_samples", [0, 1]), Code.TRACES_INVALID, "5 names"),
        (_setting("traces.mark_names", ["vacuum", "lift", "weigh", "transfer", "nap"]), Code.TRACES_INVALID, "nap"),
        (_setting("load_view.depth", load_view().frame and PickOutcomeMsg().load_view.depth), None, "load view"),
        (_no_depth, Code.DEPTH_EMPTY, "load view"),
    ],
)
def test_what_cannot_be_used_is_left_out_and_told(change: Callable, code: Code | None, said: str) -> None:
    """The pick is judged without it: its outcome is not lost."""
    message = outcome_to_msg(judged_report())
    change(message)
    back = outcome_from_msg(over_the_wire(message))
    assert [lack.code for lack in back.lacking if code is not None] == ([] if code is None else [code])
    (lack,) = back.lacking
    assert said in lack.text and "p1-000001" in lack.text
    assert (back.traces is None) != (back.load is None)


def test_traces_of_too_many_samples_are_left_out() -> None:
    long = pick_traces(20_001, cups=1)
    message = outcome_to_msg(judged_report(1))
    message.traces.vacuum_pa, message.traces.weight_n = long.vacuum_pa[:, 0].tolist(), long.weight_n.tolist()
    (lack,) = outcome_from_msg(message).lacking
    assert lack.code == Code.TRACES_INVALID and "20,000" in lack.text


def test_traces_that_do_not_fit_are_not_sent() -> None:
    with pytest.raises(RobinError) as error:
        outcome_to_msg(replace(judged_report(), traces=pick_traces(cups=7)))
    assert error.value.code == Code.TRACES_INVALID


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("stage", "asleep", Code.OUTCOME_INVALID),
        ("result_names", ["clean", "clean", "drop", "multi", "wrong"], Code.OUTCOME_INVALID),
        ("result_names", ["clean"], Code.OUTCOME_INVALID),
        ("result_names", ["clean", "miss", "drop", "multi", "great"], Code.OUTCOME_INVALID),
        ("result_probabilities", [0.2] * 4 + [0.9], Code.OUTCOME_INVALID),
        ("result_probabilities", [math.nan] * 5, Code.OUTCOME_INVALID),
        ("result_probabilities", [2.0, -1.0, 0.0, 0.0, 0.0], Code.OUTCOME_INVALID),
        ("help_id", "../x", Code.ID_INVALID),
        ("feature_names", ["weight_n"], Code.OUTCOME_INVALID),
    ],
)
def test_judgements_that_cannot_be_are_refused(name: str, value: object, code: Code) -> None:
    message = outcome_to_msg(judged_report())
    setattr(message, name, value)
    with pytest.raises(RobinError) as error:
        outcome_from_msg(message)
    assert error.value.code == code


def test_cups_and_help_become_parts_of_a_record() -> None:
    cup = CupHealth(
        cup=6, state="blocked", good=0.01, weak=0.02, blocked=0.97, share=0.0, picks=12, held=1, text="clean it"
    )
    told = cup_from_msg(over_the_wire(cup))
    assert (told.cup, told.state, told.share, told.picks, told.held) == (6, "blocked", 0.0, 12, 1)
    assert told.probabilities == {"good": 0.01, "weak": 0.02, "blocked": 0.97}
    asked = HelpRequest(help_id="h000003", code=651, text="two parcels", answer="done", answered_by="eve")
    assert help_from_msg(over_the_wire(asked)).answer == "done"
    for broken in (
        lambda: cup_from_msg(CupHealth(cup=6, share=1.5)),
        lambda: help_from_msg(HelpRequest(help_id="../x")),
    ):
        with pytest.raises(RobinError) as error:
            broken()
        assert error.value.code == Code.RECORD_INVALID


def test_nodes_and_recorder_write_the_same() -> None:
    """Every field of scene, plan and outcome: as a node publishes it, and as the recorder of simulated cells does."""
    issued, report = sealed_plan(SEALS), judged_report()
    ns = stamp_ns(issued.frame)
    ended_ns = stamp_to_ns(outcome_to_msg(report).header.stamp)
    pairs = {
        SCENE_TYPE: (scene_to_msg(issued.scene, frame_header(issued.frame), False), scene_message(issued.scene, ns)),
        PLAN_TYPE: (plan_to_msg(issued, CellConfig()), plan_message(issued, CellConfig())),
        OUTCOME_TYPE: (outcome_to_msg(report), outcome_message(report, ended_ns)),
    }
    for kind, (published, recorded) in pairs.items():
        sent = cdr.decode(kind, bytes(serialize_message(published)))
        written = cdr.decode(kind, cdr.encode(kind, recorded))
        sent.pop("segment_ms", None), written.pop("segment_ms", None)  # a node adds the stages where no total is told
        assert [str(found) for found in exact_differences({"x": sent}, {"x": written})] == [], kind


def test_a_recorded_outcome_is_what_was_measured() -> None:
    report = judged_report()
    back = recorded_outcome(cdr.decode(OUTCOME_TYPE, cdr.encode(OUTCOME_TYPE, outcome_message(report, 10**18))))
    assert (back.result, back.vacuum_pa, back.lifted_weight_n, back.duration_s) == (
        (PickResult.MULTI, report.vacuum_pa, report.lifted_weight_n, report.duration_s)
    )
    assert back.traces is not None and report.traces is not None and same_traces(back.traces, report.traces)
    assert back.load is not None and report.load is not None and same_look(back.load, report.load)
    older = {"result": "", "vacuum_pa": np.zeros(8), "lifted_weight_n": 0.5, "duration_s": 1.0}
    assert recorded_outcome(older).traces is None and recorded_outcome(older).result is PickResult.MISS
    with pytest.raises(RobinError) as error:
        recorded_outcome({"plan_id": "p1"})
    assert error.value.code == Code.BAG_INVALID


def test_a_report_of_an_outcome_holds_all_of_it() -> None:
    measured = judged_report().measured()
    report = OutcomeReport.of("p1", 2.0, measured, grasp=3)
    assert report.measured() == measured and (report.grasp, report.traces, report.load) == (
        (3, measured.traces, measured.load)
    )
