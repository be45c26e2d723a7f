"""What goes with slow or failed picks: planted causes are found, and nothing where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from robin_fleet.ledger.metrics import Fact
from robin_fleet.metrics.correlate import Correlation, ask, associations, correlate, extremes
from robin_perception.core.errors import Code, RobinError


def picks(
    rng: np.random.Generator, count: int = 800, parcels: float = 0.0, goods: float = 0.0, rate: float = 0.1
) -> list[Fact]:
    """parcels: milliseconds that each parcel in the picture costs. goods: more failures of poly bags. Ten properties
    beside these two have nothing to do with either."""
    found = []
    for n in range(count):
        seen, kind = int(rng.integers(1, 30)), str(rng.choice(["carton", "poly_bag", "tube"]))
        facts = {f"other_{k}": float(rng.normal()) for k in range(6)} | {"planner": str(rng.choice(["a", "b"]))}
        facts |= {"parcels": seen, "goods": kind, "hour": int(rng.integers(24)), "detection": float(rng.random())}
        facts |= {"latency_ms": float(40 + parcels * seen + rng.normal(0, 5)), "ms_network": 30.0, "result": "x"}
        if rng.random() < 0.1:
            facts.pop("detection")
        failed = bool(rng.random() < rate + goods * (kind == "poly_bag"))
        found.append(Fact(f"d{n}", f"cell-{n % 5}", float(n), failed, facts))
    return found


def discovered(found: Correlation) -> list[str]:
    return [one.name for one in found.found if one.discovered]


def test_a_planted_cause_of_slow_picks_is_found() -> None:
    rng = np.random.default_rng(1)
    found = correlate(picks(rng, parcels=0.5), "latency_ms", rng)
    assert discovered(found)[0] == "parcels" and found.score > 0.2
    first = found.found[0]
    assert first.importance > 5 * first.spread and float(first.low) < float(first.high)
    assert all(one.importance < 0.1 for one in found.found[1:])
    assert "ms_network" not in {one.name for one in found.found}


def test_a_planted_cause_of_failures_is_found() -> None:
    rng = np.random.default_rng(2)
    found = correlate(picks(rng, goods=0.2), "failed", rng)
    assert discovered(found)[0] == "goods" and found.found[0].high == "poly_bag"
    assert found.found[0].importance > 0.1 and "result" not in {one.name for one in found.found}


def names_found(facts: list[Fact], target: str, rng: np.random.Generator) -> list[str]:
    asked = ask(facts, target)
    tested = zip(asked.properties, associations(asked, rng), strict=True)
    return [one.name for one, (_, _, q) in tested if q <= 0.05]


@pytest.mark.parametrize("target", ("latency_ms", "failed"))
def test_where_nothing_goes_with_it_nothing_is_found(target: str) -> None:
    """Repeats in which anything is discovered; with no true cause at most 5 % of them are expected."""
    wrong = 0
    for seed in range(40):
        rng = np.random.default_rng([7, seed])
        wrong += bool(names_found(picks(rng, 300, rate=0.3), target, rng))
    assert wrong <= binom.isf(0.01, 40, 0.05)


def test_false_discoveries_beside_a_true_one_are_held() -> None:
    """Mean share of them among all that were discovered: 5 % at most are expected."""
    shares = []
    for seed in range(40):
        rng = np.random.default_rng([8, seed])
        names = names_found(picks(rng, 400, parcels=0.5), "latency_ms", rng)
        assert "parcels" in names
        shares.append((len(names) - 1) / len(names))
    assert np.mean(shares) <= 0.05 + 2.5 * 0.2 / 40**0.5


def test_extremes_are_the_ends() -> None:
    facts = picks(np.random.default_rng(3), 300)
    low, high = extremes(facts, "latency_ms", 4)
    values = sorted(one.facts["latency_ms"] for one in facts)
    assert [one.facts["latency_ms"] for one in low] == values[:4]
    assert [one.facts["latency_ms"] for one in high] == values[::-1][:4]
    low, high = extremes(facts, "failed", 3)
    assert not any(one.failed for one in low) and all(one.failed for one in high)


def test_too_little_is_told() -> None:
    rng = np.random.default_rng(4)
    facts = picks(rng, 300, rate=0.01)
    for chosen, target, code in (
        (facts[:50], "latency_ms", Code.CORRELATE_TOO_LITTLE),
        (facts, "failed", Code.CORRELATE_TOO_LITTLE),
        ([], "latency_ms", Code.CORRELATE_TOO_LITTLE),
        (facts, "colour", Code.CORRELATE_UNKNOWN),
        (facts, "goods", Code.CORRELATE_UNKNOWN),
    ):
        with pytest.raises(RobinError) as refused:
            correlate(chosen, target, rng)
        assert refused.value.code is code
