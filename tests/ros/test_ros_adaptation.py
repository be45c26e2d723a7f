"""The adaptation node on real DDS: what the registry says is what the segmentation node is told; bad picks go back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.model_samples import WHO, registry_of
from helpers.ros_client import NodeProcess, RosClient
from lifecycle_msgs.msg import Transition, TransitionEvent
from robin_msgs.msg import PickOutcome
from robin_msgs.srv import LoadModel
from std_srvs.srv import Trigger

from edge_adapt.models.registry import ModelRegistry
from robin_bringup.security_policy import rights_of
from robin_bringup.stations import STATIONS, StationOptions
from robin_perception.core.errors import Code
from robin_perception.nodes.qos import RESULT
from robin_perception.topics import OUTCOME

pytestmark = pytest.mark.slow

NODE = "/adaptation"


class Segmentation:
    """What takes models in a test. refused: code that it answers for the version of that number."""

    def __init__(self, client: RosClient) -> None:
        self.paths: list[str] = []
        self.versions: list[str] = []
        self.refused: dict[str, int] = {}
        client.node.create_service(LoadModel, "load_model", self._load)

    def _load(self, request: Any, response: Any) -> Any:
        self.paths.append(Path(request.path).name)
        self.versions.append(request.version)
        response.code = self.refused.get(self.paths[-1], 0)
        response.model_id = self.paths[-1]
        return response


@pytest.fixture
def client() -> Iterator[RosClient]:
    with RosClient() as found:
        yield found


@pytest.fixture
def registry(tmp_path: Path) -> ModelRegistry:
    made, paths = registry_of(tmp_path, 2)
    for path in paths[1:]:
        made.add(path, WHO, "")
    return made


@pytest.fixture
def node(registry: ModelRegistry, tmp_path: Path) -> Iterator[NodeProcess]:
    process = NodeProcess("edge_adapt.nodes.adaptation_node", tmp_path / "adaptation.log", parameters(registry))
    yield process
    assert process.stop() == 0, process.log


def told(client: RosClient, segmentation: Segmentation, name: str) -> None:
    client.wait(lambda: segmentation.paths[-1:] == [name], f"load_model of {name}")


def parameters(registry: ModelRegistry) -> dict[str, object]:
    values = {"autostart": True, "diagnostics_rate_hz": 5.0, "models": str(registry.folder)}
    return {**values, "factory": str(registry.factory), "watch.least_before": 5}


def asked(client: RosClient, name: str) -> Any:
    service = client.node.create_client(Trigger, f"{NODE}/{name}")
    client.wait(service.service_is_ready, name)
    future = service.call_async(Trigger.Request())
    client.wait(future.done, f"answer of {name}")
    return future.result()


def test_the_registry_rules_and_services_change_it(
    client: RosClient, registry: ModelRegistry, node: NodeProcess
) -> None:
    segmentation = Segmentation(client)
    told(client, segmentation, "factory")
    registry.activate(1, WHO, "by the command line")
    told(client, segmentation, "000001")
    client.wait(lambda: client.values(NODE).get("why") == "by the command line", "diagnostics")
    segmentation.refused["000002"] = int(Code.HEAD_REJECTED)
    registry.activate(2, WHO, "")
    client.wait(lambda: registry.state().active == 1 and registry.story().entries[-1].event == "given_up", "giving up")
    assert asked(client, "pin").success
    refused = asked(client, "rollback")
    assert (refused.success, "E735" in refused.message) == (False, True)
    assert asked(client, "unpin").success
    assert asked(client, "rollback").success
    told(client, segmentation, "factory")


def test_a_version_with_bad_picks_is_taken_back(client: RosClient, registry: ModelRegistry, node: NodeProcess) -> None:
    segmentation = Segmentation(client)
    told(client, segmentation, "factory")
    outcomes = client.node.create_publisher(PickOutcome, OUTCOME, RESULT)
    client.wait(outcomes.get_subscription_count, "subscription")
    client.wait(lambda: client.values(NODE).get("version") == "0", "diagnostics")

    def pick(result: str) -> None:
        outcomes.publish(PickOutcome(plan_id="p", stage="ended", result=result, vacuum_pa=[0.0] * 8))
        client.spin(0.05)

    for _ in range(60):
        pick("clean")
    registry.activate(1, WHO, "")
    client.wait(lambda: client.values(NODE).get("version") == "1", "version 1")

    def back() -> bool:
        pick("miss")
        return registry.state().active == 0

    client.wait(back, "the factory's model")
    entry = registry.story().entries[-1]
    assert (entry.by, entry.data["code"]) == ("watch", int(Code.MODEL_PICKS_WORSE))
    told(client, segmentation, "factory")


def test_without_versions_nothing_is_told_until_the_first(client: RosClient, tmp_path: Path) -> None:
    registry, paths = registry_of(tmp_path, 1)
    process = NodeProcess("edge_adapt.nodes.adaptation_node", tmp_path / "log", parameters(registry))
    segmentation = Segmentation(client)
    client.wait(lambda: client.values(NODE).get("why", "").startswith("no version"), "diagnostics")
    client.spin(1.0)
    assert segmentation.paths == [] and not registry.folder.exists()
    registry.activate(registry.add(paths[1], WHO, ""), WHO, "")
    told(client, segmentation, "000001")
    assert segmentation.versions == ["1"]
    events = client.node.create_publisher(TransitionEvent, "segmentation/transition_event", 10)
    client.wait(events.get_subscription_count, "subscription")
    client.wait(lambda: client.values(NODE).get("version") == "1", "diagnostics")
    events.publish(TransitionEvent(transition=Transition(id=Transition.TRANSITION_CONFIGURE)))
    client.wait(lambda: segmentation.versions == ["1", "1"], "the same once more, for a node that began anew")
    assert process.stop() == 0, process.log


def test_the_policy_names_all_that_it_uses(client: RosClient, node: NodeProcess) -> None:
    rights = rights_of("adaptation", STATIONS["workcell"], StationOptions())
    graph = client.node
    ask = {
        "publish": graph.get_publisher_names_and_types_by_node,
        "subscribe": graph.get_subscriber_names_and_types_by_node,
        "reply": graph.get_service_names_and_types_by_node,
        "request": graph.get_client_names_and_types_by_node,
    }
    client.wait(lambda: client.status(NODE), "the node")
    client.wait(lambda: "adaptation" in graph.get_node_names(), "its name, which may come after its messages")
    client.wait(lambda: ask["request"]("adaptation", "/"), "its clients")
    client.spin(1.0)  # discovery has no last message
    for verb, names in ask.items():
        allowed = {f"/{name.replace('~', 'adaptation').lstrip('/')}" for name in getattr(rights, verb)}
        assert {name for name, _ in names("adaptation", "/")} <= allowed, verb
