"""Where the threads of this process are: for the line that says why it does not end."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import FrameType

_OURS = ("robin_", "edge_adapt", "__main__")


def where_threads_are() -> list[str]:
    """One text for each thread that is in code of this project, the main thread first:
    "MainThread: PlanningNode.stop (planning_node.py:83)"."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    skipped = threading.get_ident()
    main = threading.main_thread().ident
    found = [
        (ident != main, f"{names.get(ident, ident)}: {place}")
        for ident, frame in sys._current_frames().items()
        if ident != skipped and (place := _place(frame)) is not None
    ]
    return [text for _, text in sorted(found)]


def _place(frame: FrameType | None) -> str | None:
    """The innermost call that is ours."""
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).startswith(_OURS):
            owner = frame.f_locals.get("self")
            name = frame.f_code.co_name if owner is None else f"{type(owner).__name__}.{frame.f_code.co_name}"
            return f"{name} ({Path(frame.f_code.co_filename).name}:{frame.f_lineno})"
        frame = frame.f_back
    return None
