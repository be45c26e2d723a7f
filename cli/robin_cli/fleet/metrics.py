"""``robin fleet metrics``: figures of robots, for people, programs and Prometheus."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from robin_cli.fleet.options import FleetOption, RobotOption, SinceOption, moment_s, shown_time
from robin_cli.options import JsonOption
from robin_cli.terminal import note, print_table, require_writable, write_json

if TYPE_CHECKING:
    from robin_fleet.folder import Fleet


def add_to(app: typer.Typer) -> None:
    app.command("metrics")(metrics)


def metrics(
    fleet: FleetOption,
    name: Annotated[
        str | None, typer.Option("--name", metavar="N", help="One figure over time. Default: the latest of all.")
    ] = None,
    robot: RobotOption = None,
    since: SinceOption = "24h",
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve them for Prometheus on this machine (loopback) until Ctrl-C.")
    ] = False,
    port: Annotated[int, typer.Option("--port", metavar="P", min=0, max=65_535, help="With --serve.")] = 7411,
    json_file: JsonOption = None,
) -> None:
    """Figures of robots and of the fleet; with --serve as Prometheus reads them."""
    require_writable(json_file)
    since_s = moment_s(since, time.time()) or 0.0
    from robin_fleet.folder import open_fleet
    from robin_fleet.ledger.metrics import latest_values, series

    with open_fleet(fleet) as opened:
        if serve:
            _serve(opened, port)
            return
        with opened.ledger.read() as connection:
            found = latest_values(connection, since_s) if name is None else series(connection, name, since_s, robot)
    found = [one for one in found if robot in (None, one.robot)]
    write_json(json_file, {"metrics": [one._asdict() for one in found]})
    rows = [(one.robot, one.name, shown_time(one.at_s), f"{one.value:.6g}") for one in found]
    print_table(f"{len(found)} figures", ("robot", "figure", "at (UTC)", "value"), rows, text_columns=3)


def _serve(opened: Fleet, port: int) -> None:
    from prometheus_client import start_http_server

    from robin_fleet.ledger.metrics import thin
    from robin_fleet.metrics.exposition import FleetCollector, registry_of
    from robin_fleet.release.repository import ReleaseRepository

    registry = registry_of(FleetCollector(opened.ledger, ReleaseRepository(opened.folder), folder=opened.folder))
    server, thread = start_http_server(port, addr="127.0.0.1", registry=registry)
    note(f"http://127.0.0.1:{server.server_port}/metrics; Ctrl-C ends it")
    try:
        while thread.is_alive():
            with opened.ledger.write() as connection:
                thin(connection, time.time())
            thread.join(3600.0)
    finally:
        server.shutdown()
