"""The store of one robot: one process writes, any may read. What ``add`` has returned for survives a power cut."""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, TypeVar

import apsw
from pydantic import ValidationError

from edge_adapt.store import uploads
from edge_adapt.store.acks import Ack, AckReader
from edge_adapt.store.blobs import BLOB_FOLDER, BlobFolder, Files, blob_name
from edge_adapt.store.config import BALANCED, CORE, FAILURE, NOVELTY, StoreConfig
from edge_adapt.store.index import INDEX_FILE, Index, NewSample, SampleRow, State, StratumRow, guarded
from edge_adapt.store.reservoir import Stratum, block_after, draw, most_over, split
from edge_adapt.store.sample import RECORD_SUFFIX, Sample, SampleRecord, StoredSample
from robin_perception.core.config import first_fault
from robin_perception.core.disk import make_folder, sync_folder, write_error
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.output import lock_stream

LOCK_FILE = "lock"
ReaderT = TypeVar("ReaderT", bound="StoreReader")
_HOUR_S = 3600.0
_NEWCOMER = -1


@dataclass(frozen=True)
class Receipt:
    """An answer of ``add``, durable. kept: False where the draw passed it over; it is counted all the same."""

    seq: int
    stratum: Stratum
    figure: float
    kept: bool


@dataclass(frozen=True)
class PendingSample:
    """A sample for the fleet. blobs: (name, bytes) of those it lacks, or is asked for; the record last.
    record: the record's blob."""

    seq: int
    share: str
    record: str
    blobs: tuple[tuple[str, int], ...]


class StoreReader:
    """Read a store, also while another process writes it. Owned by one thread."""

    def __init__(self, folder: Path) -> None:
        """Raises RobinError STORE_MISSING, STORE_INDEX_DAMAGED, STORE_VERSION, STORE_SQLITE_OLD."""
        self.folder = folder
        self.index = Index(folder / INDEX_FILE, write=False)
        self.blobs = BlobFolder(folder)
        with guarded(self.index.path):
            self._load_state()

    def _load_state(self) -> None:
        """``state``, and ``config`` as the writer had it last."""
        if self.index.is_new:
            raise _lost_index(self.folder)
        self.state: State = self.index.state()
        self.config = stored_config(self.state, self.index.path)

    def __len__(self) -> int:
        with guarded(self.index.path):
            return self.index.count()

    def samples(self, after: int = 0, limit: int = -1) -> Iterator[SampleRow]:
        """In the order in which they came, those behind sequence number ``after``."""
        with guarded(self.index.path):
            yield from self.index.samples(after, limit)

    def strata(self) -> list[StratumRow]:
        with guarded(self.index.path):
            return self.index.strata()

    def read(self, row: SampleRow) -> StoredSample:
        """Raises RobinError STORE_BLOB_MISSING (it may have left meanwhile), STORE_BLOB_DAMAGED, RECORD_INVALID."""
        data = self.blobs.read(row.record)
        return StoredSample(SampleRecord.parse(data, str(self.blobs.path(row.record))), self.blobs.read)

    def pending(self, limit: int = 64, share: str | None = None, after: int = 0) -> list[PendingSample]:
        """What the fleet does not have: novelties first, then failures, the core, the rest; the oldest first. share:
        of this one alone, those behind sequence number ``after``."""
        with guarded(self.index.path):
            return _by_sample(uploads.pending(self.index.db, limit, share, after))

    def unchecked(self, now_s: float, limit: int = 64) -> list[PendingSample]:
        """What the fleet has had for ``grace_h`` and was not asked for again; with all blobs."""
        if not self.index.has_checks:  # until a writer has opened it
            return []
        with guarded(self.index.path):
            return _by_sample(uploads.unchecked(self.index.db, now_s - self.config.grace_h * _HOUR_S, now_s, limit))

    def unfolded(self, acks: Iterable[Ack]) -> list[Ack]:
        """What the uplink has heard, and the writer has not taken over yet."""
        with guarded(self.index.path):
            return uploads.unfolded(self.index.db, acks)

    def close(self) -> None:
        self.index.close()

    def __enter__(self: ReaderT) -> ReaderT:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class SampleStore(StoreReader):
    """The writer. clock: seconds since 1970; it is written down and ends time blocks, and nothing is ordered by it.
    free_bytes: room on the disk. files: what the disk is asked to do."""

    def __init__(
        self,
        folder: Path,
        config: StoreConfig | None = None,
        *,
        seed: int | None = None,
        clock: Callable[[], float] = time.time,
        free_bytes: Callable[[], int] | None = None,
        files: Files | None = None,
    ) -> None:
        """Open a store, or make one. config: None takes the one that it had, else the defaults. seed: of a new store's
        draws; None: by chance. Raises RobinError STORE_BUSY where another process writes it, OPTION_INVALID for a
        folder that holds something else, DISK_FULL, and as ``StoreReader``."""
        self.folder = folder
        self._clock = clock
        self._free_bytes = free_bytes or (lambda: shutil.disk_usage(folder).free)
        self._acks = AckReader(folder)
        self._gone: list[str] = []  # have left the disk, and still stand in the index's list of those that leave
        _require_own(folder)
        make_folder(folder)
        self._lock = lock_store(folder)
        try:
            self.blobs = BlobFolder(folder, files)
            self.blobs.prepare()
            self.index = Index(folder / INDEX_FILE, write=True)
            with guarded(self.index.path):
                self._start(config, secrets.randbits(63) if seed is None else seed)
        except BaseException:
            self.close()
            raise

    def _start(self, config: StoreConfig | None, seed: int) -> None:
        if self.index.is_new and next(self.blobs.names(), None) is not None:
            raise _lost_index(self.folder)
        self.index.create(seed, self._clock(), (config or StoreConfig()).model_dump_json())
        sync_folder(self.folder)
        if config is not None:
            self.index.set_config(config.model_dump_json())
        self._load_state()
        self._fold()
        self._unlink(self.index.leaving())
        self.index.forget(self._gone)
        self._gone.clear()

    def add(self, sample: Sample) -> Receipt:
        """Offer a sample. It is on the disk, or passed over and counted, when this returns.

        Raises RobinError STORE_FULL where nothing may be removed for it, DISK_FULL; what was there before is whole
        then, and the next sample may be tried.
        """
        with guarded(self.index.path):
            self._fold()
            return self._add(sample)

    def _add(self, sample: Sample) -> Receipt:
        config, now_s = self.config, self._clock()
        block, start_s = block_after(self.state.block, self.state.block_start_s, now_s, config.block_h * _HOUR_S)
        state = replace(self.state, offered=self.state.offered + 1, block=block, block_start_s=start_s)
        for_core, figure = split(draw(state.seed, state.offered), config.core)
        names = {name: blob_name(data, Path(name).suffix) for name, data in sample.files.items()}
        blobs = {names[name]: data for name, data in sample.files.items()}
        size = sum(map(len, blobs.values())) + len(sample.decision)
        key = self._stratum(sample, for_core, block, size)
        if not self._admit(key, figure, size):
            self.index.pass_over(key, figure, state)
            self.state = self.index.state()
            return Receipt(state.offered, key, figure, False)
        known = self.index.stratum(key)
        record = SampleRecord(
            seq=state.offered,
            **key._asdict(),
            figure=figure,
            threshold=1.0 if known is None else known.threshold,
            seen=1 if known is None else known.seen + 1,
            at_s=now_s,
            station=config.station,
            camera=dict(sample.camera),
            masks=dict(sample.masks),
            files={name: (names[name], len(data)) for name, data in sample.files.items()},
            decision=json.loads(sample.decision),
        )
        data = record.model_dump_json().encode()
        record_name = blob_name(data, RECORD_SUFFIX)
        blobs[record_name] = data
        old = self.index.known(blobs)
        new = {name: blob for name, blob in blobs.items() if name not in old}
        self.blobs.write(new)
        sizes = {name: len(blob) for name, blob in blobs.items()}
        row = NewSample(state.offered, key, figure, sample.decision_id, record_name, sizes, now_s)
        try:
            self.index.insert(row, state, self._gone)
        except apsw.FullError:  # nothing of it was committed
            for name in new:
                self.blobs.remove(name)
            raise
        self._gone.clear()
        self.state = self.index.state()
        return Receipt(state.offered, key, figure, True)

    def evict_step(self) -> int | None:
        """Remove at most one sample, where budget or free disk ask for it. Returns its sequence number.

        The index lets go of it first, in one transaction, then its blobs leave the disk, then the index forgets them.
        Raises RobinError DISK_FULL.
        """
        with guarded(self.index.path):
            self._fold()
            if not self._over(0):
                return None
            victim = self._victim(None, 0.0, 0)
            if victim is not None:
                self._remove(victim, lower=True)
            return victim

    def mark_stored(self, blobs: Iterable[str]) -> int:
        """The fleet has these blobs, durably. Returns how many samples it has whole since. The uplink, which is another
        process, says it in the file of ``acks``."""
        with guarded(self.index.path):
            return uploads.mark_stored(self.index.db, blobs, self._clock())

    def _fold(self) -> None:
        """Take over what the uplink has heard since."""
        while acks := self._acks.new():
            uploads.fold(self.index.db, acks, self._clock())

    def discard(self, seq: int) -> None:
        """Take out a sample that is damaged."""
        with guarded(self.index.path):
            self._remove(seq, lower=False)

    def close(self) -> None:
        """What is written is on the disk already; close the files."""
        if hasattr(self, "index"):
            self.index.close()
        self._acks.close()
        self._lock.close()

    def _stratum(self, sample: Sample, for_core: bool, block: int, size: int) -> Stratum:
        """The core takes a share of all that comes by, until it is full."""
        config = self.config
        if for_core:
            key = Stratum(CORE, sample.name, sample.result, 0)
            known, core_bytes = self.index.stratum(key), self.index.share_bytes().get(CORE, 0)
            fits = core_bytes + size <= config.core * config.budget_bytes
            if fits and (0 if known is None else known.kept) < config.core_per_stratum:
                return key
        share = NOVELTY if sample.novel else BALANCED if sample.result == "clean" else FAILURE
        return Stratum(share, sample.name, sample.result, block)

    def _admit(self, key: Stratum, figure: float, size: int) -> bool:
        """Make room for a newcomer; False where it is the one to go. Raises RobinError STORE_FULL."""
        known = self.index.stratum(key)
        if known is not None and figure >= known.threshold:
            return False
        while self._over(size):
            victim = self._victim(key, figure, size)
            if victim is None:
                raise RobinError(Code.STORE_FULL, self._full_text(size))
            if victim == _NEWCOMER:
                return False
            self._remove(victim, lower=True)
        return True

    def _over(self, size: int) -> bool:
        config = self.config
        return self.state.bytes + size > config.budget_bytes or self._free_bytes() - size < config.least_free_mb * 1e6

    def _victim(self, key: Stratum | None, figure: float, size: int) -> int | None:
        """Of the share that is most over, the fullest stratum's sample with the largest figure."""
        share_bytes = self.index.share_bytes()
        if most_over(share_bytes, self.config) is None:
            return None  # nothing that may go
        if key is not None:
            share_bytes[key.share] = share_bytes.get(key.share, 0) + size
        share = most_over(share_bytes, self.config)
        assert share is not None
        top = self.index.fullest(share)
        if key is not None and key.share == share:
            own = self.index.stratum(key)
            if top is None or (own is not None and own.kept == top[1]):
                worst = None if own is None else self.index.worst(own.id)
                return _NEWCOMER if worst is None or figure > worst[1] else worst[0]
        if top is None:
            return None
        worst = self.index.worst(top[0])
        return None if worst is None else worst[0]

    def _remove(self, seq: int, *, lower: bool) -> None:
        self._unlink(self.index.remove(seq, lower=lower))
        self.state = self.index.state()

    def _unlink(self, names: Iterable[str]) -> None:
        self._gone += [name for name in names if self.blobs.remove(name)]

    def _full_text(self, size: int) -> str:
        config = self.config
        free_mb = self._free_bytes() / 1e6
        return (
            f"{self.folder}: no room for {size / 1e6:.2f} MB: {self.state.bytes / 1e6:.1f} of {config.budget_mb:g} MB "
            f"used, {free_mb:.0f} MB free on the disk of at least {config.least_free_mb:g}, nothing that may be removed"
        )


def _by_sample(rows: Iterable[uploads.Row]) -> list[PendingSample]:
    found: dict[int, PendingSample] = {}
    for seq, share, record, name, size in rows:
        known = found.get(seq, PendingSample(seq, share, record, ()))
        found[seq] = replace(known, blobs=(*known.blobs, (name, size)))
    return list(found.values())


def stored_config(state: State, path: Path) -> StoreConfig:
    """Raises RobinError STORE_INDEX_DAMAGED."""
    try:
        return StoreConfig.model_validate_json(state.config)
    except ValidationError as exc:
        raise RobinError(Code.STORE_INDEX_DAMAGED, f"{path}: its settings: {first_fault(exc)}") from None


def lock_store(folder: Path) -> BinaryIO:
    """Hold the writer's lock until the file is closed. Raises RobinError STORE_BUSY."""
    path = folder / LOCK_FILE
    try:
        stream = path.open("ab")
    except OSError as exc:
        raise write_error(path, exc) from None
    try:
        lock_stream(stream, path)
    except RobinError:
        raise RobinError(Code.STORE_BUSY, f"{folder}: another process writes this store; there can be one") from None
    return stream


def _require_own(folder: Path) -> None:
    """Raises RobinError OPTION_INVALID for a folder of something else, STORE_INDEX_DAMAGED for one without index."""
    if (folder / INDEX_FILE).exists() or not folder.exists():
        return
    if not folder.is_dir():
        raise RobinError(Code.OPTION_INVALID, f"{folder}: is no folder")
    if next(BlobFolder(folder).names(), None) is not None:
        raise _lost_index(folder)
    ours = {BLOB_FOLDER, "incoming", LOCK_FILE}
    if other := next((path.name for path in folder.iterdir() if path.name not in ours), None):
        raise RobinError(Code.OPTION_INVALID, f"{folder}: holds other files ('{other}'), no store; name another folder")


def _lost_index(folder: Path) -> RobinError:
    text = f"{folder / INDEX_FILE}: missing or empty; robin store verify --repair makes it anew from the blobs"
    return RobinError(Code.STORE_INDEX_DAMAGED, text)
