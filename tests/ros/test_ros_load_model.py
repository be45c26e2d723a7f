"""Another bundle of the same network over DDS: swapped into the running engine, in this process and in one of its own,
and named by the scenes that it makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.cli_helpers import pickable_folder
from helpers.model_samples import bundles
from helpers.ros_client import NodeProcess, RosClient  # skips the module where ROS is not installed
from helpers.ros_driver import Driver
from robin_msgs.msg import SegmentedScene
from robin_msgs.srv import LoadModel

from robin_perception.core.errors import Code
from robin_perception.core.image_folder import load_frame

pytestmark = pytest.mark.slow
NODE = "/segmentation"
POSE = {"camera_pose_xyz_m": [0.0, 0.0, 1.2], "camera_pose_xyzw": [1.0, 0.0, 0.0, 0.0]}


@pytest.fixture(scope="module")
def client() -> Iterator[RosClient]:
    with RosClient() as made:
        yield made


@pytest.fixture(params=["never", "always"])
def supervision(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return bundles(tmp_path / "models", 1)


@pytest.fixture
def process(client: RosClient, paths: list[Path], supervision: str, tmp_path: Path) -> Iterator[NodeProcess]:
    values = {"model": paths[0], "models_folder": tmp_path / "models", "engine": "onnxruntime", "autostart": True}
    values |= {"engine_options.intra_threads": 1, "supervision.mode": supervision, "diagnostics_rate_hz": 5, **POSE}
    made = NodeProcess("robin_perception.nodes.segmentation_node", tmp_path / "log.txt", values)
    client.wait(lambda: client.messages().get(NODE) == "active", "the node")
    yield made
    assert made.stop() == 0, made.log


@pytest.fixture
def seen(client: RosClient, process: NodeProcess, tmp_path: Path) -> Iterator[Callable[[], SegmentedScene]]:
    """The next scene."""
    scenes = client.listen(SegmentedScene, "/scene")
    driver = Driver(client, load_frame(pickable_folder(tmp_path / "frame")))
    driver.wait_for_listener()

    def next_scene() -> SegmentedScene:
        scenes.clear()
        return client.wait(lambda: driver.show() or client.spin(0.05) or (scenes and scenes[-1]), "a scene")

    yield next_scene
    driver.close()


def load(client: RosClient, path: Path, version: str) -> Any:
    return client.call(LoadModel, "/load_model", LoadModel.Request(path=str(path), version=version))


def test_another_head_is_swapped_in_and_scenes_name_its_version(
    client: RosClient, seen: Callable[[], SegmentedScene], paths: list[Path], supervision: str
) -> None:
    first = seen()
    assert first.model_version == ""
    if supervision == "always":
        child = client.wait(lambda: client.values(NODE).get("supervision.state") == "ready" and _pid(client), "child")
    assert load(client, paths[0], "0").how == "same" and seen().model_version == "0"
    reply = load(client, paths[1], "7")
    assert (reply.code, reply.text, reply.how) == (0, "", "head")
    assert 0 < reply.swap_ms < 1e3 * reply.took_s
    scene = seen()
    assert (scene.model_id, scene.model_version) == (reply.model_id, "7") and scene.model_id != first.model_id
    if supervision == "always":
        assert "fallback_engine" not in scene.flags and _pid(client) == child
    refused = load(client, paths[0], "zero")
    assert refused.code == Code.INPUT_UNREADABLE and seen().model_version == "7"


def _pid(client: RosClient) -> str:
    return client.values(NODE)["supervision.pid"]
