"""The processes of a durability run: a recorder that fills a store, an uplink, a server, and a wire that harms what it
carries. Each is forked off, works until it is killed, and makes its own sockets."""

from __future__ import annotations

import errno
import json
import os
import select
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from edge_adapt.store.acks import Ack, AckLog, Word
from edge_adapt.store.blobs import Files
from edge_adapt.store.config import StoreConfig
from edge_adapt.store.sample import Sample
from edge_adapt.store.store import SampleStore
from edge_adapt.uplink.client import UplinkClient
from edge_adapt.uplink.config import UplinkConfig
from edge_adapt.uplink.identity import IDENTITY_FILE, Identity, load_identity, new_key_pair, write_private
from robin_cli.bench.store_crash import CarelessFiles
from robin_fleet.ingest.ingest import Ingest
from robin_fleet.ledger import robots
from robin_fleet.ledger.core import open_ledger
from robin_fleet.ledger.events import QUARANTINE
from robin_fleet.ledger.samples import SAMPLES
from robin_fleet.objects.own_folder import FolderObjects
from robin_fleet.server.config import ServerConfig
from robin_fleet.server.keys import server_keys
from robin_fleet.server.server import Server
from robin_perception.core.errors import Code, RobinError

ROBOT = "robot"
_FAULTS = (errno.ENOSPC, errno.EIO)
_SECOND = 1.0
_DRAIN_S = 120.0
_MOST_PENDING = 100  # samples; else a busy machine never drains


@dataclass(frozen=True)
class World:
    """Where everything lies, and the ports of this run. faults: share of writes and syncs that fail at either end.
    careless: the fleet's objects are not synced, which the counts must show."""

    folder: Path
    port: int
    wire_port: int
    faults: float
    careless: bool = False

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def uplink(self) -> Path:
        return self.folder / "uplink"

    @property
    def fleet(self) -> Path:
        return self.folder / "fleet"

    @property
    def ledger(self) -> str:
        return f"sqlite:///{self.fleet / 'ledger.sqlite'}"

    def make(self) -> None:
        """Keys, and the robot in the ledger."""
        self.fleet.mkdir(parents=True)
        keys, pair = server_keys(self.fleet), new_key_pair()
        wire = f"tcp://127.0.0.1:{self.wire_port}"
        identity = Identity(**pair.model_dump(), endpoint=wire, server_key=keys.public, robot=ROBOT)
        write_private(self.uplink / IDENTITY_FILE, identity)
        with open_ledger(self.ledger) as ledger, ledger.write() as connection:
            robots.enrol(connection, ROBOT, "site", "station", pair.public, 0.0)


class FaultyFiles(Files):
    """A disk that fails now and then: full, or broken."""

    def __init__(self, share: float, seed: int) -> None:
        self._share, self._rng = share, np.random.default_rng(seed)

    def write(self, path: Path, data: bytes) -> None:
        self._fail(path)
        super().write(path, data)

    def append(self, path: Path, data: bytes) -> None:
        if self._rng.random() < self._share:
            super().append(path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        super().append(path, data)

    def sync(self, path: Path) -> None:
        self._fail(path)
        super().sync(path)

    def sync_folder(self, path: Path) -> None:
        self._fail(path)
        super().sync_folder(path)

    def _fail(self, path: Path) -> None:
        if self._rng.random() < self._share:
            number = int(self._rng.choice(_FAULTS))
            raise OSError(number, os.strerror(number), str(path))


class _ToldAcks(AckLog):
    """Says through a pipe what it has written down of the fleet's word."""

    pipe = -1

    def add(self, acks: Sequence[Ack]) -> None:  # type: ignore[override]
        given = list(acks)
        super().add(given)
        names = [ack.name for ack in given if ack.word is Word.STORED]
        os.write(self.pipe, json.dumps(names).encode() + b"\n")


def record(world: World, pictures: Sequence[bytes], seed: int, pipe: int) -> None:
    """Samples of small pictures, some of several chunks; each with the picture before it as well."""
    del pipe
    rng, before = np.random.default_rng(seed), pictures[0]
    config = StoreConfig(budget_mb=24, least_free_mb=0, core_per_stratum=0, grace_h=0.0)
    with SampleStore(world.store, config) as store:
        while True:
            after = pictures[int(rng.integers(len(pictures)))]
            decision = {"decision_id": f"d-{rng.integers(1 << 60)}", "filler": "x" * int(rng.integers(3000))}
            result = str(rng.choice(["clean", "miss"]))
            files = {"color.png": before, "after.png": after}
            store.add(Sample(decision["decision_id"], json.dumps(decision), "carton", result, files=files))
            before = after
            time.sleep(float(rng.uniform(0.0, 0.02)))
            while sum(store.index.pending_counts().values()) > _MOST_PENDING:
                time.sleep(_SECOND / 20)
                store.evict_step()  # which takes over what the uplink has heard


def send(world: World, seed: int, pipe: int) -> None:
    """The uplink."""
    import edge_adapt.uplink.samples as samples

    _ToldAcks.pipe = pipe
    files = FaultyFiles(world.faults, seed)
    samples.AckLog = lambda folder: _ToldAcks(folder, files)  # type: ignore[assignment, misc]
    quick = {"poll_s": 0.1, "retry_s": 0.1, "check_s": 0.1, "backoff_least_s": 0.01, "backoff_most_s": 0.1}
    config = UplinkConfig(store=world.store, folder=world.uplink, rate_mbit=0, reply_s=2.0, report_s=2.0, **quick)
    client = UplinkClient(config, load_identity(world.uplink), rng=np.random.default_rng(seed))
    client.run(lambda: False)


def serve(world: World, seed: int, pipe: int) -> None:
    """The aggregator."""
    files = CarelessFiles() if world.careless else FaultyFiles(world.faults, seed)
    with open_ledger(world.ledger) as ledger:
        objects = FolderObjects(world.fleet / "objects", files)
        config = ServerConfig(credit_mb=8, window_kb=600, partial_mb=20, idle_s=1.0)
        listen = f"tcp://127.0.0.1:{world.port}"
        server = Server(listen, server_keys(world.fleet), ledger, Ingest(ledger, objects), world.fleet, config)
        os.write(pipe, b"up\n")
        server.run(lambda: False)


def carry(world: World, seed: int, pipe: int) -> None:
    """The wire: it resets, stalls, repeats and mixes up what it carries, now and then."""
    rng = np.random.default_rng(seed)
    door = socket.create_server(("127.0.0.1", world.wire_port))
    ways: dict[socket.socket, tuple[socket.socket, _Harm]] = {}

    def close(end: socket.socket) -> None:
        other, _ = ways.pop(end)
        ways.pop(other, None)
        end.close()
        other.close()

    while True:
        for end in select.select([door, *ways], [], [], _SECOND)[0]:
            if end is door:
                near, _ = door.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", world.port), _SECOND)
                except OSError:
                    near.close()
                    continue
                ways[near], ways[far] = (far, _Harm(rng)), (near, _Harm(rng))
            elif end in ways:
                other, harm = ways[end]
                try:
                    data = end.recv(65536)
                    parts = harm.of(data) if data else None
                    if parts is None:
                        os.write(pipe, b"r\n")
                        close(end)
                        continue
                    for part in parts:
                        other.sendall(part)
                except OSError:
                    if end in ways:
                        close(end)


class _Harm:
    """What happens to one direction of one connection."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._left = int(rng.integers(1_000, 8_000_000))
        self._how: Callable[[bytes], list[bytes] | None] = (
            lambda data: None,
            lambda data: [data, data],
            lambda data: [data[len(data) // 2 :], data[: len(data) // 2]],
            self._stall,
        )[int(rng.integers(4))]

    def of(self, data: bytes) -> list[bytes] | None:
        """What is passed on; None: the connection is reset."""
        self._left -= len(data)
        if self._left > 0:
            return [data]
        self._left = int(self._rng.integers(1_000, 4_000_000))
        return self._how(data)

    def _stall(self, data: bytes) -> list[bytes]:
        time.sleep(float(self._rng.uniform(0, 0.2)))
        return [data]


def look(world: World, acknowledged: Sequence[str]) -> dict[str, int]:
    """What is at the fleet: of ``acknowledged``, and of what the robot's index calls stored, how many are missing; how
    many samples are there twice; what nothing here explains: blobs in quarantine, but for records that wait."""
    with open_ledger(world.ledger) as ledger, SampleStore(world.store) as store:
        objects = FolderObjects(world.fleet / "objects")
        rows = store.index.db.execute("SELECT name FROM blobs WHERE stored_s IS NOT NULL")
        names = {*acknowledged, *(name for (name,) in rows)}
        had = Ingest(ledger, objects).has(names)
        missing = len(names - had)
        for name in had:
            try:
                objects.get(name)
            except RobinError:
                missing += 1
        with ledger.read() as connection:
            sent = connection.execute(sa.select(SAMPLES.c.sample, SAMPLES.c.decision_id)).all()
            waiting = QUARANTINE.c.code != int(Code.SAMPLE_WAITING)
            refused = connection.execute(sa.select(sa.func.count()).select_from(QUARANTINE).where(waiting)).scalar_one()
        booked = {row.sample for row in sent}
        missing += sum(name.endswith(".json") and name not in booked for name in had & records_of(store))
        twice = len(sent) - len({row.decision_id for row in sent})
        return {"missing": missing, "duplicated": twice, "unexplained": int(refused)}


def records_of(store: SampleStore) -> set[str]:
    return {row.record for row in store.samples()}


def drain(world: World) -> int:
    """Samples that the fleet still lacks when the uplink, left in peace, has nothing more to send."""
    listen = f"tcp://127.0.0.1:{world.port}"
    identity = load_identity(world.uplink).model_copy(update={"endpoint": listen})
    with open_ledger(world.ledger) as ledger:
        objects = FolderObjects(world.fleet / "objects")
        server = Server(listen, server_keys(world.fleet), ledger, Ingest(ledger, objects), world.fleet)
        config = UplinkConfig(store=world.store, folder=world.uplink, rate_mbit=0, poll_s=0.1, retry_s=0.5)
        client = UplinkClient(config, identity)
        ending = time.monotonic() + _DRAIN_S
        while not client.is_idle and time.monotonic() < ending:
            server.step(0.0)
            client.step()
        client.close()
        server.close()
    with SampleStore(world.store) as store:
        return len(store.pending(1_000_000))
