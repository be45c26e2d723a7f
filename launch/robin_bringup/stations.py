"""The stations as plain data: which processes, with which nodes and parameters, in which order, how often restarted.

The launch files (``robin_bringup.launching``) and the plain runner (``robin_bringup.runner``) both start what stands
here, so a station is the same one with and without the ``launch`` package.
"""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, field_validator

from robin_bringup.node_table import ACCEPTANCE, ADAPTATION, MANAGER, NODES, UPLINK, WORKCELL, NodeSpec
from robin_bringup.parameter_files import (
    check_parameter_file,
    check_parameter_names,
    check_parameter_values,
    parameters_of,
)
from robin_bringup.ros_arguments import RosArguments, parse_ros_arguments
from robin_bringup.station_models import Setting, learned_overrides, model_override
from robin_perception.core.config import StrictConfig
from robin_perception.core.errors import Code, RobinError

CONFIG_FOLDER = Path(__file__).resolve().parent / "config"
SIMULATED_PARAMETERS = "simulated.yaml"
STOP_S = 15.0
"""A process may take so long to end on SIGINT: a pick under way is finished, what waits is written."""
SIMULATED = "sim"
TOPICS = "topics"


@dataclass(frozen=True)
class Respawn:
    """A process that ends by itself is started again after ``delay_s``, at most ``limit`` times in all."""

    delay_s: float = 2.0
    limit: int = 10


@dataclass(frozen=True)
class Station:
    """cameras: what may take the camera's place, the first by default. pipeline: nodes after the camera, in the order
    of bring-up. parameters: shipped parameter file in ``CONFIG_FOLDER``. acceptance: judge N picks, then end."""

    name: str
    description: str
    cameras: tuple[str, ...]
    parameters: str
    pipeline: tuple[str, ...] = ("segmentation", "planning", "pick_check", "recorder", ADAPTATION)
    acceptance: bool = False
    respawn: Respawn = Respawn()


CAMERAS = {
    "realsense": "Intel RealSense, by the vendor's SDK",
    "folder": "image folders, as robin dataset make writes them (camera_path)",
    "bag": "frames of an MCAP bag (camera_path)",
    "realsense_bag": "recording of a RealSense camera, .bag (camera_path)",
    TOPICS: "topics of another driver, such as realsense2_camera; no camera node is started",
    SIMULATED: "the simulated cell, camera and arm at once",
}
NEEDS_PATH = frozenset({"folder", "bag", "realsense_bag"})

STATIONS = {
    station.name: station
    for station in (
        Station(
            "workcell",
            "the cell on a robot: its program asks for picks and reports what became of them",
            ("realsense", TOPICS, "folder", "bag", "realsense_bag", SIMULATED),
            "workcell.yaml",
        ),
        Station(
            "test_station",
            "acceptance: N picks judged against thresholds, a candidate model beside the current one",
            ("realsense", TOPICS, "folder", "bag", "realsense_bag", SIMULATED),
            "test_station.yaml",
            ("segmentation", "planning", "pick_check", "recorder"),  # what is judged stays the same meanwhile
            acceptance=True,
        ),
        Station(
            "sim_station",
            "the same nodes with the simulated cell in place of camera and arm",
            (SIMULATED,),
            "workcell.yaml",
        ),
    )
}


class StationOptions(StrictConfig):
    """What a user may say when a station is started. The fields are the launch arguments."""

    camera: str = Field("", description="What takes the camera's place; empty = the station's first.")
    camera_path: str = Field("", description="Folder or file that the camera kind reads.")
    driver: Literal["", "realsense", "orbbec", "zivid"] = Field(
        "", description="Camera driver of another package whose topics are taken, by its own names."
    )
    engine: str = Field("", description="Inference engine by name; empty = as in the parameters file.")
    supervision: Literal["", "auto", "always", "never"] = Field(
        "",
        description="Engine in a process of its own; auto = where it needs a driver, empty = as in the file.",
    )
    model: str = Field(
        "", description="Folder of the model bundle; empty = as in the parameters file, else the shipped."
    )
    uplink: str = Field(
        "", description="Folder of the robot's key for the fleet (robin uplink enrol); empty = nothing is sent."
    )
    camera_pose: str = Field(
        "",
        description="Pose of the camera's optical frame in base_link for all nodes: x,y,z (m), qx,qy,qz,qw; "
        "empty = as in the parameters files.",
    )
    params_file: str = Field("", description="YAML file of parameters that override the station's own.")
    ros_args: str = Field(
        "", description="What follows --ros-args, for every process: -p, -r, --params-file as ROS takes them."
    )
    namespace: str = Field(
        "",
        pattern=r"^/?([A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*)?$",
        description="Namespace of all nodes and topics; empty = none.",
    )
    domain: int = Field(-1, ge=-1, le=232, description="ROS domain of the station; -1 = ROS_DOMAIN_ID as it stands.")
    composition: bool = Field(
        True, description="One process for all nodes, so that images cross no socket; false = a process each."
    )
    log_level: Literal["debug", "info", "warn", "error", "fatal"] = Field("info", description="Least level logged.")
    picks: int = Field(0, ge=0, le=100_000, description="Picks of an acceptance; 0 = as in the thresholds file.")
    thresholds: str = Field("", description="YAML file of an acceptance's thresholds; empty = the shipped one.")
    candidate: str = Field("", description="Model bundle to run beside the current one on the same frames.")
    report: str = Field("", description="Folder for the report of an acceptance; empty = acceptance_report.")

    @field_validator("camera_pose")
    @classmethod
    def _seven_numbers(cls, value: str) -> str:
        try:
            numbers = [float(number) for number in value.split(",")] if value else []
        except ValueError:
            numbers = [math.nan]
        if value and (len(numbers) != 7 or not all(map(math.isfinite, numbers))):
            raise ValueError("needs seven numbers: x,y,z,qx,qy,qz,qw")
        return value

    @field_validator("params_file", "thresholds")
    @classmethod
    def _exists(cls, value: str) -> str:
        if value and not Path(value).is_file():
            raise ValueError("no such file")
        return value


ACCEPTANCE_OPTIONS = ("picks", "thresholds", "candidate", "report")


def option_names(station: Station) -> tuple[str, ...]:
    """Options that ``station`` takes, in order: those of an acceptance only where there is one."""
    return tuple(name for name in StationOptions.model_fields if station.acceptance or name not in ACCEPTANCE_OPTIONS)


@dataclass(frozen=True)
class Process:
    """One process to start.

    nodes: names of the nodes it hosts. arguments: its own; ros_arguments: what follows ``--ros-args``, but for the
    namespace. overrides: node -> parameter -> value, over every file. user_arguments: the user's, over all.
    environment: set beside the inherited one. respawn: None = its end ends the station.
    """

    program: NodeSpec
    nodes: tuple[str, ...]
    arguments: tuple[str, ...]
    ros_arguments: tuple[str, ...]
    overrides: dict[str, dict[str, Any]]
    user_arguments: tuple[str, ...]
    namespace: str
    environment: dict[str, str]
    respawn: Respawn | None

    @property
    def name(self) -> str:
        return self.program.name

    def all_ros_arguments(self, folder: Path) -> tuple[str, ...]:
        """Everything after ``--ros-args`` but the namespace, later ones over earlier ones. ``overrides`` are written
        into ``folder`` as a parameter file: it reaches nodes in any namespace, which ``-p`` with a node's name does
        not."""
        if not self.overrides:
            return (*self.ros_arguments, *self.user_arguments)
        content = {f"/**/{node}": {"ros__parameters": values} for node, values in self.overrides.items()}
        path = folder / f"{self.name}.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return (*self.ros_arguments, "--params-file", str(path), *self.user_arguments)


def station_named(name: str) -> Station:
    """``sim`` is ``sim_station``. Raises RobinError OPTION_INVALID naming the known ones."""
    for full, station in STATIONS.items():
        if full in (name, f"{name}_station"):
            return station
    raise RobinError(Code.OPTION_INVALID, f"unknown station '{name}'; known: {', '.join(STATIONS)}")


def camera_of(station: Station, options: StationOptions) -> str:
    """The kind of camera in force. Raises RobinError OPTION_INVALID for one that the station cannot have."""
    camera = options.camera or (TOPICS if options.driver else station.cameras[0])
    if camera not in station.cameras:
        raise RobinError(
            Code.OPTION_INVALID, f"{station.name}: camera '{camera}': known are {', '.join(station.cameras)}"
        )
    if options.driver and camera != TOPICS:
        raise RobinError(Code.OPTION_INVALID, f"{station.name}: driver is for camera '{TOPICS}', not for '{camera}'")
    if camera in NEEDS_PATH and not options.camera_path:
        raise RobinError(Code.OPTION_INVALID, f"{station.name}: camera '{camera}' needs camera_path")
    return camera


def managed_nodes(station: Station, options: StationOptions) -> tuple[str, ...]:
    """Lifecycle nodes of the station in the order of bring-up."""
    camera = camera_of(station, options)
    pipeline = (*station.pipeline, *((UPLINK,) if options.uplink else ()))
    eye = {SIMULATED: ("sim_cell",), TOPICS: ()}.get(camera, ("camera",))
    # The simulated cell begins to pick when it is active, so it comes last; a camera comes first.
    return (*pipeline, *eye) if camera == SIMULATED else (*eye, *pipeline)


def parameter_files(station: Station, options: StationOptions) -> tuple[Path, ...]:
    """Files of parameters, later ones over earlier ones: the station's, the simulated cell's, the user's."""
    files = [CONFIG_FOLDER / station.parameters]
    if camera_of(station, options) == SIMULATED:
        files.append(CONFIG_FOLDER / SIMULATED_PARAMETERS)
    if options.params_file:
        files.append(Path(options.params_file).absolute())
    return tuple(files)


def enclave_of(process: str) -> str:
    """The SROS 2 enclave of a station's process, or of the robot's program (``robin_bringup.security_policy``)."""
    return f"/robin/{process}"


def given_ros_arguments(options: StationOptions) -> RosArguments:
    """Raises RobinError OPTION_INVALID, INPUT_MISSING."""
    return parse_ros_arguments(shlex.split(options.ros_args))


def check_parameters(station: Station, options: StationOptions) -> None:
    """Refuse what a node of the station would refuse, in files and in ``-p``, before anything starts.

    Raises RobinError CONFIG_UNKNOWN_KEY, CONFIG_OUT_OF_RANGE, CONFIG_UNREADABLE naming file, node and key.
    """
    hosted = [node for process in station_processes(station, options) for node in process.nodes]
    given = given_ros_arguments(options)
    for file in (*parameter_files(station, options), *given.files):
        check_parameter_file(file, hosted, options.namespace)
    for node, name, value in given.parameters:
        nodes = [node] if node else hosted
        source = f"--ros-args: -p {node}:" if node else "--ros-args: -p"
        if node not in ("", *hosted):
            raise RobinError(Code.CONFIG_UNKNOWN_KEY, f"{source}{name}: no such node; known: {', '.join(hosted)}")
        check_parameter_names({name: value}, nodes, source)
        for one in nodes:
            check_parameter_values({name: value}, one, source)


def station_processes(
    station: Station, options: StationOptions, status_file: Path | None = None
) -> tuple[Process, ...]:
    """Everything to start. status_file: where the manager writes the state of the station, None = nowhere.

    Raises RobinError OPTION_INVALID.
    """
    nodes = managed_nodes(station, options)
    overrides = _overrides(station, options, nodes, status_file)
    environment = {} if options.domain < 0 else {"ROS_DOMAIN_ID": str(options.domain)}
    files = [str(file) for file in parameter_files(station, options)]
    user = given_ros_arguments(options).words

    def process(
        program: NodeSpec, hosted: tuple[str, ...], arguments: tuple[str, ...] = (), once: bool = False
    ) -> Process:
        values = {node: overrides[node] for node in hosted if overrides.get(node)}
        from_files = (part for file in files for part in ("--params-file", file))
        ros = (*from_files, "--log-level", options.log_level, "--enclave", enclave_of(program.name))
        respawn = None if once else station.respawn
        return Process(program, hosted, arguments, ros, values, user, options.namespace, environment, respawn)

    if options.composition:
        found = [process(WORKCELL, nodes, ("--nodes", ",".join(nodes)))]
    else:
        found = [process(NODES[name], (name,)) for name in nodes]
    found.append(process(NODES[MANAGER], (MANAGER,)))
    if station.acceptance:
        found.append(process(NODES[ACCEPTANCE], (ACCEPTANCE,), once=True))
    return tuple(found)


def _uplink_overrides(options: StationOptions, setting: Setting) -> dict[str, Any]:
    """Its folder, and of what nobody set: the recorder's store and records."""
    values = {"folder": str(Path(options.uplink).absolute())}
    for own, of_recorder in (("store", "store_folder"), ("decisions", "folder")):
        if setting(UPLINK, own) is None and (named := setting("recorder", of_recorder)):
            values[own] = str(Path(named).absolute())
    return values


def _overrides(
    station: Station, options: StationOptions, nodes: tuple[str, ...], status_file: Path | None
) -> dict[str, dict[str, Any]]:
    """Node -> parameter -> value: what the options say, over every parameter file."""
    camera, setting = camera_of(station, options), partial(_setting, station, options)
    values: dict[str, dict[str, Any]] = {node: {} for node in ("segmentation", *nodes)}
    looking = [node for node in nodes if node not in (ADAPTATION, UPLINK)]
    if options.camera_pose:
        numbers = [float(number) for number in options.camera_pose.split(",")]
        for node in looking:
            values[node] |= {"camera_pose_xyz_m": numbers[:3], "camera_pose_xyzw": numbers[3:]}
    if options.driver:
        for node in looking:
            values[node]["camera_driver"] = options.driver
    if options.engine:
        values["segmentation"]["engine"] = options.engine
    if options.supervision:
        values["segmentation"]["supervision.mode"] = options.supervision
    model = model_override(options.model, setting)
    if model:
        values["segmentation"]["model"] = model
    if UPLINK in nodes:
        values[UPLINK] |= _uplink_overrides(options, setting)
    if ADAPTATION in nodes:
        for node, learned in learned_overrides(model, setting).items():
            values[node] |= learned
    if camera == "folder":  # a few pictures, over and over
        for node in set(looking) & set(station.pipeline):
            values[node]["gate.frozen_after"] = 0
    if "camera" in nodes:
        values["camera"]["source"] = camera
        if options.camera_path:
            values["camera"]["path"] = str(Path(options.camera_path).absolute())
    values[MANAGER] = {"nodes": list(nodes)}
    if status_file is not None:
        values[MANAGER]["status_file"] = str(status_file.absolute())
    if station.acceptance:
        values[ACCEPTANCE] = _acceptance(options, model)
    return values


def _setting(station: Station, options: StationOptions, node: str, name: str) -> Any:
    """What parameter files and ``-p`` say; None where none does."""
    given, found = given_ros_arguments(options), None
    for file in (*parameter_files(station, options), *given.files):
        found = parameters_of(file, node, options.namespace).get(name, found)
    return next((value for to, of, value in reversed(given.parameters) if of == name and to in ("", node)), found)


def _acceptance(options: StationOptions, model: str) -> dict[str, Any]:
    values: dict[str, Any] = {"model": model} if model else {}
    if options.engine:
        values["engine"] = options.engine
    if options.picks:
        values["picks"] = options.picks
    paths = {"thresholds_file": options.thresholds, "candidate": options.candidate, "report_folder": options.report}
    values.update({key: str(Path(path).absolute()) for key, path in paths.items() if path})
    return values
