"""One connection to the fleet: a DEALER with CURVE, and what becomes of the connection."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Sequence

import zmq

from edge_adapt.uplink.identity import KeyPair
from edge_adapt.uplink.protocol import ENVELOPE_BYTES, HEADER_BYTES, Frames
from robin_perception.core.errors import Code, RobinError

_EVENT = struct.Struct("=HI")  # of libzmq's monitor: number and value
_QUEUED = 32  # messages of a chunk each that may wait to be sent
_HEARTBEAT_MS, _SILENT_MS, _HANDSHAKE_MS = 2000, 12_000, 10_000
_ENDS = zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED | zmq.EVENT_CONNECT_RETRIED
_BAD = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL


class Link:
    """It is tried once: whoever wants another try makes another link. Owned by one thread."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, server_key: str, own: KeyPair) -> None:
        """Raises RobinError OPTION_INVALID for what is no address."""
        self.is_up = False
        self.endpoint = endpoint
        self.socket = context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.IMMEDIATE, 1)  # nothing is queued for a peer that was not let in
        self.socket.setsockopt(zmq.SNDHWM, _QUEUED)
        self.socket.setsockopt(zmq.RCVHWM, 1000)
        self.socket.setsockopt(zmq.MAXMSGSIZE, HEADER_BYTES + ENVELOPE_BYTES)
        self.socket.setsockopt(zmq.RECONNECT_IVL, -1)
        self.socket.setsockopt(zmq.CONNECT_TIMEOUT, _HANDSHAKE_MS)
        self.socket.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
        self.socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
        self.socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _SILENT_MS)
        self.socket.curve_serverkey = server_key.encode()
        self.socket.curve_publickey, self.socket.curve_secretkey = own.public.encode(), own.secret.encode()
        self.monitor = self.socket.get_monitor_socket(int(_ENDS | _BAD | zmq.EVENT_HANDSHAKE_SUCCEEDED))
        try:
            self.socket.connect(endpoint)
        except zmq.ZMQError as exc:
            self.close()
            raise RobinError(Code.OPTION_INVALID, f"{endpoint}: no address to connect to: {exc}") from None

    def look(self) -> None:
        """Take what happened to the connection. Raises RobinError UPLINK_KEY_REFUSED, UPLINK_UNREACHABLE at its
        end."""
        while self.monitor.poll(0):
            event = _EVENT.unpack(self.monitor.recv_multipart()[0])[0]
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self.is_up = True
            elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                raise RobinError(Code.UPLINK_KEY_REFUSED, f"{self.endpoint}: does not let this robot's key in")
            elif event & _BAD:
                text = f"{self.endpoint}: is no fleet of ours, or its server key is another one"
                raise RobinError(Code.UPLINK_UNREACHABLE, text)
            elif self.is_up:
                raise RobinError(Code.UPLINK_UNREACHABLE, f"{self.endpoint}: the connection ended")
            else:
                text = f"{self.endpoint}: no connection; its address or server key may be another one"
                raise RobinError(Code.UPLINK_UNREACHABLE, text)

    def poll(self, wait_s: float, *, write: bool) -> None:
        """Wait until something came, or, with ``write``, may be sent."""
        poller = zmq.Poller()
        poller.register(self.monitor, zmq.POLLIN)
        poller.register(self.socket, zmq.POLLIN | zmq.POLLOUT if write and self.is_up else zmq.POLLIN)
        poller.poll(max(0, int(wait_s * 1000)))

    def may_send(self) -> bool:
        return self.is_up and bool(int(self.socket.getsockopt(zmq.EVENTS)) & zmq.POLLOUT)

    def send(self, frames: Frames) -> bool:
        """False where the queue is full."""
        try:
            self.socket.send_multipart(list(frames), zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def receive(self) -> Sequence[bytes] | None:
        with contextlib.suppress(zmq.Again):
            return self.socket.recv_multipart(zmq.NOBLOCK)
        return None

    def close(self) -> None:
        self.socket.disable_monitor()
        self.monitor.close(0)
        self.socket.close(0)
