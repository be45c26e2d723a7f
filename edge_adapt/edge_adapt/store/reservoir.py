"""A fair sample of all that was ever offered, in a bounded room, that no crash can bend.

Each offer draws one figure in [0, 1), and a stratum keeps those with the smallest (bottom-k sampling; Cohen and Kaplan,
"Summarizing data using bottom-k sketches", PODC 2007). What is kept is a uniform sample of the stratum, large or small.
The room may shrink at any time: the largest goes, and from then on nothing larger comes in. The n-th figure is a keyed
hash of n, so the counter is the whole state of the random generator. It is committed with the insert, in one
transaction: an insert that a crash undid leaves its figure to the next one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

from edge_adapt.store.config import CORE, StoreConfig

_LARGEST = 1.0 - 2.0**-53


class Stratum(NamedTuple):
    """What weighs the same. name: class of the chosen parcel, or what unfamiliar goods are called. block: of time."""

    share: str
    name: str
    result: str
    block: int


def draw(seed: int, offer: int) -> float:
    """The figure of the ``offer``-th offer, uniform in [0, 1)."""
    digest = hashlib.blake2b(offer.to_bytes(8, "little"), digest_size=8, key=seed.to_bytes(8, "little")).digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53


def split(figure: float, odds: float) -> tuple[bool, float]:
    """Two independent draws out of one: a hit with ``odds``, and a figure that is uniform in [0, 1) with the hit and
    without. What the core leaves to a stratum draws no larger than what comes when the core is full."""
    hit = figure < odds
    return hit, min(figure / odds if hit else (figure - odds) / (1.0 - odds), _LARGEST)


def block_after(block: int, started_s: float, now_s: float, block_s: float) -> tuple[int, float]:
    """Number and start of the time block that holds ``now_s``. Blocks only count up: a clock that jumps back makes the
    present block longer, one that jumps ahead begins the next."""
    if now_s - started_s >= block_s:
        return block + 1, now_s
    return block, min(started_s, now_s)


def most_over(share_bytes: Mapping[str, int], config: StoreConfig) -> str | None:
    """The share that is largest beside what it is meant to have: something of it goes. The core loses nothing."""
    shares = [share for share, size in share_bytes.items() if size and share != CORE]
    return max(shares, key=lambda share: share_bytes[share] / config.fraction(share), default=None)
