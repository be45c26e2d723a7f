"""Makes the middleware fit for images between processes, before it starts."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from pathlib import Path

PROFILE = Path(__file__).with_name("fastdds.xml")
_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
_SHARED_MEMORY = Path("/dev/shm")
_LEAST_FREE_BYTES = 512 * 2**20  # for the segments of all processes of a station; containers often have 64 MB
_LOCKS = f"fastrtps_{'[0-9a-f]' * 16}_el"  # one beside each segment, locked while its process lives
_SETTLED_S = 60.0


def use_large_message_profile() -> bool:
    """Give Fast DDS our profile, unless the user has one or shared memory is too small. True if it is in use.

    Call it before ``rclpy.init``; other middlewares ignore it.
    """
    remove_left_segments(_SHARED_MEMORY)
    given = next((os.environ[name] for name in _VARIABLES if os.environ.get(name)), None)
    if given is not None:
        return Path(given) == PROFILE
    if not _SHARED_MEMORY.is_dir() or shutil.disk_usage(_SHARED_MEMORY).free < _LEAST_FREE_BYTES:
        return False
    for name in _VARIABLES:  # the name changed between releases
        os.environ[name] = str(PROFILE)
    return True


def remove_left_segments(folder: Path) -> int:
    """Remove the shared memory of processes that were killed: 64 MB each, which Fast DDS leaves until the machine
    restarts. Returns how many. As ``fastdds shm clean`` does, which not every robot has. Segments younger than a
    minute, and those of other users, stay."""
    removed = 0
    for lock in folder.glob(_LOCKS):
        with contextlib.suppress(OSError), lock.open("rb") as stream:
            if time.time() - os.fstat(stream.fileno()).st_mtime < _SETTLED_S:
                continue
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock.with_name(lock.name.removesuffix("_el")).unlink(missing_ok=True)
            lock.unlink()
            removed += 1
    return removed
