"""``robin uplink``: what the store holds goes to the fleet."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robin_cli.options import JsonOption
from robin_cli.signals import until_stopped
from robin_cli.terminal import note, print_table, require_writable, write_json
from robin_perception.core.errors import Code, RobinError

if TYPE_CHECKING:
    from edge_adapt.uplink.client import UplinkClient

app = typer.Typer(help="Send what the store holds to the fleet, most valuable first.", no_args_is_help=True)
FolderOption = Annotated[
    Path, typer.Option("--uplink", metavar="DIR", help="Folder of the robot's key and the uplink's state.")
]
_FOLDER = Path("uplink")
_TOLD_S = 10.0


@app.command("enrol")
def enrol(
    endpoint: Annotated[str, typer.Argument(metavar="tcp://HOST:PORT", help="Where the fleet listens.")],
    token: Annotated[str, typer.Option("--token", metavar="T", help="One-time token: robin fleet token.")],
    server_key: Annotated[
        str, typer.Option("--server-key", metavar="K", help="The fleet's public key: robin fleet keys.")
    ],
    folder: FolderOption = _FOLDER,
    json_file: JsonOption = None,
) -> None:
    """Make this robot's key and have the fleet let it in. The private key stays here, for this user alone."""
    require_writable(json_file)
    from edge_adapt.uplink import enrol as way_in

    identity = way_in.enrol(folder, endpoint, token, server_key)
    values = {"robot": identity.robot, "endpoint": endpoint, "public_key": identity.public, "folder": str(folder)}
    write_json(json_file, values)
    print(f"enrolled as {identity.robot}; key in {folder / 'identity.json'}")


@app.command("run")
def run(
    store: Annotated[Path, typer.Option("--store", metavar="DIR", help="Store of samples (robin store).")] = Path(
        "store"
    ),
    folder: FolderOption = _FOLDER,
    decisions: Annotated[
        Path | None,
        typer.Option(
            "--decisions", metavar="DIR", help="Folder of decisions.jsonl: each goes up without pictures too."
        ),
    ] = None,
    rate_mbit: Annotated[
        float, typer.Option("--rate-mbit", metavar="MBIT", min=0, help="Bandwidth, 1e6 bits per second; 0: no limit.")
    ] = 16.0,
    once: Annotated[bool, typer.Option("--once", help="End when the fleet has everything.")] = False,
    json_file: JsonOption = None,
) -> None:
    """Send until Ctrl-C, or, with --once, until the fleet has all. A fleet that does not answer is waited for."""
    require_writable(json_file)
    from edge_adapt.uplink.config import UplinkConfig
    from edge_adapt.uplink.run import run as send

    config = UplinkConfig(store=store, folder=folder, decisions=decisions, rate_mbit=rate_mbit)
    teller, done = _Teller(), [False]

    def told(client: UplinkClient) -> None:
        teller.tell(client.status())
        done[0] = once and client.is_idle

    try:
        with until_stopped() as stopped:
            send(config, lambda: done[0] or stopped(), told)
    finally:
        write_json(json_file, teller.values)
    if once:
        _fold(store)
    print(_line(teller.values))


@app.command("status")
def status(folder: FolderOption = _FOLDER, json_file: JsonOption = None) -> None:
    """What the uplink of this folder has done, as it has written it last."""
    require_writable(json_file)
    from edge_adapt.uplink.client import STATUS_FILE, read_status
    from edge_adapt.uplink.identity import load_identity

    identity, values = load_identity(folder), read_status(folder)
    if values is None:
        raise RobinError(Code.INPUT_MISSING, f"{folder / STATUS_FILE}: not there; robin uplink run was never started")
    age_s = max(0.0, time.time() - (folder / STATUS_FILE).stat().st_mtime)
    write_json(json_file, {**values, "age_s": round(age_s, 1)})
    rows = [(key.replace("_", " "), str(value)) for key, value in values.items() if key != "text"]
    print_table(f"{identity.robot}, {age_s:.0f} s ago", ("", ""), rows)
    if values.get("text"):
        note(str(values["text"]))


class _Teller:
    """A line when something has changed, now and then."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self._told, self._due_s = "", 0.0

    def tell(self, values: dict[str, Any]) -> None:
        self.values = values
        line, now_s = _line(values), time.monotonic()
        if now_s >= self._due_s and line != self._told:
            note(line)
            self._told, self._due_s = line, now_s + _TOLD_S


def _line(values: dict[str, Any]) -> str:
    if not values:
        return "nothing sent"
    there = "connected" if values["connected"] else values["text"] or "connecting"
    counts = f"{values['stored']} samples, {values['blobs']} blobs, {values['sent_mb']:.1f} MB sent"
    return f"{there}; {counts}, {values['refused']} refused, {values['resets']} times cut off"


def _fold(store: Path) -> None:
    """The store's own figures, too, say what the fleet has, unless a recorder has the store: it does that itself."""
    from edge_adapt.store.store import SampleStore

    try:
        SampleStore(store).close()
    except RobinError as exc:
        if exc.code is not Code.STORE_BUSY:
            raise
