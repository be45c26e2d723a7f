"""The uplink node on real DDS: what it sends with is a process of its own, and a fleet that is away stops nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from helpers.fleet_server import running_server
from helpers.ros_client import NodeProcess, RosClient
from helpers.store_samples import small_sample

from edge_adapt.store.config import StoreConfig
from edge_adapt.store.store import SampleStore

pytestmark = pytest.mark.slow

NODE = "/uplink"


@pytest.fixture
def client() -> Iterator[RosClient]:
    with RosClient() as found:
        yield found


def parameters(tmp_path: Path) -> dict[str, object]:
    quick = {"poll_s": 0.1, "retry_s": 0.2, "backoff_least_s": 0.05, "backoff_most_s": 0.2}
    folders = {"store": str(tmp_path / "store"), "folder": str(tmp_path / "robot")}
    return {"autostart": True, "diagnostics_rate_hz": 5.0, **quick, **folders}


def test_it_sends_warns_while_the_fleet_is_away_and_goes_on(client: RosClient, tmp_path: Path) -> None:
    with SampleStore(tmp_path / "store", StoreConfig(least_free_mb=0)) as store:
        store.add(small_sample(1))
    with running_server(tmp_path) as fleet:
        fleet.config(tmp_path / "store")
        port = int(fleet.endpoint.rpartition(":")[2])
        node = NodeProcess("edge_adapt.nodes.uplink_node", tmp_path / "log", parameters(tmp_path))
        client.wait(lambda: "record" in fleet.ingest.kinds.values(), "the sample at the fleet")
        client.wait(lambda: client.values(NODE).get("connected") == "true", "diagnostics")
        child = int(client.values(NODE)["process"])
        assert child != os.getpid()
    status = client.wait_diagnosed(NODE, "E801")
    assert status.level == DiagnosticStatus.WARN and client.state(NODE) == "active"
    with running_server(tmp_path, port=port):
        client.wait(lambda: client.values(NODE).get("connected") == "true", "the fleet again")
    assert node.stop() == 0, node.log
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_a_robot_that_is_not_enrolled_is_active_with_a_warning(client: RosClient, tmp_path: Path) -> None:
    node = NodeProcess("edge_adapt.nodes.uplink_node", tmp_path / "log", parameters(tmp_path))
    status = client.wait_diagnosed(NODE, "E802")
    assert status.level == DiagnosticStatus.WARN and client.state(NODE) == "active"
    assert node.stop() == 0, node.log
