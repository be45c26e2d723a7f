"""The sockets that robots send to, and the loop that serves them."""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq

from edge_adapt.uplink.enrol import enrolment_endpoint
from edge_adapt.uplink.identity import KeyPair
from edge_adapt.uplink.pace import TokenBucket
from edge_adapt.uplink.protocol import (
    CHUNK_BYTES,
    ENVELOPE_BYTES,
    HEADER_BYTES,
    Enrol,
    Enrolled,
    Message,
    Refused,
    pack,
    parse,
)
from robin_fleet.ledger.core import Ledger
from robin_fleet.server.config import ServerConfig
from robin_fleet.server.desk import Desk, Work
from robin_fleet.server.door import ENROLMENT, ROBOTS, Door
from robin_fleet.server.keys import KeyRing, Request
from robin_fleet.server.partials import Partials
from robin_fleet.server.worker import Ingest, Worker
from robin_perception.core.errors import Code, RobinError

PARTIAL_FOLDER = "incoming"
_PEER_QUEUE = 16  # messages of a chunk each that one connection may have waiting here
_ANSWERS = 1000
_MESSAGES_A_STEP = 512
_HEARTBEAT_MS, _SILENT_MS, _HANDSHAKE_MS = 5000, 20_000, 10_000
_MOST_SOCKETS = 60_000
_ENROLMENTS_PER_S, _ENROLMENT_BURST = 2.0, 20.0


class Server:
    """Owned by one thread. Everything that waits for a disk or a database has a thread of its own; the loop waits for
    nobody."""

    def __init__(
        self,
        listen: str,
        keys: KeyPair,
        ledger: Ledger,
        ingest: Ingest,
        folder: Path,
        config: ServerConfig | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """listen: tcp://address:port; enrolment takes the port above. folder: for unfinished uploads.
        Raises RobinError LISTEN_FAILED, OPTION_INVALID, LEDGER_*, DISK_FULL."""
        self.config = config or ServerConfig()
        self._clock = clock
        enrolment = enrolment_endpoint(listen)
        partials = Partials(folder / PARTIAL_FOLDER, int(self.config.partial_mb * 1e6))
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._ring = KeyRing(ledger, self.config.keys_s, self._poke)
        self._context = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, _MOST_SOCKETS)
        self._door = Door(self._context, self._ring)
        try:
            self._front = self._socket(listen, keys, ROBOTS, CHUNK_BYTES, _PEER_QUEUE)
            self._enrolment = self._socket(enrolment, keys, ENROLMENT, HEADER_BYTES, 4)
        except BaseException:
            self._context.destroy(0)
            self._ring.close()
            raise
        self._worker = Worker(ingest, self._poke)
        self._out: deque[tuple[bytes, Message]] = deque()
        self._works: list[Work] = []
        self._desk = Desk(self.config, partials, lambda *answer: self._out.append(answer), self._works.append, clock)
        self._pace = TokenBucket(_ENROLMENTS_PER_S, _ENROLMENT_BURST, clock)
        self._told: dict[bytes, float] = {}  # connections of revoked keys, and when they were told
        self._ticked_s = clock()
        self.counts: Counter[str] = Counter()
        self._poller = zmq.Poller()
        for socket in (self._front, self._enrolment, self._door.socket, self._woken):
            self._poller.register(socket, zmq.POLLIN)

    def run(self, stop: Callable[[], bool], told: Callable[[Server], object] = lambda server: None) -> None:
        """Serve until told to stop. told: called after each round."""
        while not stop():
            self.step()
            told(self)

    def step(self, wait_s: float = 0.5) -> None:
        """One round: what has come is taken, and answered."""
        ready = dict(self._poller.poll(int(wait_s * 1000)))
        if self._woken in ready:
            os.read(self._woken, 4096)
        self._door.answer()
        for result in self._worker.take():
            self._desk.done(result)
        self._send()
        if self._front in ready:
            self._receive()
        if self._enrolment in ready:
            self._enrol()
        for reply in self._ring.take():
            request, error = reply.request, reply.error
            answer = Enrolled(request.ticket, reply.robot) if error is None else _refusal(request.ticket, error)
            self.counts["enrolled" if error is None else "enrolment_refused"] += 1
            self._answer(self._enrolment, request.peer, answer)
        if self._clock() - self._ticked_s > 1.0:
            self._ticked_s = self._clock()
            self._told = {peer: at_s for peer, at_s in self._told.items() if self._clock() - at_s < 60.0}
            self._desk.tick()
        self._send()

    def figures(self) -> dict[str, Any]:
        """Counts since the start, and what is in hand now."""
        failure = self._ring.failure
        return {
            "robots": len(self._ring),
            "keys_code": 0 if failure is None else int(failure.code),
            **self.counts,
            **{f"door_{what}": count for what, count in self._door.counts.items()},
            **self._desk.figures(),
        }

    def close(self) -> None:
        """What ingest has in hand is finished."""
        self._worker.close()
        self._desk.close()
        self._ring.close()
        self._context.destroy(0)
        os.close(self._woken)
        os.close(self._wake)

    def _receive(self) -> None:
        for _ in range(_MESSAGES_A_STEP):
            try:
                frames = self._front.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            peer, key = frames[0].bytes, _user_id(frames[-1])
            robot = None if key is None else self._ring.robot_of(key)
            if robot is None:
                self._revoked(peer)
                continue
            self._ring.saw(robot)
            self._desk.receive(peer, robot, [frame.buffer for frame in frames[1:]])
        self._send()

    def _revoked(self, peer: bytes) -> None:
        """The key was taken back while its robot was connected. It is told now and then."""
        self.counts["revoked"] += 1
        self._desk.forget(peer)
        if peer not in self._told:
            self._told[peer] = self._clock()
            self._out.append((peer, Refused(0, Code.KEY_REVOKED, False, "this key was revoked")))

    def _enrol(self) -> None:
        for _ in range(_MESSAGES_A_STEP):
            try:
                frames = self._enrolment.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            key = _user_id(frames[-1])
            try:
                message = parse([frame.buffer for frame in frames[1:]])
            except RobinError:
                message = None
            if key is None or not isinstance(message, Enrol):
                self.counts["malformed_enrolments"] += 1
            elif not self._pace.try_take(1):
                busy = RobinError(Code.SERVER_BUSY, "too many enrolments at once; try again")
                self._answer(self._enrolment, frames[0].bytes, _refusal(message.ticket, busy))
            else:
                self._ring.ask(Request(frames[0].bytes, message.ticket, message.token, key))

    def _send(self) -> None:
        """What has come since goes to ingest at once, which is woken a single time, and answers to their robots."""
        if self._works:
            self._worker.put(list(self._works))
            self._works.clear()
        while self._out:
            peer, message = self._out.popleft()
            if not self._answer(self._front, peer, message):
                self._desk.forget(peer)

    def _answer(self, socket: zmq.Socket[bytes], peer: bytes, message: Message) -> bool:
        """False where the peer is gone, or does not take its answers."""
        try:
            socket.send_multipart([peer, *pack(message)], zmq.NOBLOCK)
        except zmq.ZMQError:
            self.counts["unsent"] += 1
            return False
        return True

    def _socket(self, listen: str, keys: KeyPair, domain: bytes, most: int, queued: int) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        socket.setsockopt(zmq.RCVHWM, queued)
        socket.setsockopt(zmq.SNDHWM, _ANSWERS)
        socket.setsockopt(zmq.MAXMSGSIZE, most + ENVELOPE_BYTES)
        socket.setsockopt(zmq.BACKLOG, 1024)
        socket.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
        socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _SILENT_MS)
        socket.setsockopt(zmq.ZAP_DOMAIN, domain)
        socket.curve_server = True
        socket.curve_publickey, socket.curve_secretkey = keys.public.encode(), keys.secret.encode()
        try:
            socket.bind(listen)
        except zmq.ZMQError as exc:
            raise RobinError(Code.LISTEN_FAILED, f"{listen}: cannot listen there: {exc}") from None
        return socket

    def _poke(self) -> None:
        try:
            os.write(self._wake, b"\0")
        except BlockingIOError:  # it will wake up anyway
            return


def _refusal(ticket: int, error: RobinError) -> Refused:
    return Refused(ticket, int(error.code), error.code is Code.SERVER_BUSY, error.text)


def _user_id(frame: zmq.Frame) -> str | None:
    """The key that the door has let in."""
    try:
        return str(frame.get("User-Id"))
    except (zmq.ZMQError, KeyError, ValueError):
        return None
