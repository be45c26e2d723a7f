"""``robin fleet up``: the aggregator that robots send to."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robin_cli.fleet.options import FleetOption
from robin_cli.options import JsonOption
from robin_cli.signals import until_stopped
from robin_cli.terminal import note, require_writable, write_json
from robin_perception.core.errors import RobinError

if TYPE_CHECKING:
    from robin_fleet.server.server import Server

_TOLD_S = 10.0


def add_to(app: typer.Typer) -> None:
    app.command("up")(up)


def up(
    fleet: FleetOption,
    listen: Annotated[
        str | None,
        typer.Option("--listen", metavar="tcp://ADDRESS:PORT", help="For robots; enrolment takes the port above."),
    ] = None,
    ledger: Annotated[
        str | None, typer.Option("--ledger", metavar="URL", help="postgresql://... Default: a file in the folder.")
    ] = None,
    objects: Annotated[
        str | None,
        typer.Option("--objects", metavar="URL", help="s3://bucket/prefix?endpoint=... Default: the folder."),
    ] = None,
    compute: Annotated[
        str | None,
        typer.Option("--compute", metavar="URL", help="Heavy work: processes://N, dask://..., ray://host:port."),
    ] = None,
    releases: Annotated[
        str | None,
        typer.Option("--releases", metavar="http://ADDRESS:PORT", help="Robots fetch signed releases from there."),
    ] = None,
    train: Annotated[
        str | None,
        typer.Option("--train", metavar="DECK", help="Train on new versions of this deck by itself, when that is due."),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Take in what robots send, until Ctrl-C; then what is in hand is finished. The options become the folder's own."""
    require_writable(json_file)
    from robin_cli.fleet.scheduled import ScheduledTrainings, train_command
    from robin_fleet.folder import open_fleet
    from robin_fleet.housekeeping import Housekeeping
    from robin_fleet.ingest.ingest import Ingest
    from robin_fleet.metrics.reports import handlers
    from robin_fleet.release.http import ReleaseHttp
    from robin_fleet.release.repository import FOLDER as RELEASES
    from robin_fleet.server.keys import server_keys
    from robin_fleet.server.server import Server

    given = {"endpoint": listen, "ledger": ledger, "objects": objects, "compute": compute, "releases": releases}
    settle(fleet, {key: value for key, value in given.items() if value is not None}, train)
    with open_fleet(fleet) as opened, until_stopped() as stopped:
        keys, teller = server_keys(fleet), _Teller(fleet)
        ingest, config = Ingest(opened.ledger, opened.objects, handlers()), opened.config
        with contextlib.ExitStack() as stack:
            stack.callback(lambda: write_json(json_file, teller.values))
            server = Server(config.endpoint, keys, opened.ledger, ingest, fleet, config.server)
            stack.callback(server.close)
            note(f"listening at {config.endpoint}, server key {keys.public}")
            if config.releases:
                served = ReleaseHttp(config.releases, fleet / RELEASES)
                served.start()
                stack.callback(served.close)
                note(f"releases at {config.releases}, signed")
            housekeeping = Housekeeping(opened, note)
            housekeeping.start()
            stack.callback(housekeeping.close)
            if config.training.deck:
                command, look_s = train_command(fleet, config.training), config.training.look_every_h * 3600
                trainings = ScheduledTrainings(fleet, command, look_s, note)
                trainings.start()
                stack.callback(trainings.close)
            server.run(stopped, teller.tell)
    print(_line(teller.values))


def settle(fleet: Path, given: dict[str, Any], train: str | None = None) -> None:
    """Make the folder, or change its settings. train: the deck of trainings."""
    from robin_fleet.folder import CONFIG_FILE, FleetConfig, make_fleet
    from robin_perception.core.config import load_config

    known = fleet / CONFIG_FILE
    config = load_config(FleetConfig, known if known.is_file() else None)
    if train is not None:
        given = {**given, "training": config.training.model_copy(update={"deck": train})}
    make_fleet(fleet, config.model_copy(update=given) if given else None)


class _Teller:
    """A line when something has changed, now and then, and the counts for Prometheus."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.values: dict[str, Any] = {}
        self._told, self._due_s = "", 0.0

    def tell(self, server: Server) -> None:
        from robin_fleet.server.figures import write_figures

        self.values = server.figures()
        now_s = time.monotonic()
        if now_s >= self._due_s:
            self._due_s = now_s + _TOLD_S
            with contextlib.suppress(RobinError):  # a full disk: they are written again
                write_figures(self._folder, self.values, time.time())
            if (line := _line(self.values)) != self._told:
                self._told = line
                note(line)


def _line(values: dict[str, Any]) -> str:
    count = {key: values.get(key, 0) for key in ("robots", "peers", "stored", "bytes", "had", "refused", "put_off")}
    there = f"{count['peers']} of {count['robots']} robots sending"
    came = f"{count['stored']} blobs, {count['bytes'] / 1e6:.1f} MB stored, {count['had']} were there"
    line = f"{there}; {came}, {count['refused']} refused, {count['put_off']} put off"
    dropped = sum(values.get(key, 0) for key in ("malformed", "too_fast", "revoked", "checksum", "out_of_order"))
    return f"{line}, {dropped} messages dropped" if dropped else line
