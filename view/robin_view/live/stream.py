"""Server-sent events: one short line whenever there is a new decision, a new picture or another request for help."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import anyio

from edge_adapt.live_picture import LiveReader
from robin_perception.core.errors import Code, RobinError
from robin_view.archive.archive import Archive

LOOK_S = 0.05
BEAT_S = 10.0
MOST_STREAMS = 24


class Streams:
    """Counts who listens, so that forgotten tabs do not eat the robot."""

    def __init__(self, archive: Archive, desk: Path | None, live: LiveReader | None) -> None:
        self._archive, self._desk, self._live = archive, desk, live
        self._lock = threading.Lock()
        self._open = 0

    def join(self) -> AsyncIterator[str]:
        """Raises RobinError VIEW_BUSY."""
        with self._lock:
            if self._open >= MOST_STREAMS:
                raise RobinError(Code.VIEW_BUSY, f"{MOST_STREAMS} pages follow already; close one")
            self._open += 1
        return self._events()

    async def _events(self) -> AsyncIterator[str]:
        shown, asked, seen, beat_s = -1, -1, 0, time.monotonic()
        try:
            yield "retry: 1000\n\n"
            while True:
                if (row := self._archive.index.newest) != shown and row >= 0:
                    shown = row
                    yield _event("pick", {"id": self._archive.index.name(row), "row": row})
                if (stamp := _stamp(self._desk)) != asked:
                    asked = stamp
                    yield _event("help", {})
                if self._live is not None and (stamp := self._live.stamp()) not in (0, seen):
                    seen = stamp
                    yield _event("look", {"stamp": str(stamp), "at_ms": stamp // 1_000_000})
                if time.monotonic() - beat_s > BEAT_S:
                    beat_s = time.monotonic()
                    yield ": still here\n\n"
                await anyio.sleep(LOOK_S)
        finally:
            with self._lock:
                self._open -= 1


def _event(name: str, values: dict[str, object]) -> str:
    return f"event: {name}\ndata: {json.dumps(values)}\n\n"


def _stamp(desk: Path | None) -> int:
    """Changes with every request and answer: both are files that are renamed into place."""
    try:
        return desk.stat().st_mtime_ns if desk is not None else 0
    except OSError:
        return 0
