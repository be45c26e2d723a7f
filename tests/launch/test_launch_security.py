"""SROS 2 policies: what is shipped, that it names all that nodes use over real DDS, and that sros2 takes it."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from robin_bringup.security_policy import policy_xml
from robin_bringup.stations import STATIONS, StationOptions, station_processes

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "launch" / "robin_bringup" / "security"
PATIENCE_S = 120.0


def allowed(policy: str, enclave: str) -> dict[tuple[str, str], set[str]]:
    """(node, "publish") -> full names, of one enclave; ``*`` for all nodes of the enclave together."""
    found: dict[tuple[str, str], set[str]] = {}
    (rules,) = [e for e in ElementTree.fromstring(policy).iter("enclave") if e.get("path") == enclave]
    for profile in rules.iter("profile"):
        node, namespace = profile.attrib["node"], profile.attrib["ns"].rstrip("/")
        for group in profile:
            for verb, rule in group.attrib.items():
                assert rule == "ALLOW"
                for element in group:
                    name = str(element.text)
                    full = name.replace("~", f"{namespace}/{node}") if name[0] in "~/" else f"{namespace}/{name}"
                    found.setdefault((node, verb), set()).add(full)
    return found


@pytest.mark.parametrize("name", STATIONS)
def test_the_shipped_policy_is_the_one_that_the_station_makes(name: str) -> None:
    file = FOLDER / f"{name}.policy.xml"
    assert file.read_text() == policy_xml(STATIONS[name], StationOptions()), (
        f"run: robin ros policy --station {name} --out launch/robin_bringup/security/{file.name}"
    )


@pytest.mark.parametrize("composition", [True, False])
@pytest.mark.parametrize("name", STATIONS)
def test_every_process_has_an_enclave_with_its_nodes(name: str, composition: bool) -> None:
    options = StationOptions(composition=composition)
    policy = policy_xml(STATIONS[name], options)
    for process in station_processes(STATIONS[name], options):
        at = process.ros_arguments.index("--enclave")
        rights = allowed(policy, process.ros_arguments[at + 1])
        assert {node for node, _ in rights} == set(process.nodes)


def test_a_policy_follows_namespace_and_driver() -> None:
    options = StationOptions(driver="zivid", namespace="/cell_a")
    rights = allowed(policy_xml(STATIONS["workcell"], options), "/robin/segmentation")
    assert {"/color/image_color", "/depth/image", "/color/camera_info"} <= rights["segmentation", "subscribe"]
    assert "/cell_a/scene" in rights["segmentation", "publish"] and "/scene" not in rights["segmentation", "publish"]
    assert "/cell_a/segmentation/change_state" in rights["segmentation", "reply"]


def test_nobody_may_more_than_its_work_needs() -> None:
    policy = policy_xml(STATIONS["workcell"], StationOptions())
    rights = {node: allowed(policy, f"/robin/{node}") for node in ("planning", "robot", "camera")}
    assert "/plan" not in rights["robot"]["robot", "publish"], "only planning publishes plans"
    assert ("robot", "reply") in rights["robot"] and "/plan_pick" not in rights["robot"]["robot", "reply"]
    assert ("planning", "request") not in rights["planning"]
    assert "/camera/color/image_raw" in rights["camera"]["camera", "publish"]


@pytest.mark.slow
def test_the_policy_names_every_topic_and_service_that_nodes_use(tmp_path: Path) -> None:
    """The graph of a running station: each node in a process of its own, in a namespace, with an acceptance."""
    from helpers.perception_graphs import colour_bundle
    from helpers.ros_client import DOMAIN, RosClient  # skips where ROS is not installed
    from helpers.ros_environment import ros_environ

    from robin_bringup.runner import StationRunner

    colour_bundle(tmp_path / "bundle")
    params = tmp_path / "params.yaml"
    params.write_text(f"/**/recorder: {{ros__parameters: {{folder: {tmp_path / 'decisions'}}}}}\n")
    options = StationOptions(
        camera="sim", engine="onnxruntime", model=str(tmp_path / "bundle"), params_file=str(params), domain=DOMAIN,
        namespace="cell_a", composition=False, picks=1000, report=str(tmp_path / "report"),
    )  # fmt: skip
    station = STATIONS["test_station"]
    policy = policy_xml(station, options)
    expected = {node for process in station_processes(station, options) for node in process.nodes}
    log = (tmp_path / "log").open("wb")
    runner = StationRunner(station, options, lambda line: None, log, ros_environ())
    with log, RosClient() as client, runner:
        runner.wait_active(PATIENCE_S)
        graph = client.node
        client.wait(lambda: expected <= {name for name, _ in graph.get_node_names_and_namespaces()}, "all nodes")
        asked = {
            "publish": graph.get_publisher_names_and_types_by_node,
            "subscribe": graph.get_subscriber_names_and_types_by_node,
            "reply": graph.get_service_names_and_types_by_node,
            "request": graph.get_client_names_and_types_by_node,
        }
        client.wait(lambda: asked["request"]("acceptance", "/cell_a"), "the acceptance's clients")
        client.spin(2.0)  # discovery has no last message
        for node in expected:
            rights = allowed(policy, f"/robin/{node}")
            for verb, names in asked.items():
                used = {name for name, _ in names(node, "/cell_a")}
                assert used <= rights.get((node, verb), set()), (node, verb)
                assert verb != "publish" or "/rosout" in used, "the graph is known"


def test_sros2_takes_the_policies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own schema and its own permissions, where it is installed."""
    artifacts = pytest.importorskip("sros2.api._artifact_generation", reason="sros2 comes with ROS 2, not from PyPI")
    monkeypatch.setenv("ROS_DOMAIN_ID", "7")
    artifacts.generate_artifacts(tmp_path / "keystore", [], sorted(FOLDER.glob("*.policy.xml")))
    permissions = (tmp_path / "keystore" / "enclaves" / "robin" / "planning" / "permissions.xml").read_text()
    assert "<topic>rt/plan</topic>" in permissions and "<topic>rr/plan_pickReply</topic>" in permissions
