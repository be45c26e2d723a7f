"""The adaptation node on real DDS, beside a repository that is served over HTTP: it looks for releases by itself, has
segmentation run what is assigned, obeys a pin, goes back, and is not troubled by a server that is away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from helpers.release_samples import ROBOT, SITE, World, world
from helpers.ros_client import NodeProcess, RosClient
from robin_msgs.srv import LoadModel
from std_srvs.srv import Trigger

from edge_adapt.releases.install import running_release
from edge_adapt.releases.release import Assignment, Assignments
from robin_fleet.release.http import ReleaseHttp

pytestmark = pytest.mark.slow

NODE = "/adaptation"
LOOK_S = 240.0  # a look every ten seconds, each a process of its own at low priority


@pytest.fixture
def client() -> Iterator[RosClient]:
    with RosClient() as found:
        yield found


def served(made: World, port: int = 0) -> ReleaseHttp:
    server = ReleaseHttp(f"http://127.0.0.1:{port}", made.served)
    server.start()
    return server


def assign(made: World, release: str = "", back: tuple[str, ...] = ()) -> None:
    robots = {ROBOT: Assignment(release=release, rollout="r0001")} if release else {}
    made.repository.assign(SITE, Assignments(robots=robots, back=back))


def warned(client: RosClient, code: str) -> bool:
    client.wait(lambda: code in client.messages().get(NODE, ""), code, LOOK_S)
    status = client.status(NODE)
    return status is not None and status.level == DiagnosticStatus.WARN


def asked(client: RosClient, name: str) -> None:
    service = client.node.create_client(Trigger, f"{NODE}/{name}")
    client.wait(service.service_is_ready, name)
    future = service.call_async(Trigger.Request())
    client.wait(future.done, f"answer of {name}")
    assert future.result().success


def test_releases_come_run_stay_pinned_and_go_back(client: RosClient, tmp_path: Path) -> None:
    made, paths = world(tmp_path), list[str]()
    made.release("spring", bundle=made.bundles[1])
    server = served(made)

    def load(request: Any, response: Any) -> Any:
        paths.append(Path(request.path).name)
        response.model_id = paths[-1]
        return response

    client.node.create_service(LoadModel, "load_model", load)
    own = {"site": SITE, "robot": ROBOT, "every_s": 10.0, "folder": str(made.robot)}
    values: dict[str, object] = {f"releases.{key}": value for key, value in own.items()}
    values |= {"releases.source": f"http://127.0.0.1:{server.port}", "models": str(made.registry.folder)}
    values |= {"autostart": True, "diagnostics_rate_hz": 5.0, "factory": str(made.bundles[0])}
    assign(made, "spring")
    node = NodeProcess("edge_adapt.nodes.adaptation_node", tmp_path / "log", values)
    client.wait(lambda: paths[-1:] == ["000001"], "spring at segmentation", LOOK_S)
    assert running_release(made.registry) == "spring"

    asked(client, "pin")
    assign(made, back=("spring",))
    assert warned(client, "E735")
    assert running_release(made.registry) == "spring" and paths == ["000001"]
    asked(client, "unpin")
    client.wait(lambda: paths[-1:] == ["factory"], "what ran before at segmentation", LOOK_S)

    port = server.port
    server.close()
    assert warned(client, "E871")
    assert client.state(NODE) == "active"
    made.release("summer", bundle=made.bundles[2])
    assign(made, "summer", back=("spring",))
    server = served(made, port)
    client.wait(lambda: paths[-1:] == ["000002"], "summer at segmentation", LOOK_S)
    assert node.stop() == 0, node.log
    server.close()
