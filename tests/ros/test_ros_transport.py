"""Shared memory that killed processes leave."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from helpers.ros_client import NodeProcess, RosClient  # skips the module where ROS is not installed
from helpers.ros_environment import PROBE

from robin_perception.nodes.transport import remove_left_segments

pytestmark = pytest.mark.slow
SHARED_MEMORY = Path("/dev/shm")


def lock_of(process: NodeProcess) -> Path:
    """The lock beside the segment of that process."""
    targets = (os.readlink(link) for link in Path(f"/proc/{process.process.pid}/fd").iterdir())
    return next(Path(name) for name in targets if re.search(r"/fastrtps_[0-9a-f]{16}_el$", name))


def segment_of(lock: Path) -> Path:
    return lock.with_name(lock.name.removesuffix("_el"))


def test_segments_of_killed_processes_are_removed_and_others_stay(tmp_path: Path) -> None:
    names = ("living", "killed", "young")
    processes = {name: NodeProcess(PROBE, tmp_path / name, None, "-r", f"__node:={name}") for name in names}
    try:
        with RosClient() as client:
            for name in processes:
                client.wait(lambda name=name: client.status(f"/{name}"), f"diagnostics of {name}")
        locks = {name: lock_of(process) for name, process in processes.items()}
        processes["killed"].kill()
        processes["young"].kill()
        assert all(segment_of(lock).exists() for lock in locks.values()), "Fast DDS leaves them"
        for name in ("living", "killed"):
            os.utime(locks[name], (0.0, 0.0))
        remove_left_segments(SHARED_MEMORY)
        assert not locks["killed"].exists() and not segment_of(locks["killed"]).exists()
        assert all(locks[name].exists() and segment_of(locks[name]).exists() for name in ("living", "young"))
        os.utime(locks["young"], (0.0, 0.0))
        remove_left_segments(SHARED_MEMORY)
        assert not segment_of(locks["young"]).exists()
    finally:
        for process in processes.values():
            process.kill()


def test_a_machine_without_shared_memory_has_nothing_to_remove(tmp_path: Path) -> None:
    assert remove_left_segments(tmp_path / "none") == 0
