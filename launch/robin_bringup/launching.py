"""A station as a launch description. Only launch files import this: ``launch`` comes with ROS 2, not from PyPI."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, LogInfo, OpaqueFunction, RegisterEventHandler
from launch.event_handlers import OnShutdown
from launch.events import Shutdown
from launch.events.process import ProcessExited
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from robin_bringup.stations import (
    CAMERAS,
    STOP_S,
    TOPICS,
    Process,
    Station,
    StationOptions,
    check_parameters,
    managed_nodes,
    option_names,
    station_named,
    station_processes,
)
from robin_perception.core.config import parse_config


def station_description(name: str) -> LaunchDescription:
    """Arguments and processes of the station called ``name``. Arguments are checked when it is launched: RobinError."""
    station = station_named(name)
    arguments = [_argument(station, option) for option in option_names(station)]
    return LaunchDescription([*arguments, OpaqueFunction(function=_processes, args=[station])])


def _argument(station: Station, option: str) -> DeclareLaunchArgument:
    field = StationOptions.model_fields[option]
    default: Any = field.default
    text = field.description or ""
    if option == "camera":
        kinds = "; ".join(f"{kind}: {CAMERAS[kind]}" for kind in station.cameras)
        text = f"{kinds}; empty: {station.cameras[0]}, or with a driver {TOPICS}"
    choices = ["", *station.cameras] if option == "camera" else None
    value = str(default).lower() if isinstance(default, bool) else str(default)
    return DeclareLaunchArgument(option, default_value=value, description=text, choices=choices)


def _processes(context: LaunchContext, station: Station) -> list[Any]:
    given = {name: LaunchConfiguration(name).perform(context) for name in option_names(station)}
    options = parse_config(StationOptions, given, f"{station.name}.launch.py")
    processes = station_processes(station, options)
    check_parameters(station, options)
    order = " -> ".join(managed_nodes(station, options))
    folder = Path(tempfile.mkdtemp(prefix=f"robin_{station.name}_"))
    gone = RegisterEventHandler(OnShutdown(on_shutdown=lambda *_: shutil.rmtree(folder, ignore_errors=True)))
    return [LogInfo(msg=f"{station.name}: {order}"), gone, *(_node(process, folder) for process in processes)]


def _node(process: Process, folder: Path) -> Node:
    respawn = process.respawn
    restart: dict[str, Any] = {}
    if respawn is None:
        restart["on_exit"] = _station_is_done
    else:
        restart = {"respawn": True, "respawn_delay": respawn.delay_s, "respawn_max_retries": respawn.limit}
    return Node(
        package=process.program.package,
        executable=process.program.executable,
        namespace=process.namespace or None,
        arguments=list(process.arguments),
        ros_arguments=[*process.all_ros_arguments(folder)],
        additional_env=process.environment or None,
        output="screen",
        sigterm_timeout=str(STOP_S),
        **restart,
    )


def _station_is_done(event: ProcessExited, context: LaunchContext) -> list[Any]:
    """The acceptance has spoken: end the station. An exception is what gives ``ros2 launch`` an exit status."""
    if event.returncode != 0:
        raise RuntimeError(f"{event.process_name} ended with status {event.returncode}")
    return [EmitEvent(event=Shutdown(reason=f"{event.process_name} is done"))]
