"""The other ends of an uplink benchmark, each a process of its own: a server, and what takes a raw push."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import zmq

from edge_adapt.recording import png_bytes
from edge_adapt.store.config import StoreConfig
from edge_adapt.store.sample import Sample
from edge_adapt.store.store import SampleStore
from edge_adapt.uplink.identity import Identity, KeyPair, new_key_pair
from robin_cli.bench.durability import free_ports
from robin_fleet.ingest.ingest import Answer, Incoming, Ingest, Outcome
from robin_fleet.ledger import robots
from robin_fleet.ledger.core import open_ledger
from robin_fleet.objects.own_folder import FolderObjects
from robin_fleet.server.config import ServerConfig
from robin_fleet.server.keys import server_keys
from robin_fleet.server.server import Server

_PULLED = 8
_ALIVE_S = 120_000
SAMPLE_BYTES = 2_000_000


class NullIngest:
    """Takes everything and keeps nothing, so that the way there is measured alone."""

    def blobs(self, incoming: Sequence[Incoming]) -> list[Outcome]:
        return [Outcome(Answer.STORED)] * len(incoming)

    def has(self, names: Iterable[str]) -> set[str]:
        return set()


@dataclass(frozen=True)
class ServerSpec:
    """books: the real ingest, else the null one. robots: how many are enrolled."""

    folder: Path
    endpoint: str
    books: bool
    robots: int
    config: ServerConfig


def serve(spec: ServerSpec, pipe: Connection) -> None:
    """Say who the robots are, serve until told to stop, and say what it cost."""
    spec.folder.mkdir(parents=True, exist_ok=True)
    keys = server_keys(spec.folder)
    with open_ledger(f"sqlite:///{spec.folder / 'ledger.sqlite'}") as ledger:
        pairs = [new_key_pair() for _ in range(spec.robots)]
        with ledger.write() as connection:
            for number, pair in enumerate(pairs):
                robots.enrol(connection, f"robot-{number}", "site", "station", pair.public, 0.0)
        ingest = Ingest(ledger, FolderObjects(spec.folder / "objects")) if spec.books else NullIngest()
        server = Server(spec.endpoint, keys, ledger, ingest, spec.folder, spec.config)
        process = psutil.Process()
        before_s, before_mb = sum(process.cpu_times()[:2]), process.memory_info().rss / 1e6
        pipe.send([_identity(pair, number, spec.endpoint, keys) for number, pair in enumerate(pairs)])
        server.run(_seldom(pipe.poll))
        cpu_s = sum(process.cpu_times()[:2]) - before_s
        figures = server.figures()
        server.close()
        pipe.send({**figures, "cpu_s": cpu_s, "memory_mb": peak_mb() - before_mb, "ledger_bytes": _size(spec.folder)})


@contextlib.contextmanager
def serving(
    folder: Path, *, books: bool, robots: int = 1, config: ServerConfig | None = None
) -> Iterator[tuple[list[Identity], dict[str, Any]]]:
    """Who may send to it; what it cost stands in the other when it has ended."""
    spawned, costs = get_context("spawn"), dict[str, Any]()
    near, far = spawned.Pipe()
    endpoint = f"tcp://127.0.0.1:{free_ports()[0]}"
    spec = ServerSpec(folder, endpoint, books, robots, config or ServerConfig())
    process = spawned.Process(target=serve, args=(spec, far), daemon=True)
    process.start()
    try:
        yield [Identity.model_validate(one) for one in near.recv()], costs
    finally:
        near.send("stop")
        costs |= near.recv()
        process.join()


def filled_store(folder: Path, mb: int, seed: int) -> Path:
    """A store of samples of 2 MB: two pictures of noise."""
    rng = np.random.default_rng(seed)
    with SampleStore(folder, StoreConfig(least_free_mb=0)) as store:
        for number in range(mb * 1_000_000 // SAMPLE_BYTES):
            pictures = {name: png_bytes(noise(rng, 560, 595)) for name in ("color.png", "after.png")}
            decision = json.dumps({"decision_id": f"bench-{number}"})
            store.add(Sample(f"bench-{number}", decision, "carton", "clean", files=pictures))
    return folder


def noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def pull(endpoint: str, keys: KeyPair | None, total: int, pipe: Connection) -> None:
    """Take ``total`` bytes of a raw push, and say what it cost. keys: None: without encryption."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.PULL)
    socket.setsockopt(zmq.RCVHWM, _PULLED)
    if keys is not None:
        socket.curve_server = True
        socket.curve_publickey, socket.curve_secretkey = keys.public.encode(), keys.secret.encode()
    socket.bind(endpoint)
    pipe.send("up")
    left, before_s = total, time.process_time()
    while left > 0 and socket.poll(_ALIVE_S):
        left -= len(socket.recv(copy=False).buffer)
    pipe.send(time.process_time() - before_s)
    context.destroy(0)


def _seldom(ask: Callable[[], bool]) -> Callable[[], bool]:
    """At most every 50 ms: a selector made for each round of the server would count as its own cost."""
    due_s = 0.0

    def asked() -> bool:
        nonlocal due_s
        if time.monotonic() < due_s:
            return False
        due_s = time.monotonic() + 0.05
        return ask()

    return asked


def peak_mb() -> float:
    """Most memory that this process has held. ``getrusage`` would count what its parent had when it was started."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


def _identity(pair: KeyPair, number: int, endpoint: str, keys: KeyPair) -> dict[str, Any]:
    return Identity(
        **pair.model_dump(), endpoint=endpoint, server_key=keys.public, robot=f"robot-{number}"
    ).model_dump()


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("ledger.sqlite*"))
