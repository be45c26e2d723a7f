"""The segmentation node over DDS with an engine that hangs, crashes and lies: scenes go on, diagnostics name it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from helpers.cli_helpers import colours, pickable_folder
from helpers.misbehaving_engine import NAME, set_mood
from helpers.perception_graphs import colour_bundle
from helpers.ros_client import NodeProcess, RosClient  # skips the module where ROS is not installed
from helpers.ros_driver import Driver
from robin_msgs.msg import SegmentedScene
from robin_msgs.srv import LoadModel

from robin_perception.core.image_folder import load_frame

pytestmark = pytest.mark.slow
NODE = "/segmentation"
POSE = {"camera_pose_xyz_m": [0.0, 0.0, 1.2], "camera_pose_xyzw": [1.0, 0.0, 0.0, 0.0]}
SUPERVISION = {
    "supervision.mode": "always",
    "supervision.engine_module": "helpers.misbehaving_engine",
    "supervision.deadline_ms": 2000,
    "supervision.start_timeout_s": 30,
    "supervision.max_restarts": 100,
    "supervision.restart_pause_s": 0.2,
}
FALLBACK = "fallback:onnxruntime"
PARCELS = 12


@pytest.fixture(scope="module")
def client() -> Iterator[RosClient]:
    with RosClient() as made:
        yield made


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colours(tmp_path_factory.mktemp("models") / "colours")


@pytest.fixture
def process(client: RosClient, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NodeProcess]:
    """The node, active, with an engine in a process of its own."""
    set_mood(model, "good")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))  # where the engine's module is
    parameters = {
        "model": model,
        "models_folder": tmp_path,
        "engine": NAME,
        "engine_options.intra_threads": 1,
        "diagnostics_rate_hz": 10,
        "fault_hold_s": 2.0,
        **SUPERVISION,
        **POSE,
    }
    made = NodeProcess("robin_perception.nodes.segmentation_node", tmp_path / "log.txt", parameters)
    client.wait(lambda: client.status(NODE), "diagnostics of the node")
    assert client.change(NODE, "configure") and client.change(NODE, "activate"), made.log
    yield made
    set_mood(model, "good")
    made.stop()


@pytest.fixture
def see(
    client: RosClient, process: NodeProcess, tmp_path: Path
) -> Iterator[Callable[[Callable[[SegmentedScene], bool], str], SegmentedScene]]:
    """see(wanted, what): shows frames until a scene comes that is wanted; every scene on the way holds all parcels."""
    scenes = client.listen(SegmentedScene, "/scene")
    driver = Driver(client, load_frame(pickable_folder(tmp_path / "frame")))
    driver.wait_for_listener()

    def until(wanted: Callable[[SegmentedScene], bool], what: str) -> SegmentedScene:
        scenes.clear()

        def found() -> SegmentedScene | None:
            driver.show()
            client.spin(0.1)
            assert all(len(scene.instances) == PARCELS for scene in scenes)
            return next((scene for scene in scenes if wanted(scene)), None)

        return client.wait(found, what)

    yield until
    driver.close()


def by_fallback(scene: SegmentedScene) -> bool:
    return "fallback_engine" in scene.flags


def by_child(scene: SegmentedScene) -> bool:
    return not by_fallback(scene)


@pytest.mark.parametrize(
    ("mood", "named", "counted"),
    [
        ("hang_in_driver", "E221 ENGINE_HUNG", "hangs"),
        ("kill", "E222 ENGINE_CRASHED", "crashes"),
        ("nothing", "E223 ENGINE_OUTPUT_INVALID", "invalid_outputs"),
    ],
)
def test_scenes_go_on_from_the_fallback_and_diagnostics_name_it(
    client: RosClient, process: NodeProcess, model: Path, see: Callable, mood: str, named: str, counted: str
) -> None:
    see(by_child, "scene of the engine")
    client.wait(lambda: client.values(NODE).get("supervision.answered_by") == NAME, "the engine's name")
    child = int(client.values(NODE)["supervision.pid"])
    assert client.values(NODE)["engine"] == f"supervised:{NAME}"
    client.heard.clear()
    set_mood(model, mood)
    see(by_fallback, "scene of the fallback")
    status = client.wait_heard(NODE, named)
    assert status.level == DiagnosticStatus.WARN
    client.wait(lambda: client.values(NODE).get("supervision.answered_by") == FALLBACK, "the fallback's name")
    client.wait_counted(NODE, f"supervision.{counted}")
    set_mood(model, "good")
    see(by_child, "scene of the engine that was started again")
    client.wait_counted(NODE, "supervision.restarts")
    assert int(client.values(NODE)["supervision.pid"]) not in (0, child)
    client.wait(lambda: client.messages()[NODE] == "active", "end of the fault")
    assert process.running


def test_the_engines_process_knows_nothing_of_ros_and_ends_with_the_node(
    client: RosClient, process: NodeProcess, see: Callable
) -> None:
    see(by_child, "scene of the engine")
    client.wait(lambda: client.values(NODE).get("supervision.pid", "0") != "0", "the engine's process in diagnostics")
    child = int(client.values(NODE)["supervision.pid"])
    mapped = {pid: Path(f"/proc/{pid}/maps").read_text() for pid in (child, process.process.pid)}
    for library in ("librmw", "librcl", "_rclpy_pybind11"):
        assert library in mapped[process.process.pid] and library not in mapped[child]
    assert process.stop() == 0, process.log
    assert not psutil.pid_exists(child)
    assert "Traceback" not in process.log


def test_an_engine_that_stays_off_is_said_as_long_as_it_lasts(
    client: RosClient, process: NodeProcess, model: Path, see: Callable
) -> None:
    assert client.change(NODE, "deactivate") and client.change(NODE, "cleanup")
    assert client.set(NODE, supervision__max_restarts=1)[0]
    assert client.change(NODE, "configure") and client.change(NODE, "activate")
    see(by_child, "scene of the engine")
    set_mood(model, "exit")
    client.wait(lambda: see(by_fallback, "scene") and client.values(NODE)["supervision.state"] == "given_up", "the end")
    set_mood(model, "good")
    for _ in range(2):
        client.spin(2.5)  # longer than a fault is held
        see(by_fallback, "scene of the fallback")
        status = client.wait_diagnosed(NODE, "E224 ENGINE_GIVEN_UP")
        assert status.level == DiagnosticStatus.WARN and "1 restarts within 600 s" in status.message


def test_a_model_is_exchanged_when_its_engine_is_ready(
    client: RosClient, process: NodeProcess, see: Callable, tmp_path: Path
) -> None:
    first = see(by_child, "scene of the engine").model_id
    other = colour_bundle(tmp_path / "other", count=21)
    reply = client.call(LoadModel, "/load_model", LoadModel.Request(path=str(other.directory)))
    assert (reply.code, reply.text) == (0, "") and reply.model_id != first
    assert reply.how == "engine"
    scene = see(lambda scene: scene.model_id == reply.model_id, "scene of the new model")
    assert by_child(scene)
