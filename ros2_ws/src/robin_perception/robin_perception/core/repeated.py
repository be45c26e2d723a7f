"""Something that goes on being wrong is said once, then counted at growing intervals."""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

INTERVALS_S = (10.0, 60.0, 600.0, 3600.0)
"""After the first line: the next ones come this long after the one before; the last interval goes on."""
QUIET_S = 120.0
_MOST_KEPT = 256  # of different texts; the oldest is forgotten


@dataclass
class _Episode:
    first_s: float
    last_s: float
    due_s: float
    lines: int = 1
    count: int = 1
    counted: int = 1  # at the last line


class RepeatedFaults:
    """Owned by one thread, or guarded by its owner.

    kind: what is the same fault, such as its code; several texts of one kind are told apart, numbers in them are not.
    A fault that has not come for ``QUIET_S`` has ended, and begins anew. lasting: it ends only by ``ended``, however
    long its attempts are apart.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._episodes: OrderedDict[tuple[Any, str], _Episode] = OrderedDict()

    def line(self, kind: Any, text: str, lasting: bool = False) -> str | None:
        """The line to write now, with how often it came since the last one; None: not now."""
        now, key = self._clock(), (kind, re.sub(r"\d+(\.\d+)?", "#", text))
        episode = self._episodes.get(key)
        if episode is None or (not lasting and now - episode.last_s > QUIET_S):
            self._episodes[key] = _Episode(now, now, now + INTERVALS_S[0])
            self._episodes.move_to_end(key)
            if len(self._episodes) > _MOST_KEPT:
                self._episodes.popitem(last=False)
            return text
        episode.count += 1
        episode.last_s = now
        if now < episode.due_s:
            return None
        more, episode.counted = episode.count - episode.counted, episode.count
        episode.due_s = now + INTERVALS_S[min(episode.lines, len(INTERVALS_S) - 1)]
        episode.lines += 1
        return f"{text} ({more} more, for {duration(now - episode.first_s)} now)"

    def ended(self, *kinds: Any) -> str | None:
        """Forget faults of these kinds; "after 12 s, 34 missed" where there were any."""
        found = [key for key in self._episodes if key[0] in kinds]
        episodes = [self._episodes.pop(key) for key in found]
        if not episodes:
            return None
        since_s = self._clock() - min(episode.first_s for episode in episodes)
        return f"after {duration(since_s)}, {sum(episode.count for episode in episodes)} missed"


def duration(seconds: float) -> str:
    """In words for a log line."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
