"""Where the tests find ROS 2: whether it is there, the environment for processes that use it, and a small cell."""

from __future__ import annotations

import importlib
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
WORKSPACE = ROOT / "build/ros/install"
PROBE = Path(__file__).with_name("ros_probe_node.py")
LONG_S = 150.0  # a loaded machine; alone a step of a cell takes a tenth of that
SIMULATED_NODES = ("sim_cell", "segmentation", "planning", "pick_check", "recorder")
_SCENARIO = """
description: "A few parcels side by side, for tests."
arrangements: {single_layer: 1.0}
belt_parcels: {least: 4, most: 5}
"""


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
    from helpers.ros_client import DOMAIN

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


def cell_parameters(folder: Path) -> dict[str, Any]:
    """Parameters of a small simulated cell: for every node alike, each by name, so one process or five take the same.
    ``folder`` holds its scenario and gets its decisions."""
    scenario = folder / "few.yaml"
    scenario.write_text(_SCENARIO)
    pose = {"camera_pose_xyz_m": [0.75, 0.0, 1.3], "camera_pose_xyzw": [1.0, 0.0, 0.0, 0.0]}
    posed = {f"{node}:{key}": value for node in SIMULATED_NODES for key, value in pose.items()}
    still = {f"{node}:gate.frozen_after": 0 for node in SIMULATED_NODES if node != "sim_cell"}
    return (
        posed
        | still
        | {
            "autostart": True,
            "sim_cell:scenario": str(scenario),
            "sim_cell:seed": 5,
            "sim_cell:rate_hz": 2.0,
            "sim_cell:reply_timeout_s": 8.0,
            "sim_cell:give_up_s": LONG_S,
            "sim_cell:width": 320,
            "sim_cell:height": 240,
            "segmentation:model": str(ROOT / "models" / "base"),
            "planning:frame_age_limit_s": 30.0,
            "pick_check:after_wait_s": 5.0,
            "pick_check:help_folder": str(folder / "help"),
            "sim_cell:person_answers_s": 1.0,
            "recorder:after_wait_s": 5.0,
            "recorder:folder": str(folder / "decisions"),
        }
    )
