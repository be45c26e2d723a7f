"""Wilson intervals against published and closed-form values; percentiles."""

from __future__ import annotations

import pytest

from robin_perception.core.stats import paired_difference, percentiles, rate, rate_difference, wilson_interval


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1.0),
    ],
)
def test_wilson_against_newcombe(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)


def test_wilson_is_symmetric_and_holds_the_rate() -> None:
    low, high = wilson_interval(30, 1000)
    other_low, other_high = wilson_interval(970, 1000)
    assert (1 - other_high, 1 - other_low) == pytest.approx((low, high))
    assert low < 0.03 < high


def test_no_trials_say_nothing() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert rate(0, 0)["rate"] == 0.0


@pytest.mark.parametrize("counts", [(-1, 5), (6, 5), (1, -1)])
def test_senseless_counts_are_refused(counts: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="successes"):
        wilson_interval(*counts)


def test_confidence_outside_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match="confidence"):
        wilson_interval(1, 2, 1.0)


def test_percentiles() -> None:
    assert percentiles([1.0, 2.0, 3.0]) == {"p50": 2.0, "p95": pytest.approx(2.9)}
    assert percentiles([]) == {"p50": 0.0, "p95": 0.0}


def test_a_paired_difference_lies_in_its_interval_and_counts_that_make_no_sense_are_refused() -> None:
    few, many = paired_difference(3, 1, 60), paired_difference(30, 10, 600)
    assert few["rate"] == many["rate"] == pytest.approx(1 / 30) and few["count"] == 2
    assert few["low"] < many["low"] < 1 / 30 < many["high"] < few["high"]
    assert many["low"] == pytest.approx(0.0125, abs=2e-3)  # sqrt(40) / 600 is its standard error
    assert paired_difference(0, 0, 60)["high"] < 0.05 and paired_difference(0, 0, 0)["low"] == -1
    turned = paired_difference(1, 3, 60)
    assert (turned["low"], turned["high"]) == pytest.approx((-few["high"], -few["low"]))
    with pytest.raises(ValueError, match="lost"):
        paired_difference(3, 3, 5)


def test_the_difference_of_two_rates_against_newcombe() -> None:
    """Newcombe, Statistics in Medicine 17 (1998), page 873, table II, method 10, case (a)."""
    found = rate_difference(56, 70, 48, 80)
    assert found["rate"] == pytest.approx(0.2)
    assert (found["low"], found["high"]) == pytest.approx((0.0524, 0.3339), abs=5e-5)
