"""A robot becomes one of the fleet's: it makes a key, and shows a one-time token over the fleet's enrolment socket."""

from __future__ import annotations

import time
from pathlib import Path

import zmq

from edge_adapt.uplink.identity import IDENTITY_FILE, Identity, KeyPair, new_key_pair, read_private, write_private
from edge_adapt.uplink.link import Link
from edge_adapt.uplink.protocol import Enrol, Enrolled, Refused, pack, parse
from robin_perception.core.errors import Code, RobinError

PENDING_FILE = "pending.json"


def enrolment_endpoint(endpoint: str) -> str:
    """Enrolment listens one port above the uplink. Raises RobinError OPTION_INVALID."""
    address, _, port = endpoint.rpartition(":")
    if not address.startswith("tcp://") or not port.isdigit() or not 0 < int(port) < 65535:
        raise RobinError(Code.OPTION_INVALID, f"'{endpoint}': tcp://host:port is needed")
    return f"{address}:{int(port) + 1}"


def enrol(folder: Path, endpoint: str, token: str, server_key: str, wait_s: float = 15.0) -> Identity:
    """Make a key (or take the one of a try that got no answer), have it let in, and write ``identity.json``.

    Raises RobinError ENROLMENT_REFUSED, UPLINK_UNREACHABLE, OPTION_INVALID, DISK_FULL.
    """
    target = enrolment_endpoint(endpoint)
    pending = folder / PENDING_FILE
    pair = _key_pair(pending)
    try:
        request = Enrol(1, token)
        parse(pack(request))
        draft = Identity(**pair.model_dump(), endpoint=endpoint, server_key=server_key, robot="")
    except (RobinError, ValueError) as exc:
        text = exc.text if isinstance(exc, RobinError) else "server key: 40 characters, as robin fleet keys prints it"
        raise RobinError(Code.OPTION_INVALID, text) from None
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        robot = _ask(context, target, server_key, pair, request, wait_s)
    finally:
        context.destroy(0)
    identity = draft.model_copy(update={"robot": robot})
    write_private(folder / IDENTITY_FILE, identity)
    pending.unlink(missing_ok=True)
    return identity


def _key_pair(pending: Path) -> KeyPair:
    try:
        return read_private(pending, KeyPair, Code.UPLINK_IDENTITY_INVALID)
    except RobinError:
        pair = new_key_pair()
        write_private(pending, pair)
        return pair


def _ask(
    context: zmq.Context[zmq.Socket[bytes]],
    endpoint: str,
    server_key: str,
    pair: KeyPair,
    request: Enrol,
    wait_s: float,
) -> str:
    ending, asked = time.monotonic() + wait_s, False
    link = Link(context, endpoint, server_key, pair)
    try:
        while time.monotonic() < ending:
            link.poll(0.2, write=not asked)
            link.look()
            if not asked and link.may_send():
                asked = link.send(pack(request))
            frames = link.receive()
            if frames is None:
                continue
            answer = parse(frames)
            if isinstance(answer, Enrolled):
                return answer.robot
            if isinstance(answer, Refused):
                raise RobinError(Code.ENROLMENT_REFUSED, f"{endpoint}: {answer.reason}")
        raise RobinError(Code.UPLINK_UNREACHABLE, f"{endpoint}: no answer in {wait_s:g} s")
    finally:
        link.close()
