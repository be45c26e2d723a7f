"""The index of a store: which samples there are, which blobs they use, and what the reservoirs have counted.

SQLite in write-ahead mode with ``synchronous=FULL``: a transaction that was committed survives a power cut. Its own
versions 3.7.0 to 3.51.2 can damage such a database (WAL-reset bug), so older libraries are refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import apsw

from edge_adapt.store.config import SHARES
from edge_adapt.store.reservoir import Stratum
from robin_perception.core.errors import Code, RobinError

INDEX_FILE = "index.sqlite"
VERSION = 2
_WITHOUT_CHECKS = 1  # the version before: it had no second look of the uplink at what the fleet has
LEAST_SQLITE = (3, 51, 3)
_WAIT_MS = 5000  # for a reader that holds the database
_ADD_CHECKS = """
ALTER TABLE samples ADD COLUMN checked_s REAL;
CREATE INDEX samples_unchecked ON samples (stored_s) WHERE stored_s IS NOT NULL AND checked_s IS NULL;
PRAGMA user_version = 2;
"""
_SCHEMA = """
CREATE TABLE state (
  id INTEGER PRIMARY KEY CHECK (id = 1), seed INTEGER NOT NULL, offered INTEGER NOT NULL DEFAULT 0,
  block INTEGER NOT NULL DEFAULT 0, block_start_s REAL NOT NULL,
  bytes INTEGER NOT NULL DEFAULT 0, config TEXT NOT NULL);
CREATE TABLE strata (
  id INTEGER PRIMARY KEY, share TEXT NOT NULL, name TEXT NOT NULL, result TEXT NOT NULL, block INTEGER NOT NULL,
  threshold REAL NOT NULL DEFAULT 1, seen INTEGER NOT NULL DEFAULT 0, kept INTEGER NOT NULL DEFAULT 0,
  bytes INTEGER NOT NULL DEFAULT 0, lost INTEGER NOT NULL DEFAULT 0, UNIQUE (share, name, result, block));
CREATE INDEX strata_fullest ON strata (share, kept DESC, block, id) WHERE kept > 0;
CREATE INDEX strata_bytes ON strata (share, bytes) WHERE kept > 0;
CREATE TABLE samples (
  seq INTEGER PRIMARY KEY, stratum INTEGER NOT NULL, figure REAL NOT NULL, decision TEXT NOT NULL,
  record INTEGER NOT NULL, bytes INTEGER NOT NULL, at_s REAL NOT NULL, priority INTEGER NOT NULL, stored_s REAL,
  checked_s REAL);
CREATE INDEX samples_worst ON samples (stratum, figure);
CREATE INDEX samples_decision ON samples (decision);
CREATE INDEX samples_pending ON samples (priority, seq) WHERE stored_s IS NULL;
CREATE INDEX samples_unchecked ON samples (stored_s) WHERE stored_s IS NOT NULL AND checked_s IS NULL;
CREATE TABLE blobs (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, bytes INTEGER NOT NULL, stored_s REAL);
CREATE TABLE uses (seq INTEGER NOT NULL, blob INTEGER NOT NULL, PRIMARY KEY (seq, blob)) WITHOUT ROWID;
CREATE INDEX uses_blob ON uses (blob);
CREATE TABLE leaving (name TEXT PRIMARY KEY) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class State:
    """offered: samples ever offered, which is also the state of the random draws. bytes: of all blobs."""

    seed: int
    offered: int
    block: int
    block_start_s: float
    bytes: int
    config: str


class StratumRow(NamedTuple):
    """threshold: figures below it are kept. lost: removed before the fleet was known to have them."""

    id: int
    share: str
    name: str
    result: str
    block: int
    threshold: float
    seen: int
    kept: int
    bytes: int
    lost: int


class SampleRow(NamedTuple):
    seq: int
    stratum: int
    figure: float
    decision: str
    record: str
    bytes: int
    at_s: float
    stored_s: float | None


@dataclass(frozen=True)
class NewSample:
    """One row to be: blobs: name -> bytes of all that it uses, the record's among them."""

    seq: int
    stratum: Stratum
    figure: float
    decision: str
    record: str
    blobs: Mapping[str, int]
    at_s: float


@contextlib.contextmanager
def guarded(path: Path) -> Iterator[None]:
    """SQLite's failures as numbered ones."""
    try:
        yield
    except (apsw.CorruptError, apsw.NotADBError) as exc:
        text = f"{path}: the index is damaged ({exc}); robin store verify --repair makes it anew from the blobs"
        raise RobinError(Code.STORE_INDEX_DAMAGED, text) from None
    except apsw.FullError as exc:
        raise RobinError(Code.DISK_FULL, f"{path}: cannot write: {exc}") from None
    except apsw.BusyError as exc:
        raise RobinError(Code.STORE_BUSY, f"{path}: another program holds the index: {exc}") from None
    except (apsw.ReadOnlyError, apsw.CantOpenError, apsw.IOError, apsw.PermissionsError) as exc:
        raise RobinError(Code.INPUT_UNREADABLE, f"{path}: {exc}") from None


class Index:
    """One connection; owned by one thread. Methods raise what ``guarded`` makes of SQLite's failures where the store
    calls them inside it."""

    def __init__(self, path: Path, *, write: bool) -> None:
        """Raises RobinError STORE_SQLITE_OLD, STORE_VERSION, STORE_INDEX_DAMAGED, STORE_MISSING."""
        require_sqlite()
        self.path = path
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE if write else apsw.SQLITE_OPEN_READONLY
        if not write and not path.exists():
            raise RobinError(Code.STORE_MISSING, f"{path.parent}: no store there")
        with guarded(path):
            self.db = apsw.Connection(str(path), flags)
            try:
                self._prepare(write)
            except BaseException:
                self.db.close()
                raise

    def _prepare(self, write: bool) -> None:
        self.db.set_busy_timeout(_WAIT_MS)
        if write:
            self.db.execute("PRAGMA journal_mode = wal; PRAGMA synchronous = full; PRAGMA temp_store = memory")
        version = self.db.execute("PRAGMA user_version").get
        self.is_new = not (version or self.db.execute("SELECT COUNT(*) FROM sqlite_schema").get)
        if version == _WITHOUT_CHECKS and write:
            with self.db:
                self.db.execute(_ADD_CHECKS)
            version = VERSION
        self.has_checks = version != _WITHOUT_CHECKS
        if version not in (VERSION, _WITHOUT_CHECKS) and not self.is_new:
            text = f"{self.path}: an index of version {version}, this release has {VERSION}"
            raise RobinError(Code.STORE_VERSION, f"{text}; robin store verify --repair makes it anew from the blobs")

    def create(self, seed: int, now_s: float, config: str) -> None:
        """Make the tables where there are none yet."""
        if self.is_new:
            with self.db:
                self.db.execute(_SCHEMA)
                self.db.execute(
                    "INSERT INTO state (id, seed, block_start_s, config) VALUES (1, ?, ?, ?)", (seed, now_s, config)
                )
                self.db.execute(f"PRAGMA user_version = {VERSION}")
            self.is_new = False

    def close(self) -> None:
        self.db.close()

    # What is there

    def state(self) -> State:
        row = self.db.execute("SELECT seed, offered, block, block_start_s, bytes, config FROM state").fetchone()
        if row is None:
            raise RobinError(Code.STORE_INDEX_DAMAGED, f"{self.path}: its state is missing")
        return State(*row)

    def strata(self) -> list[StratumRow]:
        return [StratumRow(*row) for row in self.db.execute("SELECT * FROM strata ORDER BY share, name, result, block")]

    def stratum(self, key: Stratum) -> StratumRow | None:
        found = self.db.execute(
            "SELECT * FROM strata WHERE share = ? AND name = ? AND result = ? AND block = ?", key
        ).fetchone()
        return None if found is None else StratumRow(*found)

    def share_bytes(self) -> dict[str, int]:
        return dict(self.db.execute("SELECT share, SUM(bytes) FROM strata WHERE kept > 0 GROUP BY share"))

    def fullest(self, share: str) -> tuple[int, int] | None:
        """(id, samples) of the share's fullest stratum, of equals the oldest block's."""
        rows = self.db.execute(
            "SELECT id, kept FROM strata WHERE share = ? AND kept > 0 ORDER BY kept DESC, block, id LIMIT 1", (share,)
        )
        return rows.fetchone()

    def worst(self, stratum: int) -> tuple[int, float] | None:
        """(seq, figure) of the stratum's sample with the largest figure."""
        rows = self.db.execute(
            "SELECT seq, figure FROM samples WHERE stratum = ? ORDER BY figure DESC LIMIT 1", (stratum,)
        )
        return rows.fetchone()

    def samples(self, after: int = 0, limit: int = -1) -> Iterator[SampleRow]:
        """In the order in which they came, those behind sequence number ``after``."""
        query = (
            "SELECT seq, stratum, figure, decision, b.name, s.bytes, at_s, s.stored_s FROM samples s "
            "JOIN blobs b ON b.id = s.record WHERE seq > ? ORDER BY seq LIMIT ?"
        )
        return (SampleRow(*row) for row in self.db.execute(query, (after, limit)))

    def count(self) -> int:
        return int(self.db.execute("SELECT COALESCE(SUM(kept), 0) FROM strata").get)

    def known(self, names: Iterable[str]) -> set[str]:
        """Those of ``names`` that are blobs of the store."""
        found = (self.db.execute("SELECT name FROM blobs WHERE name = ?", (name,)).fetchone() for name in names)
        return {row[0] for row in found if row is not None}

    def blobs(self) -> Iterator[tuple[str, int]]:
        return iter(self.db.execute("SELECT name, bytes FROM blobs ORDER BY name"))

    def users(self, blob: str) -> list[int]:
        """Sequence numbers of the samples that use it."""
        query = "SELECT seq FROM uses JOIN blobs ON blobs.id = uses.blob WHERE name = ? ORDER BY seq"
        return [seq for (seq,) in self.db.execute(query, (blob,))]

    def leaving(self) -> list[str]:
        return [name for (name,) in self.db.execute("SELECT name FROM leaving")]

    def pending_counts(self) -> dict[str, int]:
        """Share -> samples that the fleet does not have."""
        rows = self.db.execute("SELECT priority, COUNT(*) FROM samples WHERE stored_s IS NULL GROUP BY priority")
        return {SHARES[priority]: count for priority, count in rows}

    # What changes it; each is one transaction

    def insert(self, sample: NewSample, state: State, gone: Iterable[str] = ()) -> None:
        """The sample, its blobs, the counters and the draw, all or nothing. state: after the offer. gone: names that
        have left the disk."""
        with self.db:
            self._forget(gone)
            stratum = self._offered(sample.stratum, state)
            ids, added = {}, 0
            for name, size in sample.blobs.items():
                known = self.db.execute("SELECT id FROM blobs WHERE name = ?", (name,)).fetchone()
                if known is None:
                    self.db.execute("INSERT INTO blobs (name, bytes) VALUES (?, ?)", (name, size))
                    self.db.execute("DELETE FROM leaving WHERE name = ?", (name,))
                    added += size
                ids[name] = self.db.last_insert_rowid() if known is None else known[0]
            own, priority = sum(sample.blobs.values()), SHARES.index(sample.stratum.share)
            self.db.execute(
                "INSERT INTO samples (seq, stratum, figure, decision, record, bytes, at_s, priority) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (sample.seq, stratum, sample.figure, sample.decision, ids[sample.record], own, sample.at_s, priority),
            )
            self.db.executemany("INSERT INTO uses VALUES (?, ?)", [(sample.seq, blob) for blob in set(ids.values())])
            self.db.execute("UPDATE strata SET kept = kept + 1, bytes = bytes + ? WHERE id = ?", (own, stratum))
            self.db.execute("UPDATE state SET bytes = bytes + ?", (added,))

    def pass_over(self, key: Stratum, figure: float, state: State) -> None:
        """The offer is counted and not kept; nothing larger is kept from now on."""
        with self.db:
            stratum = self._offered(key, state)
            self._lower(stratum, figure)

    def remove(self, seq: int, *, lower: bool) -> list[str]:
        """Take a sample out. lower: for want of room, so that nothing larger comes in. Returns the blobs that nobody
        uses any more; they stand in ``leaving`` until they are told to be gone. What the fleet was not found to have
        when it was asked again is lost."""
        with self.db:
            found = self.db.execute(
                "SELECT stratum, figure, bytes, checked_s IS NULL FROM samples WHERE seq = ?", (seq,)
            ).fetchone()
            if found is None:  # it is out already
                return []
            stratum, figure, own, lost = found
            if lower:
                self._lower(stratum, figure)
            self.db.execute(
                "UPDATE strata SET kept = kept - 1, bytes = bytes - ?, lost = lost + ? WHERE id = ?",
                (own, lost, stratum),
            )
            used = list(
                self.db.execute("SELECT id, name, b.bytes FROM uses JOIN blobs b ON b.id = blob WHERE seq = ?", (seq,))
            )
            self.db.execute("DELETE FROM uses WHERE seq = ?", (seq,))
            self.db.execute("DELETE FROM samples WHERE seq = ?", (seq,))
            names = []
            for blob, name, size in used:
                if self.db.execute("SELECT 1 FROM uses WHERE blob = ? LIMIT 1", (blob,)).fetchone() is None:
                    self.db.execute("DELETE FROM blobs WHERE id = ?", (blob,))
                    self.db.execute("INSERT OR IGNORE INTO leaving VALUES (?)", (name,))
                    self.db.execute("UPDATE state SET bytes = bytes - ?", (size,))
                    names.append(name)
        return names

    def forget(self, gone: Iterable[str]) -> None:
        with self.db:
            self._forget(gone)

    def set_config(self, config: str) -> None:
        with self.db:
            self.db.execute("UPDATE state SET config = ?", (config,))

    def restore_counts(self, key: Stratum, threshold: float, seen: int) -> None:
        """As they stood at the newest sample of a stratum that was found again."""
        with self.db:
            self.db.execute(
                "UPDATE strata SET threshold = ?, seen = MAX(seen, ?) "
                "WHERE share = ? AND name = ? AND result = ? AND block = ?",
                (threshold, seen, *key),
            )

    def problems(self) -> list[str]:
        """What SQLite's own check finds."""
        found = [str(text) for (text,) in self.db.execute("PRAGMA integrity_check(20)")]
        return [] if found == ["ok"] else found

    def contradictions(self) -> list[str]:
        """Between its tables; none, whatever was cut off where."""
        checks = {
            "bytes of all blobs": "SELECT (SELECT bytes FROM state) = (SELECT COALESCE(SUM(bytes), 0) FROM blobs)",
            "samples of the strata": "SELECT NOT EXISTS (SELECT 1 FROM strata t WHERE kept != "
            "(SELECT COUNT(*) FROM samples WHERE stratum = t.id))",
            "bytes of the strata": "SELECT NOT EXISTS (SELECT 1 FROM strata t WHERE bytes != "
            "(SELECT COALESCE(SUM(bytes), 0) FROM samples WHERE stratum = t.id))",
            "blobs without a sample": "SELECT NOT EXISTS (SELECT 1 FROM blobs WHERE id NOT IN (SELECT blob FROM uses))",
            "samples without their record": "SELECT NOT EXISTS (SELECT 1 FROM samples s WHERE NOT EXISTS "
            "(SELECT 1 FROM uses WHERE seq = s.seq AND blob = s.record))",
            "uses of no blob": "SELECT NOT EXISTS (SELECT 1 FROM uses WHERE blob NOT IN (SELECT id FROM blobs))",
            "figures over the threshold": "SELECT NOT EXISTS (SELECT 1 FROM samples JOIN strata t ON t.id = stratum "
            "WHERE figure >= threshold)",
        }
        return [f"{what} do not agree" for what, query in checks.items() if not self.db.execute(query).get]

    def _offered(self, key: Stratum, state: State) -> int:
        self.db.execute(
            "UPDATE state SET offered = ?, block = ?, block_start_s = ?",
            (state.offered, state.block, state.block_start_s),
        )
        self.db.execute("INSERT OR IGNORE INTO strata (share, name, result, block) VALUES (?, ?, ?, ?)", key)
        self.db.execute(
            "UPDATE strata SET seen = seen + 1 WHERE share = ? AND name = ? AND result = ? AND block = ?", key
        )
        found = self.stratum(key)
        assert found is not None
        return found.id

    def _lower(self, stratum: int, figure: float) -> None:
        self.db.execute("UPDATE strata SET threshold = MIN(threshold, ?) WHERE id = ?", (figure, stratum))

    def _forget(self, gone: Iterable[str]) -> None:
        self.db.executemany("DELETE FROM leaving WHERE name = ?", [(name,) for name in gone])


def require_sqlite(found: str | None = None) -> None:
    """Raises RobinError STORE_SQLITE_OLD."""
    version = found if found is not None else apsw.sqlite_lib_version()
    if tuple(int(part) for part in version.split(".")[:3]) < LEAST_SQLITE:
        least = ".".join(map(str, LEAST_SQLITE))
        text = f"SQLite {version} can damage the index; {least} or newer is needed: pip install -U apsw"
        raise RobinError(Code.STORE_SQLITE_OLD, text)
