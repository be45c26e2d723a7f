"""A fault that goes on is said once and then counted at growing intervals, on a clock that only the test moves."""

from __future__ import annotations

import pytest

from robin_perception.core.repeated import QUIET_S, RepeatedFaults


class Bench:
    def __init__(self) -> None:
        self.now = 0.0
        self.faults = RepeatedFaults(lambda: self.now)
        self.lines: list[tuple[float, str]] = []

    def go_on(self, until_s: float, every_s: float, text: str = "no camera", lasting: bool = False) -> None:
        while self.now < until_s:
            if (line := self.faults.line("E111", text, lasting)) is not None:
                self.lines.append((self.now, line))
            self.now += every_s


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_fault_of_hours_is_a_handful_of_lines(bench: Bench) -> None:
    bench.go_on(4 * 3600, every_s=5.0)
    assert [at for at, _ in bench.lines] == [0, 10, 70, 670, 4270, 7870, 11470]
    assert bench.lines[0][1] == "no camera"
    assert bench.lines[1][1] == "no camera (2 more, for 10 s now)"
    assert bench.lines[-1][1] == "no camera (720 more, for 3.2 h now)"
    assert bench.faults.ended("E111") == "after 4.0 h, 2880 missed"
    assert bench.faults.ended("E111") is None, "told once"


def test_what_ended_and_comes_again_is_said_at_once(bench: Bench) -> None:
    bench.go_on(60.0, every_s=5.0)
    bench.faults.ended("E111")
    bench.lines.clear()
    bench.go_on(61.0, every_s=5.0)
    assert bench.lines == [(60.0, "no camera")]
    bench.lines.clear()
    bench.now += QUIET_S + 1
    bench.go_on(bench.now + 1, every_s=5.0)
    assert [line for _, line in bench.lines] == ["no camera"], "silence has ended it too"


def test_attempts_far_apart_are_one_outage_where_it_lasts(bench: Bench) -> None:
    bench.go_on(3 * 3600, every_s=QUIET_S + 30, lasting=True)
    assert len(bench.lines) == 6


def test_numbers_do_not_make_another_fault_and_words_do(bench: Bench) -> None:
    assert bench.faults.line("E113", "no frame for 3.1 s") == "no frame for 3.1 s"
    assert bench.faults.line("E113", "no frame for 4.1 s") is None
    assert bench.faults.line("E113", "no image for 4.1 s") is not None
    assert bench.faults.line("E114", "no frame for 4.1 s") is not None
    assert bench.faults.ended("E113", "E114") == "after 0 s, 4 missed"


def test_texts_without_end_cost_no_memory(bench: Bench) -> None:
    for number in range(2000):
        bench.faults.line("E602", f"bug {chr(97 + number % 26)}{'x' * number}")
    assert len(bench.faults._episodes) <= 256
