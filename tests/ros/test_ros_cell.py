"""The whole workcell over real DDS: closed loops of the simulated cell, in one process and in several."""

from __future__ import annotations

import itertools
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from helpers.ros_client import NodeProcess, RosClient
from helpers.ros_environment import LONG_S, ROOT, SIMULATED_NODES, cell_parameters
from robin_msgs.msg import Decision, GraspPlan, PickOutcome

from edge_adapt.decision_store import read_decisions
from edge_adapt.models.registry import ModelRegistry
from edge_adapt.pick_recorder import OPEN_FILE
from robin_bringup.node_table import NODES, WORKCELL
from robin_grasp.nodes.convert import outcome_from_msg
from robin_perception.core.errors import Code
from robin_perception.nodes.convert import stamp_to_s

MODEL = ROOT / "models" / "base"


@pytest.fixture
def client() -> Iterator[RosClient]:
    with RosClient() as found:
        yield found


def written_ids(tmp_path: Path) -> set[str]:
    return {decision.decision_id for decision in read_decisions(tmp_path / "decisions").decisions}


def parameters(tmp_path: Path) -> dict[str, Any]:
    return {**cell_parameters(tmp_path), "segmentation:publish_boundary": True}


class Loop:
    """What is said while the cell picks."""

    def __init__(self, client: RosClient) -> None:
        self.client = client
        self.plans: list[GraspPlan] = client.listen(GraspPlan, "plan")
        self.outcomes: list[PickOutcome] = client.listen(PickOutcome, "outcome")
        self.decisions: list[Decision] = client.listen(Decision, "decision")
        self.tend: Callable[[], None] = lambda: None  # called while waiting

    def wait(self, ready: Callable[[], Any], what: str) -> Any:
        def tended() -> Any:
            self.tend()
            return ready()

        return self.client.wait(tended, what, LONG_S)

    def finished(self) -> list[Decision]:
        return [d for d in self.decisions if d.result not in ("infeasible", "unfinished")]

    def wait_finished(self, count: int) -> None:
        self.wait(lambda: len(self.finished()) >= count, f"{count} decisions")

    def wait_requested_plan(self) -> str:
        """A grasp has been handed out from now on: the arm is under way. Its plan_id."""
        seen = len(self.plans)
        found = self.wait(lambda: next((p for p in self.plans[seen:] if p.requested and p.grasps), None), "plan")
        return str(found.plan_id)

    def killed_before_the_outcome(self, pick_check: NodeProcess) -> str:
        """Kill the pick check while the arm is under way with a grasp; its plan_id."""

        def killed() -> str:
            plan_id = self.wait_requested_plan()
            pick_check.process.send_signal(signal.SIGSTOP)
            self.client.spin(1.0)
            if any(o.plan_id == plan_id for o in self.outcomes):  # the pick had ended by then
                pick_check.process.send_signal(signal.SIGCONT)
                return ""
            pick_check.kill()
            return plan_id

        return str(self.wait(killed, "pick without its outcome"))

    def check_no_grasp_on_an_old_frame(self) -> None:
        """Each executed plan was made on a frame taken after the pick before it had ended."""
        stamps = {p.plan_id: stamp_to_s(p.header.stamp) for p in self.plans if p.requested}
        executed = [outcome_from_msg(o) for o in self.outcomes if o.stage != PickOutcome.HELD]
        assert len(executed) >= 2  # the first may have been published before this client was known
        for before, after in itertools.pairwise(executed):
            assert stamps[after.plan_id] >= before.ended_s - 1e-3


def killed_with_an_open_pick(recorder: NodeProcess, tmp_path: Path) -> str:
    """Kill the recorder between plan and outcome, and return the pick's id; empty where it is between two picks."""
    if not open_pick(tmp_path):
        return ""
    recorder.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, recorder.process.pid, os.WSTOPPED | os.WNOWAIT)
    if not (found := open_pick(tmp_path)):  # closed just now
        recorder.process.send_signal(signal.SIGCONT)
        return ""
    recorder.kill()
    return found


def open_pick(tmp_path: Path) -> str:
    """Id of the pick under way as the recorder has put it down; empty between picks."""
    path = tmp_path / "decisions" / OPEN_FILE
    return str(json.loads(path.read_bytes())["decision_id"]) if path.exists() else ""


@pytest.mark.slow
def test_one_process_picks_and_records(client: RosClient, tmp_path: Path) -> None:
    loop = Loop(client)
    chosen = ("--nodes", ",".join((*SIMULATED_NODES, "adaptation")))
    registry = ModelRegistry(tmp_path / "learned", MODEL)
    registry.activate(registry.add(MODEL, "a test", ""), "a test", "")
    learns = {"planning:hold_file": str(tmp_path / "hold.json"), "segmentation:models_folder": str(registry.folder)}
    learns |= {"adaptation:models": str(registry.folder), "adaptation:factory": str(MODEL)}
    values = {**parameters(tmp_path), **learns}
    process = NodeProcess(WORKCELL.module, tmp_path / "log", values, arguments=chosen)
    try:
        loop.wait_finished(3)
        loop.wait(lambda: loop.finished()[-1].model_version == "1", "record of version 1")
    finally:
        status = process.stop()
    assert status == 0, process.log
    log = read_decisions(tmp_path / "decisions")
    written = {d.decision_id: d for d in log.decisions}
    for message in loop.finished():
        record = written[message.decision_id]
        assert record.outcome is not None and record.outcome.probability is not None
        assert record.outcome.truth["result"] in ("clean", "miss", "drop", "multi", "wrong")
        assert record.frame.width == 320 and record.timings_ms["frame_to_plan"] > 0
        assert (log.folder / record.images["color"]).is_file() and (log.folder / record.images["after"]).is_file()
        told = record.versions
        assert told.hold is not None and told.tool is not None
        assert (message.holding.digest, message.tool.digest) == (told.hold.digest, told.tool.digest)
    picks = [record.versions.hold.picks for record in log.decisions if record.versions.hold is not None]
    assert picks == sorted(picks) and picks[-1] > 0, "each knows what the picks before it taught"
    assert log.decisions[-1].versions.see == 1
    loop.check_no_grasp_on_an_old_frame()


@pytest.mark.slow
def test_separate_processes_go_on_after_a_kill_in_the_middle_of_a_pick(client: RosClient, tmp_path: Path) -> None:
    loop = Loop(client)
    values = parameters(tmp_path)

    def start(node: str) -> NodeProcess:
        return NodeProcess(NODES[node].module, tmp_path / f"{node}-{time.monotonic_ns()}.log", values)

    processes = {node: start(node) for node in SIMULATED_NODES}

    def tend() -> None:
        """As a station does: what ended by itself, stuck in the middleware after the kill, is started anew."""
        for node, process in list(processes.items()):
            if not process.running:
                assert "Timeout (" in process.log, process.log
                processes[node] = start(node)

    def stop() -> None:
        with ExitStack() as each:
            for process in processes.values():
                each.callback(process.stop)

    loop.tend = tend
    with ExitStack() as stack:
        stack.callback(stop)
        loop.wait_finished(1)

        lost = loop.killed_before_the_outcome(processes["pick_check"])
        processes["pick_check"] = start("pick_check")
        loop.wait(lambda: any(o.plan_id == lost for o in loop.outcomes), "end of the pick")
        assert next(o.code for o in loop.outcomes if o.plan_id == lost) == Code.PLAN_UNKNOWN
        loop.wait(lambda: any(d.decision_id == lost for d in loop.decisions), "record of the lost pick")
        unfinished = next(d for d in loop.decisions if d.decision_id == lost)
        assert unfinished.result == "unfinished" and "PLAN_UNKNOWN" in unfinished.text

        loop.wait_requested_plan()
        processes["planning"].kill()
        processes["planning"] = start("planning")
        done = len(loop.finished())
        loop.wait_finished(done + 2)

        open_id = loop.wait(lambda: killed_with_an_open_pick(processes["recorder"], tmp_path), "open pick")
        processes["recorder"] = start("recorder")
        # On disk: what a node says in the first moments after its start may be said before others know of it.
        loop.wait(lambda: open_id in written_ids(tmp_path), "record after restart")
    loop.check_no_grasp_on_an_old_frame()
    flags = {d.decision_id: d.flags for d in read_decisions(tmp_path / "decisions").decisions}
    assert "outcome_missing" in flags[lost]
    assert "recorder_restarted" in flags[open_id]
