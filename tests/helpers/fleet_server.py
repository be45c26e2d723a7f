"""A server in this process with an ingest that keeps everything in memory, and robots that are enrolled with it."""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from edge_adapt.store.blobs import blob_name
from edge_adapt.uplink.config import UplinkConfig
from edge_adapt.uplink.identity import IDENTITY_FILE, Identity, KeyPair, new_key_pair, write_private
from robin_fleet.ingest.ingest import Answer, Incoming, Outcome
from robin_fleet.ledger import robots
from robin_fleet.ledger.core import Ledger, open_ledger
from robin_fleet.server.config import ServerConfig
from robin_fleet.server.keys import server_keys
from robin_fleet.server.server import Server
from robin_perception.core.errors import Code, RobinError


@dataclass
class MemoryIngest:
    """blobs_kept: name -> content. calls: how often each came. failing: raised in place of booking."""

    blobs_kept: dict[str, bytes] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    order: list[str] = field(default_factory=list)
    quarantine: dict[str, bytes] = field(default_factory=dict)
    failing: RobinError | None = None

    def blobs(self, incoming: Sequence[Incoming]) -> list[Outcome]:
        if self.failing is not None:
            raise self.failing
        return [self._blob(*one) for one in incoming]

    def _blob(self, robot: str, name: str, kind: str, data: bytes) -> Outcome:
        self.calls[name] += 1
        if blob_name(data) != name[:64]:
            self.quarantine[name] = data
            return Outcome(Answer.QUARANTINED, Code.BLOB_REFUSED, f"{name}: is not what its name says")
        if kind == "record":
            files = json.loads(data).get("files", {}).values()
            missing = tuple(blob for blob, _ in files if blob not in self.blobs_kept)
            if missing:
                return Outcome(Answer.WAITING, Code.SAMPLE_WAITING, f"{name}: files are missing", missing)
        self.blobs_kept[name], self.kinds[name] = data, kind
        self.order.append(name)
        return Outcome(Answer.STORED)

    def has(self, names: Iterable[str]) -> set[str]:
        return set(names) & set(self.blobs_kept)


def free_port() -> int:
    """Of two that follow each other and are free."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            try:
                other.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return int(port)


@dataclass
class Running:
    """A server that serves in a thread until the test ends."""

    server: Server
    ledger: Ledger
    ingest: MemoryIngest
    keys: KeyPair
    endpoint: str
    folder: Path

    def robot(self, name: str) -> Identity:
        """Enrolled by hand, as the ledger has it; known to the server at once."""
        pair = new_key_pair()
        with self.ledger.write() as connection:
            robots.enrol(connection, name, "site", "station", pair.public, 0.0)
        self.server._ring._read()
        return self.identity(pair, name)

    def identity(self, pair: KeyPair, name: str = "stranger") -> Identity:
        return Identity(**pair.model_dump(), endpoint=self.endpoint, server_key=self.keys.public, robot=name)

    def config(self, store: Path, name: str = "robot", **more: object) -> UplinkConfig:
        """Of a robot, enrolled, that waits for nothing long."""
        folder = self.folder / name
        write_private(folder / IDENTITY_FILE, self.robot(name))
        return quick_config(store, folder, **more)


def quick_config(store: Path, folder: Path, **more: object) -> UplinkConfig:
    quick = {"poll_s": 0.1, "retry_s": 0.2, "backoff_least_s": 0.05, "backoff_most_s": 0.2, "rate_mbit": 0}
    return UplinkConfig.model_validate({"store": store, "folder": folder, **quick, **more})


@contextmanager
def running_server(
    folder: Path, config: ServerConfig | None = None, ingest: MemoryIngest | None = None, port: int = 0
) -> Iterator[Running]:
    ingest = ingest or MemoryIngest()
    ledger = open_ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
    endpoint = f"tcp://127.0.0.1:{port or free_port()}"
    keys = server_keys(folder)
    quick = config or ServerConfig(keys_s=0.05, idle_s=1.0)
    server = Server(endpoint, keys, ledger, ingest, folder, quick)
    ended = threading.Event()
    thread = threading.Thread(target=lambda: server.run(ended.is_set), daemon=True)
    thread.start()
    try:
        yield Running(server, ledger, ingest, keys, endpoint, folder)
    finally:
        ended.set()
        thread.join()
        server.close()
        ledger.close()


def until(condition: Callable[[], bool], step: Callable[[], object], rounds: int = 600) -> None:
    """Do steps until it holds."""
    for _ in range(rounds):
        if condition():
            return
        step()
    raise AssertionError("it never came to hold")
