"""Which sample of the store goes up next, and which the fleet is asked for once more.

Unfamiliar goods and failures go first, then the random share (the core), then the rest. None of them waits forever:
each share that is passed over gains on the others (smooth weighted round robin).
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from edge_adapt.store.acks import Ack, AckLog, Word
from edge_adapt.store.blobs import BlobFolder
from edge_adapt.store.config import BALANCED, CORE, FAILURE, NOVELTY, SHARES
from edge_adapt.store.sample import SampleRecord
from edge_adapt.store.store import PendingSample, StoreReader
from edge_adapt.uplink.config import UplinkConfig
from edge_adapt.uplink.protocol import Kind
from edge_adapt.uplink.reports import FileSource
from edge_adapt.uplink.session import Blob, Done, Outcome
from robin_perception.core.errors import Code, RobinError

WEIGHTS = {NOVELTY: 8, FAILURE: 4, CORE: 2, BALANCED: 1}
_PAGE = 64
_LOOKS = 3
_COMPACT_AT = 20_000  # lines of the file of acks


class Turns:
    """Whose turn it is among those that have something."""

    def __init__(self, weights: dict[str, int]) -> None:
        self._weights = weights
        self._claims = dict.fromkeys(weights, 0)

    def order(self, having: list[str]) -> list[str]:
        """Names by their claim, the largest first."""
        return sorted(having, key=lambda name: -(self._claims[name] + self._weights[name]))

    def taken(self, name: str, having: list[str]) -> None:
        for other in having:
            self._claims[other] += self._weights[other]
        self._claims[name] -= sum(self._weights[other] for other in having)


@dataclass
class _Open:
    """A sample under way. waiting: blobs that come before its record. check: it is asked for once more."""

    sample: PendingSample
    check: bool
    waiting: set[str] = field(default_factory=set)
    again: bool = False
    refused: bool = False
    lost: bool = False


class SampleQueue:
    """Blobs of the store in the order in which they are offered, and what is to be told to its writer. Owned by one
    thread. clock: monotonic; wall: seconds since 1970, for the store's grace alone."""

    def __init__(
        self,
        config: UplinkConfig,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._config, self._clock, self._wall = config, clock, wall
        self._blobs = BlobFolder(config.store)
        self._reader: StoreReader | None = None
        self._acks: AckLog | None = None
        self._new_acks: dict[Ack, None] = {}
        self._turns = Turns(WEIGHTS)
        self._pages: dict[str, deque[PendingSample]] = {share: deque() for share in SHARES}
        self._cursors = dict.fromkeys(SHARES, 0)
        self._checks: deque[PendingSample] = deque()
        self._due_s: dict[str, float] = {}  # when a share, or the store, is looked into again
        self._later: dict[int, float] = {}
        self._refused: set[int] = set()
        self._open: dict[int, _Open] = {}
        self._flying: dict[str, list[_Open]] = {}
        self._ready: deque[Blob] = deque()
        self.counts: Counter[str] = Counter()
        self.failure: RobinError | None = None

    def next(self) -> Blob | None:
        """What is to be offered now."""
        while not self._ready:
            if not self._begin_sample():
                return None
        return self._ready.popleft()

    @property
    def is_idle(self) -> bool:
        """Nothing is under way or put off, and nothing was found at the last look."""
        looked = all(share in self._due_s and not self._pages[share] for share in SHARES)
        passed_s = self._clock() - _LOOKS * self._config.poll_s  # it would have been found again, were it still there
        put_off = any(due_s > passed_s for due_s in self._later.values())
        return looked and not (self._open or self._ready or self._checks or put_off)

    def done(self, done: Done) -> None:
        """What became of one blob."""
        name, stored = done.blob.name, done.outcome in (Outcome.HAVE, Outcome.STORED)
        for one in self._flying.pop(name, []):
            one.again |= done.outcome in (Outcome.AGAIN, Outcome.GONE)
            one.refused |= done.outcome is Outcome.REFUSED
            if one.check and done.outcome is Outcome.STORED:
                one.lost = True
                self._hear(Ack(Word.GONE, name))
            one.waiting.discard(name)
            if done.code == Code.SAMPLE_WAITING:
                self._distrust(one.sample)
            if not one.waiting:
                self._go_on(one, name)
        if stored:
            self._hear(Ack(Word.STORED, name))

    def flush(self) -> None:
        """Write down what was heard. Raises RobinError DISK_FULL; then it is tried again."""
        if self._new_acks and self._acks is not None:
            self._acks.add(self._new_acks)
            self._new_acks.clear()
            if len(self._acks) > _COMPACT_AT:
                self._compact()

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _begin_sample(self) -> bool:
        reader = self._opened()
        if reader is None:
            return False
        try:
            sample, check = self._chosen(reader)
        except RobinError as exc:
            self._fail(exc)
            return False
        if sample is None:
            return False
        one = _Open(sample, check)
        self._open[sample.seq] = one
        files = [(name, size) for name, size in sample.blobs if name != sample.record]
        for name, size in files:
            one.waiting.add(name)
            self._fly(one, name, size, Kind.FILE)
        if not files:
            self._go_on(one, "")
        return True

    def _go_on(self, one: _Open, last: str) -> None:
        """All that was waited for has come to an end: the record's turn, or the sample is through."""
        record = next(((name, size) for name, size in one.sample.blobs if name == one.sample.record), None)
        if record is not None and last != record[0] and not one.again and not one.refused:
            one.waiting.add(record[0])
            self._fly(one, *record, Kind.RECORD)
            return
        del self._open[one.sample.seq]
        if one.refused:
            self._refused.add(one.sample.seq)
            self.counts["refused"] += 1
        elif one.again:
            self._later[one.sample.seq] = self._clock() + self._config.retry_s
        elif one.lost:
            self.counts["fleet_lost"] += 1
        elif one.check:
            self._hear(Ack(Word.CHECKED, one.sample.record))
            self.counts["checked"] += 1
        else:
            self.counts["stored"] += 1

    def _distrust(self, sample: PendingSample) -> None:
        """The fleet lacks files of that record which it had acknowledged: all of them are offered again."""
        with contextlib.suppress(RobinError):  # it was removed meanwhile
            record = SampleRecord.parse(self._blobs.read(sample.record), sample.record)
            for name, _ in record.files.values():
                self._hear(Ack(Word.GONE, name))

    def _fly(self, one: _Open, name: str, size: int, kind: Kind) -> None:
        """A blob that two samples share is offered once."""
        flying = self._flying.setdefault(name, [])
        flying.append(one)
        if len(flying) == 1:
            path = self._blobs.path(name)
            priority = len(SHARES) + 1 if one.check else SHARES.index(one.sample.share) + 1
            self._ready.append(Blob(name, size, kind, priority, partial(FileSource, path)))

    def _chosen(self, reader: StoreReader) -> tuple[PendingSample | None, bool]:
        """The next sample, and whether it is one to be asked for again."""
        if not self._checks and self._is_due("checks", self._config.check_s):
            self._checks.extend(reader.unchecked(self._wall(), _PAGE))
        while self._checks:
            sample = self._checks.popleft()
            if self._is_free(sample) and not self._heard(Word.CHECKED, sample.record):
                return sample, True
        having = [share for share in SHARES if self._fill(reader, share)]
        if not having:
            return None, False
        share = self._turns.order(having)[0]
        self._turns.taken(share, having)
        return self._pages[share].popleft(), False

    def _fill(self, reader: StoreReader, share: str) -> bool:
        """Whether there is a sample of that share to send."""
        page = self._pages[share]
        while not page:
            if not self._is_due(share, self._config.poll_s):
                return False
            found = reader.pending(_PAGE, share, self._cursors[share])
            self._cursors[share] = found[-1].seq if found else 0
            if found:
                self._due_s.pop(share)
            page.extend(sample for one in found if (sample := self._left_of(one)) is not None)
            if not found:
                return False
        return True

    def _left_of(self, sample: PendingSample) -> PendingSample | None:
        """What of it the fleet lacks, as far as the uplink itself has heard; None where it is not its turn."""
        if not self._is_free(sample) or sample.seq in self._refused:
            return None
        left = tuple(blob for blob in sample.blobs if not self._heard(Word.STORED, blob[0]))
        return PendingSample(sample.seq, sample.share, sample.record, left) if left else None

    def _is_free(self, sample: PendingSample) -> bool:
        if self._later.get(sample.seq, 0.0) > self._clock():
            return False
        self._later.pop(sample.seq, None)
        return sample.seq not in self._open

    def _hear(self, ack: Ack) -> None:
        self._new_acks.pop(ack, None)  # the newest comes last
        self._new_acks[ack] = None

    def _heard(self, word: Word, name: str) -> bool:
        ack = Ack(word, name)
        return ack in self._new_acks or (self._acks is not None and ack in self._acks)

    def _is_due(self, what: str, period_s: float) -> bool:
        now_s = self._clock()
        if self._due_s.get(what, now_s) > now_s:
            return False
        self._due_s[what] = now_s + period_s
        return True

    def _opened(self) -> StoreReader | None:
        if self._reader is None and self._is_due("store", self._config.poll_s):
            try:
                self._reader = StoreReader(self._config.store)
                self._acks = self._acks or AckLog(self._config.store)
                self._compact()
                self.failure = None
            except RobinError as exc:
                self._fail(exc)
        return self._reader

    def _compact(self) -> None:
        """Drop what the index has. On a full disk the file stays as it is."""
        assert self._acks is not None and self._reader is not None
        with contextlib.suppress(RobinError):
            self._acks.keep(self._reader.unfolded(self._acks))

    def _fail(self, exc: RobinError) -> None:
        self.failure = exc
        self.close()


def store_figures(folder: Path) -> dict[str, float]:
    """What a store holds and what it has lost, for the fleet. Raises RobinError STORE_*."""
    from edge_adapt.store.status import store_status

    values = store_status(folder)
    lost: Counter[str] = Counter()
    for stratum in values["strata"]:
        lost[stratum["share"]] += stratum["lost"]
    flat = {f"store_{key}": float(values[key]) for key in ("samples", "offered", "bytes", "pending", "lost", "free_mb")}
    flat |= {f"store_pending_{share}": float(count) for share, count in values["pending_by_share"].items()}
    return flat | {f"store_lost_{share}": float(count) for share, count in lost.items()}
