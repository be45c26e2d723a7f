"""The uplink on loopback: against a raw push of the same bytes, in memory, with a thousand robots, under hostile
messages, and what a sample costs the fleet."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import zmq

from edge_adapt.recording import png_bytes
from edge_adapt.store.blobs import blob_name
from edge_adapt.store.sample import SampleRecord
from edge_adapt.uplink.client import UplinkClient
from edge_adapt.uplink.config import UplinkConfig
from edge_adapt.uplink.identity import IDENTITY_FILE, Identity, new_key_pair, write_private
from edge_adapt.uplink.pace import TokenBucket
from edge_adapt.uplink.protocol import CHUNK_BYTES, Kind, pack, parse
from edge_adapt.uplink.reports import FileSource
from edge_adapt.uplink.session import Blob, Outcome, Session
from robin_cli.bench.budgets import budget
from robin_cli.bench.durability import free_ports
from robin_cli.bench.figures import Figure
from robin_cli.bench.uplink_ends import SAMPLE_BYTES, filled_store, noise, peak_mb, pull, serving
from robin_cli.bench.uplink_fuzz import hostile_frames
from robin_cli.bench.uplink_picks import PicksBench, measure_picks, picks_figures
from robin_cli.doctor.machine import machine_facts
from robin_fleet.server.config import ServerConfig
from robin_perception.core.output import scratch_folder

_RAW_QUEUE = 32
_WARM_MB = 20
_DAY_S = 86_400.0
FLEET_ROBOTS, FLEET_SAMPLES = 5000, 200  # of the estimate: samples of 2 MB, a day
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class UplinkBench:
    """mb: sent for throughput, by one robot. repeats: of each, in turns. robots: that send small samples for
    ``seconds``. hostile: messages. picks: beside an uplink; None: no such part."""

    mb: int
    repeats: int
    robots: int
    seconds: float
    hostile: int
    seed: int
    picks: PicksBench | None


def measure_uplink(bench: UplinkBench, progress: Progress) -> dict[str, Any]:
    """Keys ``share_of_raw memory_mb slowest_share sample_cpu_ms hostile``, and more."""
    facts = machine_facts()
    with scratch_folder("robin-uplink-") as folder:
        progress(0, 4, "one robot")
        result = _throughput(bench, folder)
        progress(1, 4, "one robot, booked")
        result |= _booked(bench, folder)
        progress(2, 4, f"{bench.robots} robots")
        result |= _many(bench, folder)
        progress(3, 4, "hostile messages")
        result |= _hostile(bench, folder)
        if bench.picks is not None:
            progress(3, 4, "picks beside it")
            result |= measure_picks(bench.picks, folder)
    return {**result, "seed": bench.seed, "machine": facts}


def uplink_figures(result: dict[str, Any]) -> list[Figure]:
    """The lines of the table."""
    raw = f"raw {result['raw_mb_s']:.0f} MB/s encrypted, {result['plain_mb_s']:.0f} plain"
    many = f"{result['robots']} robots, {result['samples_s']:.0f} samples/s booked"
    lines = [
        Figure(
            "uplink",
            "share of a raw push",
            result["share_of_raw"],
            "",
            budget("uplink.share_of_raw"),
            _ends(result, "share_of_raw"),
        ),
        Figure(
            "uplink", "- in processor time", result["share_of_raw_cpu"], "", None, _ends(result, "share_of_raw_cpu")
        ),
        Figure("uplink", "- of a plain one", result["share_of_plain"], "", None, _ends(result, "share_of_plain")),
        Figure("uplink", "one robot", result["uplink_mb_s"], "MB/s", None, f"store to server; {raw}"),
        Figure("uplink", "one robot, booked", result["booked_mb_s"], "MB/s", None, "store to ledger and objects"),
        Figure("memory", "beyond credit, robot", result["robot_memory_mb"], "MB", budget("uplink.memory_mb")),
        Figure("memory", "beyond credit, server", result["server_memory_mb"], "MB", budget("uplink.memory_mb")),
        Figure("robots", "slowest / mean", result["slowest_share"], "", budget("uplink.slowest_share"), many),
        Figure("cost", "a sample of 2 MB", result["sample_cpu_ms"], "ms CPU", None, "of the server"),
        Figure("cost", "a small sample", result["small_cpu_ms"], "ms CPU", None, "of the server"),
        Figure("cost", "cores for 5,000 robots x 200 a day", result["fleet_cores"], "", None, "samples of 2 MB"),
    ]
    told = f"{result['hostile']} messages, {result['hostile_dropped']} dropped and counted"
    lines += picks_figures(result) if "picks_ms" in result else []
    return [*lines, Figure("hostile", "stored", result["hostile_stored"], "", budget("uplink.missing"), told)]


def _ends(result: dict[str, Any], name: str) -> str:
    return f"{result[f'{name}_least']:.2f} to {result[f'{name}_most']:.2f}"


def _throughput(bench: UplinkBench, folder: Path) -> dict[str, Any]:
    """In turns, so that a busy machine is busy for all of them: shares are of one turn each, and their median is told.
    The least and the most of five turns are a 94 % interval of it, of six a 97 % one. Rates are the best of each."""
    store = filled_store(folder / "store", bench.mb, bench.seed)
    raw, plain, whole = list[float](), list[float](), list[float]()
    raw_cpu, whole_cpu = list[float](), list[float]()
    memory = [0.0, 0.0]
    for turn in range(bench.repeats):
        for found, curve in ((raw, True), (plain, False)):
            seconds, cpu_s = _push(store, curve)
            found.append(bench.mb / seconds)
            raw_cpu += [cpu_s] if curve else []
        place = folder / f"null-{turn}"
        with serving(place, books=False) as (identities, costs):
            seconds, grown, cpu_s = _sent(store, place, identities[0])
        whole.append(bench.mb / seconds)
        whole_cpu.append(cpu_s + costs["cpu_s"])
        memory = [max(memory[0], grown), max(memory[1], costs["memory_mb"])]
    credit_mb = ServerConfig().credit_mb
    return {
        "raw_mb_s": round(max(raw), 1),
        "plain_mb_s": round(max(plain), 1),
        "uplink_mb_s": round(max(whole), 1),
        **_shares("share_of_raw", whole, raw),
        **_shares("share_of_plain", whole, plain),
        **_shares("share_of_raw_cpu", raw_cpu, whole_cpu),
        "robot_memory_mb": round(memory[0], 1),
        "server_memory_mb": round(max(0.0, memory[1] - credit_mb), 1),
        "server_memory_with_credit_mb": round(memory[1], 1),
    }


def _shares(name: str, found: list[float], of: list[float]) -> dict[str, float]:
    """Median, least and most of the turns."""
    shares = [one / other for one, other in zip(found, of, strict=True)]
    ends = {name: float(np.median(shares)), f"{name}_least": min(shares), f"{name}_most": max(shares)}
    return {key: round(share, 3) for key, share in ends.items()}


def _booked(bench: UplinkBench, folder: Path) -> dict[str, Any]:
    place = folder / "booked"
    with serving(place, books=True) as (identities, costs):
        seconds, _, _ = _sent(folder / "store", place, identities[0])
    samples = bench.mb * 1e6 / SAMPLE_BYTES
    cpu_ms = 1e3 * costs["cpu_s"] / samples
    return {
        "booked_mb_s": round(bench.mb / seconds, 1),
        "sample_cpu_ms": round(cpu_ms, 2),
        "fleet_cores": round(FLEET_ROBOTS * FLEET_SAMPLES / _DAY_S * cpu_ms / 1e3, 2),
    }


def _sent(store: Path, place: Path, identity: Identity) -> tuple[float, float, float]:
    """(seconds, MB of memory, seconds of processor) until the fleet has the whole store, as the uplink does it."""
    spawned = get_context("spawn")
    near, far = spawned.Pipe()
    process = spawned.Process(target=_send_all, args=(store, place / "uplink", identity.model_dump(), far), daemon=True)
    process.start()
    found: tuple[float, float, float] = near.recv()
    process.join()
    (store / "uplink.acks").unlink(missing_ok=True)
    return found


def _send_all(store: Path, folder: Path, identity: dict[str, Any], pipe: Connection) -> None:
    import psutil

    write_private(folder / IDENTITY_FILE, Identity.model_validate(identity))
    config = UplinkConfig(store=store, folder=folder, rate_mbit=0, poll_s=0.1, report_s=86_400)
    client = UplinkClient(config, Identity.model_validate(identity))
    before_mb, began = psutil.Process().memory_info().rss / 1e6, time.perf_counter()
    before_s, finished = time.process_time(), began
    while not client.is_idle:
        sent = client.counts["blobs"]
        client.step()
        if client.counts["blobs"] > sent:
            finished = time.perf_counter()
    pipe.send((finished - began, peak_mb() - before_mb, time.process_time() - before_s))
    client.close()


def _push(store: Path, curve: bool) -> tuple[float, float]:
    """(seconds, seconds of processor at both ends) of a raw push of the files of a store, in frames of a chunk."""
    files = [(path, path.stat().st_size) for path in sorted((store / "blobs").glob("*/*/*"))]
    total = sum(size for _, size in files)
    spawned, server, own = get_context("spawn"), new_key_pair(), new_key_pair()
    near, far = spawned.Pipe()
    endpoint = f"tcp://127.0.0.1:{free_ports()[0]}"
    process = spawned.Process(target=pull, args=(endpoint, server if curve else None, total, far), daemon=True)
    process.start()
    near.recv()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.PUSH)
    socket.setsockopt(zmq.SNDHWM, _RAW_QUEUE)
    if curve:
        socket.curve_serverkey = server.public.encode()
        socket.curve_publickey, socket.curve_secretkey = own.public.encode(), own.secret.encode()
    socket.connect(endpoint)
    before_s, began = time.process_time(), time.perf_counter()
    for path, size in files:
        source = FileSource(path)
        for start in range(0, size, CHUNK_BYTES):
            socket.send(source.read(start, min(CHUNK_BYTES, size - start)))
        source.close()
    cpu_s: float = near.recv()
    seconds = time.perf_counter() - began
    cpu_s += time.process_time() - before_s
    context.destroy(0)
    process.join()
    return seconds, cpu_s


class _SmallRobot:
    """Sends small samples, one after another, from memory."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], identity: Identity, seed: int) -> None:
        self.socket = context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.curve_serverkey = identity.server_key.encode()
        self.socket.curve_publickey = identity.public.encode()
        self.socket.curve_secretkey = identity.secret.encode()
        self.socket.connect(identity.endpoint)
        self._session = Session(4, TokenBucket(0.0, 1.0, time.monotonic), time.monotonic)
        self._rng, self._name = np.random.default_rng(seed), identity.robot
        self._seq = 0
        self._record: Blob | None = None
        self.samples = 0

    def begin(self) -> None:
        """The next sample: its picture first."""
        self._seq += 1
        picture = png_bytes(noise(self._rng, 8, 8 + int(self._rng.integers(8))))
        name = blob_name(picture, ".png")
        record = SampleRecord(
            seq=self._seq, share="balanced", name="carton", result="clean", block=0, figure=0.5, threshold=1.0, seen=1,
            at_s=float(self._seq), files={"color.png": (name, len(picture))},
            decision={"decision_id": f"{self._name}-{self._seq}"},
        )  # fmt: skip
        data = record.model_dump_json().encode()
        self._record = Blob(blob_name(data, ".json"), len(data), Kind.RECORD, 4, partial(_Bytes, data))
        self._offer(Blob(name, len(picture), Kind.FILE, 4, partial(_Bytes, picture)))

    def step(self) -> None:
        """What has come is taken, and what may be sent is sent."""
        with contextlib.suppress(zmq.Again):
            while True:
                self._session.receive(parse(self.socket.recv_multipart(zmq.NOBLOCK)))
        while (message := self._session.next_message()) is not None:
            self.socket.send_multipart(pack(message))
        for done in self._session.take_done():
            if done.outcome not in (Outcome.STORED, Outcome.HAVE):
                self._offer(done.blob)
            elif done.blob.kind is Kind.FILE and self._record is not None:
                self._offer(self._record)
            else:
                self.samples += 1
                self.begin()

    def _offer(self, blob: Blob) -> None:
        self.socket.send_multipart(pack(self._session.offer(blob)))


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]

    def close(self) -> None:
        """Nothing."""


def _many(bench: UplinkBench, folder: Path) -> dict[str, Any]:
    """All robots in this process; those of the first seconds, in which they connect, do not count."""
    with serving(folder / "many", books=True, robots=bench.robots) as (identities, costs):
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        context.set(zmq.MAX_SOCKETS, bench.robots + 10)
        robots = [_SmallRobot(context, one, bench.seed + number) for number, one in enumerate(identities)]
        poller, by_socket = zmq.Poller(), {robot.socket: robot for robot in robots}
        for robot in robots:
            poller.register(robot.socket, zmq.POLLIN)
            robot.begin()

        def serve_until(over: Callable[[], bool]) -> None:
            while not over():
                for socket, _ in poller.poll(100):
                    by_socket[socket].step()

        started = time.monotonic()
        serve_until(lambda: all(robot.samples for robot in robots) or time.monotonic() > started + 6 * bench.seconds)
        before, began = [robot.samples for robot in robots], time.monotonic()
        serve_until(lambda: time.monotonic() > began + bench.seconds)
        seconds = time.monotonic() - began
        counts = np.array([robot.samples - then for robot, then in zip(robots, before, strict=True)])
        total = sum(robot.samples for robot in robots)
        context.destroy(0)
    return {
        "robots": bench.robots,
        "samples_s": round(float(counts.sum()) / seconds, 1),
        "slowest_share": round(float(counts.min() / counts.mean()), 3),
        "fastest_share": round(float(counts.max() / counts.mean()), 3),
        "small_cpu_ms": round(1e3 * costs["cpu_s"] / max(1, total), 2),
        "ledger_bytes_per_sample": round(costs["ledger_bytes"] / max(1, total)),
        "many_server_memory_mb": round(costs["memory_mb"], 1),
    }


def _hostile(bench: UplinkBench, folder: Path) -> dict[str, Any]:
    """Of a robot that is enrolled: whoever is not gets no message through."""
    rng = random.Random(bench.seed)
    with serving(folder / "hostile", books=True) as (identities, costs):
        sent = 0
        while sent < bench.hostile:
            context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
            robot = _SmallRobot(context, identities[0], 1)
            for _ in range(min(200, bench.hostile - sent)):  # a frame too long ends the connection
                robot.socket.send_multipart(hostile_frames(rng))
                sent += 1
            robot.socket.setsockopt(zmq.LINGER, 2000)
            robot.socket.close()
            context.term()
    dropped = (
        "malformed",
        "newer",
        "unknown_kind",
        "unknown_ticket",
        "ticket_reused",
        "out_of_order",
        "checksum",
        "beyond_credit",
        "too_fast",
    )
    return {
        "hostile": sent,
        "hostile_dropped": sum(costs.get(key, 0) for key in dropped),
        "hostile_stored": costs.get("stored", 0),
        "hostile_memory_mb": round(costs["memory_mb"], 1),
    }
