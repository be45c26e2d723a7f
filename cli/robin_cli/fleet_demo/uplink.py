"""The way up, over loopback: tokens, keys, CURVE, the server's ingest; nothing of it is shortened."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_adapt.store.store import SampleStore
from edge_adapt.uplink.client import UplinkClient
from edge_adapt.uplink.config import UplinkConfig
from edge_adapt.uplink.enrol import enrol
from edge_adapt.uplink.identity import load_identity
from edge_adapt.uplink.run import run
from robin_fleet.folder import Fleet
from robin_fleet.ingest.ingest import Ingest
from robin_fleet.metrics.reports import handlers
from robin_fleet.server.keys import make_token, server_keys
from robin_fleet.server.server import Server
from robin_perception.core.errors import Code, RobinError

_TOKEN_S = 3600.0
_PATIENCE_S = 600.0
_TRIES = 20


@contextmanager
def serving(fleet: Fleet) -> Iterator[str]:
    """A server in a thread; gives its endpoint on loopback. Raises RobinError LISTEN_FAILED."""
    server, endpoint = _listening(fleet)
    ended = threading.Event()
    thread = threading.Thread(target=lambda: server.run(ended.is_set), name="fleet-server", daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        ended.set()
        thread.join()
        server.close()


def let_in(fleet: Fleet, endpoint: str, folder: Path, site: str, station: str) -> str:
    """One robot, by a one-time token; its name. A robot that has a key keeps it."""
    try:
        return load_identity(folder).robot
    except RobinError as exc:
        if exc.code is not Code.UPLINK_NOT_ENROLLED:
            raise
    token = make_token(fleet.ledger, site, station, _TOKEN_S)
    return enrol(folder, endpoint, token, server_keys(fleet.folder).public).robot


def send(folder: Path, store: Path, decisions: Path | None, tell: Callable[[str], None]) -> dict[str, float]:
    """All that the robot holds; counts of the client. Raises RobinError UPLINK_UNREACHABLE where it takes too long."""
    config = UplinkConfig(store=store, folder=folder, decisions=decisions, rate_mbit=0, poll_s=0.1)
    ending, counts = time.monotonic() + _PATIENCE_S, dict[str, float]()

    def told(client: UplinkClient) -> None:
        counts.update({key: value for key, value in client.status().items() if isinstance(value, (int, float))})
        counts["idle"] = client.is_idle
        tell(f"{counts['blobs']:.0f} blobs, {counts['sent_mb']:.1f} MB sent")

    run(config, lambda: bool(counts.get("idle")) or time.monotonic() > ending, told)
    if not counts["idle"]:
        raise RobinError(Code.UPLINK_UNREACHABLE, f"not all was sent in {_PATIENCE_S:g} s")
    SampleStore(store).close()  # what the fleet said is taken over
    return counts


def _listening(fleet: Fleet) -> tuple[Server, str]:
    ingest = Ingest(fleet.ledger, fleet.objects, handlers())
    for left in range(_TRIES, 0, -1):
        endpoint = f"tcp://127.0.0.1:{_free_port()}"
        try:
            return Server(endpoint, server_keys(fleet.folder), fleet.ledger, ingest, fleet.folder), endpoint
        except RobinError as exc:  # somebody took one of the two ports meanwhile
            if exc.code is not Code.LISTEN_FAILED or left == 1:
                raise
    raise AssertionError("unreachable")


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return min(int(one.getsockname()[1]), 65_000)
