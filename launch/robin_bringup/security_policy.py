"""Policies of SROS 2 for the stations: which enclave may publish, subscribe, serve and call what. No ROS in here.

Each process has an enclave of its own, ``/robin/<process>``; the robot's program has ``/robin/robot``. What is not
named is denied.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from xml.etree import ElementTree

from robin_bringup.node_table import ACCEPTANCE, ADAPTATION, MANAGER, UPLINK, WORKCELL
from robin_bringup.stations import SIMULATED, TOPICS, Station, StationOptions, camera_of, enclave_of, managed_nodes
from robin_perception.topics import CUP_HEALTH, DECISION, GRASPS, HELP, OUTCOME, OVERLAY, PLAN, SCENE, camera_topics

ROBOT = "robot"
_VERSION = "0.2.0"


@dataclass(frozen=True)
class Rights:
    """Names relative to the station's namespace, ``~`` for the node's own, or absolute."""

    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    reply: tuple[str, ...] = ()
    request: tuple[str, ...] = ()

    def __add__(self, other: Rights) -> Rights:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Rights(*(tuple(dict.fromkeys((*mine, *theirs))) for mine, theirs in pairs))


_PARAMETERS = (
    "describe_parameters", "get_parameter_types", "get_parameters", "list_parameters", "set_parameters",
    "set_parameters_atomically",
)  # fmt: skip
_STATES = ("change_state", "get_state", "get_available_states", "get_available_transitions", "get_transition_graph")
_EVERY_NODE = Rights(
    publish=("/rosout", "/parameter_events"),
    subscribe=("/parameter_events", "/clock"),
    reply=tuple(f"~/{name}" for name in (*_PARAMETERS, "get_type_description")),
)
_LIFECYCLE = Rights(publish=("~/transition_event", "/diagnostics"), reply=tuple(f"~/{name}" for name in _STATES))
_POSE = Rights(subscribe=("/tf", "/tf_static"))
_NODES = {
    "camera": Rights(),
    "sim_cell": Rights(
        subscribe=(SCENE, HELP),
        reply=("pick_once", "new_pile"),
        request=("plan_pick", "report_outcome", "forget_failures", "answer_help"),
    ),
    "segmentation": Rights((SCENE, OVERLAY), reply=("load_model", "segment_frame", "list_codes")),
    "planning": Rights((PLAN, GRASPS, CUP_HEALTH), (SCENE, OUTCOME), ("plan_pick", "forget_failures", "reset_cups")),
    "pick_check": Rights(
        (OUTCOME, HELP), (SCENE, PLAN), ("report_outcome", "list_help", "answer_help"), ("segment_frame",)
    ),
    "recorder": Rights((DECISION,), (SCENE, PLAN, OUTCOME, HELP, CUP_HEALTH)),
    ADAPTATION: Rights(
        subscribe=(OUTCOME, "segmentation/transition_event"),
        reply=("~/rollback", "~/pin", "~/unpin"),
        request=("load_model",),
    ),
    UPLINK: Rights(),
}
_ROBOT = Rights(
    subscribe=(SCENE, PLAN, OUTCOME, DECISION, HELP, CUP_HEALTH, "/diagnostics"),
    request=(
        "plan_pick", "report_outcome", "forget_failures", "reset_cups", "list_help", "answer_help",
        f"{MANAGER}/is_active", f"{MANAGER}/start", f"{MANAGER}/stop",
    ),
)  # fmt: skip
_ACCEPTANCE = Rights(subscribe=(DECISION,), request=(f"{MANAGER}/is_active", f"{MANAGER}/stop"))


def rights_of(node: str, station: Station, options: StationOptions) -> Rights:
    """All that a node of the station may do."""
    nodes = managed_nodes(station, options)
    if node == MANAGER:
        return _EVERY_NODE + _manager(nodes)
    if node in (ACCEPTANCE, ROBOT):
        return _EVERY_NODE + (_ACCEPTANCE if node == ACCEPTANCE else _ROBOT)
    if node == ADAPTATION:
        return _EVERY_NODE + _LIFECYCLE + _NODES[node]
    driver = options.driver if camera_of(station, options) == TOPICS and options.driver else "robin"
    topics = camera_topics("", driver)
    images = (topics.color, topics.depth, topics.info)
    looks = Rights(publish=images) if node in ("camera", "sim_cell") else Rights(subscribe=images) + _POSE
    return _EVERY_NODE + _LIFECYCLE + _NODES[node] + looks


def policy_xml(station: Station, options: StationOptions) -> str:
    """The policy file of a station, for one process and for a process each, in the format of sros2."""
    nodes = managed_nodes(station, options)
    enclaves = {WORKCELL.name: nodes, **{node: (node,) for node in nodes}, MANAGER: (MANAGER,)}
    if station.acceptance:
        enclaves[ACCEPTANCE] = (ACCEPTANCE,)
    if camera_of(station, options) != SIMULATED:
        enclaves[ROBOT] = (ROBOT,)
    policy = ElementTree.Element("policy", version=_VERSION)
    listed = ElementTree.SubElement(policy, "enclaves")
    for process, hosted in enclaves.items():
        enclave = ElementTree.SubElement(listed, "enclave", path=enclave_of(process))
        profiles = ElementTree.SubElement(enclave, "profiles")
        for node in hosted:
            _add_profile(profiles, node, rights_of(node, station, options), options.namespace)
    ElementTree.indent(policy)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(policy, "unicode")}\n'


def _manager(nodes: Iterable[str]) -> Rights:
    return Rights(
        publish=("/diagnostics",),
        subscribe=("/diagnostics", *(f"{node}/transition_event" for node in nodes)),
        reply=("~/is_active", "~/start", "~/stop"),
        request=tuple(f"{node}/{name}" for node in nodes for name in ("change_state", "get_state")),
    )


def _add_profile(profiles: ElementTree.Element, node: str, rights: Rights, namespace: str) -> None:
    profile = ElementTree.SubElement(profiles, "profile", ns=f"/{namespace.strip('/')}", node=node)
    for verb, names in vars(rights).items():
        if not names:
            continue
        kind = "topic" if verb in ("publish", "subscribe") else "service"
        group = ElementTree.SubElement(profile, f"{kind}s", {verb: "ALLOW"})
        for name in names:
            ElementTree.SubElement(group, kind).text = name
