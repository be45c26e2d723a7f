"""Where a process is that does not end."""

from __future__ import annotations

import threading

from robin_perception.core.latest_worker import LatestWorker
from robin_perception.core.threads import where_threads_are


def test_a_thread_that_is_at_work_is_named_with_its_call() -> None:
    begun, free = threading.Event(), threading.Event()

    def work(item: int) -> None:
        begun.set()
        free.wait()

    worker: LatestWorker[int] = LatestWorker("overlay", work, lambda: None, lambda exc: None)
    worker.offer(1)
    begun.wait()
    (found,) = [text for text in where_threads_are() if text.startswith("overlay: ")]
    assert "LatestWorker._run (latest_worker.py:" in found, "the innermost call of the project"
    free.set()
    assert worker.stop()
    assert not any(text.startswith("overlay: ") for text in where_threads_are())
