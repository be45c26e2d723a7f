"""The recovery policy over real DDS: what a cell is answered about a load, and people who answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.ros_cell_by_hand import SLOW_S, Cell
from helpers.ros_client import NodeProcess, RosClient
from helpers.ros_environment import LONG_S, SIMULATED_NODES, cell_parameters
from rclpy.qos import DurabilityPolicy, QoSProfile
from robin_msgs.msg import HelpRequest, PickOutcome
from robin_msgs.srv import AnswerHelp, ListHelp, PlanPick, ReportOutcome

from robin_bringup.node_table import WORKCELL
from robin_grasp.picks.outcome_report import Stage
from robin_grasp.recovery.help_desk import HelpDesk
from robin_perception.core.errors import Code
from robin_perception.nodes.convert import stamp_to_s

NODES = ("planning", "pick_check")


@pytest.fixture
def cell() -> Iterator[Cell]:
    with RosClient() as client:
        yield Cell(client, len(NODES))


def nodes(cell: Cell, tmp_path: Path) -> NodeProcess:
    """A policy that believes in no load: every one is set down, then a person is asked."""
    p, q = cell.pose.position, cell.pose.orientation
    pose = {"camera_pose_xyz_m": [p.x, p.y, p.z], "camera_pose_xyzw": [q.x, q.y, q.z, q.w]}
    values = {f"{node}:{key}": value for node in NODES for key, value in pose.items()} | {
        "autostart": True,
        "planning:frame_age_limit_s": 60.0,
        "pick_check:after_wait_s": 0.2,
        "pick_check:help_folder": str(tmp_path / "help"),
        "pick_check:recovery.deliver_below": 1e-9,
        "pick_check:recovery.sure_from": 0.999,
    }
    return NodeProcess(WORKCELL.module, tmp_path / "log", values, arguments=("--nodes", ",".join(NODES)))


def held(cell: Cell, plan: PlanPick.Response) -> ReportOutcome.Response:
    return cell.report(plan.plan.plan_id, stage=Stage.HELD, cups=int(plan.plan.grasps[0].cups), weight_n=9.0)


@pytest.mark.slow
def test_a_load_is_set_down_then_a_person_is_asked_and_answers(cell: Cell, tmp_path: Path) -> None:
    client = cell.client
    latched = QoSProfile(depth=20, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    asked: list[HelpRequest] = []
    client.node.create_subscription(HelpRequest, "help", asked.append, latched)
    outcomes: list[PickOutcome] = client.listen(PickOutcome, "outcome")
    process = nodes(cell, tmp_path)
    try:
        first = cell.show_and_plan(Code.OK)
        answer = held(cell, first)
        assert (answer.code, answer.action, answer.help_id) == (Code.OK, "set_down", "")
        ended = cell.report(first.plan.plan_id)
        assert ended.action == "other_cups" and ended.action_reason
        client.wait(lambda: len([o for o in outcomes if o.plan_id == first.plan.plan_id]) == 2, "both outcomes", SLOW_S)
        assert [o.stage for o in outcomes if o.plan_id == first.plan.plan_id] == ["held", "ended"]

        cell.show()
        second = cell.show_and_plan(Code.OK)
        (told,) = second.plan.failed
        assert told.times == 1
        while held(cell, second).action == "set_down":  # of the other parcel, which was not tried yet
            cell.report(second.plan.plan_id)
            cell.show()
            second = cell.show_and_plan(Code.OK)
        client.wait(lambda: asked, "request for help", SLOW_S)
        request = asked[-1]
        assert request.code == Code.LOAD_DOUBTFUL and request.plan_id == second.plan.plan_id
        assert list(request.answers) == ["deliver", "set_down", "done", "stop"] and not request.answer
        assert bytes(request.picture.data)[:2] == b"\xff\xd8" and Path(request.picture_path).is_file()
        listed = client.call(ListHelp, "list_help", ListHelp.Request())
        assert [r.help_id for r in listed.requests] == [request.help_id]

        def answered(help_id: str, answer: str) -> int:
            return int(client.call(AnswerHelp, "answer_help", AnswerHelp.Request(help_id=help_id, answer=answer)).code)

        assert answered("h999999", "done") == Code.HELP_NOT_OPEN
        assert answered(request.help_id, "perhaps") == Code.HELP_ANSWER_INVALID
        HelpDesk(tmp_path / "help").answer(request.help_id, "deliver", "Kim")  # as robin help answer does
        client.wait(lambda: asked[-1].answer == "deliver" and asked[-1].answered_by == "Kim", "answer", SLOW_S)
        assert answered(request.help_id, "done") == Code.HELP_NOT_OPEN
        assert cell.report(second.plan.plan_id).action == "go_on"
    finally:
        process.stop()


@pytest.mark.slow
def test_requests_survive_a_restart(cell: Cell, tmp_path: Path) -> None:
    process = nodes(cell, tmp_path)
    try:
        plan = cell.show_and_plan(Code.OK)
        while (reply := held(cell, plan)).action == "set_down":
            cell.report(plan.plan.plan_id)
            cell.show()
            plan = cell.show_and_plan(Code.OK)
        assert reply.help_id
        process.kill()
        process = nodes(cell, tmp_path)
        call = cell.client.call(ListHelp, "list_help", ListHelp.Request())
        found = cell.client.wait(
            lambda: call.requests or cell.client.call(ListHelp, "list_help", ListHelp.Request()).requests,
            "the request of before",
            SLOW_S,
        )
        assert [request.help_id for request in found] == [reply.help_id]
        request = AnswerHelp.Request(help_id=reply.help_id, answer="done", answered_by="Kim")
        assert cell.client.call(AnswerHelp, "answer_help", request).code == Code.OK
    finally:
        process.stop()


@pytest.mark.slow
def test_the_simulated_cell_sets_down_asks_and_goes_on(tmp_path: Path) -> None:
    values = cell_parameters(tmp_path) | {
        "sim_cell:picks": 4,
        "pick_check:recovery.deliver_below": 1e-9,
        "pick_check:recovery.sure_from": 0.999,
        "segmentation:publish_boundary": True,
        "pick_check:load_wait_s": 6.0,
    }
    with RosClient() as client:
        outcomes: list[PickOutcome] = client.listen(PickOutcome, "outcome")
        arguments = ("--nodes", ",".join(SIMULATED_NODES))
        process = NodeProcess(WORKCELL.module, tmp_path / "log", values, arguments=arguments)
        try:
            client.wait(lambda: sum(o.stage == "ended" for o in outcomes) >= 4, "four picks", LONG_S)
        finally:
            process.stop()
    # The first plan may be on a frame that was segmented before the pick check was active: nobody judges that load.
    known = [o for o in outcomes if o.code != Code.PLAN_UNKNOWN]
    loads = [o for o in known if o.stage == "held"]
    assert loads and all(o.load_view.color.height > 0 and o.traces.rate_hz > 0 for o in loads)
    seen = [o for o in loads if "load_dm2" in o.feature_names]  # the look tells of the load
    assert seen and all("load_instances" in o.feature_names for o in seen)  # so the network of segmentation saw it
    assert any("boundary_line" in o.feature_names for o in seen)
    assert all(stamp_to_s(o.after_stamp) >= stamp_to_s(o.header.stamp) - 1e-6 for o in loads)
    assert {o.action for o in loads} <= {"set_down", "ask_help"} and "set_down" in {o.action for o in loads}
    assert not {o.action for o in known if o.stage == "ended"} & {"", "mark_destination"}
