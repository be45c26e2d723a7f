"""What goes first where one process segments and plans: plans before frames, fresh frames before old ones."""

from __future__ import annotations

import threading

import pytest

from robin_perception.core.latest_worker import LatestWorker
from robin_perception.core.pace import FramePace
from robin_perception.nodes.frame_bus import PriorityWork

PATIENCE_S = 30.0


def pace(period_s: float = 0.1, frames: int = 12) -> FramePace:
    """A camera whose last frame came at 0 s."""
    made = FramePace()
    for number in range(frames):
        made.came((number + 1 - frames) * period_s)
    return made


@pytest.mark.parametrize(
    ("now_s", "share", "pause_s"),
    [
        (0.0, 0.2, 0.0),
        (0.019, 0.2, 0.0),
        (0.03, 0.2, 0.095),  # until the next is a quarter of a period late
        (0.12, 0.2, 0.005),
        (0.13, 0.2, 0.0),  # the camera has stopped: the last frame is worked on
        (0.03, 0.5, 0.0),
        (0.099, 1.0, 0.0),
        (0.001, 0.0, 0.124),
    ],
)
def test_a_frame_that_waited_makes_room_for_one_that_is_due(now_s: float, share: float, pause_s: float) -> None:
    assert pace().pause_s(now_s, share) == pytest.approx(pause_s)


def test_nothing_is_put_off_before_the_rate_is_known_and_a_hiccup_does_not_change_it() -> None:
    assert FramePace().pause_s(1.0, 0.2) == 0.0
    assert pace(frames=4).pause_s(0.05, 0.2) == 0.0
    made = pace()
    made.came(3.0)
    assert made.pause_s(3.03, 0.2) == pytest.approx(0.095)


def test_a_worker_that_is_put_off_takes_the_newest_when_it_may() -> None:
    done: list[int] = []
    dropped: list[int] = []
    asked, worked, free = threading.Event(), threading.Event(), threading.Event()

    def pause_s() -> float:
        asked.set()
        return 0.0 if free.is_set() else PATIENCE_S

    def work(item: int) -> None:
        done.append(item)
        worked.set()

    worker = LatestWorker("test", work, lambda: dropped.append(1), lambda exc: None, pause_s)
    worker.offer(1)
    assert asked.wait(PATIENCE_S)
    worker.offer(2)
    assert done == []
    free.set()
    worker.nudge()
    assert worked.wait(PATIENCE_S)
    assert (done, len(dropped)) == ([2], 1)
    free.clear()
    worker.offer(3)
    assert worker.stop()
    assert (done, len(dropped)) == ([2], 2)
    assert not worker.offer(4) and len(dropped) == 2


def test_priority_lasts_until_its_last_piece_of_work_has_ended_or_its_limit() -> None:
    priority, told = PriorityWork(), []
    assert priority.left_s(PATIENCE_S) == 0.0
    forget = priority.when_ended(lambda: told.append(1))
    priority.begin()
    priority.begin()
    assert 0 < priority.left_s(PATIENCE_S) <= PATIENCE_S
    assert priority.left_s(0.0) == 0.0, "what takes too long holds nobody up"
    priority.end()
    assert priority.left_s(PATIENCE_S) > 0 and told == []
    priority.end()
    assert priority.left_s(PATIENCE_S) == 0.0 and told == [1]
    forget()
    priority.begin()
    priority.end()
    assert told == [1]
