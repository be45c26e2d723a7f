"""Where the tests find ROS 2: whether it is there, and the environment for processes that use it."""

from __future__ import annotations

import importlib
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORKSPACE = ROOT / "build/ros/install"


def _reason() -> str | None:
    for module in ("rclpy", "robin_msgs.msg"):
        try:
            importlib.import_module(module)
        except ImportError as exc:
            return f"ROS 2 is not built here, see `make ros`: {exc}"
    return None


ROS_REASON = _reason()
"""Why tests over ROS cannot run here; None where they can. For ``pytest.mark.skipif(ROS_REASON is not None, ...)``."""


def ros_domain() -> int:
    """The domain that ``ros_client`` claims for this test process, so that runs side by side do not meet."""
    from ros_client import DOMAIN

    return DOMAIN


@cache
def _sourced() -> dict[str, str]:
    """The environment after ``. scripts/ros_env.sh``."""
    script = f". '{ROOT}/scripts/ros_env.sh' && env -0"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=True)
    pairs = (line.split("=", 1) for line in done.stdout.split("\0") if "=" in line)
    return {key: value for key, value in pairs if not key.startswith("BASH_FUNC")}


def ros_environ() -> dict[str, str]:
    """Environment for a process that uses the built workspace, in this test process's domain, on this machine only."""
    private = {"ROS_DOMAIN_ID": str(ros_domain()), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "OMP_NUM_THREADS": "1"}
    return {**_sourced(), **private}
