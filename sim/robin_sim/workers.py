"""Worker processes of runs and data sets."""

from __future__ import annotations

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """Call in a worker: it ends when the process that started it does, however that one ended.

    A pool's workers wait for work from a pipe whose other end they hold too, so by themselves they would never notice.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="end_with_parent", daemon=True).start()
