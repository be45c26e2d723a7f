"""``robin ros up`` and ``robin ros acceptance``: stations without the ``launch`` package."""

from __future__ import annotations

import shlex
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from robin_cli.failures import EXIT_FAILURE, EXIT_INTERRUPTED
from robin_cli.options import EngineOption, ModelOption, SupervisedOption, with_groups
from robin_cli.terminal import note
from robin_perception.core.errors import Code, RobinError

ROS_ARGS = "--ros-args"


@dataclass(frozen=True)
class StationArguments:
    """What a station takes, whichever command starts it; the fields are options."""

    camera: Annotated[
        str, typer.Option("--camera", metavar="KIND", help="realsense, folder, bag, realsense_bag, topics or sim.")
    ] = ""
    camera_path: Annotated[
        Path | None, typer.Option("--camera-path", metavar="PATH", help="Folder or file that the camera kind reads.")
    ] = None
    driver: Annotated[
        str, typer.Option("--driver", metavar="D", help="Camera driver of another package: realsense, orbbec or zivid.")
    ] = ""
    camera_pose: Annotated[
        str,
        typer.Option(
            "--camera-pose",
            metavar="X,Y,Z,QX,QY,QZ,QW",
            help="Optical frame in base_link (m, quaternion), for all nodes.",
        ),
    ] = ""
    engine: EngineOption = ""
    supervised: SupervisedOption = None
    model: ModelOption = None
    params_file: Annotated[
        Path | None,
        typer.Option("--params", "--params-file", metavar="FILE", help="YAML of parameters over the station's own."),
    ] = None
    namespace: Annotated[str, typer.Option("--namespace", metavar="NS", help="Namespace of all nodes and topics.")] = ""
    domain: Annotated[
        int, typer.Option("--domain", metavar="N", min=-1, max=232, help="ROS domain; -1: ROS_DOMAIN_ID as it stands.")
    ] = -1
    composition: Annotated[
        bool, typer.Option("--composition/--separate", help="One process for all nodes, or a process each.")
    ] = True
    log_level: Annotated[
        str, typer.Option("--log-level", metavar="LEVEL", help="debug, info, warn, error or fatal.")
    ] = "info"

    def values(self, ros_args: Sequence[str]) -> dict[str, Any]:
        """As ``StationOptions`` names them; None is left out there."""
        own = {name: value for name, value in vars(self).items() if name != "supervised"}
        supervision = {None: None, True: "always", False: "never"}[self.supervised]
        return own | {"supervision": supervision, "ros_args": shlex.join(ros_args)}


class StationCommand(TyperCommand):
    """A command that hands on what follows ``--ros-args``, as every program of ROS 2 does."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        at = args.index(ROS_ARGS) if ROS_ARGS in args else len(args)
        ctx.obj = args[at + 1 :]
        return super().parse_args(ctx, args[:at])


@with_groups
def up(
    *,
    context: typer.Context,
    station: Annotated[str, typer.Option("--station", metavar="S", help="sim, test or workcell.")] = "sim",
    arguments: StationArguments,
    once: Annotated[
        bool, typer.Option("--once", help="Bring the station up, take it down again, and say how long that took.")
    ] = False,
    timeout_s: Annotated[
        float, typer.Option("--timeout", metavar="S", min=1.0, help="With --once: how long to wait, seconds.")
    ] = 120.0,
) -> None:
    """Run a station until Ctrl-C: the processes and parameters that `ros2 launch robin_bringup` starts.

    What follows --ros-args goes to every process: -p NAME:=VALUE, -r FROM:=TO, --params-file FILE.
    """
    _run(station, arguments.values(context.obj), timeout_s if once else None)


@with_groups
def acceptance(
    *,
    context: typer.Context,
    picks: Annotated[
        int, typer.Option("--picks", metavar="N", min=0, help="Picks to make; 0: as in the thresholds.")
    ] = 0,
    candidate: Annotated[
        Path | None, typer.Option("--candidate", metavar="DIR", help="Bundle to run beside the current one.")
    ] = None,
    thresholds: Annotated[
        Path | None, typer.Option("--thresholds", metavar="FILE", help="YAML of thresholds. Default: the shipped one.")
    ] = None,
    report: Annotated[Path, typer.Option("--report", metavar="DIR", help="Folder for the report.")] = Path(
        "acceptance_report"
    ),
    arguments: StationArguments,
) -> None:
    """The test station: N picks against thresholds, a candidate beside the current model. Exit status 0 is a pass."""
    own = {"picks": picks, "candidate": candidate, "thresholds": thresholds, "report": report}
    from robin_perception.core.output import output_folder

    with output_folder(report):
        _run("test", arguments.values(context.obj) | own, None)


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """Set on Ctrl-C or SIGTERM, so that the station is stopped in order; a second one is as before."""
    stopping = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, _: Any) -> None:
        stopping.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, stop)
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(station: str, values: dict[str, Any], once_within_s: float | None) -> None:
    from robin_bringup.runner import StationRunner
    from robin_bringup.stations import StationOptions, station_named
    from robin_perception.core.config import parse_config

    found = station_named(station)
    name = found.name
    given = {
        key: str(value) if isinstance(value, Path) else value for key, value in values.items() if value is not None
    }
    options = parse_config(StationOptions, given, f"robin ros, station {name}")
    with _signals() as stopping, StationRunner(found, options, note) as runner:
        if once_within_s is not None:
            took_s = runner.wait_active(once_within_s, stopping.is_set)
            print(f"{name}: all nodes active after {took_s:.1f} s")
            return
        status = runner.run(stopping.is_set)
    if stopping.is_set():
        raise typer.Exit(EXIT_INTERRUPTED if found.acceptance else 0)
    if not found.acceptance:
        raise RobinError(Code.PROCESS_ENDED, f"{name}: ended by itself with status {status}")
    raise typer.Exit(status if status in (0, 1, 2) else EXIT_FAILURE)
