"""Who is let in: an answer of ZAP for every handshake, no unless the key is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import zmq
from zmq.utils import z85

from robin_fleet.server.keys import KeyRing

ROBOTS, ENROLMENT = b"robots", b"enrolment"
"""Domains: of the uplink's socket, and of the one for enrolment, where any key may show a token."""
_ADDRESS = "inproc://zeromq.zap.01"
_VERSION, _CURVE = b"1.0", b"CURVE"
_KEY_BYTES = 32


class Door:
    """Owned by one thread; made before the sockets that it guards."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], ring: KeyRing) -> None:
        self.socket = context.socket(zmq.REP)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(_ADDRESS)
        self._ring = ring
        self.counts: Counter[str] = Counter()

    def answer(self) -> None:
        """Those that wait at the door."""
        while self.socket.poll(0):
            request = self.socket.recv_multipart()
            number = request[1] if len(request) > 1 else b""
            key = self._key(request)
            self.counts["let_in" if key else "refused"] += 1
            status = (b"200", b"OK", key) if key else (b"400", b"no", b"")
            self.socket.send_multipart([_VERSION, number, *status, b""])

    def _key(self, request: Sequence[bytes]) -> bytes | None:
        """The key of a peer that may come in, as text: it becomes the connection's user id."""
        if len(request) != 7 or request[0] != _VERSION or request[5] != _CURVE or len(request[6]) != _KEY_BYTES:
            return None
        domain, key = request[2], z85.encode(request[6])
        if domain == ENROLMENT or (domain == ROBOTS and self._ring.robot_of(key.decode()) is not None):
            return bytes(key)
        return None

    def close(self) -> None:
        self.socket.close(0)
