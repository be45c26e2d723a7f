"""Look at every blob of a store, put aside what is damaged, and make a lost index anew from the records."""

from __future__ import annotations

import contextlib
import itertools
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from edge_adapt.store.blobs import BLOB_FOLDER, QUARANTINE_FOLDER, BlobFolder
from edge_adapt.store.config import StoreConfig
from edge_adapt.store.index import INDEX_FILE, Index, NewSample, guarded
from edge_adapt.store.reservoir import Stratum
from edge_adapt.store.sample import RECORD_SUFFIX, SampleRecord
from edge_adapt.store.store import SampleStore, StoreReader, lock_store
from robin_perception.core.disk import make_folder, sync_folder, write_error
from robin_perception.core.errors import Code, RobinError

Progress = Callable[[int, int], None]
_MOST_NAMES = 20  # of blobs in a report
_BATCH = 1000  # records in one transaction
_UNUSABLE = frozenset({Code.STORE_INDEX_DAMAGED, Code.STORE_VERSION, Code.STORE_MISSING})


@dataclass
class StoreReport:
    """What was found. damaged, missing: blobs of samples. orphans: blobs that no sample uses, left by a crash.
    problems: of the index. rebuilt: samples found again for a new index, None where the old one stayed; incomplete:
    records among them that lacked a blob. removed: samples that were taken out."""

    samples: int = 0
    blobs: int = 0
    bytes: int = 0
    damaged: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    orphans: int = 0
    orphan_bytes: int = 0
    problems: list[str] = field(default_factory=list)
    rebuilt: int | None = None
    incomplete: int = 0
    removed: int = 0

    @property
    def whole(self) -> bool:
        """Orphans take room and harm nothing."""
        return not (self.damaged or self.missing or self.problems)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "whole": self.whole}


def verify(store: StoreReader, progress: Progress = lambda done, total: None) -> StoreReport:
    """Read and hash everything. Raises RobinError STORE_INDEX_DAMAGED where the index cannot even be read through."""
    with guarded(store.index.path):
        report = StoreReport(samples=len(store), problems=store.index.problems())
        sizes = dict(store.index.blobs())
        report.blobs, report.bytes = len(sizes), sum(sizes.values())
        if not report.problems:
            report.problems = store.index.contradictions()
        for number, name in enumerate(sizes, start=1):
            try:
                store.blobs.read(name)
            except RobinError as exc:
                (report.missing if exc.code is Code.STORE_BLOB_MISSING else report.damaged).append(name)
            progress(number, len(sizes))
        for name in _orphans(store):
            report.orphans += 1
            report.orphan_bytes += _size(store.blobs, name)
    return report


def repair(folder: Path, progress: Progress = lambda done, total: None) -> StoreReport:
    """Verify; put damaged blobs into ``quarantine/``, take their samples out, remove orphans. An index that is damaged,
    missing or of another version is put aside too, and made anew. Raises RobinError STORE_BUSY, STORE_MISSING,
    DISK_FULL."""
    rebuilt, incomplete = None, 0
    if not folder.is_dir():
        raise RobinError(Code.STORE_MISSING, f"{folder}: no store there")
    if (reason := _unusable(folder)) is not None:
        if not (folder / BLOB_FOLDER).is_dir():
            raise reason
        rebuilt, incomplete = rebuild(folder, progress)
    with SampleStore(folder) as store:
        report = verify(store, progress)
        for name in report.damaged:
            store.blobs.set_aside(name)
        for name in (*report.damaged, *report.missing):
            with guarded(store.index.path):
                users = store.index.users(name)
            for seq in users:
                store.discard(seq)
                report.removed += 1
        remove_orphans(store)
    report.rebuilt, report.incomplete = rebuilt, incomplete
    return report


def remove_orphans(store: SampleStore) -> tuple[int, int]:
    """Blobs that no sample uses leave the disk. Returns (how many, bytes)."""
    count = size = 0
    with guarded(store.index.path):
        for name in _orphans(store):
            size += _size(store.blobs, name)
            count += store.blobs.remove(name)
    return count, size


def rebuild(folder: Path, progress: Progress = lambda done, total: None) -> tuple[int, int]:
    """Put the index aside and make it anew from the records. Returns (samples, records that lack a blob).

    What was uploaded and what was lost is not known any more; budgets come with the next writer.
    """
    with contextlib.closing(lock_store(folder)):
        _put_index_aside(folder)
        blobs = BlobFolder(folder)
        index = Index(folder / INDEX_FILE, write=True)
        with contextlib.closing(index), guarded(index.path):
            index.create(secrets.randbits(63), time.time(), StoreConfig().model_dump_json())
            sync_folder(folder)
            return _read_records(index, blobs, progress)


def _read_records(index: Index, blobs: BlobFolder, progress: Progress) -> tuple[int, int]:
    names = [name for name in blobs.names() if name.endswith(RECORD_SUFFIX)]
    found, incomplete = dict[int, _Found](), 0
    for number, name in enumerate(names, start=1):
        with contextlib.suppress(RobinError):
            record = _record(blobs, name)
            if all(_size(blobs, blob) == size for blob, size in record.files.values()):
                # Two of one number: the older was never acknowledged, or the newer would have had another one.
                found[record.seq] = max(_Found.of(record, name), found.get(record.seq, _Found.of(record, name)))
            else:
                incomplete += 1
        progress(number, 2 * len(names))
    counts = dict[Stratum, tuple[float, int]]()
    for one in found.values():
        least, most = counts.get(one.key, (1.0, 0))
        counts[one.key] = min(least, one.threshold), max(most, one.seen)
    kept = {
        seq: one for seq, one in sorted(found.items()) if one.figure < counts[one.key][0]
    }  # others had been removed
    start = index.state()
    state = replace(start, offered=max(found, default=0), block=max((key.block for key in counts), default=0))
    numbers, done = iter(kept), 0
    while batch := list(itertools.islice(numbers, _BATCH)):
        with index.db:
            for seq in batch:
                name = kept[seq].name
                record = _record(blobs, name)
                sizes = {**dict(record.files.values()), name: _size(blobs, name)}
                row = NewSample(seq, kept[seq].key, record.figure, record.decision_id, name, sizes, record.at_s)
                index.insert(row, state)
        done += len(batch)
        progress(len(kept) + done, 2 * len(kept))
    for key, (threshold, seen) in counts.items():
        index.restore_counts(key, threshold, seen)
    return len(kept), incomplete


class _Found(NamedTuple):
    """What is needed of a record until all have been read."""

    at_s: float
    name: str
    key: Stratum
    figure: float
    threshold: float
    seen: int

    @classmethod
    def of(cls, record: SampleRecord, name: str) -> _Found:
        key = Stratum(record.share, record.name, record.result, record.block)
        return cls(record.at_s, name, key, record.figure, record.threshold, record.seen)


def _record(blobs: BlobFolder, name: str) -> SampleRecord:
    return SampleRecord.parse(blobs.read(name), str(blobs.path(name)))


def _orphans(store: StoreReader) -> Iterator[str]:
    for name in store.blobs.names():
        if not store.index.known((name,)):
            yield name


def _size(blobs: BlobFolder, name: str) -> int:
    try:
        return blobs.path(name).stat().st_size
    except OSError:
        return -1


def _unusable(folder: Path) -> RobinError | None:
    """Why the index must be made anew."""
    try:
        with StoreReader(folder) as store, guarded(store.index.path):
            problems = store.index.problems()
    except RobinError as exc:
        if exc.code not in _UNUSABLE:
            raise
        return exc
    except apsw.Error as exc:
        return RobinError(Code.STORE_INDEX_DAMAGED, f"{folder / INDEX_FILE}: {exc}")
    return RobinError(Code.STORE_INDEX_DAMAGED, f"{folder / INDEX_FILE}: {problems[0]}") if problems else None


def _put_index_aside(folder: Path) -> None:
    quarantine = folder / QUARANTINE_FOLDER
    make_folder(quarantine)
    place = next(p for n in itertools.count(1) if not (p := quarantine / f"index-{n}").exists())
    try:
        place.mkdir()
        for path in folder.glob(f"{INDEX_FILE}*"):
            path.rename(place / path.name)
        sync_folder(folder)
    except OSError as exc:
        raise write_error(place, exc) from None
