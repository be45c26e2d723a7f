"""Nothing acknowledged is missing and nothing is stored twice, however either end dies; the benchmark does more."""

from __future__ import annotations

import pytest

from robin_cli.bench.cut_disk import cuts_unavailable
from robin_cli.bench.durability import CUTS, KILLS, Counts, rounds_of

pytestmark = pytest.mark.slow
CANNOT = cuts_unavailable()


def ended(kind: str, rounds: int) -> Counts:
    return list(rounds_of(kind, rounds, 140815))[-1]


def test_kills_lose_nothing() -> None:
    counts = ended(KILLS, 20)
    assert counts.acknowledged > 00
    assert (counts.missing, counts.duplicated, counts.unexplained) == (0, 0, 0)


@pytest.mark.skipif(bool(CANNOT), reason=f"no power can be cut here: {CANNOT}")
def test_power_cuts_lose_nothing() -> None:
    counts = ended(CUTS, 8)
    assert counts.acknowledged > 0
    assert (counts.missing, counts.duplicated, counts.unexplained) == (0, 0, 0)


@pytest.mark.skipif(bool(CANNOT), reason=f"no power can be cut here: {CANNOT}")
def test_power_cuts_find_a_fleet_that_does_not_sync() -> None:
    assert any(counts.missing for counts in rounds_of(CUTS, 40, 140815, careless=True))
