"""Child processes: one that ends when its parent does, killed, crashed or out of memory, and one that is ended."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

_PR_SET_PDEATHSIG = 1
_LOOK_S = 0.5


def end_with_parent(parent: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Call it first in the child. parent: process id of the one that started it. number: the signal to end by.

    On Linux the kernel sends the signal, also into a call that never returns; it does so when the *thread* that started
    the child ends, so a child is started by a thread that lives as long as it is wanted. It stays in force over an
    exec. Elsewhere a thread looks from time to time.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
    else:
        threading.Thread(target=_watch, args=(parent, number), name="end_with_parent", daemon=True).start()
    if os.getppid() != parent:  # it ended before we asked
        os._exit(1)


def _watch(parent: int, number: signal.Signals) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os.kill(os.getpid(), number)


def end_child(process: subprocess.Popen[bytes], wait_s: float) -> None:
    """Ask it to end, and after ``wait_s`` make it."""
    process.terminate()
    try:
        process.wait(wait_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
