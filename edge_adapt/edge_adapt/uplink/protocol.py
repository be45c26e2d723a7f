"""Messages between a robot and the fleet: fixed headers, every length checked before it is used.

A message is one frame, a chunk two: header and bytes. Offsets and limits are absolute, so hearing a message twice
does no harm. Whoever sends what does not hold to this gets MESSAGE_MALFORMED counted, and no answer.

A minor version may add kinds of messages, and bytes behind the fields of one, behind a zero where its last field is
text: who does not know them ignores them. Whatever may not be ignored makes a new PROTOCOL, which older software
refuses with FORMAT_NEWER. Head and REFUSED are the same in all.

    robot:  OFFER                CHUNK ... CHUNK           COMMIT
    fleet:         HAVE | NEED            MORE ...              STORED | REFUSED
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import NamedTuple

from isal.isal_zlib import crc32  # zlib's, by the processor's own instruction

from robin_perception.core.errors import Code, RobinError, printable

PROTOCOL = 1
CHUNK_BYTES = 256 * 1024
HEADER_BYTES = 256
"""Of any frame that is no chunk's bytes, at most."""
ENVELOPE_BYTES = 256
"""What encryption adds to a frame, and more. libzmq ends the connection of a peer that sends a longer one."""
UPLOAD_BYTES = 32_000_000
"""Of one blob that the fleet takes."""
TRANSFERS = 64
"""Of one robot at a time."""
Frames = Sequence[bytes | memoryview]

_NAME = re.compile(r"[0-9a-f]{64}(\.[a-z0-9]{1,16})?")
_ROBOT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,128}")
_HEAD = struct.Struct("!BBI")
_OFFER, _NEED, _MORE, _CHUNK, _REFUSED = (struct.Struct(f"!{layout}") for layout in ("QBB", "QQ", "Q", "QI", "HB"))
_LONGEST_REASON = 200


class Kind(IntEnum):
    """What a blob is. Reports (METRICS, DECISION) are small, and never wait for pictures."""

    FILE = 0
    RECORD = 1
    METRICS = 2
    DECISION = 3

    @property
    def is_report(self) -> bool:
        return self in (Kind.METRICS, Kind.DECISION)


class Offer(NamedTuple):
    """A blob by its name, which is its hash. priority: 0 is the most urgent."""

    ticket: int
    name: str
    size: int
    kind: Kind
    priority: int


class Have(NamedTuple):
    """The fleet has that blob, durably."""

    ticket: int


class Need(NamedTuple):
    """Send from ``offset`` on, and not beyond ``until``: what lies between is the credit. Said again where a chunk did
    not come as it should."""

    ticket: int
    offset: int
    until: int


class More(NamedTuple):
    """Credit: send up to ``until``."""

    ticket: int
    until: int


class Chunk(NamedTuple):
    ticket: int
    offset: int
    crc: int
    data: bytes | memoryview


class Commit(NamedTuple):
    """All of it was sent."""

    ticket: int


class Withdraw(NamedTuple):
    """The robot does not go on with it."""

    ticket: int


class Stored(NamedTuple):
    """It is durable, and booked."""

    ticket: int


class Refused(NamedTuple):
    """again: the same offer may do later."""

    ticket: int
    code: int
    again: bool
    reason: str


class Enrol(NamedTuple):
    """The key that the connection is made with is to be a robot's."""

    ticket: int
    token: str


class Enrolled(NamedTuple):
    ticket: int
    robot: str


class Unknown(NamedTuple):
    """A kind of message that a newer minor version has."""

    ticket: int


Message = Offer | Have | Need | More | Chunk | Commit | Withdraw | Stored | Refused | Enrol | Enrolled | Unknown
_TYPES: tuple[type[Message], ...] = (Offer, Have, Need, More, Chunk, Commit, Withdraw, Stored, Refused, Enrol, Enrolled)
_NUMBERS = {kind: number for number, kind in enumerate(_TYPES, start=1)}


def chunk_of(ticket: int, offset: int, data: bytes | memoryview) -> Chunk:
    return Chunk(ticket, offset, crc32(data), data)


def is_whole(chunk: Chunk) -> bool:
    return crc32(chunk.data) == chunk.crc


def is_blob_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def pack(message: Message) -> list[bytes | memoryview]:
    """Frames to send."""
    head = _HEAD.pack(PROTOCOL, _NUMBERS[type(message)], message.ticket)
    if isinstance(message, Chunk):
        return [head + _CHUNK.pack(message.offset, message.crc), message.data]
    if isinstance(message, Offer):
        return [head + _OFFER.pack(message.size, message.kind, message.priority) + message.name.encode()]
    if isinstance(message, Need):
        return [head + _NEED.pack(message.offset, message.until)]
    if isinstance(message, More):
        return [head + _MORE.pack(message.until)]
    if isinstance(message, Refused):
        reason = printable(message.reason).encode("ascii", "replace")[:_LONGEST_REASON]
        return [head + _REFUSED.pack(message.code, message.again) + reason]
    if isinstance(message, Enrol):
        return [head + message.token.encode()]
    if isinstance(message, Enrolled):
        return [head + message.robot.encode()]
    return [head]


def parse(frames: Frames) -> Message:
    """Raises RobinError MESSAGE_MALFORMED, FORMAT_NEWER."""
    if not 1 <= len(frames) <= 2:
        raise _malformed(f"{len(frames)} frames")
    header = frames[0]
    if not _HEAD.size <= len(header) <= HEADER_BYTES:
        raise _malformed(f"a header of {len(header)} bytes")
    version, number, ticket = _HEAD.unpack_from(header)
    if version > PROTOCOL and number != _NUMBERS[Refused]:
        raise RobinError(Code.FORMAT_NEWER, f"protocol {version}, this release has {PROTOCOL}: update it first")
    if not version or not number:
        raise _malformed(f"protocol {version}, message of type {number}")
    if number > len(_TYPES):
        return Unknown(ticket)
    kind, body = _TYPES[number - 1], bytes(header[_HEAD.size :])
    if (kind is Chunk) != (len(frames) == 2):
        raise _malformed(f"{kind.__name__} of {len(frames)} frames")
    if kind is Chunk:
        return _chunk(ticket, body, frames[1])
    return _PARSERS[kind](ticket, body) if kind in _PARSERS else kind(ticket)


def ticket_of(frames: Frames) -> int:
    """Of a message that ``parse`` refuses as newer."""
    return int(_HEAD.unpack_from(frames[0])[2])


def _chunk(ticket: int, body: bytes, data: bytes | memoryview) -> Chunk:
    if len(body) < _CHUNK.size or not 1 <= len(data) <= CHUNK_BYTES:
        raise _malformed(f"a chunk of {len(data)} bytes")
    offset, crc = _CHUNK.unpack_from(body)
    return Chunk(ticket, offset, crc, data)


def _offer(ticket: int, body: bytes) -> Offer:
    if len(body) <= _OFFER.size:
        raise _malformed("an offer without a name")
    size, kind, priority = _OFFER.unpack_from(body)
    if not 1 <= size <= 1 << 40:
        raise _malformed(f"an offer of {size} bytes")
    if kind > max(Kind):
        raise RobinError(Code.FORMAT_NEWER, f"a blob of kind {kind}, this release has {max(Kind)}: update it first")
    return Offer(ticket, _text(body[_OFFER.size :], _NAME, "name of a blob"), size, Kind(kind), priority)


def _need(ticket: int, body: bytes) -> Need:
    if len(body) < _NEED.size:
        raise _malformed(f"a credit of {len(body)} bytes")
    offset, until = _NEED.unpack_from(body)
    if offset > until:
        raise _malformed(f"credit from {offset} to {until}")
    return Need(ticket, offset, until)


def _more(ticket: int, body: bytes) -> More:
    if len(body) < _MORE.size:
        raise _malformed(f"a credit of {len(body)} bytes")
    return More(ticket, *_MORE.unpack_from(body))


def _refused(ticket: int, body: bytes) -> Refused:
    if len(body) < _REFUSED.size:
        raise _malformed(f"a refusal of {len(body)} bytes")
    code, again = _REFUSED.unpack_from(body)
    return Refused(ticket, code, bool(again), printable(_field(body[_REFUSED.size :])[:_LONGEST_REASON]))


def _text(data: bytes, pattern: re.Pattern[str], what: str) -> str:
    text = _field(data)
    if not pattern.fullmatch(text):
        raise _malformed(f"no {what}: '{text[:80]}'")
    return text


def _field(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("ascii", "replace")


_PARSERS: dict[type[Message], Callable[[int, bytes], Message]] = {
    Offer: _offer,
    Need: _need,
    More: _more,
    Refused: _refused,
    Enrol: lambda ticket, body: Enrol(ticket, _text(body, _TOKEN, "token")),
    Enrolled: lambda ticket, body: Enrolled(ticket, _text(body, _ROBOT, "name of a robot")),
}


def _malformed(text: str) -> RobinError:
    return RobinError(Code.MESSAGE_MALFORMED, text)
