"""Stations, launch files and parameter files: every name in them exists. Needs no ROS."""

from __future__ import annotations

import ast
import runpy
from itertools import product
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import setuptools
import yaml

from robin_bringup.acceptance import AcceptanceThresholds
from robin_bringup.node_table import NODES, WORKCELL
from robin_bringup.parameter_files import check_parameter_file, matches, parameters_of, read_parameter_file
from robin_bringup.stations import (
    CAMERAS,
    CONFIG_FOLDER,
    NEEDS_PATH,
    STATIONS,
    Station,
    StationOptions,
    camera_of,
    check_parameters,
    managed_nodes,
    option_names,
    parameter_files,
    station_named,
    station_processes,
)
from robin_perception.core.config import load_config, parse_config
from robin_perception.core.errors import Code, RobinError
from robin_perception.node_config import node_configs
from robin_perception.node_parameters import config_from_flat, parameter_specs

ROOT = Path(__file__).resolve().parents[2]
BRINGUP = ROOT / "launch"
LAUNCH_FILES = sorted((BRINGUP / "robin_bringup" / "launch").glob("*.launch.py"))
ROOMS = {
    "robin_perception": ROOT / "ros2_ws/src/robin_perception",
    "robin_grasp": ROOT / "ros2_ws/src/robin_grasp",
    "edge_adapt": ROOT / "edge_adapt",
    "robin_sim": ROOT / "sim",
    "robin_bringup": BRINGUP,
}
CASES = [(station, camera) for station in STATIONS.values() for camera in station.cameras]


def options_for(camera: str, **more: Any) -> StationOptions:
    path = "recording" if camera in NEEDS_PATH else ""
    return StationOptions(camera=camera, camera_path=path, **more)


@pytest.fixture
def setup_arguments(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a room's setup.py hands to setuptools."""

    def of(package: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        monkeypatch.setattr(setuptools, "setup", lambda **values: found.update(values))
        monkeypatch.chdir(ROOMS[package])
        runpy.run_path("setup.py")
        return found

    return of


def test_a_launch_file_for_every_station() -> None:
    described = {}
    for path in LAUNCH_FILES:
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        (call,) = [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "station_description"]
        (argument,) = call.args
        assert isinstance(argument, ast.Constant)
        described[path.name] = argument.value
    assert described == {f"{name}.launch.py": name for name in STATIONS}


def test_launch_and_parameter_files_are_installed(setup_arguments: Any) -> None:
    installed = dict(setup_arguments("robin_bringup")["data_files"])
    launch = {Path(file).name for file in installed["share/robin_bringup/launch"]}
    config = {Path(file).name for file in installed["share/robin_bringup/config"]}
    assert launch == {path.name for path in LAUNCH_FILES}
    assert config == {path.name for path in CONFIG_FOLDER.iterdir() if path.is_file()}
    assert all((BRINGUP / file).is_file() for files in installed.values() for file in files)


@pytest.mark.parametrize("program", [*NODES.values(), WORKCELL], ids=lambda program: program.name)
def test_every_executable_exists(program: Any, setup_arguments: Any) -> None:
    scripts = setup_arguments(program.package)["entry_points"]["console_scripts"]
    targets = {line.split("=")[0].strip(): line.split("=")[1].strip() for line in scripts}
    assert targets.get(program.executable) == f"{program.module}:main"
    source = ROOMS[program.package] / (program.module.replace(".", "/") + ".py")
    functions = [n.name for n in ast.parse(source.read_text()).body if isinstance(n, ast.FunctionDef)]
    assert "main" in functions


def test_packages_that_a_station_starts_are_dependencies() -> None:
    depends = {element.text for element in ElementTree.parse(BRINGUP / "package.xml").iter("exec_depend")}
    started = {spec.package for spec in NODES.values()} - {"robin_bringup"}
    assert started | {"launch", "launch_ros", "rclpy"} <= depends


@pytest.mark.parametrize(("station", "camera"), CASES, ids=lambda value: getattr(value, "name", value))
def test_parameters_of_every_station_are_valid(station: Station, camera: str) -> None:
    """Shipped files and every launch argument at once, against the nodes' own parameter sets."""
    options = options_for(
        camera,
        engine="onnxruntime",
        supervision="always",
        model="some/bundle",
        camera_pose="0.75,0,1.3, 1,0,0,0",
        picks=3,
        candidate="other/bundle",
        report="somewhere",
        thresholds=str(CONFIG_FOLDER / "acceptance.yaml"),
    )
    configs = node_configs()
    for composition in (True, False):
        chosen = options.model_copy(update={"composition": composition})
        processes = station_processes(station, chosen, Path("status.json"))
        assert [node for p in processes for node in p.nodes if NODES[node].managed] == [*managed_nodes(station, chosen)]
        for process, node in ((p, n) for p in processes for n in p.nodes):
            assert node in configs
            config_from_flat(configs[node], process.overrides.get(node, {}), node)
            assert process.overrides.get(node, {}).keys() <= parameter_specs(configs[node]).keys()
    for file in parameter_files(station, options):
        check_parameter_file(file, configs)


def test_shipped_thresholds_are_valid_and_judge() -> None:
    thresholds = load_config(AcceptanceThresholds, CONFIG_FOLDER / "acceptance.yaml")
    assert any(limit is not None for limit in thresholds.current.model_dump().values())


def test_order_of_bring_up() -> None:
    workcell, simulated = STATIONS["workcell"], STATIONS["sim_station"]
    assert managed_nodes(workcell, StationOptions()) == (
        "camera", "segmentation", "planning", "pick_check", "recorder", "adaptation",
    )  # fmt: skip
    assert "adaptation" not in managed_nodes(STATIONS["test_station"], options_for("sim")), "it judges one model"
    assert managed_nodes(workcell, options_for("topics"))[0] == "segmentation"
    assert managed_nodes(simulated, StationOptions())[-1] == "sim_cell", "it begins to pick when it is active"


def test_only_the_acceptance_is_not_started_again() -> None:
    processes = station_processes(STATIONS["test_station"], options_for("sim"))
    assert [p.name for p in processes if p.respawn is None] == ["acceptance"]
    assert all(p.respawn.limit > 0 and p.respawn.delay_s > 0 for p in processes if p.respawn is not None)


def test_overrides_reach_nodes_in_any_namespace(tmp_path: Path) -> None:
    (workcell, *_) = station_processes(
        STATIONS["sim_station"], StationOptions(engine="onnxruntime", supervision="never", namespace="/a/b")
    )
    *_, flag, file = workcell.all_ros_arguments(tmp_path)
    assert flag == "--params-file"
    given = parameters_of(Path(file), "segmentation", "/a/b")
    assert (given["engine"], given["supervision.mode"]) == ("onnxruntime", "never")


def test_a_model_in_a_parameter_file_stands_unless_an_option_names_another(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("segmentation: {ros__parameters: {model: mine}}\n")
    station = STATIONS["sim_station"]

    def overrides(**more: Any) -> dict[str, Any]:
        return station_processes(station, StationOptions(**more))[0].overrides.get("segmentation", {})

    assert "model" not in overrides(params_file=str(file))
    assert overrides(params_file=str(file), model="/other")["model"] == "/other"
    assert overrides()["model"] == str(ROOT / "models" / "base")


def learned_places(station: str = "workcell", **options: Any) -> tuple[str, str, str | None]:
    """models and factory of adaptation, models_folder of segmentation."""
    found = station_processes(STATIONS[station], StationOptions(**options))[0].overrides
    return (
        *(found["adaptation"][key] for key in ("models", "factory")),
        found.get("segmentation", {}).get("models_folder"),
    )


def test_versions_lie_where_segmentation_may_load_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROBIN_MODELS", raising=False)
    base = ROOT / "models" / "base"
    assert learned_places() == (str(base.parent / "learned"), str(base), None)
    assert learned_places(model="/some/where/bundle") == ("/some/where/learned", "/some/where/bundle", None)
    assert learned_places(ros_args="-p segmentation:model:=/a/b")[:2] == ("/a/learned", "/a/b")
    monkeypatch.setenv("ROBIN_MODELS", str(tmp_path))
    assert learned_places() == (str(tmp_path), str(base), str(tmp_path))
    file = tmp_path / "mine.yaml"
    file.write_text("adaptation: {ros__parameters: {models: /mine}}\n")
    found = station_processes(STATIONS["workcell"], StationOptions(params_file=str(file)))[0].overrides
    assert "models" not in found["adaptation"] and found["segmentation"]["models_folder"] == "/mine"


def test_a_station_sends_to_the_fleet_where_it_is_told_to(tmp_path: Path) -> None:
    station = STATIONS["workcell"]
    assert "uplink" not in managed_nodes(station, StationOptions())
    file = tmp_path / "mine.yaml"
    file.write_text("recorder: {ros__parameters: {store_folder: /samples, folder: /records}}\n")
    options = StationOptions(uplink="/keys", params_file=str(file), camera_pose="0,0,1,0,0,0,1")
    assert managed_nodes(station, options)[-1] == "uplink"
    found = station_processes(station, options)[0].overrides["uplink"]
    assert found == {"folder": "/keys", "store": "/samples", "decisions": "/records"}
    file.write_text("uplink: {ros__parameters: {store: /own, rate_mbit: 1.0}}\n")
    found = station_processes(station, options)[0].overrides["uplink"]
    assert "store" not in found


@pytest.mark.parametrize(
    ("values", "code", "text"),
    [
        ({"camera": "webcam"}, Code.OPTION_INVALID, "known are realsense"),
        ({"camera": "folder"}, Code.OPTION_INVALID, "needs camera_path"),
        ({"camera": "sim", "driver": "orbbec"}, Code.OPTION_INVALID, "driver is for camera 'topics'"),
        ({"driver": "kinect"}, Code.CONFIG_OUT_OF_RANGE, "driver"),
        ({"params_file": "nowhere.yaml"}, Code.CONFIG_OUT_OF_RANGE, "no such file"),
        ({"namespace": "1st"}, Code.CONFIG_OUT_OF_RANGE, "namespace"),
        ({"camera_pose": "1,2"}, Code.CONFIG_OUT_OF_RANGE, "seven numbers"),
        ({"domain": "233"}, Code.CONFIG_OUT_OF_RANGE, "domain"),
        ({"colour": "red"}, Code.CONFIG_UNKNOWN_KEY, "colour"),
    ],
)
def test_wrong_arguments_are_refused(values: dict[str, Any], code: Code, text: str) -> None:
    with pytest.raises(RobinError, match=text) as caught:
        camera_of(STATIONS["workcell"], parse_config(StationOptions, values, "workcell.launch.py"))
    assert caught.value.code == code


def test_an_unknown_station_is_refused() -> None:
    with pytest.raises(RobinError, match="sim_station"):
        station_named("moon")


def test_arguments_as_launch_gives_them_are_texts() -> None:
    given = {"domain": "7", "composition": "false", "picks": "5", "camera": "sim"}
    options = parse_config(StationOptions, given, "test")
    assert (options.domain, options.composition, options.picks) == (7, False, 5)
    names = {name: option_names(station) for name, station in STATIONS.items()}
    assert "candidate" in names["test_station"]
    assert "candidate" not in names["workcell"]
    assert all(kind in CAMERAS for station in STATIONS.values() for kind in station.cameras)


@pytest.mark.parametrize(
    ("content", "code", "text"),
    [
        ("segmentation: {ros__parameters: {engin: x}}", Code.CONFIG_UNKNOWN_KEY, "segmentation: unknown key 'engin'"),
        ("/**/planning: {ros__parameters: {frame_age_limit_s: -1.0}}", Code.CONFIG_OUT_OF_RANGE, "frame_age_limit_s"),
        ("/**/segmentaton: {ros__parameters: {engine: x}}", Code.CONFIG_UNKNOWN_KEY, "no node of this station"),
        ("/**: {ros__parameters: {enigne: x}}", Code.CONFIG_UNKNOWN_KEY, "/\\*\\*: unknown key 'enigne'"),
        ("/**: {ros__parameters: {log_period_s: 0.0}}", Code.CONFIG_OUT_OF_RANGE, "log_period_s"),
        ("/**: {ros__parameters: {use_sim_time: 1}}", Code.CONFIG_OUT_OF_RANGE, "needs true or false"),
        ("/planning: {ros__parameters: {engine: x}}", Code.CONFIG_UNKNOWN_KEY, "planning: unknown key 'engine'"),
        ("/elsewhere/planning: {ros__parameters: {}}", Code.CONFIG_UNKNOWN_KEY, "here it is '/planning'"),
        ("segmentation: 3", Code.CONFIG_UNREADABLE, "expected a mapping"),
        ("segmentation: {ros__parameters: 3}", Code.CONFIG_UNREADABLE, "must be a mapping"),
        ("a: [", Code.CONFIG_UNREADABLE, "mine.yaml"),
    ],
)
def test_a_wrong_parameter_file_is_refused(tmp_path: Path, content: str, code: Code, text: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(content)
    with pytest.raises(RobinError, match=text) as caught:
        check_parameter_file(file, ["segmentation", "planning"])
    assert caught.value.code == code


AS_ROS_USERS_WRITE = """
/**:
  ros__parameters: {use_sim_time: true, engine: onnxruntime, start_type_description_service: false}
/segmentation:
  ros__parameters:
    segmenter: {decode: {duplicate_iou: 0.6}}
    qos_overrides: {/scene: {publisher: {depth: 3}}}
/cell_a/planning:
  ros__parameters: {frame_age_limit_s: 2.0}
/planning:
  ros__parameters: {frame_age_limit_s: 3.0}
/camera/camera:
  ros__parameters: {enable_color: true}
/rviz2:
  ros__parameters: {whatever: 1}
"""


def test_a_parameter_file_as_ros_users_write_it_is_accepted(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(AS_ROS_USERS_WRITE)
    check_parameter_file(file, ["segmentation", "planning", "recorder"])
    assert parameters_of(file, "segmentation") == {
        "use_sim_time": True, "engine": "onnxruntime", "start_type_description_service": False,
        "segmenter.decode.duplicate_iou": 0.6, "qos_overrides./scene.publisher.depth": 3,
    }  # fmt: skip
    with pytest.raises(
        RobinError, match="'/segmentation' is no node of this station; here it is '/cell_a/segmentation'"
    ):
        check_parameter_file(file, ["segmentation", "planning"], "/cell_a")


def test_ros_arguments_reach_every_process_after_all_else(tmp_path: Path) -> None:
    extra = tmp_path / "extra.yaml"
    extra.write_text("/**: {ros__parameters: {use_sim_time: true}}")
    words = "-p use_sim_time:=true --param planning:frame_age_limit_s:=2.5 -r scene:=/other/scene"
    options = StationOptions(engine="onnxruntime", ros_args=f"{words} --params-file {extra}")
    check_parameters(STATIONS["sim_station"], options)
    for process in station_processes(STATIONS["sim_station"], options):
        given = process.all_ros_arguments(tmp_path)
        assert given[-8:] == (
            "--param", "use_sim_time:=true", "--param", "planning:frame_age_limit_s:=2.5",
            "--remap", "scene:=/other/scene", "--params-file", str(extra),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        ("-p frame_age:=1.0", Code.CONFIG_UNKNOWN_KEY, "unknown key 'frame_age'"),
        ("-p planning:engine:=x", Code.CONFIG_UNKNOWN_KEY, "planning:: unknown key 'engine'"),
        ("-p nobody:engine:=x", Code.CONFIG_UNKNOWN_KEY, "no such node"),
        ("-p frame_age_limit_s:=-1.0", Code.CONFIG_OUT_OF_RANGE, "frame_age_limit_s"),
        ("-p use_sim_time:=yes_please", Code.CONFIG_OUT_OF_RANGE, "use_sim_time"),
        ("-p engine", Code.OPTION_INVALID, "needs NAME:=VALUE"),
        ("-p", Code.OPTION_INVALID, "'-p' needs a value"),
        ("-r scene", Code.OPTION_INVALID, "needs FROM:=TO"),
        ("-r __ns:=/a", Code.OPTION_INVALID, "the option namespace"),
        ("--parms x", Code.OPTION_INVALID, "'--parms' is no argument of ROS"),
        ("--params-file nowhere.yaml", Code.INPUT_MISSING, "no such file"),
    ],
)
def test_wrong_ros_arguments_are_refused(words: str, code: Code, text: str) -> None:
    with pytest.raises(RobinError, match=text) as caught:
        check_parameters(STATIONS["sim_station"], StationOptions(ros_args=words))
    assert caught.value.code == code


def test_sections_of_parameter_files(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    content = {
        "/**": {"ros__parameters": {"log_period_s": 9.0}},
        "cell_a": {"segmentation": {"ros__parameters": {"segmenter": {"belt_z_m": 0.1}, "segmenter.decode.x": 1}}},
    }
    file.write_text(yaml.safe_dump(content))
    assert set(read_parameter_file(file)) == {"/**", "/cell_a/segmentation"}
    assert parameters_of(file, "segmentation", "cell_a") == {
        "log_period_s": 9.0, "segmenter.belt_z_m": 0.1, "segmenter.decode.x": 1,
    }  # fmt: skip
    assert parameters_of(file, "segmentation") == {"log_period_s": 9.0}


def test_patterns_match_as_ros_does() -> None:
    wanted = {
        ("/**", "a", "x/y"): True,
        ("/**/a", "a", ""): True,
        ("/**/a", "a", "/x/y"): True,
        ("/*/a", "a", "x"): True,
        ("/*/a", "a", ""): False,
        ("a", "a", ""): True,
        ("a", "a", "x"): False,
        ("/x/a", "a", "x"): True,
        ("/**/b", "a", "x"): False,
    }
    assert {case: matches(*case) for case in wanted} == wanted


@pytest.mark.parametrize("driver", ["realsense", "orbbec", "zivid"])
def test_a_driver_is_taken_by_every_node_that_looks_at_frames(driver: str) -> None:
    options = StationOptions(driver=driver)
    station = STATIONS["workcell"]
    assert managed_nodes(station, options) == station.pipeline, "no camera node of ours"
    overrides = station_processes(station, options)[0].overrides
    taken = {node: values.get("camera_driver") for node, values in overrides.items() if node != "adaptation"}
    assert taken == dict.fromkeys([node for node in station.pipeline if node != "adaptation"], driver)


def test_every_camera_and_composition_gives_a_station() -> None:
    for (station, camera), composition in product(CASES, (True, False)):
        processes = station_processes(station, options_for(camera, composition=composition))
        assert processes[-1].name == ("acceptance" if station.acceptance else "lifecycle_manager")
