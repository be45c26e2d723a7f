"""The helper thread: one thread of its own, which ends with its object."""

from __future__ import annotations

import threading

import pytest

from robin_perception.core.helper_thread import HelperThread


def test_work_is_done_in_one_other_thread_in_order_and_raises_where_it_is_waited_for() -> None:
    helper, done = HelperThread(), []
    begun = [helper.submit(lambda number: done.append((number, threading.get_ident())), number) for number in range(5)]
    for each in begun:
        each.result()
    assert [number for number, _ in done] == list(range(5))
    assert len({thread for _, thread in done}) == 1 and done[0][1] != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        helper.submit(lambda: 1 // 0).result()


def test_its_thread_ends_when_nobody_holds_it() -> None:
    helper = HelperThread()
    thread = helper.submit(threading.current_thread).result()
    assert thread.is_alive()
    del helper
    thread.join(10)
    assert not thread.is_alive()
