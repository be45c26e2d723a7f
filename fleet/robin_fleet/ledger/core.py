"""The ledger's database: SQLite on one machine, PostgreSQL for many robots, one code for both.

What ``write`` has committed survives a power cut. Topic modules beside this one declare their tables on ``METADATA``
and are plain functions over a connection. Times are float seconds since 1970 UTC (``*_s``).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url

from robin_perception.core.disk import make_folder
from robin_perception.core.errors import Code, RobinError

METADATA = sa.MetaData()
LEAST_SQLITE = (3, 51, 3)
"""Older ones, from 3.7.0 on, can damage a database in write-ahead mode (WAL-reset bug)."""
RowNumber = sa.BigInteger().with_variant(sa.Integer, "sqlite")
"""Type of a key that the database counts up."""
_WAIT_S = 10.0
_MIGRATING = 0x0B1E_D9E5  # PostgreSQL's lock of those that migrate
_FULL, _DAMAGED, _BUSY = 13, (11, 26), (5, 6)  # SQLite's primary result codes
_PG_FULL, _PG_BUSY = "53100", ("40001", "40P01", "55P03")


class Ledger:
    """Open database. Safe to use from several threads; on SQLite one of them writes at a time."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.name = engine.url.render_as_string(hide_password=True)
        self._writers = engine.execution_options(writes=True)
        self._turn = threading.Lock() if engine.dialect.name == "sqlite" else contextlib.nullcontext()

    @contextlib.contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """One state of the database. Raises RobinError LEDGER_*."""
        with guarded(self.name), self.engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """One transaction: all of it is durable when the block has ended, nothing of it where it raised.
        Raises RobinError LEDGER_*, DISK_FULL."""
        with guarded(self.name), self._turn, self._writers.begin() as connection:
            yield connection

    def close(self) -> None:
        self.engine.dispose()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_ledger(url: str) -> Ledger:
    """Open the database at ``sqlite:///path`` or ``postgresql://user@host/name``, make its tables or bring them to this
    release's. Raises RobinError LEDGER_UNREACHABLE, LEDGER_DAMAGED, LEDGER_VERSION, LEDGER_UNFIT, OPTION_INVALID."""
    from robin_fleet.ledger.migrate import migrate

    ledger = Ledger(_engine(_parsed(url)))
    try:
        if ledger.engine.dialect.name == "postgresql":
            _require_durable(ledger)
        with ledger.write() as connection:
            if ledger.engine.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATING)))
            migrate(connection, ledger.name)
    except BaseException:
        ledger.close()
        raise
    return ledger


def insert_new(connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows; those whose key is there already are passed over."""
    if rows:
        insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
        connection.execute(insert(table).on_conflict_do_nothing(), list(rows))


@contextlib.contextmanager
def guarded(name: str) -> Iterator[None]:
    """The database's failures as numbered ones. name: of the database."""
    try:
        yield
    except sa.exc.DBAPIError as exc:
        code = _code_of(exc)
        if code is None:  # a statement that no database takes: a bug
            raise
        raise RobinError(code, f"{name}: {_said(exc)}") from None
    except sa.exc.TimeoutError:
        raise RobinError(Code.LEDGER_BUSY, f"{name}: all connections are in use") from None


def _code_of(exc: sa.exc.DBAPIError) -> Code | None:
    number = getattr(exc.orig, "sqlite_errorcode", None)
    if number is not None:
        primary = number & 0xFF
        if primary in _DAMAGED:
            return Code.LEDGER_DAMAGED
        known = {_FULL: Code.DISK_FULL, **dict.fromkeys(_BUSY, Code.LEDGER_BUSY)}
        fallback = Code.LEDGER_UNREACHABLE if primary in (3, 8, 10, 14) else None  # rights, read-only, I/O, cannot open
        return known.get(primary, fallback)
    state = getattr(exc.orig, "sqlstate", None)
    if state == _PG_FULL:
        return Code.DISK_FULL
    if state in _PG_BUSY:
        return Code.LEDGER_BUSY
    if state is not None and state[:2] == "XX":
        return Code.LEDGER_DAMAGED
    lost = exc.connection_invalidated or isinstance(exc, sa.exc.OperationalError)
    return Code.LEDGER_UNREACHABLE if lost else None


def _said(exc: sa.exc.DBAPIError) -> str:
    return " ".join(str(exc.orig).split())


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except sa.exc.ArgumentError:
        parsed = None
    kind = parsed.get_backend_name() if parsed is not None else ""
    if parsed is None or kind not in ("sqlite", "postgresql") or (kind == "sqlite" and not parsed.database):
        shown = parsed.render_as_string(hide_password=True) if parsed is not None else url
        text = f"ledger '{shown}': sqlite:///path or postgresql://user@host/name is needed"
        raise RobinError(Code.OPTION_INVALID, text)
    return parsed


def _engine(url: URL) -> sa.Engine:
    if url.get_backend_name() == "sqlite":
        return _sqlite_engine(url)
    arguments = {"connect_timeout": int(_WAIT_S), "options": "-c synchronous_commit=on"}
    return sa.create_engine(url.set(drivername="postgresql+psycopg"), pool_pre_ping=True, connect_args=arguments)


def _sqlite_engine(url: URL) -> sa.Engine:
    from pysqlite3 import dbapi2

    require_sqlite(dbapi2.sqlite_version)
    assert url.database is not None
    make_folder(Path(url.database).absolute().parent)
    engine = sa.create_engine(url, module=dbapi2, connect_args={"timeout": _WAIT_S, "isolation_level": None})
    sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, record: object) -> None:
    cursor = connection.cursor()
    for setting in ("journal_mode = wal", "synchronous = full", "foreign_keys = on", "temp_store = memory"):
        cursor.execute(f"PRAGMA {setting}")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    """The driver itself begins nothing. A writer takes its turn at once: one that reads first and then writes could be
    refused in the middle."""
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def require_sqlite(version: str) -> None:
    """Raises RobinError LEDGER_UNFIT."""
    if tuple(int(part) for part in version.split(".")[:3]) < LEAST_SQLITE:
        least = ".".join(map(str, LEAST_SQLITE))
        text = f"SQLite {version} can damage the ledger; {least} or newer is needed: pip install -U pysqlite3"
        raise RobinError(Code.LEDGER_UNFIT, text)


def _require_durable(ledger: Ledger) -> None:
    """Raises RobinError LEDGER_UNFIT for a server that would lose in a power cut what it has acknowledged."""
    with ledger.read() as connection:
        if connection.exec_driver_sql("SHOW fsync").scalar_one() != "on":
            raise RobinError(Code.LEDGER_UNFIT, f"{ledger.name}: runs with fsync = off; set it on")
