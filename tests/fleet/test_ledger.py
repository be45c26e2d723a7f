"""One contract for all databases of the ledger."""

from __future__ import annotations

import importlib
import itertools
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from helpers.fleet_servers import LEDGERS, ledger_server, new_ledger_url

from robin_fleet.ledger import events, robots, samples
from robin_fleet.ledger.core import METADATA, Ledger, open_ledger, require_sqlite
from robin_fleet.ledger.migrate import FOLDER, migrate
from robin_fleet.ledger.samples import SampleFilter, SampleRow
from robin_perception.core.errors import Code, RobinError

NUMBERS = itertools.count()
FIRST = "a" * 64 + ".json"


@pytest.fixture(scope="module", params=LEDGERS)
def place(request: pytest.FixtureRequest) -> Iterator[str]:
    with ledger_server(request.param) as found:
        yield found


@pytest.fixture
def url(place: str) -> str:
    return new_ledger_url(place, f"fleet{next(NUMBERS)}")


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    with open_ledger(url) as opened:
        yield opened


def refused(code: Code) -> pytest.RaisesExc[RobinError]:
    return pytest.RaisesExc(RobinError, check=lambda exc: exc.code is code)


def row(sample: str = FIRST, **changes: object) -> SampleRow:
    usual = SampleRow(
        sample, "r1", "lyon", "belt-1", "d1", 7, "carton", "clean", False, "balanced", "m@1", 10.0, 20.0, 5, False
    )
    return usual._replace(**changes)


def test_samples_are_found_again(ledger: Ledger) -> None:
    other = "b" * 64 + ".json"
    with ledger.write() as connection:
        samples.add_blobs(connection, {"p.png": 3, FIRST: 2, other: 2}, 1.0)
        files = {"color.png": "p.png"}
        miss = row(other, result="miss", novel=True, site="turin", received_s=30.0, embedding=b"\x00\x3c")
        samples.add_samples(connection, {row(): files, miss: files})
    with ledger.read() as connection:
        assert samples.find_sample(connection, other) == miss
        assert samples.find_sample(connection, "nothing") is None
        assert [s.sample for s in samples.find_samples(connection, SampleFilter())] == [other, FIRST]
        for chosen in (SampleFilter(novel=True), SampleFilter(result="miss"), SampleFilter(since_s=25.0)):
            assert [s.sample for s in samples.find_samples(connection, chosen)] == [other]
            assert samples.count_samples(connection, chosen) == 1
        assert samples.find_samples(connection, SampleFilter(robot="r2")) == []
        assert len(samples.find_samples(connection, SampleFilter(), 1)) == 1
        assert samples.files_of(connection, FIRST) == files
        assert samples.known_blobs(connection, ["p.png", "q.png"]) == {"p.png": 3}
        assert samples.blob_counts(connection) == (3, 7)
        lyon, turin = samples.counts_by_station(connection)
        assert (lyon["samples"], lyon["failed"], lyon["novel"]) == (1, 0, 0)
        assert (turin["samples"], turin["failed"], turin["novel"], turin["latest_s"]) == (1, 1, 1, 30.0)


def test_what_is_booked_twice_is_there_once(ledger: Ledger) -> None:
    for seen_s in (1.0, 2.0):
        with ledger.write() as connection:
            samples.add_blobs(connection, {"p.png": 3, FIRST: 2}, seen_s)
            samples.add_samples(connection, {row(received_s=seen_s): {"color.png": "p.png"}})
            told = events.add_refused(connection, "x", "r1", Code.BLOB_REFUSED, f"at {seen_s}", seen_s)
            assert told == (seen_s == 1.0)
    with ledger.read() as connection:
        assert samples.find_samples(connection, SampleFilter()) == [row(received_s=1.0)]
        assert samples.blob_counts(connection) == (2, 5)
        assert events.refused_by_code(connection) == {832: 1}
        assert events.find_refused(connection, ["x", "y"], "r1") == {"x": events.Refused("x", "r1", 832, "at 1.0", 1.0)}
        assert events.find_refused(connection, ["x"], "r2") == {}


def test_a_block_that_raises_leaves_nothing(ledger: Ledger) -> None:
    with pytest.raises(ZeroDivisionError), ledger.write() as connection:
        samples.add_blobs(connection, {"p.png": 3}, 1.0)
        events.add_event(connection, 1.0, "started", "")
        raise ZeroDivisionError
    with ledger.read() as connection:
        assert samples.blob_counts(connection) == (0, 0)
        assert events.latest_events(connection, 5) == []


def test_a_sample_without_its_blob_is_a_bug(ledger: Ledger) -> None:
    with pytest.raises(sa.exc.IntegrityError), ledger.write() as connection:
        samples.add_samples(connection, {row(): {"color.png": "nowhere.png"}})


def test_events_are_told_latest_first(ledger: Ledger) -> None:
    with ledger.write() as connection:
        for number in range(4):
            kind = "refused" if number % 2 else "started"
            events.add_event(connection, float(number), kind, "why", robot="r1", data={"n": number})
    with ledger.read() as connection:
        assert [event.data["n"] for event in events.latest_events(connection, 3)] == [3, 2, 1]
        only = events.latest_events(connection, 3, "refused")
        assert only == [events.Event(n, "refused", "r1", "why", {"n": n}) for n in (3, 1)]


def test_a_token_lets_one_robot_in_once(ledger: Ledger) -> None:
    with ledger.write() as connection:
        robots.add_token(connection, "t1", "lyon", "belt-1", expires_s=100.0)
        robots.add_token(connection, "t2", "lyon", "belt-1", expires_s=100.0)
        assert robots.spend_token(connection, "t1", 50.0) == ("lyon", "belt-1")
        assert robots.spend_token(connection, "t1", 50.0) is None
        assert robots.spend_token(connection, "t2", 100.0) is None
        assert robots.spend_token(connection, "t3", 50.0) is None


def test_robots_are_let_in_and_shut_out(ledger: Ledger) -> None:
    with ledger.write() as connection:
        assert robots.enrol(connection, "r1", "lyon", "belt-1", "key1", 1.0)
        assert not robots.enrol(connection, "r2", "lyon", "belt-2", "key1", 2.0)
        assert robots.enrol(connection, "r2", "lyon", "belt-2", "key2", 2.0)
        robots.mark_seen(connection, "r1", 9.0)
        assert robots.robot_of_key(connection, "key1") == robots.find_robot(connection, "r1")
        assert robots.revoke(connection, "r1") and not robots.revoke(connection, "r1")
        assert robots.robot_of_key(connection, "key1") is None
        assert [(r.robot, r.state, r.seen_s) for r in robots.all_robots(connection)] == [
            ("r1", robots.REVOKED, 9.0),
            ("r2", robots.ENROLLED, None),
        ]
        assert robots.enrol(connection, "r1", "turin", "belt-3", "key3", 3.0)
        assert robots.robot_of_key(connection, "key3") == robots.Robot(
            "r1", "turin", "belt-3", "key3", robots.ENROLLED, 3.0, 9.0
        )


def test_writers_take_turns(ledger: Ledger, url: str) -> None:
    """Threads of one process and another process: each adds one to what it has read, and none is lost."""
    with ledger.write() as connection:
        samples.add_blobs(connection, {"count": 0}, 0.0)
    code = (
        "import sys; from robin_fleet.ledger.core import open_ledger\n"
        "from robin_fleet.ledger.samples import BLOBS\nimport sqlalchemy as sa\n"
        "ledger = open_ledger(sys.argv[1])\n"
        "for _ in range(20):\n"
        "    with ledger.write() as c:\n"
        "        c.execute(sa.update(BLOBS).values(bytes=BLOBS.c.bytes + 1))\n"
    )
    other = subprocess.Popen([sys.executable, "-c", code, url])

    def add() -> None:
        for _ in range(20):
            with ledger.write() as connection:
                connection.execute(sa.update(samples.BLOBS).values(bytes=samples.BLOBS.c.bytes + 1))

    threads = [threading.Thread(target=add) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert other.wait(60) == 0
    with ledger.read() as connection:
        assert samples.blob_counts(connection) == (1, 80)


def test_the_migrations_make_the_tables_that_the_code_has(ledger: Ledger) -> None:
    for name in ("robots", "events", "novelties", "labels", "decks", "rollouts", "metrics"):
        assert importlib.import_module(f"robin_fleet.ledger.{name}")  # declared
    with ledger.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_every_migration_keeps_the_rows(url: str) -> None:
    """From the first release's tables, with rows in them, to this one's."""
    with Ledger(open_ledger(url).engine) as ledger:
        with ledger.write() as connection:
            there = sa.MetaData()
            there.reflect(connection)
            there.drop_all(connection)
        with ledger.write() as connection:
            migrate(connection, ledger.name, "0001")
            samples.add_blobs(connection, {"p.png": 3, FIRST: 2}, 1.0)
            samples.add_samples(connection, {row(): {"color.png": "p.png"}})
    with open_ledger(url) as again, again.read() as connection:
        assert samples.find_samples(connection, SampleFilter()) == [row()]
        newest = max(path.name[:4] for path in (FOLDER / "versions").glob("0*.py"))
        assert MigrationContext.configure(connection).get_current_heads() == (newest,)


def test_a_ledger_of_a_newer_release_is_refused(ledger: Ledger, url: str) -> None:
    with ledger.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with refused(Code.LEDGER_VERSION) as told:
        open_ledger(url)
    assert "tables of version 9999" in str(told.value)


def test_a_broken_migration_changes_nothing(ledger: Ledger) -> None:
    """Tables are made in a transaction too."""
    with pytest.raises(ZeroDivisionError), ledger.write() as connection:
        connection.execute(sa.text("CREATE TABLE half (a INTEGER)"))
        raise ZeroDivisionError
    with ledger.read() as connection:
        assert "half" not in sa.inspect(connection).get_table_names()


@pytest.mark.parametrize("url", ["", "mysql://x/y", "sqlite://", "nonsense", "sqlite:///"])
def test_other_databases_are_refused(url: str) -> None:
    with refused(Code.OPTION_INVALID):
        open_ledger(url)


def test_a_password_is_never_told() -> None:
    with refused(Code.LEDGER_UNREACHABLE) as told:
        open_ledger("postgresql://robin:secret@127.0.0.1:1/fleet")
    assert "robin" in str(told.value) and "secret" not in str(told.value)


def test_an_old_sqlite_is_refused() -> None:
    with refused(Code.LEDGER_UNFIT):
        require_sqlite("3.51.2")
    require_sqlite("3.51.3")


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    path.write_bytes(b"no database" * 1000)
    with refused(Code.LEDGER_DAMAGED):
        open_ledger(f"sqlite:///{path}")
    assert path.read_bytes() == b"no database" * 1000


def test_sqlite_syncs_every_commit(tmp_path: Path) -> None:
    with open_ledger(f"sqlite:///{tmp_path}/l.sqlite") as ledger, ledger.read() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
