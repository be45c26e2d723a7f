"""Bring-up, stations and acceptance as real processes over real DDS."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.decision_samples import sample_decision, sample_frame, sample_scene
from helpers.perception_graphs import colour_bundle
from helpers.ros_client import DOMAIN, NodeProcess, RosClient
from helpers.ros_environment import PROBE, ros_environ
from std_srvs.srv import Trigger

from edge_adapt.nodes.convert import decision_to_msg
from robin_bringup.runner import StationRunner
from robin_bringup.stations import STATIONS, StationOptions, managed_nodes
from robin_perception.core.errors import Code, RobinError
from robin_perception.nodes.qos import RESULT
from robin_perception.topics import DECISION

MANAGER = "robin_bringup.nodes.lifecycle_manager"
ACCEPTANCE = "robin_bringup.nodes.acceptance"
PATIENCE_S = 90.0  # importing ROS and the rooms takes long on a loaded machine; nothing waits so long when all is well
QUICK = {
    "limits.watch_period_s": 0.1, "limits.retry_delay_s": 0.1, "limits.attempts": 2, "limits.appear_timeout_s": 60.0,
    "limits.stop_timeout_s": 45.0,
}  # fmt: skip


def wait_until(ready: Callable[[], Any], what: str) -> Any:
    ending = time.monotonic() + PATIENCE_S
    while time.monotonic() < ending:
        if found := ready():
            return found
        time.sleep(0.05)
    pytest.fail(f"no {what} within {PATIENCE_S:g} s")


@pytest.fixture
def ros() -> Iterator[RosClient]:
    with RosClient() as client:
        yield client


class ManagedProbe:
    """A manager, and the probe that it brings up. limits: the manager's, beside the quick ones."""

    def __init__(self, folder: Path, limits: dict[str, float] | None = None, **parameters: Any) -> None:
        self.folder, self.parameters = folder, parameters
        self.status_file = folder / "status.json"
        self.probe = self.start_probe()
        values = {"nodes": ["probe"], "status_file": self.status_file, **QUICK, **(limits or {})}
        self.manager = NodeProcess(MANAGER, folder / "manager.log", values)

    def start_probe(self) -> NodeProcess:
        return NodeProcess(PROBE, self.folder / "probe.log", self.parameters)

    def probe_is(self, phase: str) -> Callable[[], Any]:
        return lambda: self.status().get("phase") == phase

    def status(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self.status_file.read_text())["nodes"]["probe"])
        except OSError:
            return {}

    def end(self) -> None:
        for process in (self.manager, self.probe):
            process.kill()


@pytest.mark.slow
def test_manager_brings_up_a_killed_node_again_and_leaves_a_deactivated_one(tmp_path: Path, ros: RosClient) -> None:
    station = ManagedProbe(tmp_path)
    try:
        wait_until(station.probe_is("active"), "active probe")
        assert ros.call(Trigger, "lifecycle_manager/is_active").success
        station.probe.kill()
        station.probe = station.start_probe()
        wait_until(lambda: station.status().get("recovered") == 1, "recovery")
        wait_until(station.probe_is("active"), "active probe after SIGKILL")
        ros.change("probe", "deactivate")  # where the answer was lost, the second request is refused: the state tells
        wait_until(station.probe_is("held"), "probe left to the operator")
        time.sleep(1.0)
        assert ros.state("probe") == "inactive"
        ros.call(Trigger, "lifecycle_manager/start")
        wait_until(station.probe_is("active"), "active probe after start")
        assert station.manager.stop() == 0
        assert ros.state("probe") == "unconfigured", "taken down when the manager ends"
        assert station.probe.stop() == 0
    finally:
        station.end()


@pytest.mark.slow
def test_a_node_that_cannot_configure_is_given_up_with_its_own_reason(tmp_path: Path, ros: RosClient) -> None:
    patient = {"limits.answer_timeout_s": 30.0}  # for as long it waits for the node's reason, which comes once a second
    station = ManagedProbe(tmp_path, patient, fail="setup")
    try:
        wait_until(station.probe_is("failed"), "given-up probe")
        status = station.status()
        assert status["code"] == Code.TRANSITION_FAILED
        assert "cannot configure: E" in status["text"], "the node's own number and text"
        reply = ros.call(Trigger, "lifecycle_manager/is_active")
        assert not reply.success
        assert "probe failed (E622" in reply.message
        assert "E622 probe: cannot configure" in ros.wait_diagnosed("/lifecycle_manager", "probe failed").message
    finally:
        station.end()


@pytest.mark.slow
def test_a_node_that_does_not_deactivate_is_an_error_in_the_log(tmp_path: Path, ros: RosClient) -> None:
    station = ManagedProbe(tmp_path, {"limits.stop_timeout_s": 3.0}, fail="hang")
    try:
        wait_until(station.probe_is("active"), "active probe")
        assert station.manager.stop() == 0
        (line,) = [line for line in station.manager.log.splitlines() if "E623 TRANSITION_TIMEOUT" in line]
        assert line.startswith("[ERROR]") and "probe: did not deactivate in time" in line
        assert "[INFO]" in station.manager.log, "what goes well is no error"
    finally:
        station.end()


@pytest.mark.slow
def test_a_manager_with_wrong_parameters_says_so_and_ends(tmp_path: Path) -> None:
    process = NodeProcess(MANAGER, tmp_path / "log", {"limits.attempts": 0})
    assert process.process.wait(PATIENCE_S) == 1
    assert "E403 CONFIG_OUT_OF_RANGE" in process.log
    assert "limits.attempts" in process.log


class Station:
    """Tells of picks as the recorder does, until the acceptance has ended."""

    def __init__(self, ros: RosClient) -> None:
        frame = sample_frame(np.random.default_rng(1))
        scene = sample_scene(frame)
        results = ("clean", "clean", "clean", "miss")
        self._decisions = [sample_decision(pick, result, frame, scene) for pick, result in enumerate(results)]
        self._ros = ros
        self._publisher = ros.node.create_publisher(type(decision_to_msg(self._decisions[0])), DECISION, RESULT)

    def serve(self, acceptance: NodeProcess) -> int:
        self._ros.wait(lambda: self._publisher.get_subscription_count(), "acceptance", PATIENCE_S)
        for decision in self._decisions:
            self._publisher.publish(decision_to_msg(decision, decision.decision_id, Path("decisions.jsonl")))
        return acceptance.process.wait(PATIENCE_S)


@pytest.mark.slow
@pytest.mark.parametrize(("least", "status"), [(0.75, 0), (0.8, 1)])
def test_exit_status_of_an_acceptance_follows_its_thresholds(
    tmp_path: Path, ros: RosClient, least: float, status: int
) -> None:
    (tmp_path / "limits.yaml").write_text(f"picks: 4\ncurrent: {{min_clean_rate: {least}}}\n")
    values = {"thresholds_file": tmp_path / "limits.yaml", "report_folder": tmp_path / "report"}
    process = NodeProcess(ACCEPTANCE, tmp_path / "log", values)
    assert Station(ros).serve(process) == status, process.log
    report = json.loads((tmp_path / "report" / "acceptance.json").read_text())
    assert report["passed"] is (status == 0)
    assert ("PASS: " if status == 0 else "FAIL: clean rate 0.75, needs >= 0.8") in process.log


@pytest.mark.slow
def test_an_acceptance_of_a_damaged_candidate_fails_at_once(tmp_path: Path) -> None:
    colour_bundle(tmp_path / "candidate")
    with (tmp_path / "candidate" / "network.onnx").open("ab") as stream:
        stream.write(b"\0")
    values = {"candidate": tmp_path / "candidate", "report_folder": tmp_path / "report", "engine": "onnxruntime"}
    process = NodeProcess(ACCEPTANCE, tmp_path / "log", values)
    assert process.process.wait(PATIENCE_S) == 1
    assert "E202 MODEL_HASH_MISMATCH" in process.log
    assert "E202 MODEL_HASH_MISMATCH" in (tmp_path / "report" / "acceptance.html").read_text()


@pytest.mark.slow
def test_wrong_thresholds_are_bad_input(tmp_path: Path) -> None:
    (tmp_path / "limits.yaml").write_text("current: {min_clean_rat: 0.5}\n")
    process = NodeProcess(ACCEPTANCE, tmp_path / "log", {"thresholds_file": tmp_path / "limits.yaml"})
    assert process.process.wait(PATIENCE_S) == 2
    assert "unknown key 'current.min_clean_rat'" in process.log


def small_station(tmp_path: Path) -> StationOptions:
    """The simulated station with a network of a few layers, in the test's own folder."""
    colour_bundle(tmp_path / "bundle")
    params = tmp_path / "params.yaml"
    params.write_text(f"/**/recorder: {{ros__parameters: {{folder: {tmp_path / 'decisions'}}}}}\n")
    return StationOptions(
        engine="onnxruntime", model=str(tmp_path / "bundle"), params_file=str(params), domain=DOMAIN, namespace="cell_a"
    )


@pytest.mark.slow
def test_sim_station_comes_up_survives_a_kill_and_ends_cleanly(tmp_path: Path) -> None:
    """The whole station as `robin ros up` runs it: processes, order, parameters, in a namespace of its own."""
    said: list[str] = []
    with (tmp_path / "log").open("wb") as log:
        runner = StationRunner(STATIONS["sim_station"], small_station(tmp_path), said.append, log, ros_environ())
        with runner:
            runner.wait_active(PATIENCE_S)
            assert set(runner.state.nodes) == set(managed_nodes(STATIONS["sim_station"], StationOptions()))
            first = runner.processes
            os.kill(first["workcell"], signal.SIGKILL)
            wait_until(
                lambda: runner.step() and all(node["recovered"] for node in runner.state.nodes.values()), "recovery"
            )
            wait_until(lambda: runner.step() and runner.state.all_active, "station that is active again")
            assert runner.processes["workcell"] != first["workcell"]
            assert runner.processes["lifecycle_manager"] == first["lifecycle_manager"]
            left = [*runner.processes.values()]
    assert any("ended with status -9, again in 2 s (1 of 10)" in line for line in said)
    assert not any("did not end" in line for line in said), said
    assert not any(Path(f"/proc/{pid}").exists() for pid in left)
    text = (tmp_path / "log").read_text()
    assert "Traceback" not in text, text
    assert "[cell_a.lifecycle_manager]: all nodes active after" in text


@pytest.mark.slow
def test_a_station_whose_model_is_missing_says_so(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text("/**/lifecycle_manager: {ros__parameters: {limits: {attempts: 1}}}\n")
    options = small_station(tmp_path).model_copy(update={"model": str(tmp_path / "none"), "params_file": str(params)})
    with (tmp_path / "log").open("wb") as log:
        runner = StationRunner(STATIONS["sim_station"], options, lambda line: None, log, ros_environ())
        with runner, pytest.raises(RobinError, match="segmentation failed") as caught:
            runner.wait_active(PATIENCE_S)
    assert caught.value.code == Code.NODE_NOT_ACTIVE
    assert "E201 MODEL_MISSING" in str(caught.value)


def real_launch() -> str | None:
    """Why a launch file cannot be launched here; the repository's folder launch/ is not the package of that name."""
    for module in ("launch", "launch_ros"):
        found = importlib.util.find_spec(module)
        if found is None or found.origin is None:
            return f"{module} is not installed here: it comes with ROS 2, not from PyPI"
    return None


LAUNCH = """
import os, signal, sys, threading
from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

folder = get_package_share_directory("robin_bringup")
source = PythonLaunchDescriptionSource(os.path.join(folder, "launch", sys.argv[1]))
service = LaunchService(noninteractive=True)
arguments = [argument.split(":=", 1) for argument in sys.argv[2:]]
service.include_launch_description(LaunchDescription([IncludeLaunchDescription(source, launch_arguments=arguments)]))
status = service.run()
sys.stdout.flush()
os._exit(status)
"""


@pytest.mark.slow
@pytest.mark.skipif(real_launch() is not None, reason=str(real_launch()))
def test_real_launch_of_the_test_station_ends_with_the_verdict(tmp_path: Path) -> None:
    """A damaged candidate: the acceptance fails, the launch ends everything and has an exit status."""
    options = small_station(tmp_path)
    colour_bundle(tmp_path / "candidate")
    (tmp_path / "candidate" / "head.safetensors").write_bytes(b"damaged")
    given = {
        "camera": "sim",
        "engine": "onnxruntime",
        "model": options.model,
        "params_file": options.params_file,
        "candidate": str(tmp_path / "candidate"),
        "report": str(tmp_path / "report"),
        "domain": str(DOMAIN),
    }
    arguments = [f"{key}:={value}" for key, value in given.items()]
    done = subprocess.run(
        [sys.executable, "-c", LAUNCH, "test_station.launch.py", *arguments],
        env=ros_environ(), capture_output=True, text=True, timeout=2 * PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "E202 MODEL_HASH_MISMATCH" in done.stdout
    assert not json.loads((tmp_path / "report" / "acceptance.json").read_text())["passed"]
