"""The robot's side of the protocol without sockets: which message comes next, and what an answer means."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol

from edge_adapt.uplink.pace import TokenBucket
from edge_adapt.uplink.protocol import (
    CHUNK_BYTES,
    Commit,
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
)
from robin_perception.core.errors import RobinError


class Source(Protocol):
    """The bytes of a blob."""

    def read(self, offset: int, length: int) -> bytes | memoryview:
        """They hold until the next call. Raises RobinError where they are gone."""

    def close(self) -> None: ...


class Blob(NamedTuple):
    """One thing to send. priority: 0 is the most urgent. open: where its bytes come from."""

    name: str
    size: int
    kind: Kind
    priority: int
    open: Callable[[], Source]


class Outcome(Enum):
    """HAVE: the fleet had it already. STORED: it has it now. AGAIN: to be offered later. REFUSED: not to be offered.
    GONE: it left the robot's disk meanwhile."""

    HAVE = "have"
    STORED = "stored"
    AGAIN = "again"
    REFUSED = "refused"
    GONE = "gone"


class Done(NamedTuple):
    blob: Blob
    outcome: Outcome
    code: int = 0
    reason: str = ""


@dataclass
class _Transfer:
    """offset: the next byte to send. until: what the fleet lets be sent. is_wanted: it has asked for it. committed: all
    was sent, and was said."""

    ticket: int
    blob: Blob
    heard_s: float
    offset: int = 0
    until: int = 0
    source: Source | None = None
    is_wanted: bool = False
    committed: bool = False

    @property
    def may_go(self) -> bool:
        """A chunk may, or the commit."""
        return self.is_wanted and not self.committed and (self.offset < self.until or self.offset == self.blob.size)


class Session:
    """One connection's transfers. What ends is told by ``take_done``.

    limit: transfers at a time. bucket: bytes that may go up. clock: monotonic seconds.
    """

    def __init__(self, limit: int, bucket: TokenBucket, clock: Callable[[], float]) -> None:
        self._limit, self._bucket, self._clock = limit, bucket, clock
        self._tickets = itertools.count(1)
        self._open: dict[int, _Transfer] = {}
        self._done: list[Done] = []
        self._urgent: _Transfer | None = None
        self.sent_bytes = 0

    def __len__(self) -> int:
        return len(self._open)

    @property
    def has_room(self) -> bool:
        return len(self._open) < self._limit

    def offer(self, blob: Blob) -> Message:
        """Begin a transfer; the caller has looked at ``has_room``."""
        ticket = next(self._tickets) & 0xFFFFFFFF
        self._open[ticket] = _Transfer(ticket, blob, self._clock())
        return Offer(ticket, blob.name, blob.size, blob.kind, blob.priority)

    def receive(self, message: Message) -> None:
        """An answer to what is not under way is old, and nothing."""
        transfer = self._open.get(message.ticket)
        if transfer is None:
            return
        transfer.heard_s, self._urgent = self._clock(), None
        if isinstance(message, Need | More):
            if message.until <= transfer.blob.size:
                self._credit(transfer, message)
        elif isinstance(message, Have):
            self._end(transfer, Outcome.HAVE)
        elif isinstance(message, Stored) and transfer.committed:
            self._end(transfer, Outcome.STORED)
        elif isinstance(message, Refused):
            self._end(transfer, Outcome.AGAIN if message.again else Outcome.REFUSED, message.code, message.reason)

    def _credit(self, transfer: _Transfer, message: Need | More) -> None:
        if isinstance(message, Need):
            transfer.offset, transfer.until, transfer.committed = message.offset, message.until, False
            transfer.is_wanted = True
        elif transfer.is_wanted:
            transfer.until = max(transfer.until, message.until)

    def next_message(self) -> Message | None:
        """The most urgent chunk or commit that credit and bandwidth allow."""
        if self._bucket.wait_s() > 0 or (transfer := self._most_urgent()) is None:
            return None
        if transfer.offset == transfer.blob.size:
            transfer.committed = True
            transfer.heard_s = self._clock()
            return Commit(transfer.ticket)
        length = min(CHUNK_BYTES, transfer.until - transfer.offset)
        try:
            if transfer.source is None:
                transfer.source = transfer.blob.open()
            chunk = chunk_of(transfer.ticket, transfer.offset, transfer.source.read(transfer.offset, length))
        except RobinError as exc:
            self._end(transfer, Outcome.GONE, int(exc.code), exc.text)
            return Withdraw(transfer.ticket)
        transfer.offset += length
        self._bucket.take(length)
        self.sent_bytes += length
        return chunk

    @property
    def wants_to_send(self) -> bool:
        return self._most_urgent() is not None

    def _most_urgent(self) -> _Transfer | None:
        """It stays so until something is heard, or it may not go on."""
        if self._urgent is None or not self._urgent.may_go:
            ready = (one for one in self._open.values() if one.may_go)
            self._urgent = min(ready, key=lambda one: (one.blob.priority, one.ticket), default=None)
        return self._urgent

    def silent_s(self) -> float:
        """How long the fleet has left the transfer unanswered that waits longest; 0: none waits for it."""
        now_s = self._clock()
        waiting = (one for one in self._open.values() if not one.may_go)
        return max((now_s - one.heard_s for one in waiting), default=0.0)

    def wait_s(self) -> float:
        """Until bandwidth allows the next chunk."""
        return self._bucket.wait_s()

    def take_done(self) -> list[Done]:
        """What has ended since the last call."""
        done, self._done = self._done, []
        return done

    def reset(self) -> None:
        """The connection is gone: everything under way is to be offered again."""
        for transfer in list(self._open.values()):
            self._end(transfer, Outcome.AGAIN)

    def _end(self, transfer: _Transfer, outcome: Outcome, code: int = 0, reason: str = "") -> None:
        del self._open[transfer.ticket]
        self._urgent = None
        if transfer.source is not None:
            transfer.source.close()
        self._done.append(Done(transfer.blob, outcome, code, reason))
