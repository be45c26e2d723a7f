"""Messages hold to their layout, or are told to be malformed, whatever comes."""

from __future__ import annotations

import random
import zlib

import numpy as np
import pytest

from edge_adapt.uplink.pace import Backoff, TokenBucket
from edge_adapt.uplink.protocol import (
    CHUNK_BYTES,
    HEADER_BYTES,
    Chunk,
    Commit,
    Enrol,
    Enrolled,
    Have,
    Kind,
    Message,
    More,
    Need,
    Offer,
    Refused,
    Stored,
    Withdraw,
    chunk_of,
    is_whole,
    pack,
    parse,
)
from robin_perception.core.errors import Code, RobinError

NAME = "0123456789abcdef" * 4 + ".zst"
MESSAGES: list[Message] = [
    Offer(1, NAME, 12345, Kind.RECORD, 3),
    Have(2),
    Need(3, 10, 2**40),
    More(4, 2**63),
    chunk_of(5, 77, b"data"),
    Commit(6),
    Withdraw(7),
    Stored(2**32 - 1),
    Refused(9, 708, True, "no room"),
    Enrol(10, "A-token_of-16-or-more"),
    Enrolled(11, "site-cell.1-ab12"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_survives_the_wire(message: Message) -> None:
    frames = pack(message)
    assert parse(frames) == message
    assert all(len(frame) <= HEADER_BYTES for frame in frames[:1])


def malformed(frames: list[bytes]) -> bool:
    try:
        parse(frames)
    except RobinError as exc:
        assert exc.code in (Code.MESSAGE_MALFORMED, Code.FORMAT_NEWER)
        return True
    return False


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "a" * 64 + "/../x",
        "A" * 64,
        "a" * 63,
        "a" * 64 + ".",
        "",
    ],
)
def test_names_that_lead_elsewhere_are_refused(name: str) -> None:
    assert malformed([bytes(frame) for frame in pack(Offer(1, name, 1, Kind.FILE, 0))])


def test_what_is_too_long_or_too_short_is_refused() -> None:
    chunk = [bytes(frame) for frame in pack(chunk_of(1, 0, b"x"))]
    assert malformed([chunk[0], b"x" * (CHUNK_BYTES + 1)]) and malformed([chunk[0], b""])
    assert malformed(chunk[:1]) and malformed([*chunk, b"x"]) and malformed([])
    assert malformed([b"\1\1" + b"\0" * 400]) and malformed([b"\1"])
    assert malformed([b"\0" + bytes(pack(Have(1))[0])[1:]]), "another version"
    assert malformed([bytes(pack(Need(1, 5, 9))[0])[:-16] + (9).to_bytes(8, "big") + (5).to_bytes(8, "big")])


def test_any_bytes_are_a_message_or_malformed() -> None:
    rng = random.Random(15)
    whole = [[bytes(frame) for frame in pack(message)] for message in MESSAGES]
    kept = 0
    for _ in range(20_000):
        frames = [bytearray(frame) for frame in rng.choice(whole)]
        for _ in range(rng.randint(1, 4)):
            frame = rng.choice(frames)
            how = rng.random()
            if how < 0.5 and frame:
                frame[rng.randrange(len(frame))] = rng.randrange(256)
            elif how < 0.7:
                del frame[rng.randint(0, len(frame)) :]
            elif how < 0.9:
                frame += rng.randbytes(rng.randint(1, 300))
            else:
                frames.append(bytearray(rng.randbytes(3)))
        kept += not malformed([bytes(frame) for frame in frames])
    assert 0 < kept < 20_000


def test_a_chunk_that_was_changed_is_told() -> None:
    assert is_whole(chunk_of(1, 0, b"data")) and not is_whole(Chunk(1, 0, zlib.crc32(b"data"), b"date"))


def test_a_reason_is_plain_and_short() -> None:
    told = parse(pack(Refused(1, 5, False, "\x1b[31mred\n" * 100)))
    assert isinstance(told, Refused) and told.reason.isprintable() and len(told.reason) <= 200


def test_bandwidth_holds_on_the_long_run() -> None:
    now = [0.0]
    bucket, taken = TokenBucket(1000.0, 200.0, lambda: now[0]), 0
    while now[0] < 10.0:
        if not bucket.wait_s():
            bucket.take(300)  # more than a burst
            taken += 300
        now[0] += 0.01
    assert 9_700 <= taken <= 10_500
    assert not TokenBucket(0.0, 1.0, lambda: now[0]).wait_s()


def test_waits_double_and_differ() -> None:
    rng = np.random.default_rng(1)
    waits = [[backoff.next_s() for _ in range(12)] for backoff in (Backoff(1.0, 60.0, rng), Backoff(1.0, 60.0, rng))]
    for wait in waits:
        assert all(0.5 * min(60, 2**n) <= s <= min(60, 2**n) for n, s in enumerate(wait))
    assert waits[0] != waits[1]
