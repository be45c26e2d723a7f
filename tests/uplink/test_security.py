"""Nobody gets in without a key that the ledger knows, and nothing that a peer sends stores, crashes or fills memory."""

from __future__ import annotations

import json
import random
import stat
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import zmq
from helpers.fleet_server import Running, free_port, running_server, until

from edge_adapt.store.blobs import blob_name
from edge_adapt.uplink.enrol import PENDING_FILE, enrol, enrolment_endpoint
from edge_adapt.uplink.identity import IDENTITY_FILE, Identity, KeyPair, load_identity, new_key_pair
from edge_adapt.uplink.link import Link
from edge_adapt.uplink.protocol import (
    CHUNK_BYTES,
    Chunk,
    Commit,
    Enrol,
    Kind,
    Message,
    Offer,
    Refused,
    Stored,
    chunk_of,
    pack,
    parse,
)
from robin_cli.bench.uplink_fuzz import hostile_frames
from robin_fleet.ledger import robots
from robin_fleet.server.config import ServerConfig
from robin_fleet.server.keys import KEY_FILE, enrol_robot, make_token, server_keys
from robin_fleet.server.server import Server
from robin_perception.core.errors import Code, RobinError


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Running]:
    with running_server(tmp_path) as running:
        yield running


class Peer:
    """A connection of whoever has ``pair``."""

    def __init__(self, endpoint: str, server_key: str, pair: KeyPair) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.link = Link(self.context, endpoint, server_key, pair)

    def up(self) -> Peer:
        until(lambda: self.link.is_up, self.look)
        return self

    def look(self) -> None:
        self.link.poll(0.1, write=False)
        self.link.look()

    def ask(self, *messages: Message) -> Message:
        """The last answer."""
        found: list[Message] = []

        def look() -> None:
            self.look()
            while (frames := self.link.receive()) is not None:
                found.append(parse(frames))

        for message in messages:
            seen = len(found)
            self.link.send(pack(message))
            if not isinstance(message, Chunk):
                until(lambda seen=seen: len(found) > seen, look)  # type: ignore[misc]
        return found[-1]

    def close(self) -> None:
        self.link.close()
        self.context.destroy(0)


def refused_code(peer: Peer) -> Code:
    with pytest.raises(RobinError) as refused:
        until(lambda: False, peer.look)
    peer.close()
    return refused.value.code


def test_a_key_that_nobody_enrolled_is_not_let_in(fleet: Running) -> None:
    stranger = Peer(fleet.endpoint, fleet.keys.public, new_key_pair())
    assert refused_code(stranger) is Code.UPLINK_KEY_REFUSED
    assert fleet.server.figures()["door_refused"] == 1 and "messages" not in fleet.server.figures()


def test_a_public_key_of_a_robot_is_no_use_without_its_secret(fleet: Running) -> None:
    robot = fleet.robot("robot")
    stolen = new_key_pair().model_copy(update={"public": robot.public})
    assert refused_code(Peer(fleet.endpoint, fleet.keys.public, stolen)) is Code.UPLINK_UNREACHABLE
    assert "messages" not in fleet.server.figures()


def test_a_robot_tells_a_false_fleet_by_its_key(fleet: Running) -> None:
    robot = fleet.robot("robot")
    assert refused_code(Peer(fleet.endpoint, new_key_pair().public, robot)) is Code.UPLINK_UNREACHABLE


@pytest.mark.parametrize("kind", [zmq.DEALER, zmq.REQ])
def test_peers_without_encryption_get_nowhere(fleet: Running, kind: int) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
    socket.connect(fleet.endpoint)
    socket.send_multipart(pack(Offer(1, "a" * 64, 4, Kind.FILE, 0)))
    assert monitor.poll(10_000)
    event = int.from_bytes(monitor.recv_multipart()[0][:2], "little")
    assert event == zmq.EVENT_DISCONNECTED
    assert fleet.ingest.blobs_kept == {} and "messages" not in fleet.server.figures()
    monitor.close()
    socket.disable_monitor()
    context.destroy(0)


def test_a_revoked_key_is_out_while_it_is_connected(fleet: Running) -> None:
    robot = fleet.robot("robot")
    peer = Peer(fleet.endpoint, fleet.keys.public, robot).up()
    data = b"good"
    offer = Offer(1, blob_name(data), 4, Kind.FILE, 2)
    assert peer.ask(offer, chunk_of(1, 0, data), Commit(1)) == Stored(1)
    with fleet.ledger.write() as connection:
        robots.revoke(connection, "robot")
    until(lambda: fleet.server._ring.robot_of(robot.public) is None, peer.look)
    answer = peer.ask(Offer(2, "b" * 64, 4, Kind.FILE, 2))
    assert isinstance(answer, Refused) and answer.code == Code.KEY_REVOKED
    assert fleet.server.figures()["uploads"] == 0
    peer.close()
    assert refused_code(Peer(fleet.endpoint, fleet.keys.public, robot)) is Code.UPLINK_KEY_REFUSED


def test_a_token_lets_one_robot_in_once(fleet: Running, tmp_path: Path) -> None:
    token = make_token(fleet.ledger, "site", "cell.1", 60.0)
    folder = tmp_path / "uplink"
    identity = enrol(folder, fleet.endpoint, token, fleet.keys.public)
    assert identity.robot.startswith("site-cell.1-") and load_identity(folder) == identity
    assert stat.S_IMODE((folder / IDENTITY_FILE).stat().st_mode) == 0o600 and not (folder / PENDING_FILE).exists()
    Peer(fleet.endpoint, fleet.keys.public, identity).up().close()
    with pytest.raises(RobinError) as refused:
        enrol(tmp_path / "other", fleet.endpoint, token, fleet.keys.public)
    assert refused.value.code is Code.ENROLMENT_REFUSED
    with fleet.ledger.read() as connection:
        assert [one.robot for one in robots.all_robots(connection)] == [identity.robot]
        stored = connection.exec_driver_sql("SELECT token_sha256 FROM tokens").scalar_one()
    assert token not in stored and len(stored) == 64
    assert enrol_robot(fleet.ledger, token, identity.public) == identity.robot, "its answer had been lost"
    with fleet.ledger.write() as connection:
        robots.revoke(connection, identity.robot)
    with pytest.raises(RobinError) as refused:
        enrol_robot(fleet.ledger, token, identity.public)
    assert refused.value.code is Code.KEY_REVOKED


def test_tokens_that_are_wrong_or_too_old(fleet: Running, tmp_path: Path) -> None:
    old = make_token(fleet.ledger, "site", "cell", -1.0)
    for token in (old, "A" * 43):
        with pytest.raises(RobinError) as refused:
            enrol(tmp_path / "uplink", fleet.endpoint, token, fleet.keys.public)
        assert refused.value.code is Code.ENROLMENT_REFUSED
    for wrong in ("short", "with space in the token", "../../../../etc/passwd"):
        with pytest.raises(RobinError) as refused:
            enrol(tmp_path / "uplink", fleet.endpoint, wrong, fleet.keys.public)
        assert refused.value.code is Code.OPTION_INVALID
    assert not (tmp_path / "uplink" / IDENTITY_FILE).exists()


def test_the_door_for_new_robots_takes_nothing_else(fleet: Running) -> None:
    door = enrolment_endpoint(fleet.endpoint)
    peer = Peer(door, fleet.keys.public, new_key_pair()).up()
    data = b"data"
    for message in (Offer(1, blob_name(data), 4, Kind.FILE, 0), Commit(1)):
        peer.link.send(pack(message))
    answer = peer.ask(Enrol(5, "A" * 43))
    assert isinstance(answer, Refused) and answer.ticket == 5
    assert fleet.server.figures()["malformed_enrolments"] == 2 and fleet.ingest.blobs_kept == {}
    codes = {peer.ask(Enrol(number, "B" * 43)).code for number in range(40)}  # type: ignore[union-attr]
    assert codes == {Code.TOKEN_INVALID, Code.SERVER_BUSY}, "guessing is slowed down"
    peer.close()


def test_malformed_messages_are_dropped_and_counted(fleet: Running) -> None:
    """A thousand here; ``robin bench uplink`` sends more."""
    robot, rng, data = fleet.robot("robot"), random.Random(1511), b"good"
    memory = psutil.Process()
    peer = Peer(fleet.endpoint, fleet.keys.public, robot).up()
    before, sent = memory.memory_info().rss, 0
    while sent < 1000:
        if not peer.link.is_up:
            peer.close()
            peer = Peer(fleet.endpoint, fleet.keys.public, robot).up()
        frames = hostile_frames(rng)
        try:
            if peer.link.may_send() and peer.link.send(frames):
                sent += 1
            else:
                peer.look()
            peer.link.look()
        except RobinError:  # a frame too long ends the connection
            peer.close()
            peer = Peer(fleet.endpoint, fleet.keys.public, robot).up()
    peer.close()
    other = Peer(fleet.endpoint, fleet.keys.public, fleet.robot("other")).up()
    answer = other.ask(Offer(1, blob_name(data), 4, Kind.FILE, 2), chunk_of(1, 0, data), Commit(1))
    assert answer == Stored(1), "the others are served"
    other.close()
    assert set(fleet.ingest.blobs_kept) == {blob_name(data)} and fleet.server.figures()["malformed"] > 100
    assert memory.memory_info().rss - before < 64e6
    held = [path for path in fleet.folder.rglob("*") if path.is_file() and "ledger" not in path.name]
    assert {path.name for path in held} <= {KEY_FILE} | {path.name for path in fleet.folder.glob("incoming/robot/*")}


def test_a_frame_too_long_ends_the_connection_alone(fleet: Running) -> None:
    robot = fleet.robot("robot")
    peer = Peer(fleet.endpoint, fleet.keys.public, robot).up()
    header = bytes(pack(chunk_of(1, 0, b"x"))[0])
    peer.link.send([header, b"x" * (CHUNK_BYTES + 10_000)])
    assert refused_code(peer) is Code.UPLINK_UNREACHABLE
    Peer(fleet.endpoint, fleet.keys.public, robot).up().close()


def test_keys_that_others_may_read_are_not_used(tmp_path: Path) -> None:
    pair = server_keys(tmp_path)
    path = tmp_path / KEY_FILE
    assert server_keys(tmp_path) == pair and stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    with pytest.raises(RobinError) as refused:
        server_keys(tmp_path)
    assert refused.value.code is Code.SERVER_KEYS_INVALID
    robot = Identity(**pair.model_dump(), endpoint="tcp://host:1", server_key=pair.public, robot="r")
    (tmp_path / IDENTITY_FILE).write_text(json.dumps({**robot.model_dump(), "more": 1}))
    (tmp_path / IDENTITY_FILE).chmod(0o600)
    with pytest.raises(RobinError) as refused:
        load_identity(tmp_path)
    assert refused.value.code is Code.UPLINK_IDENTITY_INVALID
    assert pair.secret not in repr(robot)


def test_an_address_that_is_in_use_is_told(fleet: Running, tmp_path: Path) -> None:
    with pytest.raises(RobinError) as refused:
        Server(fleet.endpoint, fleet.keys, fleet.ledger, fleet.ingest, tmp_path / "other", ServerConfig())
    assert refused.value.code is Code.LISTEN_FAILED
    with pytest.raises(RobinError) as refused:
        Server(f"udp://127.0.0.1:{free_port()}", fleet.keys, fleet.ledger, fleet.ingest, tmp_path / "other")
    assert refused.value.code is Code.OPTION_INVALID
