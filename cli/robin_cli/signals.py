"""Programs that serve until they are told to stop."""

from __future__ import annotations

import contextlib
import signal
import types
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def until_stopped() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C or SIGTERM has come; what is in hand is finished. The second one ends the program at once."""
    stopped, before = False, {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, frame: types.FrameType | None) -> None:
        nonlocal stopped
        stopped = True
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, stop)
    try:
        yield lambda: stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
