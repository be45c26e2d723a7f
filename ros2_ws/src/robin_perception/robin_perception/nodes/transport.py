"""Makes the middleware fit for images between processes, before it starts."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

PROFILE = Path(__file__).with_name("fastdds.xml")
_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
_SHARED_MEMORY = Path("/dev/shm")
_LEAST_FREE_BYTES = 512 * 2**20  # for the segments of all processes of a station; containers often have 64 MB


def use_large_message_profile() -> bool:
    """Give Fast DDS our profile, unless the user has one or shared memory is too small. True if it is in use.

    Call it before ``rclpy.init``; other middlewares ignore it.
    """
    given = next((os.environ[name] for name in _VARIABLES if os.environ.get(name)), None)
    if given is not None:
        return Path(given) == PROFILE
    if not _SHARED_MEMORY.is_dir() or shutil.disk_usage(_SHARED_MEMORY).free < _LEAST_FREE_BYTES:
        return False
    for name in _VARIABLES:  # the name changed between releases
        os.environ[name] = str(PROFILE)
    return True
