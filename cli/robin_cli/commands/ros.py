"""``robin ros``: the reference of the nodes' parameters, stations, acceptance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robin_cli.commands import stations

app = typer.Typer(help="The ROS 2 nodes: stations, acceptance, reference of their parameters.", no_args_is_help=True)
app.command("up", cls=stations.StationCommand)(stations.up)
app.command("acceptance", cls=stations.StationCommand)(stations.acceptance)


@app.callback()
def _group() -> None:
    """The ROS 2 nodes."""


@app.command("params")
def params(
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write there. Default: print.", dir_okay=False)
    ] = None,
) -> None:
    """The reference of all nodes' parameters, as Markdown: types, defaults, ranges, and when each may change."""
    from robin_perception.node_config import node_configs
    from robin_perception.parameter_reference import parameter_reference

    text = parameter_reference(node_configs())
    if out is None:
        print(text, end="")
    else:
        out.write_text(text)
