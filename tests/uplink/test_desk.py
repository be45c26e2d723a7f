"""Robot and server without sockets: through a channel that loses, repeats and mixes up, everything arrives once."""

from __future__ import annotations

import random
from collections import Counter, deque
from functools import partial
from pathlib import Path

import pytest
from helpers.fleet_server import MemoryIngest

from edge_adapt.store.blobs import blob_name
from edge_adapt.uplink.pace import TokenBucket
from edge_adapt.uplink.protocol import (
    CHUNK_BYTES,
    TRANSFERS,
    Chunk,
    Commit,
    Frames,
    Have,
    Kind,
    Message,
    More,
    Need,
    Offer,
    Refused,
    Stored,
    chunk_of,
    pack,
    parse,
)
from edge_adapt.uplink.session import Blob, Outcome, Session
from robin_fleet.server.config import ServerConfig
from robin_fleet.server.desk import Desk, Result, Work
from robin_fleet.server.partials import Partials, recover
from robin_perception.core.errors import Code, RobinError

CONFIG = ServerConfig(credit_mb=4, window_kb=512, partial_mb=30, idle_s=5.0)


class Bytes:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]

    def close(self) -> None:
        """Nothing."""


def blob_of(data: bytes, kind: Kind = Kind.FILE, priority: int = 2) -> Blob:
    return Blob(blob_name(data), len(data), kind, priority, partial(Bytes, data))


class Bench:
    """A desk, its ingest done at once when ``ingest_all`` is called, and what it answers."""

    def __init__(self, folder: Path, config: ServerConfig = CONFIG) -> None:
        self.now_s = 0.0
        self.ingest = MemoryIngest()
        self.folder = folder
        self.config = config
        self.noticed: Counter[str] = Counter()
        self.restart()

    def restart(self) -> None:
        self.out: deque[tuple[bytes, Message]] = deque()
        self.work: deque[Work] = deque()
        self.partials = Partials(self.folder / "incoming", int(self.config.partial_mb * 1e6))
        send, work = (lambda *answer: self.out.append(answer)), self.work.append
        self.desk = Desk(self.config, self.partials, send, work, lambda: self.now_s)
        self.desk.counts = self.noticed

    def ingest_all(self) -> None:
        from robin_fleet.server.worker import Worker

        worker = Worker.__new__(Worker)
        worker._ingest = self.ingest
        while self.work:
            work = self.work.popleft()
            if work.store:
                self.desk.done(worker._stored([work])[0])
            elif self.ingest.has([work.name]):
                self.desk.done(Result(work, had=True))
            else:
                self.desk.done(Result(work, False, *recover(work.path, work.size)))

    def say(self, *messages: Message, peer: bytes = b"peer", robot: str = "robot") -> list[Message]:
        """What is answered, ingest done."""
        for message in messages:
            self.desk.receive(peer, robot, pack(message))
            self.ingest_all()
        answers = [message for to, message in self.out if to == peer]
        self.out.clear()
        return answers


@pytest.mark.parametrize("seed", range(6))
def test_a_hostile_channel_loses_nothing_and_stores_nothing_twice(tmp_path: Path, seed: int) -> None:
    rng, bench = random.Random(seed), Bench(tmp_path)
    blobs = [blob_of(rng.randbytes(rng.choice([100, 5000, 300_000, 900_000, 2_500_000]))) for _ in range(14)]
    session = Session(6, TokenBucket(0.0, 1.0, lambda: bench.now_s), lambda: bench.now_s)
    up, down = deque[Frames](), deque[Message]()
    left, over, connection, quiet, resets = deque(blobs), set[str](), 0, 0, 0
    for _ in range(40_000):
        if len(over) == len(blobs):
            break
        while left and session.has_room:
            up.append(pack(session.offer(left.popleft())))
        while (message := session.next_message()) is not None:
            up.append(pack(message))
        quiet = 0 if up or down else quiet + 1
        if rng.random() < 0.01 or quiet > 20 or session.silent_s() > 60:  # reset; now and then the server with it
            session.reset()
            up.clear()
            down.clear()
            connection, quiet, resets = connection + 1, 0, resets + 1
            if rng.random() < 0.3:
                bench.restart()
        for queue in (up, down):
            if len(queue) > 1 and rng.random() < 0.05:
                queue.rotate(1)
            if queue and rng.random() < 0.05:
                queue.append(queue[0])
            if queue and rng.random() < 0.01:
                queue.popleft()
        if up:
            frames = [bytearray(frame) for frame in up.popleft()]
            if rng.random() < 0.03:
                frames[-1][rng.randrange(len(frames[-1]))] ^= 1 << rng.randrange(8)
            bench.desk.receive(b"peer%d" % connection, "robot", [bytes(frame) for frame in frames])
        bench.now_s += 0.01
        bench.desk.tick()
        if rng.random() < 0.5:
            bench.ingest_all()
        down.extend(message for to, message in bench.out if to == b"peer%d" % connection)
        bench.out.clear()
        if down:
            session.receive(parse(pack(down.popleft())))
        for done in session.take_done():
            if done.outcome in (Outcome.STORED, Outcome.HAVE):
                assert done.blob.name in bench.ingest.blobs_kept
                over.add(done.blob.name)
            else:
                left.append(done.blob)
    assert over == {blob.name for blob in blobs}
    assert {blob.name: bench.ingest.calls[blob.name] for blob in blobs} == dict.fromkeys(over, 1)
    assert set(bench.ingest.blobs_kept) == over
    assert sum(bench.noticed[what] for what in ("out_of_order", "checksum", "malformed", "unknown_ticket")) > 0
    bench.now_s += 100
    bench.desk.tick()
    assert bench.desk.figures()["credit_bytes"] == 0


def test_an_upload_goes_on_where_it_was(tmp_path: Path) -> None:
    bench, data = Bench(tmp_path), random.Random(1).randbytes(1_000_000)
    offer = Offer(1, blob_name(data), len(data), Kind.FILE, 2)
    assert bench.say(offer) == [Need(1, 0, 512_000)]
    bench.say(chunk_of(1, 0, data[:CHUNK_BYTES]))
    (path,) = (tmp_path / "incoming").glob("*/*")
    with path.open("ab") as stream:
        stream.write(b"\0\0\1\0torn")
    bench.restart()
    assert bench.say(offer._replace(ticket=7)) == [Need(7, CHUNK_BYTES, CHUNK_BYTES + 512_000)]
    answers = []
    for start in range(CHUNK_BYTES, len(data), CHUNK_BYTES):
        answers += bench.say(chunk_of(7, start, data[start : start + CHUNK_BYTES]))
    assert answers == [More(7, len(data))]
    assert bench.say(Commit(7)) == [Stored(7)]
    assert bench.ingest.blobs_kept == {blob_name(data): data}
    assert bench.say(offer._replace(ticket=8)) == [Have(8)]
    assert list((tmp_path / "incoming").glob("*/*")) == [] and bench.partials.bytes == 0


def test_credit_is_shared_and_comes_back(tmp_path: Path) -> None:
    bench = Bench(tmp_path, CONFIG.model_copy(update={"window_kb": 2000.0}))
    granted: dict[bytes, int] = {}
    for number in range(20):
        peer = b"%d" % number
        for answer in bench.say(Offer(1, f"{number:064x}", 30_000_000, Kind.FILE, 2), peer=peer, robot=f"r{number}"):
            assert isinstance(answer, Need)
            granted[peer] = answer.until
    assert 3e6 < sum(granted.values()) <= 4e6 and len(granted) < 20
    assert isinstance(bench.say(Offer(9, "f" * 64, 200_000, Kind.METRICS, 0), peer=b"19", robot="r19")[0], Need)
    for peer in granted:
        bench.desk.forget(peer)
    assert sum(isinstance(message, Need) for _, message in bench.out) > 5, "those that waited"
    bench.now_s += 6
    bench.desk.tick()
    for number in range(20):
        bench.desk.forget(b"%d" % number)
    assert bench.desk.figures()["credit_bytes"] == 0


def test_nobody_waits_forever_for_what_is_urgent(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    served: list[str] = []
    bulk = Offer(1, "0" * 64, CHUNK_BYTES * 8, Kind.FILE, 4)
    for number in range(40):
        bench.say(Offer(1, f"{number:064x}", CHUNK_BYTES * 8, Kind.FILE, 1), peer=b"a%d" % number, robot=f"a{number}")
    assert bench.say(bulk, peer=b"bulk", robot="bulk") == []
    for number in range(40, 400):
        bench.say(Offer(1, f"{number:064x}", CHUNK_BYTES * 8, Kind.FILE, 1), peer=b"a%d" % number, robot=f"a{number}")
        bench.desk.forget(b"a%d" % (number - 40))
        served += [peer.decode() for peer, message in bench.out if isinstance(message, Need)]
        bench.out.clear()
    assert "bulk" in served


def test_chunks_beyond_credit_or_out_of_order_are_not_kept(tmp_path: Path) -> None:
    bench, data = Bench(tmp_path), b"x" * 1_000_000
    offer = Offer(1, blob_name(data), len(data), Kind.FILE, 2)
    assert bench.say(chunk_of(1, 0, b"early")) == [Refused(1, Code.SERVER_BUSY, True, "this upload is over")]
    bench.say(offer)
    bench.say(chunk_of(1, 0, data[:CHUNK_BYTES]))
    assert bench.say(chunk_of(1, 900_000, b"x")) == [Need(1, CHUNK_BYTES, 1_000_000)]
    assert bench.say(chunk_of(1, 900_000, b"x")) == [], "it is said once"
    assert bench.say(Chunk(1, CHUNK_BYTES, 5, b"x")) == []
    assert bench.say(Commit(1)) == []
    end = [chunk_of(1, at, data[at : at + CHUNK_BYTES]) for at in range(CHUNK_BYTES, 1_000_000, CHUNK_BYTES)]
    bench.say(end[0], end[1]._replace(data=end[1].data))
    bench.now_s += 1
    assert bench.desk.counts["out_of_order"] >= 2 and bench.desk.counts["checksum"] == 1
    assert bench.desk.figures()["partial_bytes"] < 1_100_000


def test_uploads_that_nobody_ends_make_room(tmp_path: Path) -> None:
    bench = Bench(tmp_path, CONFIG.model_copy(update={"partial_mb": 2.0}))
    for number in range(10):
        bench.say(Offer(number, f"{number:064x}", 900_000, Kind.FILE, 2), chunk_of(number, 0, b"x" * CHUNK_BYTES))
        bench.desk.forget(b"peer")
        assert sum(path.stat().st_size for path in (tmp_path / "incoming").glob("*/*")) <= 2_000_000
    assert bench.partials.removed > 0


def test_a_robot_has_so_many_uploads_and_messages(tmp_path: Path) -> None:
    bench = Bench(tmp_path, CONFIG.model_copy(update={"messages_per_s": 100.0}))
    answers = []
    for number in range(TRANSFERS + 3):
        answers += bench.say(Offer(number, f"{number:064x}", 900_000, Kind.FILE, 2), peer=b"%d" % (number % 2))
        bench.now_s += 0.01
    assert sum(isinstance(one, Refused) and one.again for one in answers) == 3
    assert bench.desk.figures()["uploads"] == TRANSFERS
    for _ in range(300):
        bench.say(Have(1))
    assert bench.desk.counts["too_fast"] > 50
    assert bench.say(Offer(99, "e" * 64, 10, Kind.METRICS, 0), peer=b"z", robot="other") == [Need(99, 0, 10)]


def test_what_ingest_says_reaches_the_robot(tmp_path: Path) -> None:
    bench, good = Bench(tmp_path), b"good"
    wrong = Offer(1, "0" * 64, 4, Kind.FILE, 2)
    answer = bench.say(wrong, chunk_of(1, 0, good), Commit(1))[-1]
    assert isinstance(answer, Refused) and not answer.again and answer.code == Code.BLOB_REFUSED
    bench.ingest.failing = RobinError(Code.DISK_FULL, "no room")
    answer = bench.say(Offer(2, blob_name(good), 4, Kind.FILE, 2), chunk_of(2, 0, good), Commit(2))[-1]
    assert isinstance(answer, Refused) and answer.again and answer.code == Code.DISK_FULL
    assert bench.ingest.blobs_kept == {}
    answer = bench.say(Offer(3, "a" * 64, 10**9, Kind.FILE, 2))[-1]
    assert isinstance(answer, Refused) and not answer.again and answer.code == Code.UPLOAD_TOO_LARGE
