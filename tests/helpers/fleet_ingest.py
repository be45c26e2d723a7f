"""What the tests of ingest look at, and its clock."""

from __future__ import annotations

import pytest

from robin_fleet.ledger import events, samples
from robin_fleet.ledger.core import Ledger
from robin_fleet.ledger.samples import SampleFilter, SampleRow
from robin_perception.core.errors import Code, RobinError


class Clock:
    now_s = 5000.0

    def __call__(self) -> float:
        return self.now_s


def booked(ledger: Ledger) -> list[SampleRow]:
    with ledger.read() as connection:
        return samples.find_samples(connection, SampleFilter())


def told(ledger: Ledger) -> list[events.Event]:
    with ledger.read() as connection:
        return events.latest_events(connection, 100)


def refused(code: Code) -> pytest.RaisesExc[RobinError]:
    return pytest.RaisesExc(RobinError, check=lambda exc: exc.code is code)
