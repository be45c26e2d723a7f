"""The base of the nodes, as a process over DDS: parameters, lifecycle, guarded services, diagnostics."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.ros_client import NodeProcess, RosClient  # skips the module where ROS is not installed
from helpers.ros_environment import PROBE

from robin_perception.core.errors import Code

diagnostic_msgs = pytest.importorskip("diagnostic_msgs.msg")
from lifecycle_msgs.srv import GetState  # noqa: E402
from robin_msgs.srv import LoadModel  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402

pytestmark = pytest.mark.slow
NODE = "/probe"
OK, WARN, ERROR = (getattr(diagnostic_msgs.DiagnosticStatus, name) for name in ("OK", "WARN", "ERROR"))


@pytest.fixture(scope="module")
def client() -> Iterator[RosClient]:
    with RosClient() as made:
        yield made


@pytest.fixture(scope="module")
def probe(client: RosClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """One probe for all tests of this file; each leaves it unconfigured."""
    made = NodeProcess(PROBE, tmp_path_factory.mktemp("probe") / "log.txt", {"rate_hz": 12, "diagnostics_rate_hz": 10})
    client.wait(lambda: client.status(NODE), "diagnostics of the probe")
    yield made
    assert made.stop() == 0


def ask(client: RosClient, path: str = "x") -> Any:
    return client.call(LoadModel, "/ask", LoadModel.Request(path=path))


def test_lifecycle_and_service_and_topic(client: RosClient, probe: NodeProcess) -> None:
    reply = ask(client)
    assert reply.code == Code.NODE_NOT_ACTIVE and "probe is unconfigured" in reply.text
    assert client.change(NODE, "configure") and client.state(NODE) == "inactive"
    assert "probe is inactive" in ask(client).text
    assert client.change(NODE, "activate")
    reply = ask(client, "here")
    assert (reply.code, reply.text, reply.model_id) == (0, "", "here at 12")
    echoed = client.listen(Image, "/echo")
    images = client.node.create_publisher(Image, "/images", 10)
    client.wait(lambda: images.get_subscription_count(), "subscriber")
    client.wait(lambda: images.publish(Image()) or echoed, "echo")
    client.wait_counted(NODE, "images")
    assert client.change(NODE, "deactivate") and client.change(NODE, "cleanup")
    assert client.state(NODE) == "unconfigured"
    assert images.get_subscription_count() == 0 or client.wait(
        lambda: images.get_subscription_count() == 0, "end of the subscription"
    )


@pytest.mark.parametrize(
    ("values", "number", "named"),
    [
        ({"rate_hz": 100.0}, Code.CONFIG_OUT_OF_RANGE, "rate_hz"),
        ({"rate_hz": "fast"}, Code.CONFIG_OUT_OF_RANGE, "rate_hz"),
        ({"cups": 8.5}, Code.CONFIG_OUT_OF_RANGE, "cups"),
        ({"low": 3.0}, Code.CONFIG_OUT_OF_RANGE, "low 3 is above high 2"),
        ({"fail": "nowhere"}, Code.CONFIG_OUT_OF_RANGE, "fail"),
        ({"autostart": True}, Code.PARAMETER_LOCKED, "autostart"),
    ],
)
def test_a_bad_parameter_is_refused_with_its_number(
    client: RosClient, probe: NodeProcess, values: dict[str, Any], number: Code, named: str
) -> None:
    done, reason = client.set(NODE, **values)
    assert not done
    assert reason.startswith(f"E{int(number)} ") and named in reason


def test_parameters_that_go_together_are_applied_together(client: RosClient, probe: NodeProcess) -> None:
    assert client.set(NODE, low=5.0, high=6.0) == (True, "")
    assert not client.set(NODE, high=4.0)[0]
    assert client.set(NODE, low=1, high=2)[0]  # whole numbers do for doubles


def test_only_dynamic_parameters_change_while_configured(client: RosClient, probe: NodeProcess) -> None:
    assert client.set(NODE, cups=4)[0]
    assert client.change(NODE, "configure") and client.change(NODE, "activate")
    done, reason = client.set(NODE, cups=5)
    assert not done and reason.startswith("E603 PARAMETER_LOCKED") and "'cups'" in reason
    assert client.set(NODE, cups=4)[0]  # no change is no harm
    assert client.set(NODE, rate_hz=7.5)[0]
    assert ask(client, "then").model_id == "then at 7.5"
    assert client.change(NODE, "deactivate") and client.change(NODE, "cleanup")


def test_a_failed_configure_leaves_the_node_unconfigured_and_says_why(client: RosClient, probe: NodeProcess) -> None:
    assert client.set(NODE, fail="setup")[0]
    assert not client.change(NODE, "configure")
    assert client.state(NODE) == "unconfigured"
    status = client.wait_diagnosed(NODE, "E201 MODEL_MISSING: cannot configure: there is none")
    assert status.level == ERROR
    assert client.values(NODE)["code"] == "201"
    assert "E201 MODEL_MISSING: cannot configure: there is none" in probe.log
    assert client.set(NODE, fail="")[0]
    assert client.change(NODE, "configure")  # the cause is gone: no trace is left
    assert client.change(NODE, "cleanup")


def test_a_bug_in_configure_is_told_and_survived(client: RosClient, probe: NodeProcess) -> None:
    assert client.set(NODE, fail="setup_bug")[0]
    assert not client.change(NODE, "configure")
    assert client.state(NODE) == "unconfigured"
    client.wait_diagnosed(NODE, "E602 INTERNAL_ERROR")
    assert 'raise ValueError("bug")' in probe.log
    assert client.set(NODE, fail="")[0]


def test_a_failed_activate_leaves_the_node_inactive(client: RosClient, probe: NodeProcess) -> None:
    assert client.set(NODE, fail="start")[0]
    assert client.change(NODE, "configure") and not client.change(NODE, "activate")
    assert client.state(NODE) == "inactive"
    assert ask(client).code == Code.NODE_NOT_ACTIVE
    assert client.set(NODE, fail="")[0]
    assert client.change(NODE, "activate") and client.change(NODE, "deactivate") and client.change(NODE, "cleanup")


def test_a_service_or_callback_that_fails_answers_with_a_number_and_goes_on(
    client: RosClient, probe: NodeProcess
) -> None:
    assert client.change(NODE, "configure") and client.change(NODE, "activate")
    client.set(NODE, fail="service")
    reply = ask(client)
    assert (reply.code, reply.text, reply.model_id) == (Code.MODEL_MISSING, "there is none", "")
    client.set(NODE, fail="service_bug")
    reply = ask(client)
    assert (reply.code, reply.text, reply.model_id) == (Code.INTERNAL_ERROR, "bug", "")
    client.set(NODE, fail="callback_bug")
    images = client.node.create_publisher(Image, "/images", 10)
    client.wait(lambda: images.get_subscription_count(), "subscriber")
    client.wait(lambda: images.publish(Image()) or "bug in a callback" in probe.log, "report of the bug")
    client.set(NODE, fail="")
    assert ask(client).code == 0
    assert client.change(NODE, "deactivate") and client.change(NODE, "cleanup")


@pytest.mark.parametrize(
    ("fail", "begun", "at"), [("hang", "activate: done", "ProbeNode.stop"), ("wait", "configure: done", "never_back")]
)
def test_a_node_that_hangs_says_which_call_it_is_at_and_ends_when_asked_again(
    client: RosClient, tmp_path: Path, fail: str, begun: str, at: str
) -> None:
    """Also where the main thread waits in C, as it may in the middleware, and Python handles no signal."""
    process = NodeProcess(PROBE, tmp_path / "log", {"autostart": True, "fail": fail}, "-r", "__node:=hanging")
    try:
        client.wait(lambda: begun in process.log, begun)
        client.spin(0.5)
        process.process.send_signal(signal.SIGINT)
        client.wait(lambda: "E605 NODE_STILL_BUSY: still at it 5 s" in process.log, "reason why it does not end", 15.0)
        assert f"MainThread: {at} (ros_probe_node.py:" in process.log
        process.process.send_signal(signal.SIGINT)
        assert process.process.wait(5.0) == 1
    finally:
        process.kill()


def test_a_process_that_keeps_python_to_itself_says_where_and_ends(client: RosClient, tmp_path: Path) -> None:
    process = NodeProcess(PROBE, tmp_path / "log", {"autostart": True, "fail": "spin"}, "-r", "__node:=spinning")
    try:
        assert process.process.wait(60.0) == 1
        assert "Timeout (0:00:04)!" in process.log and "in never_back" in process.log
    finally:
        process.kill()


def test_a_process_that_ended_is_gone_for_others_at_once(client: RosClient, tmp_path: Path) -> None:
    process = NodeProcess(PROBE, tmp_path / "log", {"autostart": True}, "-r", "__node:=short")
    client.wait_diagnosed("/short", "active")
    state = client.node.create_client(GetState, "/short/get_state")
    client.wait(state.service_is_ready, "the node's service")
    assert process.stop() == 0
    client.wait(lambda: not state.service_is_ready(), "end of the node's service", 10.0)  # a lease lasts for 20 s


def test_a_transition_that_does_not_exist_ends_nothing(client: RosClient, probe: NodeProcess) -> None:
    assert not client.change(NODE, "activate")  # unconfigured
    assert client.state(NODE) == "unconfigured"
    assert "E604 TRANSITION_INVALID" in probe.log


@pytest.mark.parametrize(
    ("parameters", "text", "cure"),
    [
        ({"rate_hz": 1000.0}, "E403 CONFIG_OUT_OF_RANGE: parameters of probe: 'rate_hz'", {"rate_hz": 5.0}),
        ({"ratehz": 5.0}, "E402 CONFIG_UNKNOWN_KEY: parameters of probe: unknown key 'ratehz'", {}),
    ],
)
def test_a_bad_parameter_at_start_keeps_the_node_alive_and_unconfigured(
    client: RosClient, tmp_path: Path, parameters: dict[str, Any], text: str, cure: dict[str, Any]
) -> None:
    file = tmp_path / "parameters.yaml"
    lines = "".join(f"    {key}: {value}\n" for key, value in parameters.items())
    file.write_text(f"other:\n  ros__parameters:\n{lines}  # a node of another name takes them\n")
    process = NodeProcess(PROBE, tmp_path / "log.txt", None, "-r", "__node:=other", "--params-file", str(file))
    try:
        status = client.wait_diagnosed("/other", text.replace("probe", "other"))
        assert status.level == ERROR
        assert not client.change("/other", "configure")
        assert client.state("/other") == "unconfigured" and process.running
        if cure:
            assert client.set("/other", **cure)[0]
            assert client.change("/other", "configure")
    finally:
        assert process.stop() == 0
