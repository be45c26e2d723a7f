"""The server's side of the protocol without sockets: what is answered to whom, and what is handed to ingest.

A message that does not hold to the protocol is dropped and counted; it ends nothing and is never an error.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from edge_adapt.uplink.pace import TokenBucket
from edge_adapt.uplink.protocol import (
    CHUNK_BYTES,
    PROTOCOL,
    TRANSFERS,
    Chunk,
    Commit,
    Frames,
    Have,
    Kind,
    Message,
    More,
    Need,
    Offer,
    Refused,
    Stored,
    Unknown,
    Withdraw,
    is_whole,
    parse,
    ticket_of,
)
from robin_fleet.server.config import ServerConfig
from robin_fleet.server.credit import Credit
from robin_fleet.server.partials import Partials
from robin_perception.core.errors import Code, RobinError


class Work(NamedTuple):
    """For the ingest thread. store: it is whole; else it is asked whether the fleet has it, and how much of it is in
    the file at ``path``. chunks: what is in memory; None: it is in the file."""

    peer: bytes
    ticket: int
    robot: str
    name: str
    kind: Kind
    size: int
    path: Path
    store: bool
    chunks: tuple[bytes | memoryview, ...] | None = None


class Result(NamedTuple):
    """had: the fleet has it. offset, used: bytes of the blob and of its file that are there. error, again: it was not
    taken, and whether it may be offered once more."""

    work: Work
    had: bool = False
    offset: int = 0
    used: int = 0
    error: RobinError | None = None
    again: bool = False


class State(Enum):
    ASKED = "asked"
    OPEN = "open"
    WHOLE = "whole"
    OVER = "over"


@dataclass(eq=False)
class _Upload:
    """received: bytes that have come. until: what may be sent. held: credit that it holds. waits: for more of it."""

    peer: bytes
    robot: str
    offer: Offer
    path: Path
    seen_s: float
    state: State = State.ASKED
    received: int = 0
    until: int = 0
    held: int = 0
    waits: bool = False
    told: bool = False  # that a chunk did not come as it should
    wanted: bool = False  # it was told from where on
    chunks: list[Chunk] | None = None  # all that has come, where its credit covers all of it; else it is in the file


@dataclass
class _Robot:
    """Over all of its connections. uploads: how many."""

    bucket: TokenBucket
    uploads: int = 0


@dataclass
class _Peer:
    """One connection."""

    robot: str
    seen_s: float
    uploads: dict[int, _Upload] = field(default_factory=dict)


class Desk:
    """Owned by one thread. send: a message for a peer; it may be lost. work: hands to the ingest thread, whose results
    come back to ``done``. clock: monotonic seconds."""

    def __init__(
        self,
        config: ServerConfig,
        partials: Partials,
        send: Callable[[bytes, Message], None],
        work: Callable[[Work], None],
        clock: Callable[[], float],
    ) -> None:
        self._config, self._partials, self._clock = config, partials, clock
        self._send, self._work = send, work
        self._peers: dict[bytes, _Peer] = {}
        self._robots: dict[str, _Robot] = {}
        self._paths: dict[Path, _Upload] = {}
        self._credit: Credit[_Upload] = Credit(int(config.credit_mb * 1e6), CHUNK_BYTES, self._serve)
        self.counts: Counter[str] = Counter()

    def receive(self, peer: bytes, robot: str, frames: Frames) -> None:
        """A message of an enrolled robot. peer: its connection."""
        known = self._known(peer, robot)
        self.counts["messages"] += 1
        if not self._robots[robot].bucket.try_take(1):
            self.counts["too_fast"] += 1
            return
        try:
            message = parse(frames)
        except RobinError as exc:
            self.counts["newer" if exc.code is Code.FORMAT_NEWER else "malformed"] += 1
            if exc.code is Code.FORMAT_NEWER:  # another kind of blob is refused for good, all of it until an update
                again = frames[0][0] != PROTOCOL
                self._send(peer, Refused(ticket_of(frames), int(exc.code), again, exc.text))
            return
        if isinstance(message, Unknown):
            self.counts["unknown_kind"] += 1
            return
        if isinstance(message, Offer):
            self._offered(peer, known, message)
            return
        upload = known.uploads.get(message.ticket)
        if upload is None:
            self._unknown(peer, message)
            return
        upload.seen_s = self._clock()
        if isinstance(message, Chunk):
            self._chunk(upload, message)
        elif isinstance(message, Commit):
            self._committed(upload)
        elif isinstance(message, Withdraw):
            self._end(upload, is_withdrawn=True)
        else:
            self.counts["malformed"] += 1
        self._credit.run()

    def done(self, result: Result) -> None:
        """The ingest thread has done its part."""
        work = result.work
        known = self._peers.get(work.peer)
        upload = None if known is None else known.uploads.get(work.ticket)
        is_old = upload is None or upload.path != work.path
        if result.had or (work.store and (result.error is None or not result.again)):
            self._partials.remove(work.path)
        if result.error is not None:
            self.counts["put_off" if result.again else "refused"] += 1
            self.counts[f"E{int(result.error.code)}"] += 1
        elif work.store:
            self.counts["stored"] += 1
            self.counts["bytes"] += work.size
        if is_old or upload is None or (upload.state is State.WHOLE) != work.store:
            return
        if result.error is not None:
            self._refuse(upload, result.error, result.again)
        elif work.store:
            self._end(upload, Stored(work.ticket))
        elif result.had:
            self.counts["had"] += 1
            self._end(upload, Have(work.ticket))
        else:
            self._asked(upload, result.offset, result.used)
        self._credit.run()

    def forget(self, peer: bytes) -> None:
        """The connection is gone, or may no longer send."""
        known = self._peers.pop(peer, None)
        if known is not None:
            for upload in list(known.uploads.values()):
                self._end(upload)
            self._credit.run()

    def close(self) -> None:
        """What has come of unfinished uploads goes to the disk."""
        for peer in list(self._peers):
            self.forget(peer)

    def tick(self) -> None:
        """Take back the credit of uploads that are silent."""
        now_s, idle_s = self._clock(), self._config.idle_s
        for peer, known in list(self._peers.items()):
            for upload in list(known.uploads.values()):
                if upload.state is State.OPEN and upload.held and now_s - upload.seen_s > idle_s:
                    self.counts["idle"] += 1
                    self._end(upload)
            if not known.uploads and now_s - known.seen_s > idle_s:
                del self._peers[peer]
        self._credit.run()

    def figures(self) -> dict[str, int]:
        uploads = sum(len(known.uploads) for known in self._peers.values())
        now = {"peers": len(self._peers), "uploads": uploads, "credit_bytes": self._credit.total - self._credit.free}
        return {**self.counts, **now, "partial_bytes": self._partials.bytes, "partials_removed": self._partials.removed}

    def _unknown(self, peer: bytes, message: Message) -> None:
        """Of an upload that is over. What still comes of one that lost its credit is answered, so that it is offered
        again at once."""
        self.counts["unknown_ticket"] += 1
        if isinstance(message, Chunk | Commit):
            self._send(peer, Refused(message.ticket, Code.SERVER_BUSY, True, "this upload is over"))

    def _known(self, peer: bytes, robot: str) -> _Peer:
        known = self._peers.get(peer)
        if known is None or known.robot != robot:
            self.forget(peer)
            known = self._peers[peer] = _Peer(robot, 0.0)
        if robot not in self._robots:
            rate = self._config.messages_per_s
            self._robots[robot] = _Robot(TokenBucket(rate, 2 * rate, self._clock))
        known.seen_s = self._clock()
        return known

    def _offered(self, peer: bytes, known: _Peer, offer: Offer) -> None:
        if offer.ticket in known.uploads:
            self.counts["ticket_reused"] += 1
            return
        path = self._partials.path(known.robot, offer.name)
        fault: Refused | None = None
        if offer.size > self._config.upload_mb * 1e6:
            text = f"{offer.size / 1e6:.1f} MB, {self._config.upload_mb:g} are taken"
            fault = Refused(offer.ticket, Code.UPLOAD_TOO_LARGE, False, text)
        elif self._robots[known.robot].uploads >= TRANSFERS:
            fault = Refused(offer.ticket, Code.SERVER_BUSY, True, f"{TRANSFERS} uploads at a time")
        if fault is not None:
            self.counts["refused" if not fault.again else "put_off"] += 1
            self._send(peer, fault)
            return
        if (other := self._paths.get(path)) is not None:  # of an older connection, or offered twice
            if other.state is State.WHOLE:
                self._send(peer, Refused(offer.ticket, Code.SERVER_BUSY, True, "the same blob is being stored"))
                return
            self._end(other)
        upload = _Upload(peer, known.robot, offer, path, self._clock())
        known.uploads[offer.ticket] = self._paths[path] = upload
        self._robots[known.robot].uploads += 1
        self._hand_over(upload, store=False)

    def _asked(self, upload: _Upload, offset: int, used: int) -> None:
        """The fleet does not have it; ``offset`` bytes of it are in the file."""
        if used:
            self._partials.opened(upload.path, used)
        else:
            self._partials.remove(upload.path)
        upload.state, upload.received, upload.until, upload.seen_s = State.OPEN, offset, offset, self._clock()
        if offset == upload.offer.size:
            upload.wanted = True
            self._send(upload.peer, Need(upload.offer.ticket, offset, offset))
        else:
            self._wait(upload)

    def _wait(self, upload: _Upload) -> None:
        upload.waits = True
        priority = 0 if upload.offer.kind.is_report else max(1, upload.offer.priority)
        self._credit.ask(upload, priority)

    def _serve(self, upload: _Upload, free: int) -> int:
        """Its turn: as much as a fair part allows."""
        if upload.state is not State.OPEN or not upload.waits:
            return 0
        upload.waits = False
        fair = self._credit.total // max(1, len(self._paths))
        window = max(CHUNK_BYTES, min(int(self._config.window_kb * 1e3), fair))
        amount = min(upload.offer.size - upload.until, window, free)
        if not upload.wanted and amount == upload.offer.size:
            upload.chunks = []
        upload.until += amount
        upload.held += amount
        upload.seen_s = self._clock()
        ticket = upload.offer.ticket
        more = More(ticket, upload.until) if upload.wanted else Need(ticket, upload.received, upload.until)
        upload.wanted = True
        self._send(upload.peer, more)
        return amount

    def _chunk(self, upload: _Upload, chunk: Chunk) -> None:
        end = chunk.offset + len(chunk.data)
        fault = (
            "out_of_order"
            if upload.state is not State.OPEN or chunk.offset != upload.received
            else "beyond_credit"
            if end > upload.until
            else "checksum"
            if not is_whole(chunk)
            else None
        )
        if fault is not None:
            self.counts[fault] += 1
            self._say_where(upload)
        elif upload.chunks is not None:
            upload.chunks.append(chunk)
            upload.received, upload.told = end, False
        else:
            self._keep(upload, chunk, end)

    def _keep(self, upload: _Upload, chunk: Chunk, end: int) -> None:
        try:
            kept = self._partials.append(upload.path, chunk.crc, chunk.data, self._paths)
        except RobinError as exc:
            self._refuse(upload, RobinError(Code.UPLOAD_NOT_KEPT, exc.text), True)
            return
        if not kept:
            self._refuse(upload, RobinError(Code.SERVER_BUSY, "too many unfinished uploads"), True)
            return
        upload.received, upload.told = end, False
        upload.held -= len(chunk.data)
        self._credit.give_back(len(chunk.data))
        left = upload.until - end
        if not upload.waits and upload.until < upload.offer.size and left <= self._config.window_kb * 500:
            self._wait(upload)

    def _say_where(self, upload: _Upload) -> None:
        """Once, until the next one that fits: those that were on their way do not fit either."""
        if upload.state is State.OPEN and not upload.told and upload.wanted:
            upload.told = True
            self._send(upload.peer, Need(upload.offer.ticket, upload.received, upload.until))

    def _committed(self, upload: _Upload) -> None:
        if upload.state is State.OPEN and upload.wanted:
            if upload.received == upload.offer.size:
                upload.state = State.WHOLE
                self._hand_over(upload, store=True)
            else:
                self.counts["out_of_order"] += 1
                self._say_where(upload)

    def _hand_over(self, upload: _Upload, *, store: bool) -> None:
        offer, chunks = upload.offer, None
        if store and upload.chunks is not None:
            chunks = tuple(chunk.data for chunk in upload.chunks)
        work = (upload.peer, offer.ticket, upload.robot, offer.name, offer.kind, offer.size, upload.path)
        self._work(Work(*work, store, () if store and not offer.size else chunks))

    def _refuse(self, upload: _Upload, error: RobinError, again: bool) -> None:
        self._end(upload, Refused(upload.offer.ticket, int(error.code), again, error.text))

    def _save(self, upload: _Upload) -> None:
        """What has come of it goes to the disk, so that the robot can go on from there."""
        with contextlib.suppress(RobinError):  # then it is sent again
            for chunk in upload.chunks or ():
                if not self._partials.append(upload.path, chunk.crc, chunk.data, self._paths):
                    return

    def _end(self, upload: _Upload, answer: Message | None = None, *, is_withdrawn: bool = False) -> None:
        if upload.state is State.OVER:
            return
        upload.state = State.OVER
        self._robots[upload.robot].uploads -= 1
        if answer is None and upload.chunks and not is_withdrawn:
            self._save(upload)
        self._credit.give_back(upload.held)
        upload.held, upload.chunks = 0, None
        if (known := self._peers.get(upload.peer)) is not None:
            known.uploads.pop(upload.offer.ticket, None)
        if self._paths.get(upload.path) is upload:
            del self._paths[upload.path]
        if answer is not None:
            self._send(upload.peer, answer)
