"""Messages that no robot of ours would send."""

from __future__ import annotations

import random

from edge_adapt.uplink.protocol import CHUNK_BYTES, Chunk, Commit, Kind, Message, Need, Offer, Refused, chunk_of, pack


def hostile_frames(rng: random.Random) -> list[bytes]:
    """One message: of random bytes, a changed one, or a whole one that lies."""
    how = rng.random()
    if how < 0.2:
        return [rng.randbytes(rng.choice([0, 1, 5, 6, 7, 30, 255, 256, 257, 5000])) for _ in range(rng.randint(1, 4))]
    frames = [bytearray(frame) for frame in pack(_lie(rng))]
    if how < 0.6:
        for _ in range(rng.randint(1, 3)):
            frame = rng.choice(frames)
            if frame and rng.random() < 0.6:
                frame[rng.randrange(len(frame))] = rng.randrange(256)
            elif rng.random() < 0.5:
                del frame[rng.randint(0, len(frame)) :]
            else:
                frame += rng.randbytes(rng.randint(1, 400))
    if how > 0.98:
        frames += [bytearray(b"more")] * rng.choice([1, 100, 1000])
    elif how > 0.97:
        frames[-1] = bytearray(CHUNK_BYTES + rng.choice([1, 255, 257, 100_000]))
    return [bytes(frame) for frame in frames]


def _lie(rng: random.Random) -> Message:
    """Whole, and of no upload that is under way, or of one in the wrong place."""
    ticket, size = rng.randrange(40), rng.choice([0, 1, 300_000, 31_000_000, 1 << 40])
    names = ["f" * 64, f"{rng.randrange(1 << 60):064x}.png", "../../" + "a" * 58, "a" * 64 + "/b", "/etc/passwd"]
    lies: list[Message] = [
        Offer(ticket, rng.choice(names), size, rng.choice(list(Kind)), rng.randrange(256)),
        chunk_of(ticket, rng.choice([0, 1, 1 << 62]), rng.randbytes(rng.choice([1, 100, 5000]))),
        Chunk(ticket, 0, rng.randrange(1 << 32), rng.randbytes(50)),
        Commit(ticket),
        Need(ticket, 0, 1 << 63),
        Refused(ticket, 5, True, "I refuse"),
    ]
    return rng.choice(lies)
