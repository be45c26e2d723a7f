"""``robin fleet keys|token|revoke``: who may send to the aggregator."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from robin_cli.fleet.options import FleetOption, shown_time
from robin_cli.options import JsonOption
from robin_cli.terminal import print_table, require_writable, write_json
from robin_perception.core.errors import Code, RobinError

_PLACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.]{0,39}")
_HOUR_S = 3600.0


def add_to(app: typer.Typer) -> None:
    app.command("keys")(keys)
    app.command("token")(token)
    app.command("revoke")(revoke)


def keys(fleet: FleetOption, json_file: JsonOption = None) -> None:
    """The fleet's public key, which robots are given to know it by, and the robots' keys."""
    require_writable(json_file)
    from robin_fleet.folder import open_fleet
    from robin_fleet.ledger.robots import all_robots
    from robin_fleet.server.keys import server_keys

    with open_fleet(fleet) as opened:
        public = server_keys(fleet).public
        with opened.ledger.read() as connection:
            found = all_robots(connection)
    write_json(json_file, {"server_key": public, "robots": [one._asdict() for one in found]})
    rows = [
        (
            one.robot,
            one.site,
            one.station,
            one.state,
            one.public_key,
            shown_time(one.enrolled_s),
            shown_time(one.seen_s),
        )
        for one in found
    ]
    header = ("robot", "site", "station", "state", "public key", "enrolled (UTC)", "seen (UTC)")
    print_table(f"server key {public}", header, rows, text_columns=len(header))


def token(
    fleet: FleetOption,
    site: Annotated[str, typer.Option("--site", metavar="S", help="Where the robot stands.")],
    station: Annotated[str, typer.Option("--station", metavar="S", help="Its station there.")],
    hours: Annotated[
        float, typer.Option("--hours", metavar="H", min=0.01, max=8760, help="It is good for so long.")
    ] = 24.0,
    json_file: JsonOption = None,
) -> None:
    """A token that lets one robot in, once: robin uplink enrol. It is shown here and kept nowhere."""
    require_writable(json_file)
    for what, text in (("--site", site), ("--station", station)):
        if not _PLACE.fullmatch(text):
            raise RobinError(Code.OPTION_INVALID, f"{what} '{text}': up to 40 letters, digits, _ and . are needed")
    from robin_fleet.folder import open_fleet
    from robin_fleet.server.keys import make_token, server_keys

    with open_fleet(fleet) as opened:
        public, made = server_keys(fleet).public, make_token(opened.ledger, site, station, hours * _HOUR_S)
    write_json(json_file, {"token": made, "server_key": public, "site": site, "station": station, "hours": hours})
    print(f"robin uplink enrol tcp://HOST:PORT --token {made} --server-key '{public}'")


def revoke(
    fleet: FleetOption,
    robot: Annotated[str, typer.Argument(metavar="ROBOT", help="As robin fleet keys lists it.")],
    json_file: JsonOption = None,
) -> None:
    """Take a robot's key back. A server that runs drops its messages within a second or two."""
    require_writable(json_file)
    from robin_fleet.folder import open_fleet
    from robin_fleet.ledger import robots

    with open_fleet(fleet) as opened, opened.ledger.write() as connection:
        if not robots.revoke(connection, robot):
            raise RobinError(
                Code.OPTION_INVALID, f"robot '{robot}': no such robot is enrolled; robin fleet keys lists them"
            )
    write_json(json_file, {"robot": robot, "state": robots.REVOKED})
    print(f"{robot}: revoked")
