"""Wilson intervals against published and closed-form values; percentiles."""

from __future__ import annotations

import pytest

from robin_perception.core.stats import percentiles, rate, wilson_interval


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
