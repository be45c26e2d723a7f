"""``robin ros``: the reference of the nodes' parameters, stations, acceptance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robin_cli.commands import stations
from robin_cli.terminal import require_writable

app = typer.Typer(help="The ROS 2 nodes: stations, acceptance, reference of their parameters.", no_args_is_help=True)
app.command("up", cls=stations.StationCommand)(stations.up)
app.command("acceptance", cls=stations.StationCommand)(stations.acceptance)


@app.callback()
def _group() -> None:
    """The ROS 2 nodes."""


@app.command("policy")
def policy(
    station: Annotated[str, typer.Option("--station", metavar="S", help="sim, test or workcell.")] = "workcell",
    camera: Annotated[str, typer.Option("--camera", metavar="KIND", help="As `robin ros up` takes it.")] = "",
    driver: Annotated[str, typer.Option("--driver", metavar="D", help="realsense, orbbec or zivid.")] = "",
    namespace: Annotated[str, typer.Option("--namespace", metavar="NS", help="Namespace of the station.")] = "",
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write there. Default: print.", dir_okay=False)
    ] = None,
) -> None:
    """The SROS 2 policy of a station: which enclave may publish, subscribe, serve and call what."""
    from robin_bringup.security_policy import policy_xml
    from robin_bringup.stations import StationOptions, station_named
    from robin_perception.core.config import parse_config

    # What the camera reads from is no matter of rights.
    given = {"camera": camera, "camera_path": ".", "driver": driver, "namespace": namespace}
    options = parse_config(StationOptions, given, "robin ros policy")
    _show(policy_xml(station_named(station), options), out)


@app.command("params")
def params(
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write there. Default: print.", dir_okay=False)
    ] = None,
) -> None:
    """The reference of all nodes' parameters, as Markdown: types, defaults, ranges, and when each may change."""
    from robin_perception.node_config import node_configs
    from robin_perception.parameter_reference import parameter_reference

    _show(parameter_reference(node_configs()), out)


def _show(text: str, out: Path | None) -> None:
    from robin_perception.core.disk import write_atomic

    if out is None:
        print(text, end="")
    else:
        require_writable(out, begins=(text[:1].encode(),))
        write_atomic(out, text.encode())
