"""Ingest over a PostgreSQL that stops and starts again: nothing is lost, nothing is booked twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.fleet_samples import incoming, packed, tiny_sample
from helpers.fleet_servers import embedded_postgres, new_ledger_url

from robin_fleet.ingest.ingest import Answer, Incoming, Ingest
from robin_fleet.ledger.core import Ledger, open_ledger
from robin_fleet.ledger.samples import SampleFilter, count_samples, find_samples
from robin_fleet.objects.own_folder import FolderObjects
from robin_perception.core.errors import Code, RobinError


class Server:
    def __init__(self, server: Any) -> None:
        self._server = server
        self.url = new_ledger_url(server.get_uri(), "ingest")

    def stop(self) -> None:
        """As a crash would: what runs is cut off."""
        import embedded_postgres as commands

        how = ["-w", "-m", "immediate", "stop"]
        commands.pg_ctl(how, pgdata=self._server.pgdata, user=self._server.system_user)

    def start(self) -> None:
        self._server.ensure_postgres_running()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with embedded_postgres() as found:
        yield Server(found)


@pytest.fixture
def ledger(server: Server) -> Iterator[Ledger]:
    with open_ledger(server.url) as opened:
        yield opened


@pytest.fixture
def ingest(ledger: Ledger, tmp_path: Path) -> Ingest:
    return Ingest(ledger, FolderObjects(tmp_path / "objects"))


def samples_of(first: int, count: int) -> list[list[Incoming]]:
    return [incoming(packed(tiny_sample(number), number)[1], f"r{number}") for number in range(first, first + count)]


def test_a_ledger_that_is_gone_books_nothing_and_comes_back(server: Server, ingest: Ingest, ledger: Ledger) -> None:
    (before,), (meanwhile,) = samples_of(1, 1), samples_of(2, 1)
    ingest.blobs(before)
    server.stop()
    try:
        for call in (lambda: ingest.blobs(meanwhile), lambda: ingest.has([before[0].name])):
            with pytest.raises(RobinError) as told:
                call()
            assert told.value.code is Code.LEDGER_UNREACHABLE
    finally:
        server.start()
    assert {outcome.answer for outcome in ingest.blobs([*before, *meanwhile])} == {Answer.HAVE, Answer.STORED}
    with ledger.read() as connection:
        assert count_samples(connection, SampleFilter(robot="r1")) == 1
        assert count_samples(connection, SampleFilter(robot="r2")) == 1


def test_what_was_acknowledged_before_a_crash_is_there_once(server: Server, ingest: Ingest, ledger: Ledger) -> None:
    """It crashes in the middle of transactions, and whatever was not acknowledged is sent again."""
    todo = samples_of(100, 120)
    acknowledged: list[str] = []
    for crash in range(4):
        under_way = threading.Event()

        def send(part: list[list[Incoming]], under_way: threading.Event = under_way) -> None:
            for batch in part:
                try:
                    ingest.blobs(batch)
                except RobinError as exc:
                    assert exc.code is Code.LEDGER_UNREACHABLE
                    return
                acknowledged.append(batch[-1].name)
                if len(acknowledged) % 7 == 3:
                    under_way.set()
            under_way.set()

        left = [batch for batch in todo if batch[-1].name not in acknowledged]
        halves = [left[::2], left[1::2]]
        threads = [threading.Thread(target=send, args=(half,)) for half in halves]
        for thread in threads:
            thread.start()
        under_way.wait(60)
        server.stop()
        for thread in threads:
            thread.join()
        server.start()
        with ledger.read() as connection:
            there = {row.sample for row in find_samples(connection, SampleFilter())}
        assert set(acknowledged) <= there, f"crash {crash}"
    for batch in todo:
        ingest.blobs(batch)
    with ledger.read() as connection:
        rows = [row for row in find_samples(connection, SampleFilter()) if row.seq >= 100]
    assert sorted(row.sample for row in rows) == sorted(batch[-1].name for batch in todo)


def test_many_writers_book_the_same_samples_once(ingest: Ingest, ledger: Ledger) -> None:
    batches = samples_of(300, 30)
    faults: list[BaseException] = []

    def send(seed: int) -> None:
        order = np.random.default_rng(seed).permutation(len(batches))
        try:
            for at in range(0, len(order), 5):
                ingest.blobs([one for number in order[at : at + 5] for one in batches[number]])
        except BaseException as exc:
            faults.append(exc)

    threads = [threading.Thread(target=send, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    with ledger.read() as connection:
        assert len([row for row in find_samples(connection, SampleFilter()) if row.seq >= 300]) == 30
