"""The camera of a running ROS station: a process of its own listens, and the page reads what it leaves."""

from __future__ import annotations

import contextlib
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from robin_perception.core.errors import Code, RobinError
from robin_perception.core.parent_death import end_child

_MEMORY = Path("/dev/shm")
_END_S = 5.0


@contextlib.contextmanager
def listening(topic: str) -> Iterator[Path]:
    """The folder of the newest picture of ``topic``, in memory where there is such a disk.
    Raises RobinError DEPENDENCY_MISSING."""
    if importlib.util.find_spec("rclpy") is None:
        raise RobinError(Code.DEPENDENCY_MISSING, "--overlay needs ROS 2: make ros, or source its setup")
    where = _MEMORY if _MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="robin-view-", dir=where, ignore_cleanup_errors=True) as name:
        command = [sys.executable, "-m", "robin_view.nodes.eyes", topic, name]
        process = subprocess.Popen(command)
        try:
            yield Path(name)
        finally:
            end_child(process, _END_S)
